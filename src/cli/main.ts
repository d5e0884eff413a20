#!/usr/bin/env node
// The `unvme` command.

import { commands } from './commands/index.ts'
import { run } from './run.ts'

await run(commands, process.argv.slice(2))
