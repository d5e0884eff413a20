// Writes docs/cli.md from the command's definitions, and docs/api.md from the declarations: npm run docs.

import fs from 'node:fs'
import path from 'node:path'
import { commands } from '../src/cli/commands/index.ts'
import { commandPage } from '../src/cli/docs.ts'
import { apiPage } from './api/page.ts'

fs.writeFileSync('docs/cli.md', commandPage(commands))
const { text, mute } = apiPage(path.resolve(import.meta.dirname, '../..'))
for (const name of mute) console.error(`${name} has no comment`)
fs.writeFileSync('docs/api.md', text)
