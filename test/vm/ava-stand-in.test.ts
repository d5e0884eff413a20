// The stand-in for ava passes what ava passes and fails what ava fails: the same small files are run by both.

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'

const standIn = fileURLToPath(new URL('../../scripts/vm/guest/ava.js', import.meta.url))

/** A folder where `ava` is the stand-in, and a way to run test files in it. */
function makeRunner(t: { teardown(f: () => void): void }) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-'))
  t.teardown(() => fs.rmSync(folder, { recursive: true }))
  const ava = path.join(folder, 'node_modules', 'ava')
  fs.mkdirSync(ava, { recursive: true })
  fs.writeFileSync(path.join(ava, 'package.json'), '{"name":"ava","type":"module","exports":"./main.js"}')
  fs.copyFileSync(standIn, path.join(ava, 'main.js'))
  return (...codes: string[]) => {
    const files = codes.map((code, i) => {
      const file = path.join(folder, `file${i}.test.mjs`)
      fs.writeFileSync(file, `import test from 'ava'\n${code}`)
      return file
    })
    const { status, stdout } = spawnSync(process.execPath, [path.join(ava, 'main.js'), ...files], {
      encoding: 'utf8',
    })
    return {
      status,
      stdout,
      marks: [...stdout.matchAll(/^ {2}([✔✘-]) (\S+)/gm)].map(([, mark, name]) => `${mark}${name}`),
    }
  }
}

/** Assertions that pass; negated by what follows in each pair. */
const PAIRS: [passes: string, fails: string][] = [
  ['t.pass()', 't.fail()'],
  ['t.is(NaN, NaN)', 't.is(0, -0)'],
  ['t.not(0, -0)', 't.not(1, 1)'],
  ['t.true(1 === 1)', 't.true(1)'],
  ['t.false(1 === 2)', 't.false(0)'],
  ['t.truthy(1)', 't.truthy(0)'],
  ['t.falsy(0)', 't.falsy("x")'],
  ['t.assert("x")', 't.assert("")'],
  ['t.deepEqual({ a: [1, { b: 2 }] }, { a: [1, { b: 2 }] })', 't.deepEqual({ a: 1 }, { a: "1" })'],
  ['t.deepEqual(Object.assign(Object.create(null), { a: 1 }), { a: 1 })', 't.deepEqual([1, 2], [1])'],
  ['t.deepEqual(Buffer.from("ab"), Buffer.from("ab"))', 't.deepEqual(Buffer.from("ab"), Buffer.from("ac"))'],
  ['t.notDeepEqual({ a: 1 }, { a: 2 })', 't.notDeepEqual([{ a: 1 }], [{ a: 1 }])'],
  ['t.like({ a: 1, b: { c: 2, d: 3 } }, { b: { c: 2 } })', 't.like({ a: 1 }, { b: 1 })'],
  ['t.like([1, { a: 2, b: 3 }], [1, { a: 2 }])', 't.like({ a: { b: 1 } }, { a: { b: 2 } })'],
  ['t.regex("abc", /b/)', 't.regex("abc", /x/)'],
  ['t.notRegex("abc", /x/)', 't.notRegex("abc", /b/)'],
  ['t.throws(() => { throw new TypeError("m") }, { instanceOf: TypeError })', 't.throws(() => {})'],
  ['t.throws(boom, { code: "E", message: /^m$/, name: "Error" })', 't.throws(boom, { code: "F" })'],
  ['t.throws(boom, { message: "m" })', 't.throws(boom, { message: /x/ })'],
  ['t.throws(boom, { message: (m) => m === "m" })', 't.throws(() => { throw 1 })'],
  ['await t.throwsAsync(async () => boom())', 'await t.throwsAsync(async () => {})'],
  [
    'await t.throwsAsync(Promise.reject(new Error("m")), { message: "m" })',
    'await t.throwsAsync(async () => boom(), { code: "F" })',
  ],
  ['t.notThrows(() => {})', 't.notThrows(boom)'],
  ['await t.notThrowsAsync(async () => {})', 'await t.notThrowsAsync(async () => boom())'],
  ['t.plan(1); t.pass()', 't.plan(2); t.pass()'],
  ['t.is(t.throws(boom).message, "m")', ''],
  ['t.pass(); t.log("noted", { a: 1 })', 'try { t.fail() } catch {} t.pass()'],
]
const BOOM = 'const boom = () => { throw Object.assign(new Error("m"), { code: "E" }) }\n'

const asFile = (bodies: string[]) =>
  BOOM + bodies.map((body, i) => `test.serial('${i}', async (t) => { ${body} })\n`).join('')

test('each assertion passes and fails as it should', (t) => {
  const run = makeRunner(t)
  const passing = run(asFile(PAIRS.map(([passes]) => passes)))
  t.deepEqual(
    passing.marks,
    PAIRS.map((_, i) => `✔${i}`),
    passing.stdout,
  )
  t.is(passing.status, 0)
  const failing = run(asFile(PAIRS.map(([, fails]) => fails)))
  t.deepEqual(
    failing.marks,
    PAIRS.map((_, i) => `✘${i}`),
    failing.stdout,
  )
  t.is(failing.status, 1)
})

test('ava itself sees them the same way', (t) => {
  t.timeout(120_000)
  const folder = fs.mkdtempSync(path.join(process.cwd(), 'dist', 'stand-in-'))
  t.teardown(() => fs.rmSync(folder, { recursive: true }))
  const cli = fileURLToPath(new URL('cli.mjs', import.meta.resolve('ava')))
  const counts = (column: 0 | 1) => {
    const file = path.join(folder, 'file.test.mjs')
    fs.writeFileSync(file, `import test from 'ava'\n${asFile(PAIRS.map((pair) => pair[column]))}`)
    const config = path.join(folder, 'ava.config.mjs')
    fs.writeFileSync(
      config,
      `export default { files: ['${path.relative(process.cwd(), folder)}/*.test.mjs'] }\n`,
    )
    const run = spawnSync(process.execPath, [cli, '--config', config, '--tap'], { encoding: 'utf8' })
    return { ok: run.stdout.match(/^ok/gm)?.length ?? 0, notOk: run.stdout.match(/^not ok/gm)?.length ?? 0 }
  }
  t.deepEqual(counts(0), { ok: PAIRS.length, notOk: 0 })
  t.deepEqual(counts(1), { ok: 0, notOk: PAIRS.length })
})

test('hooks, skipped and expected failures, macros, teardowns', (t) => {
  const { status, stdout, marks } = makeRunner(t)(`
    const say = (word) => () => console.log('say', word)
    test.before((t) => { t.context.shared = 1; console.log('say before') })
    test.beforeEach(say('each'))
    test.afterEach(say('each-end'))
    test.after(say('end'))
    test('context', (t) => { t.teardown(say('down-1')); t.teardown(say('down-2')); t.is(t.context.shared, 1) })
    test.skip('skipped-since-it-would-fail', (t) => t.fail())
    test.todo('later-since-it-has-no-body')
    test.failing('known-to-fail', (t) => t.fail())
    const macro = test.macro({ exec: (t, n) => t.is(n, 2), title: (_, n) => 'macro-' + n })
    test(macro, 2)
  `)
  t.is(status, 0, stdout)
  t.deepEqual(marks, [
    '✔before',
    '✔context',
    '-skipped-since-it-would-fail',
    '-later-since-it-has-no-body',
    '✔known-to-fail',
    '✔macro-2',
    '✔after',
  ])
  const said = [...stdout.matchAll(/^say (.*)$/gm)].map(([, word]) => word)
  t.deepEqual(said.slice(0, 5), ['before', 'each', 'down-2', 'down-1', 'each-end'])
  t.is(said.at(-1), 'end')
  t.regex(stdout, /3 passed$/m)
})

test('what goes wrong outside of tests fails the file', (t) => {
  const run = makeRunner(t)
  t.is(run(`setImmediate(() => { throw new Error('astray') }); test('a', (t) => t.pass())`).status, 1)
  t.is(run(`throw new Error('at once')`).status, 1)
  t.is(run(`test.before(() => { throw new Error('hook') }); test('a', (t) => t.pass())`).status, 1)
  t.is(run('').status, 1, 'a file without tests')
})

test('several files, one after the other: each has its own tests, and one that fails fails the run', (t) => {
  const run = makeRunner(t)
  const good = (name: string) => `test.before(() => {}); test('${name}', (t) => t.pass())`
  const passing = run(good('a'), good('b'))
  t.is(passing.status, 0)
  t.deepEqual(passing.marks, ['✔before', '✔a', '✔before', '✔b'])
  const broken = run(good('a'), `throw new Error('at once')`, good('c'))
  t.is(broken.status, 1)
  t.deepEqual(broken.marks, ['✔before', '✔a', '✘the', '✔before', '✔c'])
})
