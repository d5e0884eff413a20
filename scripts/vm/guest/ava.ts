// A stand-in for ava inside the virtual machine, where ava itself takes longer to load than most tests to run:
// the same calls for test files, all files in one process, tests strictly one after another.
// Trade-off: loading what files have in common takes eight seconds a process there, so that files share it, and
// one that ends the process ends the run; differences are compared by node:assert and shown its way; no
// snapshots, t.try or watch mode. The machine puts this file in ava's place: it imports only Node's own modules.

import assert from 'node:assert'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { inspect, isDeepStrictEqual } from 'node:util'

interface ErrorExpectation {
  code?: string | number
  instanceOf?: new (...args: never[]) => unknown
  is?: unknown
  message?: string | RegExp | ((message: string) => boolean)
  name?: string
  any?: boolean
}

type Implementation = (t: Context, ...args: unknown[]) => unknown
type Macro = { exec: Implementation; title?: (given: string | undefined, ...args: unknown[]) => string }

interface Entry {
  title: string
  flags: readonly string[]
  run: (t: Context) => unknown
}

const entries: Entry[] = []

/** What a test gets as `t`. A failed assertion throws, and fails the test even where that is caught. */
class Context {
  context: unknown = {}
  readonly title: string
  #assertions = 0
  #planned: number | undefined
  #failure: unknown
  readonly #teardowns: (() => unknown)[] = []

  constructor(title: string, context: unknown) {
    this.title = title
    this.context = context
  }

  #check(passed: boolean, message: string | undefined, detail: () => string): boolean {
    this.#assertions++
    if (!passed) {
      const error = new Error([message, detail()].filter(Boolean).join(': '))
      this.#failure ??= error
      throw error
    }
    return true
  }

  pass = (message?: string) => this.#check(true, message, () => '')
  fail = (message = 'failed') => this.#check(false, message, () => '')
  truthy = (value: unknown, message?: string) =>
    this.#check(Boolean(value), message, () => `${show(value)} is falsy`)
  assert = this.truthy
  falsy = (value: unknown, message?: string) => this.#check(!value, message, () => `${show(value)} is truthy`)
  true = (value: unknown, message?: string) => this.is(value, true, message)
  false = (value: unknown, message?: string) => this.is(value, false, message)
  is = (actual: unknown, expected: unknown, message?: string) =>
    this.#check(Object.is(actual, expected), message, () => difference(actual, expected))
  not = (actual: unknown, other: unknown, message?: string) =>
    this.#check(!Object.is(actual, other), message, () => `both are ${show(actual)}`)
  deepEqual = (actual: unknown, expected: unknown, message?: string) =>
    this.#check(isDeepEqual(actual, expected), message, () => difference(actual, expected))
  notDeepEqual = (actual: unknown, other: unknown, message?: string) =>
    this.#check(!isDeepEqual(actual, other), message, () => `both are ${show(actual)}`)
  like = (actual: unknown, selector: unknown, message?: string) =>
    this.#check(isLike(actual, selector), message, () => difference(actual, selector))
  regex = (text: string, pattern: RegExp, message?: string) =>
    this.#check(pattern.test(text), message, () => `${show(text)} does not match ${pattern}`)
  notRegex = (text: string, pattern: RegExp, message?: string) =>
    this.#check(!pattern.test(text), message, () => `${show(text)} matches ${pattern}`)

  throws = (run: () => unknown, expected?: ErrorExpectation, message?: string) => {
    let thrown: unknown
    try {
      run()
    } catch (error) {
      thrown = error
      return this.#expect(thrown, expected, message)
    }
    return this.fail(message ?? 'nothing was thrown')
  }

  throwsAsync = async (
    run: PromiseLike<unknown> | (() => PromiseLike<unknown>),
    expected?: ErrorExpectation,
    message?: string,
  ) => {
    try {
      await (typeof run === 'function' ? run() : run)
    } catch (error) {
      return this.#expect(error, expected, message)
    }
    return this.fail(message ?? 'the promise did not reject')
  }

  notThrows = (run: () => unknown, message?: string) => {
    try {
      run()
    } catch (error) {
      this.fail(`${message ?? 'thrown'}: ${show(error)}`)
    }
    return this.pass()
  }

  notThrowsAsync = async (run: PromiseLike<unknown> | (() => PromiseLike<unknown>), message?: string) => {
    try {
      await (typeof run === 'function' ? run() : run)
    } catch (error) {
      this.fail(`${message ?? 'rejected'}: ${show(error)}`)
    }
    return this.pass()
  }

  #expect(error: unknown, expected: ErrorExpectation | undefined, message: string | undefined): unknown {
    const wrong = expectationsMissed(error, expected ?? {})
    this.#check(wrong.length === 0, message, () => `${wrong.join(', ')} of ${show(error)}`)
    return error
  }

  plan(count: number): void {
    this.#planned = count
  }
  /** The machine's time limit holds for all tests together. */
  timeout(): void {}
  log(...values: unknown[]): void {
    const text = values.map((value) => (typeof value === 'string' ? value : show(value))).join(' ')
    process.stdout.write(`    ℹ ${text}\n`)
  }
  teardown(run: () => unknown): void {
    this.#teardowns.push(run)
  }

  /** Runs the test's body and its teardowns. @throws what makes the test fail */
  async finish(bodies: ((t: Context) => unknown)[], countAssertions: boolean): Promise<void> {
    try {
      for (const body of bodies) await body(this)
    } finally {
      for (const run of this.#teardowns.splice(0).reverse()) await run()
    }
    if (this.#failure !== undefined) throw this.#failure
    if (!countAssertions) return
    if (this.#planned !== undefined && this.#planned !== this.#assertions) {
      throw new Error(`planned ${this.#planned} assertions, ran ${this.#assertions}`)
    }
    if (this.#assertions === 0) throw new Error('the test ran no assertion')
  }
}

const show = (value: unknown) => inspect(value, { depth: 6 })

function difference(actual: unknown, expected: unknown): string {
  try {
    assert.deepStrictEqual(actual, expected)
  } catch (error) {
    return (error as Error).message
  }
  return `${show(actual)} is not ${show(expected)}`
}

function isDeepEqual(a: unknown, b: unknown): boolean {
  return isDeepStrictEqual(a, b) || isDeepStrictEqual(plain(a), plain(b))
}

/** The same with objects without a prototype made ordinary ones, which are all one to ava. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== 'object' || value === null) return value
  const prototype = Object.getPrototypeOf(value)
  if (prototype !== null && prototype !== Object.prototype) return value
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, plain(part)]))
}

function isLike(actual: unknown, selector: unknown): boolean {
  if (typeof selector !== 'object' || selector === null || selector.constructor?.name !== 'Object') {
    if (!Array.isArray(selector)) return isDeepEqual(actual, selector)
  }
  if (typeof actual !== 'object' || actual === null) return false
  return Object.entries(selector).every(([key, value]) =>
    isLike((actual as Record<string, unknown>)[key], value),
  )
}

function expectationsMissed(error: unknown, expected: ErrorExpectation): string[] {
  const wrong: string[] = []
  const { message, name, code } = (error ?? {}) as { message: string; name: string; code: unknown }
  if (!(error instanceof Error) && !expected.any) wrong.push('not an Error')
  if ('is' in expected && error !== expected.is) wrong.push('another error')
  if (expected.instanceOf && !(error instanceof expected.instanceOf)) {
    wrong.push(`no instance of ${expected.instanceOf.name}`)
  }
  if (expected.name !== undefined && name !== expected.name) wrong.push(`name is not ${expected.name}`)
  if (expected.code !== undefined && code !== expected.code) wrong.push(`code is not ${expected.code}`)
  const pattern = expected.message
  if (typeof pattern === 'string' && message !== pattern) wrong.push(`message is not ${pattern}`)
  if (pattern instanceof RegExp && !pattern.test(message)) wrong.push(`message does not match ${pattern}`)
  if (typeof pattern === 'function' && !pattern(message)) wrong.push('message is not as expected')
  return wrong
}

/** `test`, and what its modifiers make of it: `test.serial`, `test.after.always` and so on. */
function declare(flags: readonly string[]): object {
  const add = (...given: unknown[]) => {
    const named = typeof given[0] === 'string' ? (given.shift() as string) : undefined
    const [code, ...args] = given as [Implementation | Macro | undefined, ...unknown[]]
    const run = typeof code === 'object' ? code.exec : code
    const title = typeof code === 'object' && code.title ? code.title(named, ...args) : (named ?? '')
    entries.push({ title: title.trim(), flags, run: (t) => run?.(t, ...args) })
  }
  return new Proxy(add, {
    get: (_, key) => {
      if (key === 'macro')
        return (code: Implementation | Macro) => (typeof code === 'object' ? code : { exec: code })
      return typeof key === 'string' && key !== 'then' ? declare([...flags, key]) : undefined
    },
  })
}

const HOOKS = ['before', 'after', 'beforeEach', 'afterEach']
const isHook = ({ flags }: Entry) => flags.some((flag) => HOOKS.includes(flag))

const bodies = (hook: string, also?: string) =>
  entries.filter(({ flags }) => flags.includes(hook) && (!also || flags.includes(also))).map(({ run }) => run)

/** Runs one test or hook and prints how it went. */
async function attempt(title: string, run: () => Promise<void>, expectFailure = false): Promise<boolean> {
  const started = performance.now()
  let error: unknown
  try {
    await run()
    if (expectFailure) error = new Error('was expected to fail and passed')
  } catch (thrown) {
    if (!expectFailure) error = thrown ?? new Error('threw nothing')
  }
  const milliseconds = Math.round(performance.now() - started)
  process.stdout.write(`  ${error === undefined ? '✔' : '✘'} ${title} (${milliseconds}ms)\n`)
  if (error !== undefined) process.stdout.write(`${show(error).replace(/^/gm, '      ')}\n`)
  return error === undefined
}

async function runAll(): Promise<void> {
  const only = entries.some(({ flags }) => flags.includes('only'))
  const whole = new Context('', {})
  let passed = 0
  let failed = 0
  const begin = bodies('before')
  const begun = begin.length === 0 || (await attempt('before', () => whole.finish(begin, false)))
  if (!begun) failed++
  for (const { title, flags, run } of entries.filter((entry) => !isHook(entry))) {
    if (flags.includes('skip') || flags.includes('todo') || (only && !flags.includes('only'))) {
      process.stdout.write(`  - ${title}\n`)
    } else if (begun) {
      const t = new Context(title, { ...(whole.context as object) })
      const body = () =>
        t.finish([...bodies('beforeEach'), run], true).finally(() => t.finish(bodies('afterEach'), false))
      if (await attempt(title, body, flags.includes('failing'))) passed++
      else failed++
    }
  }
  const end = bodies('after', failed > 0 ? 'always' : undefined)
  if (end.length > 0 && !(await attempt('after', () => whole.finish(end, false)))) failed++
  process.stdout.write(`\n  ${passed} passed${failed > 0 ? `, ${failed} failed` : ''}\n`)
  if (failed > 0 || passed === 0) process.exitCode = 1
}

for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.on(event, (error) => {
    process.stdout.write(`  ✘ outside of any test: ${show(error)}\n`)
    process.exitCode = 1
  })
}
const test = declare([])

// biome-ignore lint/style/noDefaultExport: test files import ava's default export
export { test as default }

async function runFiles(files: readonly string[]): Promise<void> {
  for (const file of files) {
    process.stdout.write(`${file}\n`)
    entries.length = 0
    try {
      await import(pathToFileURL(path.resolve(file)).href)
      await runAll()
    } catch (error) {
      process.stdout.write(`  ✘ the file: ${show(error)}\n`)
      process.exitCode = 1
    }
  }
  setTimeout(() => {
    process.stdout.write('  ✘ the process does not end by itself\n')
    process.exit(1)
  }, 60_000).unref()
}

// This file is the program too: the test files that it is given import it by ava's name. Not awaited, since
// their import waits for the end of this module.
if (process.argv.length > 2) void runFiles(process.argv.slice(2))
