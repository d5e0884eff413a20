// Checks of what callers give, with errors as Node's fs throws them: the argument named, the value shown.
// The hot path makes its own cheap test, and comes here only to say what was wrong.

import { AlignmentError, ArgumentTypeError, OutOfRangeError } from '../../lib/errors.ts'
import type { DmaPool } from '../../lib/memory/pool.ts'
import type { DmaTag } from '../../lib/memory/tag.ts'
import { checkOptionNames, type OptionNames } from '../../lib/sys/options.ts'
import { show } from '../../lib/sys/show.ts'
import type { Geometry } from './geometry.ts'

// Any part of a DMA buffer that starts at a multiple of this is an I/O buffer.
export const ALIGNMENT = 512

/** An integer from `min` to `max`. */
export function checkInteger(name: string, value: unknown, min: number, max = Number.MAX_SAFE_INTEGER): void {
  if (typeof value !== 'number') {
    throw new ArgumentTypeError(`${name} must be a number, received ${show(value)}`)
  }
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    const range = max === Number.MAX_SAFE_INTEGER ? `at least ${min}` : `from ${min} to ${max}`
    throw new OutOfRangeError(`${name} must be an integer ${range}, received ${show(value)}`)
  }
}

/** A range of LBAs inside the namespace, at least one block. */
export function checkRange(call: string, slba: unknown, nlb: unknown, geometry: Geometry): void {
  if (!isRange(slba, nlb, geometry)) explainRange(call, slba, nlb, geometry)
}

function isRange(slba: unknown, nlb: unknown, { blockcount }: Geometry): boolean {
  return (
    typeof slba === 'number' &&
    typeof nlb === 'number' &&
    Number.isSafeInteger(slba) &&
    Number.isSafeInteger(nlb) &&
    slba >= 0 &&
    nlb >= 1 &&
    slba <= blockcount - nlb
  )
}

// Names are put together only here.
function explainRange(call: string, slba: unknown, nlb: unknown, geometry: Geometry): void {
  checkInteger(`${call}: slba`, slba, 0)
  // Before the count, which may have been derived from what is left of the namespace: nothing, or less.
  if ((slba as number) >= geometry.blockcount) {
    throw new OutOfRangeError(
      `${call}: slba ${slba} is after the last LBA ${geometry.blockcount - 1} of namespace ${geometry.nsid}`,
    )
  }
  checkInteger(`${call}: nlb`, nlb, 1)
  const end = (slba as number) + (nlb as number)
  if (end > geometry.blockcount) {
    throw new OutOfRangeError(
      `${call}: slba ${slba}, nlb ${nlb} end after the last LBA ${geometry.blockcount - 1} of namespace ${geometry.nsid}`,
    )
  }
}

/** A Buffer or any other Uint8Array. */
export function checkBytes(call: string, bytes: unknown): asserts bytes is Uint8Array {
  if (!(bytes instanceof Uint8Array)) {
    throw new ArgumentTypeError(`${call}: buf must be a Buffer or a Uint8Array, received ${show(bytes)}`)
  }
}

export function checkBuffer(call: string, buffer: unknown): asserts buffer is Buffer {
  if (!(buffer instanceof Buffer)) {
    throw new ArgumentTypeError(`${call}: buf must be a Buffer, received ${show(buffer)}`)
  }
}

/** Options, where there are any, are an object, and each has one of the names: see lib/sys/options.ts. */
export function checkOptions<T>(call: string, options: T, names: OptionNames<T>): T {
  checkOptionNames(call, options, names as Readonly<Record<string, true>>)
  return options
}

/** Names of the options of a call that has no other. */
export const SIGNAL_NAMES: OptionNames<{ signal?: AbortSignal | undefined }> = { signal: true }

/** An AbortSignal among them. */
export function checkSignal(call: string, value: unknown): void {
  if (value === undefined || value instanceof AbortSignal) return
  throw new ArgumentTypeError(`${call}: signal must be an AbortSignal, received ${show(value)}`)
}

/** A switch among them. */
export function checkBoolean(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'boolean') {
    throw new ArgumentTypeError(`${name} must be a boolean, received ${show(value)}`)
  }
}

/** Says what is wrong with the arguments of a raw call that did not pass the hot path's test. */
export function explainTransfer(
  call: string,
  pool: DmaPool,
  geometry: Geometry,
  buffer: unknown,
  slba: unknown,
  nlb: unknown,
): Error {
  try {
    checkRange(call, slba, nlb, geometry)
    checkBuffer(call, buffer)
    checkAlignment(call, pool.tagOf(buffer as Buffer, call), ALIGNMENT)
    const needed = (nlb as number) * geometry.blocksize
    return new OutOfRangeError(`${call}: ${nlb} blocks need ${needed} bytes, the buffer has ${buffer.length}`)
  } catch (error) {
    return error as Error
  }
}

/** A buffer that starts at a multiple of `alignment`. */
export function checkAlignment(call: string, { lo, iova, allocation }: DmaTag, alignment: number): void {
  if ((lo & (alignment - 1)) === 0) return
  throw new AlignmentError(
    `${call}: the buffer starts at offset ${iova - allocation.iova}, not at a multiple of ${alignment}`,
  )
}
