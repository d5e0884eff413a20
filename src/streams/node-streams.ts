// A Readable and a Writable over a range of LBAs.
// What is read is copied out of DMA memory, since what goes through a pipe is held for as long as anybody
// likes. What is written is acknowledged when it is in DMA memory and not when it is on the medium, so that many
// commands are in flight; 'finish' comes after everything was written and flushed.

import { Readable, Writable } from 'node:stream'
import { ArgumentValueError, ClosedError, EndOfRangeError } from '../../lib/errors.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import type { BlockIo } from '../queue/block-io.ts'
import { checkBoolean } from '../queue/validate.ts'
import {
  type ByteRangeOptions,
  chunkOfBytes,
  inBlocks,
  RANGE_NAMES,
  type RangeOptions,
  resolveRange,
} from './range.ts'
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

/** What Node's streams and those of fs call their ends. */
interface EndingOptions {
  /** As for the streams of fs. The namespace's `close` waits for the stream in either case. */
  emitClose?: boolean | undefined
  /**
   * Destroy the stream at its end, which gives its memory back; default true. An error destroys it in any case, and no
   * stream closes its namespace. Two names for one thing: that of fs, and that of Node's streams.
   */
  autoClose?: boolean | undefined
  autoDestroy?: boolean | undefined
}

/** Names of EndingOptions. */
const ENDING_NAMES: OptionNames<EndingOptions> = {
  emitClose: true,
  autoClose: true,
  autoDestroy: true,
}

/** The same for Node, checked. */
function endingOptions(call: string, { emitClose = true, autoClose, autoDestroy }: EndingOptions) {
  checkBoolean(`${call}: emitClose`, emitClose)
  checkBoolean(`${call}: autoClose`, autoClose)
  checkBoolean(`${call}: autoDestroy`, autoDestroy)
  if (autoClose !== undefined && autoDestroy !== undefined && autoClose !== autoDestroy) {
    throw new ArgumentValueError(`${call}: autoClose and autoDestroy are the same; give one of them`)
  }
  return { emitClose, autoDestroy: autoDestroy ?? autoClose ?? true }
}

/** The end of a Node stream: by its session, or when it is disposed of. */
class Ending {
  readonly #stream: Readable | Writable
  readonly #session: Session<ReadWindow | WriteWindow>

  constructor(stream: Readable | Writable, session: Session<ReadWindow | WriteWindow>) {
    this.#stream = stream
    this.#session = session
  }

  /** For `_destroy`: passes the error on when `closed` has settled, and then those who wait go on. */
  finish(closed: Promise<void> | null, error: Error | null, callback: (error: Error | null) => void): void {
    this.#session.unwatch()
    const report = () => {
      try {
        callback(error)
      } finally {
        // After 'error' and 'close', which Node emits by the same queue.
        process.nextTick(this.#session.settle)
      }
    }
    if (closed === null) report()
    else void closed.then(() => process.nextTick(report))
  }

  /** Destroys the stream. Resolves when its commands have ended and its memory has been given back. */
  dispose(): Promise<void> {
    this.#stream.destroy()
    return this.#session.settled
  }

  /**
   * The session has ended. A stream without any listener ends quietly with its namespace: its error would be an uncaught
   * exception.
   */
  end(cause: Error): Promise<void> {
    const stream = this.#stream
    const ended = 'readableEnded' in stream ? stream.readableEnded : stream.writableFinished
    const quiet = cause instanceof ClosedError && stream.eventNames().length === 0
    if (ended || quiet) return this.dispose()
    stream.destroy(cause)
    return this.#session.settled
  }
}

/**
 * Calls back with what the promise settles with, outside of it: what a listener throws is then an uncaught exception,
 * and not a rejection.
 */
function whenSettled(promise: Promise<unknown>, callback: (error: Error | null) => void): void {
  promise.then(
    () => process.nextTick(callback, null),
    (error) => process.nextTick(callback, error),
  )
}

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
  readonly #memory = new ChunkMemory()
  readonly #session: Session<ReadWindow>
  readonly #ending: Ending
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
    this.slba = range.slba
    this.nlb = range.nlb
    this.#session = new Session({
      ...{ io, range, signal, call: 'createReadStream' },
      ready: () => ReadWindow.ready(io, range),
      open: (closed) => new ReadWindow(io, range, closed),
      ended: (cause) => this.#ending.end(cause),
    })
    this.#ending = new Ending(this, this.#session)
    this.#session.watch()
  }

  override _read(): void {
    // A push from within a read that finds data already would be joined to it: chunks keep their length.
    if (this.readableLength > 0) process.nextTick(this.#advance)
    else this.#advance()
  }

  readonly #advance = (): void => {
    if (this.#paused || this.destroyed) return
    const window = this.#session.window ?? this.#open()
    if (window !== null) this.#pump(window)
  }

  readonly #resume = (): void => {
    this.#paused = false
    this.#advance()
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#ending.finish(this.#session.window?.close() ?? null, error, callback)
  }

  override [Symbol.asyncDispose](): Promise<void> {
    return this.#ending.dispose()
  }

  #open(): ReadWindow | null {
    const session = this.#session
    try {
      const waiting = session.begin()
      if (waiting !== null) {
        this.#paused = true
        waiting.then(
          () => process.nextTick(this.#resume),
          (error) => this.destroy(error),
        )
        return null
      }
      // A poll calls it, anyone's: what a listener throws must not come out there.
      session.window!.onReady = () => queueMicrotask(this.#advance)
      return session.window
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
      if (this.#session.due()) {
        this.#paused = true
        this.#session.pause(this.#resume)
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
    const bytes = nlb * this.#session.io.geometry.blocksize
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
  readonly #session: Session<WriteWindow>
  readonly #ending: Ending
  #written = 0
  // The chunk that waits for space or memory, how far it was taken, and its callback.
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
    this.slba = range.slba
    this.nlb = range.nlb
    this.#session = new Session({
      ...{ io, range, signal, call: 'createWriteStream' },
      ready: () => WriteWindow.ready(io, range),
      open: (closed) => new WriteWindow(io, range, options, closed),
      ended: (cause) => this.#ending.end(cause),
    })
    this.#ending = new Ending(this, this.#session)
    this.#session.watch()
  }

  /**
   * Bytes from the start of the stream that are known to be on the device, without a gap: whole chunks, until 'finish'.
   * After that it is all; after an error or `destroy`, from 'close' on, it stays as it is.
   */
  get bytesWritten(): number {
    return this.#session.window?.bytesWritten ?? this.#written
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    const window = this.#session.window ?? this.#open(chunk, callback)
    if (window !== null) this.#take(window, chunk, 0, callback)
  }

  override _final(callback: Callback): void {
    const { window } = this.#session
    if (window === null) callback()
    else whenSettled(window.end(), callback)
  }

  override _destroy(error: Error | null, callback: Callback): void {
    const { window } = this.#session
    if (window === null) {
      this.#ending.finish(null, error, callback)
      process.nextTick(this.#refuse, error)
      return
    }
    const closed = window.close().then(() => {
      this.#written = window.bytesWritten
      this.#session.window = null
      process.nextTick(this.#refuse, error)
    })
    this.#ending.finish(closed, error, callback)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#ending.dispose()
  }

  #open(chunk: Buffer, callback: Callback): WriteWindow | null {
    const session = this.#session
    try {
      const waiting = session.begin()
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
      // A poll calls it, anyone's: what a listener throws must not come out there.
      session.window!.onSpace = () => queueMicrotask(this.#goOn)
      return session.window
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
      if (this.#session.due()) this.#session.pause(callback)
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
    const window = this.#session.window ?? this.#open(chunk, callback)
    if (window !== null) this.#take(window, chunk, this.#at, callback)
  }

  // The chunk that waits for space or memory will not be taken any more.
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
