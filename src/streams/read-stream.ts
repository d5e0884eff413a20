// A Readable over a range of LBAs.
// Trade-off: chunks are copied out of DMA memory, since what goes through a pipe is held for as long as anybody
// likes; the slot is read into again at once.

import { Readable } from 'node:stream'
import type { OptionNames } from '../../lib/sys/options.ts'
import type { BlockIo } from '../queue/block-io.ts'
import { ChunkMemory } from './chunk-memory.ts'
import { ENDING_NAMES, Ending, type EndingOptions, endingOptions } from './ending.ts'
import { Pace } from './pace.ts'
import {
  type ByteRangeOptions,
  chunkOfBytes,
  inBlocks,
  RANGE_NAMES,
  type Range,
  type RangeOptions,
  resolveRange,
} from './range.ts'
import { ReadWindow } from './read-window.ts'
import type { Slot } from './window.ts'

export interface ReadStreamOptions extends RangeOptions, ByteRangeOptions, EndingOptions {
  /** Bytes in a chunk, a multiple of the block size is best; default 128 KiB. */
  highWaterMark?: number | undefined
  /** As for fs.createReadStream: chunks are strings. */
  encoding?: BufferEncoding | undefined
}

/** Names of ReadStreamOptions. */
export const READ_STREAM_NAMES: OptionNames<ReadStreamOptions> = {
  ...RANGE_NAMES,
  ...ENDING_NAMES,
  start: true,
  end: true,
  highWaterMark: true,
  encoding: true,
}

/** A Readable over a range of LBAs. Its chunks are copies, and the reader's to keep. */
export class ReadStream extends Readable {
  /** First LBA and number of blocks that it reads. */
  readonly slba: number
  readonly nlb: number
  /** Bytes that it has given out. */
  bytesRead = 0
  readonly #io: BlockIo
  readonly #range: Range
  readonly #pace: Pace
  readonly #memory = new ChunkMemory()
  readonly #ending = new Ending(this)
  #window: ReadWindow | null = null
  #paused = false

  /** Made by `Namespace.createReadStream`. */
  constructor(io: BlockIo, options: ReadStreamOptions) {
    const { highWaterMark, signal, encoding } = options
    const chunk = chunkOfBytes(io, 'createReadStream', highWaterMark)
    const range = resolveRange(io, 'createReadStream', inBlocks(io, 'createReadStream', options), chunk)
    const bytes = range.chunk * io.geometry.blocksize
    super({
      highWaterMark: bytes,
      ...endingOptions('createReadStream', options),
      ...(encoding !== undefined && { encoding }),
    })
    this.#io = io
    this.#range = range
    this.#pace = new Pace(bytes)
    this.slba = range.slba
    this.nlb = range.nlb
    this.#ending.watch(signal)
  }

  override _read(): void {
    // A push from within a read that finds data already would be joined to it: chunks keep their length.
    if (this.readableLength > 0) process.nextTick(this.#advance)
    else this.#advance()
  }

  readonly #advance = (): void => {
    if (this.#paused || this.destroyed) return
    const window = this.#window ?? this.#open()
    if (window !== null) this.#pump(window)
  }

  readonly #resume = (): void => {
    this.#paused = false
    this.#advance()
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#ending.finish(this.#window?.close() ?? null, error, callback)
  }

  override [Symbol.asyncDispose](): Promise<void> {
    return this.#ending.dispose()
  }

  #open(): ReadWindow | null {
    try {
      const io = this.#io
      const waiting = ReadWindow.ready(io, this.#range)
      if (waiting !== null) {
        this.#paused = true
        waiting.then(
          () => process.nextTick(this.#resume),
          (error) => this.destroy(error),
        )
        return null
      }
      const window = new ReadWindow(io, this.#range, () => this.#ending.cut(io.device))
      // A poll calls it, anyone's: what a listener throws must not come out there.
      window.onReady = () => queueMicrotask(this.#advance)
      this.#window = window
      return window
    } catch (error) {
      this.destroy(error as Error)
      return null
    }
  }

  #peek(window: ReadWindow): Slot | null {
    try {
      return window.peek()
    } catch (error) {
      this.destroy(error as Error)
      return null
    }
  }

  // Hands out what has arrived, until the consumer has enough, the window is empty or the event loop's turn comes.
  // Nothing is caught around a push: it calls listeners, and what they throw is theirs.
  #pump(window: ReadWindow): void {
    for (;;) {
      if (this.#pace.due()) {
        this.#paused = true
        this.#pace.pause(this.#resume)
        return
      }
      const slot = this.#peek(window)
      if (slot === null) break
      const chunk = this.#copy(slot)
      window.release()
      const more = this.push(chunk)
      if (!more || this.destroyed) return
    }
    if (window.done && !this.destroyed) this.push(null)
  }

  #copy({ buffer, nlb }: Slot): Buffer {
    const bytes = nlb * this.#io.geometry.blocksize
    this.bytesRead += bytes
    return this.#memory.copy(bytes === buffer.length ? buffer : buffer.subarray(0, bytes))
  }
}
