// Moves a range between the device and whoever takes a buffer and a position, as fs.read and fs.write do: straight
// from and into DMA memory, several chunks at a time.
// Trade-off: nothing is copied in JavaScript, so the other end must not keep a buffer beyond its promise; a slow
// one holds the chunks after it back, up to the depth.

import { AbortError, ArgumentTypeError, ClosedError, OutOfRangeError } from '../../lib/errors.ts'
import { onAbort, throwIfAborted } from '../../lib/sys/abort.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import type { BlockIo } from '../queue/block-io.ts'
import { checkInteger } from '../queue/validate.ts'
import { RANGE_NAMES, type Range, type RangeOptions, resolveRange } from './range.ts'
import { Pace, withBytesWritten } from './session.ts'
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
  const run = new Run('transferTo', io, range, sink, options)
  const ready = () => ReadWindow.ready(io, range, true, options.signal)
  for (let waiting = ready(); waiting !== null; waiting = ready()) await waiting
  const window = new ReadWindow(io, range, run.cut, true)
  const parallel = run.begin(window)
  const lent: { bytes: number; taken: Promise<unknown> }[] = []
  let bytes = 0
  let settled = 0
  const settleOldest = async () => {
    await lent[0]!.taken
    settled += lent.shift()!.bytes
    window.release()
  }
  try {
    while (!window.done) {
      await run.check()
      const slot = window.peek()
      if (slot === null) {
        await run.wait((wake) => {
          window.onReady = wake
        })
        continue
      }
      const data = slot.buffer.subarray(0, slot.nlb * io.geometry.blocksize)
      const offset = bytes
      window.lend()
      lent.push({ bytes: data.length, taken: started(() => sink(data, offset)) })
      bytes += data.length
      if (lent.length >= parallel) await settleOldest()
    }
    while (lent.length > 0) await settleOldest()
    await run.check()
    return bytes
  } catch (error) {
    const results = await Promise.allSettled(lent.map(({ taken }) => taken))
    const failed = results.findIndex(({ status }) => status === 'rejected')
    const sound = failed < 0 ? lent : lent.slice(0, failed)
    throw withBytesWritten(
      error,
      sound.reduce((sum, one) => sum + one.bytes, settled),
    )
  } finally {
    await window.close()
    run.end()
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
  const run = new Run('transferFrom', io, range, source, options)
  const ready = () => WriteWindow.ready(io, range, true, options.signal)
  for (let waiting = ready(); waiting !== null; waiting = ready()) await waiting
  const window = new WriteWindow(io, range, options, run.cut, true)
  const parallel = run.begin(window)
  const lent: { slot: Slot; wanted: number; filled: Promise<number> }[] = []
  let asked = 0
  let ended = false
  const settleOldest = async () => {
    const { slot, wanted, filled } = lent[0]!
    // What was asked for past the end counts no more, nor does its failure.
    const count = await (ended ? filled.catch(() => 0) : filled)
    lent.shift()
    if (ended) return
    checkInteger('transferFrom: bytes filled', count, 0, wanted)
    window.commit(slot, count)
    ended = count < wanted
  }
  try {
    while (!ended && asked < total) {
      await run.check()
      const slot = window.lend()
      if (slot !== null) {
        const wanted = Math.min(slot.buffer.length, total - asked)
        const offset = asked
        const buffer = wanted === slot.buffer.length ? slot.buffer : slot.buffer.subarray(0, wanted)
        const filled = started(() => source(buffer, offset))
        lent.push({ slot, wanted, filled })
        asked += wanted
      }
      if (lent.length > 0 && (slot === null || lent.length >= parallel)) await settleOldest()
      else if (slot === null) {
        await run.wait((wake) => {
          window.onRoom = wake
        })
      }
    }
    while (lent.length > 0) await settleOldest()
    await run.check()
    await window.end()
    return window.bytesWritten
  } catch (error) {
    await Promise.allSettled(lent.map(({ filled }) => filled))
    throw await window.abandon(error)
  } finally {
    await window.close()
    run.end()
  }
}

/** What ends a transfer before its time: an abort, or the end of its namespace. */
class Run {
  private readonly call: string
  private readonly io: BlockIo
  private readonly signal: AbortSignal | undefined
  private readonly parallel: number
  private readonly pace: Pace
  private forgetSignal = (): void => {}
  private wake: (() => void) | null = null
  private cause: Error | null = null
  private finish!: () => void
  private readonly finished = new Promise<void>((resolve) => {
    this.finish = resolve
  })

  constructor(
    call: string,
    io: BlockIo,
    range: Range,
    end: unknown,
    { parallel = DEFAULT_PARALLEL, signal }: TransferToOptions,
  ) {
    if (typeof end !== 'function') {
      throw new ArgumentTypeError(
        `${call}: a function is needed, received ${end === null ? 'null' : typeof end}`,
      )
    }
    checkInteger(`${call}: parallel`, parallel, 1, MAX_PARALLEL)
    throwIfAborted(signal)
    this.call = call
    this.io = io
    this.pace = new Pace(range.chunk * io.geometry.blocksize)
    this.signal = signal
    this.parallel = parallel
  }

  /**
   * The window is there: from now on an abort counts. Returns as many buffers as the other end may have of the
   * window's: half, so that the device has work meanwhile.
   */
  begin({ size }: { size: number }): number {
    this.forgetSignal = onAbort(this.signal, this.abort)
    return Math.min(this.parallel, Math.max(1, size >> 1))
  }

  /** Lets the event loop have its turn; throws where the transfer has been ended. */
  async check(): Promise<void> {
    if (this.pace.due()) await new Promise<void>((resolve) => this.pace.pause(resolve))
    if (this.cause !== null) throw this.cause
  }

  wait(arm: (wake: () => void) => void): Promise<void> {
    return new Promise((resolve) => {
      this.wake = resolve
      arm(resolve)
    })
  }

  /** The transfer is over, and its memory given back. */
  end(): void {
    this.forgetSignal()
    this.finish()
  }

  readonly cut = (): Promise<void> => {
    this.stop(new ClosedError(`${this.call}: ${this.io.device} was closed before the end of the range`))
    return this.finished
  }

  private readonly abort = (): void => this.stop(new AbortError(this.signal!.reason))

  private stop(cause: Error): void {
    this.cause ??= cause
    this.wake?.()
  }
}

/** Calls it; what it throws at once is a rejection, too, and waits until it is looked at. */
function started<T>(call: () => Promise<T> | T): Promise<T> {
  const promise = (async () => call())()
  promise.catch(() => {})
  return promise
}
