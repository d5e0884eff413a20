// The loop that runs the device suite in the virtual machine: what passes, what fails, and what it says of each.

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'

const loop = fileURLToPath(new URL('../support/device-loop.js', import.meta.url))

/** Runs modules with these texts on one device. */
function run(t: ExecutionContext, ...texts: string[]) {
  const folder = fs.mkdtempSync(path.join(import.meta.dirname, 'loop-'))
  t.teardown(() => fs.rmSync(folder, { recursive: true }))
  const files = texts.map((text, i) => {
    const file = path.join(folder, `module-${i}.js`)
    const suite = `import { deviceTest as test } from '../../support/device-suite.js'`
    const boom = `const boom = () => { throw Object.assign(new Error('m'), { code: 'E' }) }`
    fs.writeFileSync(file, `${suite}\n${boom}\n${text}`)
    return file
  })
  const env = { ...process.env, UNVME_TEST_ADDRESS: 'sim:?size=1M' }
  const { status, stdout } = spawnSync(process.execPath, [loop, ...files], { encoding: 'utf8', env })
  const marks = [...stdout.matchAll(/^ {2}([✔✘-]) (?:sim:\S+ )?(\w+)/gm)].map(
    ([, mark, name]) => mark! + name,
  )
  return { status, stdout, marks }
}

const asModule = (bodies: readonly string[]) =>
  bodies.map((body, i) => `test('${i}', async (t) => { ${body} })`).join('\n')

/** Assertions that pass, and beside each one that fails. */
const PAIRS: [passes: string, fails: string][] = [
  ['t.is(NaN, NaN)', 't.is(0, -0)'],
  ['t.true(1 === 1)', 't.true(1)'],
  ['t.false(1 === 2)', 't.false(0)'],
  ['t.deepEqual({ a: [1, { b: 2 }] }, { a: [1, { b: 2 }] })', 't.deepEqual({ a: 1 }, { a: "1" })'],
  ['t.deepEqual(Buffer.from("ab"), Buffer.from("ab"))', 't.deepEqual(Buffer.from("ab"), Buffer.from("ac"))'],
  ['t.like({ a: 1, b: 2 }, { b: 2 })', 't.like({ a: 1 }, { b: 1 })'],
  ['t.regex("abc", /b/)', 't.regex("abc", /x/)'],
  ['t.throws(() => { throw new TypeError("m") }, { instanceOf: TypeError })', 't.throws(() => {}, {})'],
  ['t.throws(boom, { code: "E", message: /^m$/ })', 't.throws(boom, { code: "F" })'],
  ['t.throws(boom, { message: "m" })', 't.throws(boom, { message: /x/ })'],
  ['t.throws(boom, { instanceOf: Error })', 't.throws(boom, { instanceOf: TypeError })'],
  ['t.throws(boom, {})', 't.throws(() => { throw 1 }, {})'],
  ['await t.throwsAsync(async () => boom(), {})', 'await t.throwsAsync(async () => {}, {})'],
  [
    'await t.throwsAsync(Promise.reject(new Error("m")), { message: "m" })',
    'await t.throwsAsync(async () => boom(), { code: "F" })',
  ],
  ['t.is(t.throws(boom, {}).message, "m")', ''],
  ['t.true(true); t.log("noted")', 'try { t.is(1, 2) } catch {} t.true(true)'],
]

test('each assertion passes and fails as it should', (t) => {
  const passing = run(t, asModule(PAIRS.map(([passes]) => passes)))
  t.deepEqual(
    passing.marks,
    PAIRS.map((_, i) => `✔${i}`),
    passing.stdout,
  )
  t.is(passing.status, 0)
  t.regex(passing.stdout, /^ {4}ℹ noted$/m)
  const failing = run(t, asModule(PAIRS.map(([, fails]) => fails)))
  t.deepEqual(
    failing.marks,
    PAIRS.map((_, i) => `✘${i}`),
    failing.stdout,
  )
  t.is(failing.status, 1)
})

test('a test has its device, and its teardowns run in reverse', (t) => {
  const { stdout, status } = run(
    t,
    `let ns
    test('open', async (t) => {
      t.teardown(() => console.log('say', 'first', ns.closed))
      t.teardown(() => console.log('say', 'second', ns.closed))
      ns = await t.device.open()
      t.is(ns.device, t.device.address)
    })`,
  )
  t.is(status, 0, stdout)
  t.deepEqual(stdout.match(/^say .*$/gm), ['say second true', 'say first true'])
})

test('what goes wrong outside of tests fails the run', (t) => {
  const good = `test('a', (t) => t.true(true))`
  t.is(run(t, `setImmediate(() => { throw new Error('astray') })\n${good}`).status, 1)
  t.is(run(t, '').status, 1, 'no tests')
  const broken = run(t, good, `throw new Error('at once')`, good)
  t.is(broken.status, 1)
  t.deepEqual(broken.marks, ['✔a', '✘the', '✔a'])
})
