// docs/: every error code and every export has its entry, none is invented, and every link leads somewhere.

import fs from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { exportsOf } from '../scripts/api/declarations.ts'
import { apiPage } from '../scripts/api/page.ts'

const root = path.resolve(import.meta.dirname, '../..')
const read = (name: string) => fs.readFileSync(path.join(root, name), 'utf8')

/** Codes of lib/errors.ts by their classes; of SystemCallError any errno. */
function errorCodes(): Map<string, string> {
  const classes = read('lib/errors.ts').matchAll(
    /^export class (\w+)[\s\S]*?^ {2}readonly code(?: = '(\w+)'|: string)/gm,
  )
  return new Map([...classes].map(([, name, code]) => [name!, code ?? 'System call errors']))
}

test('docs/errors.md has a section for each error, with its class, and for no other', async (t) => {
  const errors: Record<string, unknown> = await import('../lib/errors.ts')
  const codes = errorCodes()
  t.deepEqual([...codes.keys(), 'UnvmeError'].sort(), Object.keys(errors).sort())
  const sections = [...read('docs/errors.md').matchAll(/^### (.*)\n\n`(\w+)`: /gm)]
  t.deepEqual(
    sections.map(([, code, name]) => `${name} ${code}`).sort(),
    [...codes].map(([name, code]) => `${name} ${code}`).sort(),
  )
  for (const text of read('docs/errors.md').split(/^### /m).slice(1)) {
    t.true(text.includes('\n- What to do: '), text.split('\n', 1)[0])
  }
})

test('what docs/errors.md says of exit codes is true', (t) => {
  const usage = /USAGE_CODES = new Set\(\[([^\]]*)\]/.exec(read('src/cli/run.ts'))![1]!
  const [, said] = /exits with 2\s+for ([\s\S]*?), and\s+with 1/.exec(read('docs/errors.md'))!
  t.deepEqual(said!.match(/\w+_\w+/g)!.sort(), usage.match(/\w+_\w+/g)!.sort())
})

test('docs/api.md is what the declarations say', (t) => {
  const { text } = apiPage(root)
  t.true(read('docs/api.md') === text, 'a declaration or its comment has changed: npm run docs')
})

test('docs/api.md has an entry for every export, types included, which says something, and for no other', async (t) => {
  const { names, mute } = apiPage(root)
  t.deepEqual(mute, [])
  const all = [...exportsOf(path.join(root, 'dist/src/index.d.ts')).keys()]
  t.deepEqual([...names].sort(), all.sort())
  // Seen by other means than the page's own.
  const values = Object.keys(await import('../src/index.ts'))
  t.deepEqual(
    values.filter((name) => !names.includes(name)),
    [],
  )
  const page = read('docs/api.md')
  for (const name of values) t.regex(page, new RegExp(`^(### ${name}|- (\\[${name}\\]|${name}[ :]).*)$`, 'm'))
})

test('every link in docs/ leads somewhere', (t) => {
  for (const name of fs.readdirSync(path.join(root, 'docs')).filter((file) => file.endsWith('.md'))) {
    for (const [, target, , anchor] of read(`docs/${name}`).matchAll(
      /\]\((?!https?:)([^)#]*)(#([^)]*))?\)/g,
    )) {
      const file = target === '' ? `docs/${name}` : path.join('docs', target!)
      t.true(fs.existsSync(path.join(root, file)), `${name}: ${target}`)
      if (anchor !== undefined) t.true(anchors(read(file)).has(anchor), `${name}: ${target}#${anchor}`)
    }
  }
})

/** As GitHub makes them of headings. */
function anchors(text: string): Set<string> {
  const headings = [...text.replace(/^```[\s\S]*?^```$/gm, '').matchAll(/^#+ (.*)$/gm)]
  return new Set(
    headings.map(([, title]) =>
      title!
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .replace(/\s/g, '-'),
    ),
  )
}
