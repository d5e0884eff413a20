#!/usr/bin/env node
// The `unvme` command.

import { loadCommands } from './commands/load.ts'
import { run } from './run.ts'

const words = process.argv.slice(2)
await run(await loadCommands(words[0]), words)
