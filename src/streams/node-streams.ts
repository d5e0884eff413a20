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
  // Node has asked for more, and a `Steps` waits.
  #asked = false
  #waiter: (() => void) | null = null

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
    this.#asked = true
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
    this.#goOn()
  }

  // For whoever waits.
  readonly #goOn = (): void => {
    this.#wake()
    if (this.#asked) this.#advance()
  }

  #wake(): void {
    const wake = this.#waiter
    this.#waiter = null
    wake?.()
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#goOn()
    this.#ending.finish(this.#session.window?.close() ?? null, error, callback)
  }

  override [Symbol.asyncDispose](): Promise<void> {
    return this.#ending.dispose()
  }

  /** For `for await`: chunks as they arrive, without a turn through the buffer and the events of a Readable. */
  override [Symbol.asyncIterator](): NodeJS.AsyncIterator<Buffer, undefined> {
    return new Steps(this, this.#step, () => super[Symbol.asyncIterator]())
  }

  // The next chunk, or what to wait for. Null where that is the Readable's business: its end, an error, and whatever else has
  // been asked of it.
  readonly #step = (): Buffer | Promise<void> | null => {
    const mine = this.readableFlowing === null && this.readableLength === 0 && this.readableEncoding === null
    if (!mine || this.destroyed) return this.#leave()
    const window = this.#session.window ?? this.#open()
    if (this.#paused) return this.#wait()
    if (window === null || window.done) return this.#leave()
    if (this.#session.due()) {
      this.#paused = true
      this.#session.pause(this.#resume)
      return this.#wait()
    }
    const slot = this.#peek(window)
    if (slot === null) return this.destroyed ? null : this.#wait()
    const chunk = this.#copy(slot)
    window.release()
    return chunk
  }

  // What Node asked for before may be the end, which nothing that arrives would bring any more.
  #leave(): null {
    if (this.#asked) process.nextTick(this.#goOn)
    return null
  }

  #wait(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiter = resolve
    })
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
      session.window!.onReady = () => queueMicrotask(this.#goOn)
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
      // It waits for a chunk, and this one is in the buffer now.
      if (this.#waiter !== null) this.#wake()
      if (more && !this.destroyed) continue
      this.#asked = false
      return
    }
    if (window.done && !this.destroyed) this.push(null)
  }

  #copy({ buffer, nlb }: Slot): Buffer {
    const bytes = nlb * this.#session.io.geometry.blocksize
    this.bytesRead += bytes
    return this.#memory.copy(bytes === buffer.length ? buffer : buffer.subarray(0, bytes))
  }
}

/** The steps of a stream that is iterated over: its own way, for as long as it knows one, and then Node's. */
class Steps implements NodeJS.AsyncIterator<Buffer, undefined> {
  readonly #stream: Readable
  readonly #step: () => Buffer | Promise<void> | null
  readonly #rest: () => AsyncIterator<Buffer>
  #begun = false
  #others: AsyncIterator<Buffer> | null = null
  #waiting: Promise<void> | null = null
  #ended = false

  constructor(
    stream: Readable,
    step: () => Buffer | Promise<void> | null,
    rest: () => AsyncIterator<Buffer>,
  ) {
    this.#stream = stream
    this.#step = step
    this.#rest = rest
  }

  next(): Promise<IteratorResult<Buffer, undefined>> {
    // A caller that does not wait for one step before it asks for the next gets them in order.
    if (this.#waiting !== null) return this.#waiting.then(() => this.next())
    if (this.#ended) return Promise.resolve({ done: true, value: undefined })
    if (!this.#begun) {
      this.#begun = true
      // An error is for the step that meets it, and has someone who learns of it.
      this.#stream.on('error', () => {})
    }
    const step = this.#others === null ? this.#step() : null
    if (step === null) {
      this.#others ??= this.#rest()
      return this.#others.next()
    }
    if (step instanceof Promise) {
      this.#waiting = step.then(() => {
        this.#waiting = null
      })
      return this.#waiting.then(() => this.next())
    }
    return Promise.resolve({ done: false, value: step })
  }

  /** Ends the iteration, and the stream with it. */
  async return(): Promise<IteratorReturnResult<undefined>> {
    this.#ended = true
    this.#stream.destroy()
    await this.#others?.return?.()
    return { done: true, value: undefined }
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
