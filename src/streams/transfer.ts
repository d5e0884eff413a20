// Moves a range between the device and whoever takes a buffer and a position, as fs.read and fs.write do: straight
// from and into DMA memory, several chunks at a time.
// Trade-off: nothing is copied in JavaScript, so the other end must not keep a buffer beyond its promise; a slow
// one holds the chunks after it back, up to the depth.

import { ArgumentTypeError, OutOfRangeError } from '../../lib/errors.ts'
import { throwIfAborted } from '../../lib/sys/abort.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import type { BlockIo } from '../queue/block-io.ts'
import { checkInteger } from '../queue/validate.ts'
import { RANGE_NAMES, type RangeOptions, resolveRange } from './range.ts'
import { Session, withBytesWritten } from './session.ts'
import type { Slot } from './window.ts'
import { checkWriteOptions, ReadWindow, WRITE_NAMES, type WriteOptions, WriteWindow } from './window.ts'

export interface TransferToOptions extends RangeOptions {
  /** Blocks in a buffer, default 128 KiB of them; the last one may be shorter. */
  chunk?: number | undefined
  /** Buffers that the other end has at a time, default 4, as libuv has threads; at most half of the window. */
  parallel?: number | undefined
}

export interface TransferFromOptions extends TransferToOptions, WriteOptions {
  /** Bytes to write, default all of the range. Any number: see `WriteOptions.pad` for the rest of the last block. */
  bytes?: number | undefined
}

/** Names of TransferToOptions, and of TransferFromOptions. */
export const TRANSFER_TO_NAMES: OptionNames<TransferToOptions> = {
  ...RANGE_NAMES,
  chunk: true,
  parallel: true,
}
export const TRANSFER_FROM_NAMES: OptionNames<TransferFromOptions> = {
  ...TRANSFER_TO_NAMES,
  ...WRITE_NAMES,
  bytes: true,
}

/** Takes `data`, which begins `offset` bytes after the range's start, until its promise is settled. */
export type TransferSink = (data: Buffer, offset: number) => Promise<unknown> | unknown

/** Fills `buffer` with what begins at `offset`, and returns the bytes filled: fewer than fit are the end. */
export type TransferSource = (buffer: Buffer, offset: number) => Promise<number> | number

const DEFAULT_PARALLEL = 4
// As many as there can be commands in flight.
const MAX_PARALLEL = 65536

/** See `Namespace.transferTo`. */
export async function transferTo(
  io: BlockIo,
  sink: TransferSink,
  options: TransferToOptions,
): Promise<number> {
  const range = resolveRange(io, 'transferTo', options, options.chunk)
  const most = checkOther('transferTo', sink, options)
  const { signal } = options
  const session: Session<ReadWindow> = new Session({
    ...{ io, range, signal, call: 'transferTo' },
    ready: () => ReadWindow.ready(io, range, true, signal),
    open: (closed) => new ReadWindow(io, range, closed, true),
    ended: () => session.settled,
  })
  const window = await session.opened()
  session.watch()
  const parallel = parallelOf(window, most)
  const acquired: { bytes: number; taken: Promise<unknown> }[] = []
  let bytes = 0
  let settled = 0
  const settleOldest = async () => {
    await acquired[0]!.taken
    settled += acquired.shift()!.bytes
    window.release()
  }
  try {
    while (!window.done) {
      if (session.due()) await session.turn()
      session.throwIfEnded()
      const slot = window.peek()
      if (slot === null) {
        await session.wait((wake) => {
          window.onReady = wake
        })
        continue
      }
      const data = slot.buffer.subarray(0, slot.nlb * io.geometry.blocksize)
      const offset = bytes
      window.acquire()
      acquired.push({ bytes: data.length, taken: started(() => sink(data, offset)) })
      bytes += data.length
      if (acquired.length >= parallel) await settleOldest()
    }
    while (acquired.length > 0) await settleOldest()
    session.throwIfEnded()
    return bytes
  } catch (error) {
    const results = await Promise.allSettled(acquired.map(({ taken }) => taken))
    const failed = results.findIndex(({ status }) => status === 'rejected')
    const sound = failed < 0 ? acquired : acquired.slice(0, failed)
    throw withBytesWritten(
      error,
      sound.reduce((sum, one) => sum + one.bytes, settled),
    )
  } finally {
    await session.close()
    session.settle()
  }
}

/** See `Namespace.transferFrom`. */
export async function transferFrom(
  io: BlockIo,
  source: TransferSource,
  options: TransferFromOptions,
): Promise<number> {
  const { bytes } = options
  if (bytes !== undefined) checkInteger('transferFrom: bytes', bytes, 0)
  const nlb = bytes === undefined ? undefined : Math.max(1, Math.ceil(bytes / io.geometry.blocksize))
  const range = resolveRange(io, 'transferFrom', { ...options, nlb: options.nlb ?? nlb }, options.chunk)
  const total = bytes ?? range.nlb * io.geometry.blocksize
  if (total > range.nlb * io.geometry.blocksize) {
    throw new OutOfRangeError(
      `transferFrom: ${total} bytes are more than the range of ${range.nlb} blocks holds`,
    )
  }
  checkWriteOptions('transferFrom', options)
  const most = checkOther('transferFrom', source, options)
  const { signal } = options
  const session: Session<WriteWindow> = new Session({
    ...{ io, range, signal, call: 'transferFrom' },
    ready: () => WriteWindow.ready(io, range, true, signal),
    open: (closed) => new WriteWindow(io, range, options, closed, true),
    ended: () => session.settled,
  })
  const window = await session.opened()
  session.watch()
  const parallel = parallelOf(window, most)
  const acquired: { slot: Slot; wanted: number; filled: Promise<number> }[] = []
  let asked = 0
  let ended = false
  const settleOldest = async () => {
    const { slot, wanted, filled } = acquired[0]!
    // What was asked for past the end counts no more, nor does its failure.
    const count = await (ended ? filled.catch(() => 0) : filled)
    acquired.shift()
    if (ended) return
    checkInteger('transferFrom: bytes filled', count, 0, wanted)
    window.commit(slot, count)
    ended = count < wanted
  }
  try {
    while (!ended && asked < total) {
      if (session.due()) await session.turn()
      session.throwIfEnded()
      const slot = window.acquire()
      if (slot !== null) {
        const wanted = Math.min(slot.buffer.length, total - asked)
        const offset = asked
        const buffer = wanted === slot.buffer.length ? slot.buffer : slot.buffer.subarray(0, wanted)
        const filled = started(() => source(buffer, offset))
        acquired.push({ slot, wanted, filled })
        asked += wanted
      }
      if (acquired.length > 0 && (slot === null || acquired.length >= parallel)) await settleOldest()
      else if (slot === null) {
        await session.wait((wake) => {
          window.onSpace = wake
        })
      }
    }
    while (acquired.length > 0) await settleOldest()
    session.throwIfEnded()
    await window.end()
    return window.bytesWritten
  } catch (error) {
    await Promise.allSettled(acquired.map(({ filled }) => filled))
    throw await window.abandon(error)
  } finally {
    await session.close()
    session.settle()
  }
}

/** Checks the other end. Returns how many buffers it may have. */
function checkOther(
  call: string,
  end: unknown,
  { parallel = DEFAULT_PARALLEL, signal }: TransferToOptions,
): number {
  if (typeof end !== 'function') {
    throw new ArgumentTypeError(
      `${call}: a function is needed, received ${end === null ? 'null' : typeof end}`,
    )
  }
  checkInteger(`${call}: parallel`, parallel, 1, MAX_PARALLEL)
  throwIfAborted(signal)
  return parallel
}

// The other end has half of the window's buffers at most, so that the device has work meanwhile.
function parallelOf({ size }: { size: number }, most: number): number {
  return Math.min(most, Math.max(1, size >> 1))
}

/** Calls it; what it throws at once is a rejection, too, and waits until it is looked at. */
function started<T>(call: () => Promise<T> | T): Promise<T> {
  const promise = (async () => call())()
  promise.catch(() => {})
  return promise
}
