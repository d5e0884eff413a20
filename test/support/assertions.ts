// What tests of devices assert with, in ava and in the virtual machine, where ava is not loaded: node:assert, and
// errors by class, code and message. A failed assertion throws, and fails the test even where that is caught.

import assert from 'node:assert'

interface ErrorExpectation {
  code?: string
  instanceOf?: new (...args: never[]) => Error
  message?: string | RegExp
}

export interface Assertions {
  /** By Object.is. */
  is(actual: unknown, expected: unknown, message?: string): void
  true(actual: unknown, message?: string): void
  false(actual: unknown, message?: string): void
  deepEqual(actual: unknown, expected: unknown, message?: string): void
  /** What `expected` has, `actual` has too. */
  like(actual: object, expected: object, message?: string): void
  regex(text: string, pattern: RegExp, message?: string): void
  throws<E extends Error>(call: () => unknown, expected: ErrorExpectation, message?: string): E
  throwsAsync<E extends Error>(
    call: PromiseLike<unknown> | (() => PromiseLike<unknown>),
    expected: ErrorExpectation,
    message?: string,
  ): Promise<E>
}

/** Assertions of one test; `verdict` throws where one has failed, or none was made. */
export function makeAssertions(): Assertions & { verdict(): void } {
  let count = 0
  let failure: unknown

  function note(assertion: () => void): void {
    count++
    try {
      assertion()
    } catch (error) {
      failure ??= error
      throw error
    }
  }

  const is: Assertions['is'] = (actual, expected, message) =>
    note(() => assert.strictEqual(actual, expected, message))

  function expectError(error: unknown, expected: ErrorExpectation, message?: string): void {
    note(() => {
      if (!(error instanceof (expected.instanceOf ?? Error))) throw error
      const { code } = error as NodeJS.ErrnoException
      if (expected.code !== undefined) assert.strictEqual(code, expected.code, explained(message, error))
      if (expected.message instanceof RegExp) assert.match(error.message, expected.message, message)
      else if (expected.message !== undefined) assert.strictEqual(error.message, expected.message, message)
    })
  }

  const missing = (message = 'no error was thrown') => note(() => assert.fail(message))

  return {
    is,
    true: (actual, message) => is(actual, true, message),
    false: (actual, message) => is(actual, false, message),
    deepEqual: (actual, expected, message) => note(() => assert.deepStrictEqual(actual, expected, message)),
    like: (actual, expected, message) =>
      note(() => {
        const selected = Object.keys(expected).map((key) => [key, Reflect.get(actual, key)])
        assert.deepStrictEqual(Object.fromEntries(selected), expected, message)
      }),
    regex: (text, pattern, message) => note(() => assert.match(text, pattern, message)),
    throws<E extends Error>(call: () => unknown, expected: ErrorExpectation, message?: string): E {
      try {
        call()
      } catch (error) {
        expectError(error, expected, message)
        return error as E
      }
      return missing(message) as never
    },
    async throwsAsync<E extends Error>(
      call: PromiseLike<unknown> | (() => PromiseLike<unknown>),
      expected: ErrorExpectation,
      message?: string,
    ): Promise<E> {
      try {
        await (typeof call === 'function' ? call() : call)
      } catch (error) {
        expectError(error, expected, message)
        return error as E
      }
      return missing(message) as never
    },
    verdict() {
      if (failure !== undefined) throw failure
      if (count === 0) assert.fail('the test made no assertion')
    },
  }
}

const explained = (message: string | undefined, error: Error) =>
  message === undefined ? undefined : `${message}: ${error.message}`
