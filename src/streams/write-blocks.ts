// Writes what an iterable produces: the counterpart of blocks() for `for await` producers.
// Trade-off: the producer's chunk is copied before it is asked for the next, so it may reuse its buffer. That goes for
// DMA memory, too: a producer can't tell when a chunk has been written, and what `blocks()` lends ends with the next
// step. Who wants to do without the copy fills the memory that `transferFrom` lends.

import { ArgumentTypeError, OutOfRangeError } from '../../lib/errors.ts'
import { onAbort, throwIfAborted } from '../../lib/sys/abort.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import type { BlockIo } from '../queue/block-io.ts'
import { abortable } from './abortable.ts'
import { Pace } from './pace.ts'
import { RANGE_NAMES, type RangeOptions, resolveRange } from './range.ts'
import { checkWriteOptions, WRITE_NAMES, type WriteOptions, WriteWindow } from './write-window.ts'

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
  const pace = new Pace(range.chunk * io.geometry.blocksize)
  let ended = false
  const ready = () => WriteWindow.ready(io, range, false, signal)
  for (let waiting = ready(); waiting !== null; waiting = ready()) await waiting
  const window = new WriteWindow(io, range, options, () => {
    ended = true
    const closed = window.close()
    // A closed window tells of no room any more.
    window.onRoom()
    return closed
  })
  const check = () => {
    throwIfAborted(signal)
    if (ended) io.queue(range.qid, 'writeBlocks')
  }
  try {
    for await (const item of abortable(source, signal)) {
      const data = await place(io, window, item)
      check()
      for (let at = window.write(data, 0); at < data.length; at = window.write(data, at)) {
        await room(window, signal)
        check()
      }
      if (pace.due()) await new Promise<void>((resolve) => pace.pause(resolve))
    }
    check()
    await window.end()
    return window.bytesWritten
  } catch (error) {
    throw await window.abandon(error)
  } finally {
    await window.close()
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

function room(window: WriteWindow, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const forget = onAbort(signal, resolve)
    window.onRoom = () => {
      forget()
      resolve()
    }
  })
}
