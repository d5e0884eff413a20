// The package as npm packs it: it has what its entry points need and nothing else, a TypeScript user's program
// compiles against it, and its command starts.

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import test from 'ava'
import { packageFiles } from '../scripts/package-files.ts'

const root = path.resolve(import.meta.dirname, '../..')
const manifest = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'))
const entries = Object.keys(manifest.exports).map((name) => name.replace(/^\./, 'unvme'))
const modules = entries.filter((name) => !name.endsWith('.json'))
const folder = path.join(root, 'dist', 'package-user')
const installed = path.join(folder, 'node_modules', 'unvme')

/** What the tarball may weigh, and how many files it may have: room for a few modules more. */
const MOST_BYTES = 680_000
const MOST_FILES = 530

let packed: { size: number; entryCount: number; filename: string }

test.before(() => {
  fs.rmSync(folder, { recursive: true, force: true })
  fs.mkdirSync(installed, { recursive: true })
  const options = ['pack', '--json', '--ignore-scripts', '--pack-destination', folder]
  const answer = JSON.parse(execFileSync('npm', options, { cwd: root, encoding: 'utf8' }))
  // An array, or from npm 11.17 on an object by the package's name.
  packed = Object.values(answer)[0] as typeof packed
  const archive = path.join(folder, packed.filename)
  execFileSync('tar', ['-xf', archive, '--strip-components=1', '-C', installed])
  fs.writeFileSync(path.join(folder, 'package.json'), '{"type":"module"}')
})
test.after.always(() => fs.rmSync(folder, { recursive: true, force: true }))

test('files of package.json are what the entry points reach: npm run package-files writes them', (t) => {
  t.deepEqual(manifest.files, packageFiles(manifest))
})

test('the tarball stays small', (t) => {
  t.true(packed.size <= MOST_BYTES, `${packed.size} bytes`)
  t.true(packed.entryCount <= MOST_FILES, `${packed.entryCount} files`)
})

test('a program that imports every entry point compiles, declarations checked', (t) => {
  const lines = modules.map((name, i) => `import * as m${i} from '${name}'`)
  const uses = modules.map((_, i) => `m${i}`).join(', ')
  const open = "const ns: m0.Namespace = await m0.open('sim:')\nawait ns.close()"
  const wrong = '// @ts-expect-error: a size is a number\nawait m0.open("sim:", { qsize: "1" })'
  const source = path.join(folder, 'user.ts')
  fs.writeFileSync(source, [...lines, `console.log(${uses})`, open, wrong, ''].join('\n'))
  const tsc = path.join(createRequire(import.meta.url).resolve('typescript/package.json'), '../bin/tsc')
  const options =
    '--ignoreConfig --noEmit --strict --skipLibCheck false --module nodenext --target es2023 --lib es2023,esnext.disposable --types node'
  t.notThrows(() => {
    try {
      execFileSync(process.execPath, [tsc, ...options.split(' '), source], { cwd: folder, encoding: 'utf8' })
    } catch (error) {
      throw new Error((error as { stdout: string }).stdout)
    }
  })
})

test('every entry point loads, and the command starts', (t) => {
  const program = `for (const name of ${JSON.stringify(modules)}) await import(name)`
  execFileSync(process.execPath, ['--input-type=module', '-e', program], { cwd: folder })
  const command = path.join(installed, manifest.bin.unvme)
  const run = (...args: string[]) => execFileSync(process.execPath, [command, ...args], { encoding: 'utf8' })
  t.is(run('--version').trim(), manifest.version)
  t.regex(run('info', 'sim:?size=32M&thread=1'), /sim/)
})
