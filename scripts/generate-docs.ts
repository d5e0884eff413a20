// Writes docs/cli.md from the command's definitions: npm run docs.

import fs from 'node:fs'
import { commands } from '../src/cli/commands/index.ts'
import { commandPage } from '../src/cli/docs.ts'

fs.mkdirSync('docs', { recursive: true })
fs.writeFileSync('docs/cli.md', commandPage(commands))
