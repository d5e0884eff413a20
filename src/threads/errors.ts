// Errors on their way from one thread to another: posted as they are they would arrive as bare Errors.
// Trade-off: the class is found by its name again, so that `instanceof`, `code` and the fields hold on the other side.

import { inspect } from 'node:util'
import * as errors from '../../lib/errors.ts'

/** An error as plain data. */
export interface PackedError {
  readonly name: string
  readonly message: string
  readonly stack: string | undefined
  readonly cause: PackedError | string | undefined
  readonly fields: Readonly<Record<string, unknown>>
}

const MAX_DEPTH = 8

/** Takes anything that was thrown. */
export function packError(thrown: unknown, depth = 0): PackedError {
  if (!(thrown instanceof Error)) {
    return { name: 'Error', message: describe(thrown), stack: undefined, cause: undefined, fields: {} }
  }
  const { name, message, stack, cause } = thrown
  const fields = Object.fromEntries(Object.entries(thrown).filter(([key, value]) => isField(key, value)))
  return { name, message, stack, cause: packCause(cause, depth), fields }
}

function packCause(cause: unknown, depth: number): PackedError | string | undefined {
  if (cause === undefined || depth === MAX_DEPTH) return undefined
  return cause instanceof Error ? packError(cause, depth + 1) : describe(cause)
}

// What was thrown may be anything: an object without a prototype, or with a toString that is no function.
function describe(thrown: unknown): string {
  return typeof thrown === 'string' ? thrown : inspect(thrown, { depth: 1, breakLength: Infinity })
}

function isField(key: string, value: unknown): boolean {
  return key !== 'name' && ['string', 'number', 'boolean'].includes(typeof value)
}

/** The error, of its own class where that is one of this package's. */
export function unpackError({ name, message, stack, cause, fields }: PackedError): Error {
  const inner = typeof cause === 'object' ? unpackError(cause) : cause
  const error = new Error(message, inner === undefined ? undefined : { cause: inner })
  const known = (errors as unknown as Record<string, { prototype: object } | undefined>)[name]
  if (known !== undefined) Object.setPrototypeOf(error, known.prototype)
  if (stack !== undefined) error.stack = stack
  error.name = name
  return Object.assign(error, fields)
}
