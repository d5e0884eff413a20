// A Writable over a range of LBAs.
// Trade-off: a chunk is acknowledged when it is in DMA memory and not when it is on the medium, so that many
// commands are in flight; 'finish' comes after everything was written and flushed.

import { addAbortSignal, Writable } from 'node:stream'
import { EndOfRangeError } from '../../lib/errors.ts'
import type { Namespace } from '../namespace.ts'
import { Pace } from './pace.ts'
import { chunkOfBytes, type Range, type RangeOptions, resolveRange } from './range.ts'
import { checkWriteOptions, type WriteOptions, WriteWindow } from './write-window.ts'

export interface WriteStreamOptions extends RangeOptions, WriteOptions {
  /** Bytes that are gathered into one chunk, default 128 KiB. */
  highWaterMark?: number
  /** As for fs.createWriteStream. */
  emitClose?: boolean
}

type Callback = (error?: Error | null) => void

/** A Writable over a range of LBAs. Its 'finish' means that the data is on the medium. */
export class WriteStream extends Writable {
  /** First LBA and number of blocks that it may write. */
  readonly slba: number
  readonly nlb: number
  readonly #ns: Namespace
  readonly #range: Range
  readonly #options: WriteOptions
  readonly #pace: Pace
  #window: WriteWindow | null = null
  #written = 0

  /** Made by `Namespace.createWriteStream`. */
  constructor(ns: Namespace, options: WriteStreamOptions) {
    const { highWaterMark, signal, emitClose = true } = options
    const chunk = chunkOfBytes(ns, 'createWriteStream', highWaterMark)
    const range = resolveRange(ns, 'createWriteStream', options, chunk)
    checkWriteOptions('createWriteStream', options)
    const bytes = range.chunk * ns.blocksize
    super({ highWaterMark: bytes, emitClose })
    this.#ns = ns
    this.#range = range
    this.#pace = new Pace(bytes)
    this.#options = options
    this.slba = range.slba
    this.nlb = range.nlb
    // Not by the option: a signal that is aborted already would destroy the stream before it is one.
    if (signal) addAbortSignal(signal, this)
  }

  /** Bytes of the stream that are known to have been written; after 'finish', all. */
  get bytesWritten(): number {
    return this.#window?.bytesWritten ?? this.#written
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    try {
      this.#window ??= new WriteWindow(this.#ns, this.#range, this.#options, () => this.#end())
      this.#take(this.#window, chunk, 0, callback)
    } catch (error) {
      this.#fail(error as Error, callback)
    }
  }

  override _final(callback: Callback): void {
    if (this.#window === null) callback()
    else
      this.#window.end().then(
        () => callback(),
        (error) => this.#fail(error, callback),
      )
  }

  override _destroy(error: Error | null, callback: Callback): void {
    const window = this.#window
    if (window === null) {
      callback(error)
      return
    }
    void window.close().then(() => {
      this.#written = window.bytesWritten
      this.#window = null
      callback(error)
    })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#end()
  }

  #take(window: WriteWindow, chunk: Buffer, offset: number, callback: Callback): void {
    const at = window.write(chunk, offset)
    if (at === chunk.length) {
      if (this.#pace.due()) this.#pace.pause(callback)
      else callback()
      return
    }
    window.onRoom = () => {
      try {
        this.#take(window, chunk, at, callback)
      } catch (error) {
        this.#fail(error as Error, callback)
      }
    }
  }

  // What was taken before is written out before the end of the range is reported, so that its number is true.
  #fail(error: Error, callback: Callback): void {
    if (error instanceof EndOfRangeError && this.#window !== null) {
      this.#window.end().then(
        () => callback(error),
        (cause) => callback(cause),
      )
    } else {
      callback(error)
    }
  }

  #end(): Promise<void> {
    if (this.closed) return Promise.resolve()
    const closed = new Promise<void>((resolve) => this.once('close', resolve))
    this.destroy()
    return closed
  }
}
