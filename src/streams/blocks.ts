// An async iterator over a range of LBAs that reads ahead, and its counterpart, which writes what an iterable produces.
// The data of a step is DMA memory that the next step releases, which is the fastest way there is; `copy: true`
// gives buffers that stay. What is written is copied before its producer is asked for the next chunk, since it can't tell
// when one has been written: who wants to do without that copy uses `transferFrom`.

import { type InspectOptions, inspect } from 'node:util'
import { AbortError, ArgumentTypeError, ClosedError, OutOfRangeError } from '../../lib/errors.ts'
import { onAbort, throwIfAborted } from '../../lib/sys/abort.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import { summary } from '../../lib/sys/show.ts'
import type { BlockIo } from '../queue/block-io.ts'
import { checkBoolean } from '../queue/validate.ts'
import { RANGE_NAMES, type Range, type RangeOptions, resolveRange } from './range.ts'
import { Session } from './session.ts'
import {
  ChunkMemory,
  checkWriteOptions,
  ReadWindow,
  type Slot,
  WRITE_NAMES,
  type WriteOptions,
  WriteWindow,
} from './window.ts'

export interface BlocksOptions extends RangeOptions {
  /** Blocks in a step, default 128 KiB of them; the last step may be shorter. */
  chunk?: number | undefined
  /** Data that stays valid, in a Buffer of its own. */
  copy?: boolean | undefined
}

/** Names of BlocksOptions. */
export const BLOCKS_NAMES: OptionNames<BlocksOptions> = { ...RANGE_NAMES, chunk: true, copy: true }

/** One step. */
export interface Block {
  /** First LBA, and number of blocks. */
  slba: number
  nlb: number
  /** Valid until the next step, unless `copy` was asked for. */
  data: Buffer
}

/** What `blocks` gives: for `for await`. Ended half-way, it waits for its commands. */
export type BlockIterator = AsyncIterableIterator<Block> & AsyncDisposable

/** See `Namespace.blocks`. Throws at once for a range, chunk or depth that can't be. */
export function blocks(io: BlockIo, options: BlocksOptions): BlockIterator {
  const range = resolveRange(io, 'blocks', options, options.chunk)
  checkBoolean('blocks: copy', options.copy)
  throwIfAborted(options.signal)
  return new Blocks(io, range, options)
}

const DONE: IteratorReturnResult<undefined> = { done: true, value: undefined }

class Blocks implements BlockIterator {
  private readonly memory: ChunkMemory | null
  private readonly session: Session<ReadWindow>
  private acquired = false
  private ended: Error | true | null = null

  constructor(io: BlockIo, range: Range, { signal, copy = false }: BlocksOptions) {
    this.memory = copy ? new ChunkMemory() : null
    this.session = new Session({
      ...{ io, range, signal, call: 'blocks' },
      ready: () => {
        throwIfAborted(signal)
        return ReadWindow.ready(io, range, !copy, signal)
      },
      open: (closed) => new ReadWindow(io, range, closed, !copy),
      ended: (cause) => {
        this.ended ??= cause
        return this.close()
      },
    })
  }

  next(): Promise<IteratorResult<Block, undefined>> {
    const { session } = this
    // A caller that does not wait for one step before it asks for the next gets them in order.
    if (session.waiting !== null) return session.waiting.then(() => this.next())
    if (this.ended !== null) return this.report()
    try {
      const window = session.window
      if (window === null) return this.begin()
      if (this.acquired) {
        this.acquired = false
        window.release()
      }
      return this.step(window)
    } catch (error) {
      return this.fail(error as Error)
    }
  }

  /** Ends the iteration: resolves when the commands in flight have ended. */
  async return(): Promise<IteratorReturnResult<undefined>> {
    this.ended ??= true
    await this.close()
    return DONE
  }

  async throw(error: unknown): Promise<never> {
    await this.return()
    throw error
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return()
  }

  /** What a console shows of it: not the driver behind it. */
  [inspect.custom](depth: number, options: InspectOptions): string {
    return summary('BlockIterator', this.toJSON(), depth, options)
  }

  /** For JSON.stringify: the same. */
  toJSON() {
    const { device, geometry } = this.session.io
    return { device, id: geometry.nsid, ended: this.ended !== null }
  }

  private begin(): Promise<IteratorResult<Block, undefined>> {
    const { session } = this
    const waiting = session.begin()
    if (waiting !== null) return this.waitForMemory(waiting)
    session.watch()
    return this.step(session.window!)
  }

  private step(window: ReadWindow): Promise<IteratorResult<Block, undefined>> {
    if (window.done) return this.return()
    const slot = this.session.due() ? null : window.peek()
    if (slot !== null) return Promise.resolve({ done: false, value: this.blockOf(slot) })
    return this.wait(window)
  }

  private blockOf(slot: Slot): Block {
    this.acquired = true
    const { slba, nlb, buffer } = slot
    const bytes = nlb * this.session.io.geometry.blocksize
    const data = bytes === buffer.length ? buffer : buffer.subarray(0, bytes)
    return { slba, nlb, data: this.memory === null ? data : this.memory.copy(data) }
  }

  // Waits for the oldest chunk, or for a turn of the event loop where it is there already.
  private async wait(window: ReadWindow): Promise<IteratorResult<Block, undefined>> {
    await this.session.wait((wake) => {
      if (window.watch(wake)) this.session.pause(wake)
    })
    return this.next()
  }

  private async waitForMemory(waiting: Promise<void>): Promise<IteratorResult<Block, undefined>> {
    await this.session.wait((wake) => {
      waiting.then(wake, (error) => {
        this.ended ??= error
        wake()
      })
    })
    return this.next()
  }

  private async fail(error: Error): Promise<never> {
    this.ended ??= error
    await this.close()
    this.ended = true
    throw error
  }

  private async report(): Promise<IteratorReturnResult<undefined>> {
    const ended = this.ended
    this.ended = true
    await this.close()
    if (ended instanceof Error) throw ended
    return DONE
  }

  private close(): Promise<void> {
    this.ended ??= true
    return this.session.close()
  }
}

export interface WriteBlocksOptions extends RangeOptions, WriteOptions {
  /** Blocks that are gathered into one command, default 128 KiB of them. */
  chunk?: number | undefined
}

/** Names of WriteBlocksOptions. */
export const WRITE_BLOCKS_NAMES: OptionNames<WriteBlocksOptions> = {
  ...RANGE_NAMES,
  ...WRITE_NAMES,
  chunk: true,
}

/** Data that goes to an LBA of its own: a number of whole blocks. */
export interface PlacedBlock {
  /** First LBA. */
  slba: number
  /** A number of whole blocks. */
  data: Uint8Array
}

/** Buffers of any length go one after another; what names an LBA goes there, as from `blocks()`. */
export type WriteSource = Iterable<Uint8Array | PlacedBlock> | AsyncIterable<Uint8Array | PlacedBlock>

/**
 * See `Namespace.writeBlocks`.
 * @returns bytes written, when they are on the medium
 */
export async function writeBlocks(
  io: BlockIo,
  source: WriteSource,
  options: WriteBlocksOptions,
): Promise<number> {
  const range = resolveRange(io, 'writeBlocks', options, options.chunk)
  checkWriteOptions('writeBlocks', options)
  if (!isIterable(source)) {
    throw new ArgumentTypeError(
      `writeBlocks: source must be an iterable, received ${source === null ? 'null' : typeof source}`,
    )
  }
  const { signal } = options
  const session: Session<WriteWindow> = new Session({
    ...{ io, range, signal, call: 'writeBlocks' },
    ready: () => WriteWindow.ready(io, range, false, signal),
    open: (closed) => new WriteWindow(io, range, options, closed),
    // Its source may never answer: the end of the namespace waits for commands alone.
    ended: (cause) => (cause instanceof ClosedError ? session.window!.close() : session.settled),
  })
  const window = await session.opened()
  session.watch()
  try {
    for await (const item of abortable(source, signal)) {
      const data = await place(io, window, item)
      session.throwIfEnded()
      for (let at = window.write(data, 0); at < data.length; at = window.write(data, at)) {
        await session.wait((wake) => {
          window.onSpace = wake
        })
        session.throwIfEnded()
      }
      if (session.due()) await session.turn()
    }
    session.throwIfEnded()
    await window.end()
    return window.bytesWritten
  } catch (error) {
    throw await window.abandon(error)
  } finally {
    await session.close()
  }
}

function isIterable(source: unknown): boolean {
  return (
    typeof source === 'object' &&
    source !== null &&
    (Symbol.asyncIterator in source || Symbol.iterator in source)
  )
}

/** The item's bytes, with the window where they go. */
async function place(io: BlockIo, window: WriteWindow, item: Uint8Array | PlacedBlock): Promise<Uint8Array> {
  if (item instanceof Uint8Array) return item
  if (!(item?.data instanceof Uint8Array)) {
    throw new ArgumentTypeError(
      `writeBlocks: a chunk must be a Buffer or { slba, data }, received ${typeof item}`,
    )
  }
  if (item.data.length % io.geometry.blocksize !== 0) {
    throw new OutOfRangeError(
      `writeBlocks: ${item.data.length} bytes for slba ${item.slba} are no whole blocks of ${io.geometry.blocksize}`,
    )
  }
  await window.seek(item.slba)
  return item.data
}

type Source<T> = Iterable<T> | AsyncIterable<T>

/** The same items; AbortError takes the place of the next where the signal comes first. */
function abortable<T>(source: Source<T>, signal: AbortSignal | undefined): Source<T> {
  return signal === undefined ? source : { [Symbol.asyncIterator]: () => iterate(source, signal) }
}

function iterate<T>(source: Source<T>, signal: AbortSignal): AsyncIterator<T> {
  const iterator = iteratorOf(source)
  return {
    next: () =>
      new Promise((resolve, reject) => {
        const abort = () => reject(new AbortError(signal.reason))
        if (signal.aborted) return abort()
        const forget = onAbort(signal, abort)
        // What it throws at once is a rejection, too.
        const next = (async () => iterator.next())()
        next.finally(forget).then(resolve, reject)
      }),
    async return() {
      await iterator.return?.()
      return { done: true, value: undefined }
    },
  }
}

function iteratorOf<T>(source: Source<T>): Iterator<T> | AsyncIterator<T> {
  return Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]()
}
