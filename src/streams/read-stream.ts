// A Readable over a range of LBAs.
// Trade-off: chunks are copied out of DMA memory, since what goes through a pipe is held for as long as anybody
// likes; the slot is read into again at once.

import { addAbortSignal, Readable } from 'node:stream'
import type { Namespace } from '../namespace.ts'
import { ChunkMemory } from './chunk-memory.ts'
import { Pace } from './pace.ts'
import { chunkOfBytes, type Range, type RangeOptions, resolveRange } from './range.ts'
import { ReadWindow } from './read-window.ts'
import type { Slot } from './window.ts'

export interface ReadStreamOptions extends RangeOptions {
  /** Bytes in a chunk, a multiple of the block size is best; default 128 KiB. */
  highWaterMark?: number
  /** As for fs.createReadStream. */
  encoding?: BufferEncoding
  emitClose?: boolean
}

/** A Readable over a range of LBAs. Its chunks are copies, and the reader's to keep. */
export class ReadStream extends Readable {
  /** First LBA and number of blocks that it reads. */
  readonly slba: number
  readonly nlb: number
  /** Bytes that it has given out. */
  bytesRead = 0
  readonly #ns: Namespace
  readonly #range: Range
  readonly #pace: Pace
  readonly #memory = new ChunkMemory()
  #window: ReadWindow | null = null
  #paused = false

  /** Made by `Namespace.createReadStream`. */
  constructor(ns: Namespace, options: ReadStreamOptions) {
    const { highWaterMark, signal, encoding, emitClose = true } = options
    const range = resolveRange(
      ns,
      'createReadStream',
      options,
      chunkOfBytes(ns, 'createReadStream', highWaterMark),
    )
    const bytes = range.chunk * ns.blocksize
    super({ highWaterMark: bytes, emitClose, ...(encoding && { encoding }) })
    this.#ns = ns
    this.#range = range
    this.#pace = new Pace(bytes)
    this.slba = range.slba
    this.nlb = range.nlb
    // Not by the option: a signal that is aborted already would destroy the stream before it is one.
    if (signal) addAbortSignal(signal, this)
  }

  override _read(): void {
    // A push from within a read that finds data already would be joined to it: chunks keep their length.
    if (this.readableLength > 0) process.nextTick(this.#advance)
    else this.#advance()
  }

  readonly #advance = (): void => {
    if (this.#paused || this.destroyed) return
    try {
      this.#window ??= this.#open()
      this.#pump(this.#window)
    } catch (error) {
      this.destroy(error as Error)
    }
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    if (this.#window === null) callback(error)
    else void this.#window.close().then(() => callback(error))
  }

  override [Symbol.asyncDispose](): Promise<void> {
    return this.#end()
  }

  #open(): ReadWindow {
    const window = new ReadWindow(this.#ns, this.#range, () => this.#end())
    window.onReady = this.#advance
    return window
  }

  // Hands out what has arrived, until the consumer has enough, the window is empty or the event loop's turn comes.
  #pump(window: ReadWindow): void {
    for (;;) {
      if (this.#pace.due()) {
        this.#paused = true
        this.#pace.pause(() => {
          this.#paused = false
          this.#advance()
        })
        return
      }
      const slot = window.peek()
      if (slot === null) break
      const more = this.push(this.#copy(slot))
      if (this.destroyed) return
      window.release()
      if (!more) return
    }
    if (window.done) this.push(null)
  }

  #copy({ buffer, nlb }: Slot): Buffer {
    const bytes = nlb * this.#ns.blocksize
    this.bytesRead += bytes
    return this.#memory.copy(bytes === buffer.length ? buffer : buffer.subarray(0, bytes))
  }

  #end(): Promise<void> {
    if (this.closed) return Promise.resolve()
    const closed = new Promise<void>((resolve) => this.once('close', resolve))
    this.destroy()
    return closed
  }
}
