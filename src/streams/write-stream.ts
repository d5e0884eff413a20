// A Writable over a range of LBAs.
// Trade-off: a chunk is acknowledged when it is in DMA memory and not when it is on the medium, so that many
// commands are in flight; 'finish' comes after everything was written and flushed.

import { Writable } from 'node:stream'
import { ClosedError, EndOfRangeError } from '../../lib/errors.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import type { BlockIo } from '../queue/block-io.ts'
import { ENDING_NAMES, Ending, type EndingOptions, endingOptions, whenSettled } from './ending.ts'
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
import { checkWriteOptions, WRITE_NAMES, type WriteOptions, WriteWindow } from './write-window.ts'

export interface WriteStreamOptions
  extends RangeOptions,
    Pick<ByteRangeOptions, 'start'>,
    WriteOptions,
    EndingOptions {
  /** Bytes that are gathered into one chunk, default 128 KiB. */
  highWaterMark?: number | undefined
  /** As for fs.createWriteStream: of strings that are written, default 'utf8'. */
  encoding?: BufferEncoding | undefined
}

/** Names of WriteStreamOptions. */
export const WRITE_STREAM_NAMES: OptionNames<WriteStreamOptions> = {
  ...RANGE_NAMES,
  ...WRITE_NAMES,
  ...ENDING_NAMES,
  start: true,
  highWaterMark: true,
  encoding: true,
}

type Callback = (error?: Error | null) => void

/** A Writable over a range of LBAs. Its 'finish' means that the data is on the medium. */
export class WriteStream extends Writable {
  /** First LBA and number of blocks that it may write. */
  readonly slba: number
  readonly nlb: number
  readonly #io: BlockIo
  readonly #range: Range
  readonly #options: WriteOptions
  readonly #pace: Pace
  #window: WriteWindow | null = null
  #written = 0
  readonly #ending = new Ending(this)
  // The chunk that waits for room or memory, how far it was taken, and its callback.
  #chunk: Buffer | null = null
  #at = 0
  #callback: Callback | null = null

  /** Made by `Namespace.createWriteStream`. */
  constructor(io: BlockIo, options: WriteStreamOptions) {
    const { highWaterMark, signal, encoding } = options
    const chunk = chunkOfBytes(io, 'createWriteStream', highWaterMark)
    const range = resolveRange(io, 'createWriteStream', inBlocks(io, 'createWriteStream', options), chunk)
    checkWriteOptions('createWriteStream', options)
    const bytes = range.chunk * io.geometry.blocksize
    super({ highWaterMark: bytes, ...endingOptions('createWriteStream', options) })
    if (encoding !== undefined) this.setDefaultEncoding(encoding)
    this.#io = io
    this.#range = range
    this.#pace = new Pace(bytes)
    this.#options = options
    this.slba = range.slba
    this.nlb = range.nlb
    this.#ending.watch(signal)
  }

  /**
   * Bytes from the start of the stream that are known to be on the device, without a gap: whole chunks, until 'finish'.
   * After that it is all; after an error or `destroy`, from 'close' on, it stays as it is.
   */
  get bytesWritten(): number {
    return this.#window?.bytesWritten ?? this.#written
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    const window = this.#window ?? this.#open(chunk, callback)
    if (window !== null) this.#take(window, chunk, 0, callback)
  }

  override _final(callback: Callback): void {
    const window = this.#window
    if (window === null) callback()
    else whenSettled(window.end(), callback)
  }

  override _destroy(error: Error | null, callback: Callback): void {
    const window = this.#window
    if (window === null) {
      this.#ending.finish(null, error, callback)
      process.nextTick(this.#refuse, error)
      return
    }
    const closed = window.close().then(() => {
      this.#written = window.bytesWritten
      this.#window = null
      process.nextTick(this.#refuse, error)
    })
    this.#ending.finish(closed, error, callback)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#ending.dispose()
  }

  #open(chunk: Buffer, callback: Callback): WriteWindow | null {
    try {
      const io = this.#io
      const waiting = WriteWindow.ready(io, this.#range)
      if (waiting !== null) {
        this.#chunk = chunk
        this.#at = 0
        this.#callback = callback
        waiting.then(
          () => process.nextTick(this.#goOn),
          (error) => process.nextTick(this.#refuse, error),
        )
        return null
      }
      const window = new WriteWindow(io, this.#range, this.#options, () => this.#ending.cut(io.device))
      // A poll calls it, anyone's: what a listener throws must not come out there.
      window.onRoom = () => queueMicrotask(this.#goOn)
      this.#window = window
      return window
    } catch (error) {
      callback(error as Error)
      return null
    }
  }

  // Nothing is caught around a callback: it calls listeners, and what they throw is theirs.
  #take(window: WriteWindow, chunk: Buffer, offset: number, callback: Callback): void {
    let at: number
    try {
      at = window.write(chunk, offset)
    } catch (error) {
      this.#fail(window, error as Error, callback)
      return
    }
    if (at === chunk.length) {
      if (this.#pace.due()) this.#pace.pause(callback)
      else callback()
      return
    }
    this.#chunk = chunk
    this.#at = at
    this.#callback = callback
  }

  readonly #goOn = (): void => {
    const chunk = this.#chunk
    const callback = this.#callback
    // Where the stream has been destroyed meanwhile, `_destroy` answers.
    if (this.destroyed || chunk === null || callback === null) return
    this.#chunk = null
    this.#callback = null
    const window = this.#window ?? this.#open(chunk, callback)
    if (window !== null) this.#take(window, chunk, this.#at, callback)
  }

  // The chunk that waits for room or memory will not be taken any more.
  readonly #refuse = (error: Error | null): void => {
    const callback = this.#callback
    this.#chunk = null
    this.#callback = null
    callback?.(
      error ?? new ClosedError('createWriteStream: the stream was destroyed before all of it was written'),
    )
  }

  // What was taken before is written out before the end of the range is reported, so that its number is true.
  #fail(window: WriteWindow, error: Error, callback: Callback): void {
    if (!(error instanceof EndOfRangeError)) {
      callback(error)
      return
    }
    whenSettled(window.end(), (failure) => callback(failure ?? error))
  }
}
