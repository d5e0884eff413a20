// A Readable and a Writable over a range of LBAs.
// Trade-off: what is read is copied out of DMA memory, since what goes through a pipe is held for as long as anybody
// likes. What is written is acknowledged when it is in DMA memory and not when it is on the medium, so that many
// commands are in flight; 'finish' comes after everything was written and flushed.

import { Readable, Writable } from 'node:stream'
import { ClosedError, EndOfRangeError } from '../../lib/errors.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import type { BlockIo } from '../queue/block-io.ts'
import {
  type ByteRangeOptions,
  chunkOfBytes,
  inBlocks,
  RANGE_NAMES,
  type Range,
  type RangeOptions,
  resolveRange,
} from './range.ts'
import { ENDING_NAMES, Ending, type EndingOptions, endingOptions, Pace, whenSettled } from './session.ts'
import {
  ChunkMemory,
  checkWriteOptions,
  ReadWindow,
  type Slot,
  WRITE_NAMES,
  type WriteOptions,
  WriteWindow,
} from './window.ts'

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
