import fs from 'node:fs'
import test from 'ava'
import { commands } from '../../src/cli/commands/index.ts'
import { commandPage } from '../../src/cli/docs.ts'

test('docs/cli.md is what the definitions say', (t) => {
  const page = fs.readFileSync(new URL('../../../docs/cli.md', import.meta.url), 'utf8')
  t.true(page === commandPage(commands), 'a definition has changed since the page was made: npm run docs')
})

test('the page has every command, option and example', (t) => {
  const page = commandPage(commands)
  for (const { name, summary, options, examples } of commands) {
    t.true(page.includes(`### unvme ${name}\n\n${summary}.`), name)
    for (const { description } of Object.values(options)) t.true(page.includes(description), description)
    for (const [line] of examples) t.true(page.includes(`\nunvme ${line}   # `), line)
  }
})
