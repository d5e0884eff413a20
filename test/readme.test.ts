// The examples of the README, the guide, and the pages of the software controller and the adapters run as they stand: each a process, and
// what a comment behind console.log says is what it prints. Their tables have every option, and their commands run.

import { execFile, execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { parseSimAddress, SIM_OPTIONS } from '../lib/sim/index.ts'
import { MAIN } from './cli/command.ts'
import { pattern } from './support/pattern.ts'
import { run } from './support/run.ts'

const root = path.resolve(import.meta.dirname, '../..')
const readme = readFileSync(path.join(root, 'README.md'), 'utf8')
// Inside the package, so that 'unvme' is this package.
const folder = path.join(root, 'dist/readme')
const CONTENT = pattern((1 << 20) + 7)

interface Example {
  title: string
  language: string
  code: string
}

/** Fenced examples, each with the heading above it. */
function findExamples(text: string): Example[] {
  const examples: Example[] = []
  let title = ''
  for (const [, heading, language, code] of text.matchAll(/^#+ (.*)$|^```(\w+)\n([\s\S]*?)^```$/gm)) {
    if (heading !== undefined) title = heading
    else examples.push({ title, language: language!, code: code! })
  }
  return examples
}

/** The lines that `console.log(…) // text` promises. */
function promised(code: string): string {
  return [...code.matchAll(/console\.log\(.*\) \/\/ (.*)$/gm)].map(([, text]) => `${text}\n`).join('')
}

test.before(() => {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  writeFileSync(path.join(folder, 'backup.img'), CONTENT)
})
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

const guide = readFileSync(path.join(root, 'docs/guide.md'), 'utf8')
const sim = readFileSync(path.join(root, 'docs/sim.md'), 'utf8')
const adapters = readFileSync(path.join(root, 'docs/adapters.md'), 'utf8')

;[readme, guide, sim, adapters].flatMap(findExamples).forEach(({ title, language, code }, i) => {
  test.serial(`${i + 1}, ${title}`, async (t) => {
    const source = path.join(folder, `example-${i + 1}.${language}`)
    writeFileSync(source, code)
    if (language === 'ts') compile(source)
    const { code: exit, stdout, stderr } = await run(source.replace(/ts$/, 'js'), [], folder)
    t.is(stderr, '')
    t.is(stdout, promised(code))
    t.is(exit, 0)
  })
})

function compile(source: string): void {
  const tsc = path.join(createRequire(import.meta.url).resolve('typescript/package.json'), '../bin/tsc')
  const options =
    '--ignoreConfig --strict --module nodenext --target es2023 --lib es2023,esnext.disposable --types node'
  execFileSync(process.execPath, [tsc, ...options.split(' '), source], { cwd: folder, stdio: 'pipe' })
}

test.serial('the files that the streams example wrote', (t) => {
  const image = readFileSync(path.join(folder, 'disk.img'))
  t.is(image.length, 64 << 20)
  t.true(image.subarray(0, CONTENT.length).equals(CONTENT))
  t.true(readFileSync(path.join(folder, 'copy.img')).equals(image.subarray(0, 1 << 20)))
})

test.serial('the commands run as they stand', async (t) => {
  for (const page of [readme, guide, sim]) {
    const lines = [...page.matchAll(/^ {4}((?:npx unvme|head|printf|truncate) .*)$/gm)].map(
      ([, line]) => line!,
    )
    t.true(lines.length > 0)
    for (const line of lines) {
      const command = line.replace('npx unvme', `"${MAIN}"`)
      await t.notThrowsAsync(promisify(execFile)('/bin/sh', ['-c', command], { cwd: folder }), line)
    }
  }
})

test('the table of sim: options is complete, with the right defaults', (t) => {
  const rows = [...sim.matchAll(/^\| ((?:`\w+`(?:, )?)+) +\| (.*?) +\| .*\|$/gm)].flatMap(
    ([, names, byDefault]) => names!.split(', ').map((name) => [name.replaceAll('`', ''), byDefault!]),
  )
  t.deepEqual(rows.map(([name]) => name).sort(), SIM_OPTIONS.map(({ name }) => name).sort())
  for (const option of SIM_OPTIONS) {
    const [, byDefault] = rows.find(([name]) => name === option.name)!
    if (/^\d+$/.test(option.default)) t.is(byDefault, option.default, option.name)
  }
})

test('the faults that it names can be understood, and the page of faults has every word', (t) => {
  const [row] = /^\| `fault` .*$/m.exec(sim)!
  const [, fault] = /`(\w+[@#].*?)`/.exec(row)!
  t.is(parseSimAddress(`sim:?fault=${fault}`).faults.length, 1)
  const addresses = [...sim.matchAll(/^ {4}(sim:.*)$/gm)].map(([, address]) => address!)
  t.deepEqual(
    addresses.map((address) => parseSimAddress(address).faults.length),
    [1, 2],
  )
  const faults = sim.slice(sim.indexOf('## Faults'))
  const parts = [...faults.matchAll(/^\| (`.*?`) \|/gm)].flatMap(([, words]) => words!.split(' '))
  const [commands, actions] = [/^`(\w+)`$/, /^`:(.*)`$/].map((form) =>
    parts.flatMap((part) => form.exec(part)?.[1] ?? []),
  )
  t.is(commands!.length, 9)
  t.is(actions!.length, 11)
  for (const command of commands!) {
    for (const action of actions!) {
      t.is(parseSimAddress(`sim:?fault=${command}@64+8#10*1:${action}`).faults.length, 1, command + action)
    }
  }
})

test('every example is listed, and every link leads somewhere', (t) => {
  const linksOf = (text: string, folder: string) =>
    [...text.matchAll(/\]\((?!https?:)([^)#]+)/g)].map(([, target]) => path.join(folder, target!))
  const links = [...linksOf(readme, ''), ...linksOf(guide, 'docs')]
  for (const target of links) t.true(existsSync(path.join(root, target)), target)
  const examples = readdirSync(path.join(root, 'examples'), { recursive: true, encoding: 'utf8' }).filter(
    (name) => path.extname(name) === '.ts' && !name.includes('support/'),
  )
  for (const name of examples) {
    t.true(links.includes(`examples/${name}`) || name === 'demo.ts', name)
  }
})
