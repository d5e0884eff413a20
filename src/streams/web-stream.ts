// A WHATWG ReadableStream of bytes over a range of LBAs: for fetch, Response, CompressionStream and their like.
// Trade-off: data is copied out of DMA memory, which no reader may take away; a reader that brings its own buffer
// (BYOB) gets it filled and returned, and nothing is allocated for a chunk.

import { type ReadableByteStreamController, ReadableStream } from 'node:stream/web'
import { AbortError, ArgumentValueError, ClosedError } from '../../lib/errors.ts'
import { keepFreedMemory } from '../../lib/memory/heap.ts'
import { onAbort } from '../../lib/sys/abort.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import type { BlockIo } from '../queue/block-io.ts'
import { chunkOfBytes, RANGE_NAMES, type Range, type RangeOptions, resolveRange } from './range.ts'
import { Pace } from './session.ts'
import type { Slot } from './window.ts'
import { ReadWindow } from './window.ts'

export interface ReadableWebStreamOptions extends RangeOptions {
  /** Bytes in a command, and in a chunk for a reader without a buffer of its own; default 128 KiB. */
  highWaterMark?: number | undefined
  /** As for `readableWebStream` of fs.FileHandle: it is a stream of bytes, asked for or not. */
  type?: 'bytes' | undefined
}

/** Names of ReadableWebStreamOptions. */
export const WEB_STREAM_NAMES: OptionNames<ReadableWebStreamOptions> = {
  ...RANGE_NAMES,
  highWaterMark: true,
  type: true,
}

/** See `Namespace.readableWebStream`. */
export function readableWebStream(
  io: BlockIo,
  options: ReadableWebStreamOptions,
): ReadableStream<Uint8Array> {
  const chunk = chunkOfBytes(io, 'readableWebStream', options.highWaterMark)
  const range = resolveRange(io, 'readableWebStream', options, chunk)
  if (options.type !== undefined && options.type !== 'bytes') {
    throw new ArgumentValueError(`readableWebStream: type must be 'bytes', received ${String(options.type)}`)
  }
  return new ReadableStream(new ByteSource(io, range, options.signal))
}

class ByteSource {
  readonly type = 'bytes'
  private readonly io: BlockIo
  private readonly range: Range
  private readonly signal: AbortSignal | undefined
  private readonly pace: Pace
  private forgetSignal = (): void => {}
  private controller: ReadableByteStreamController | null = null
  private window: ReadWindow | null = null
  // Bytes of the oldest chunk that have been given.
  private given = 0
  private wake: (() => void) | null = null
  private ended = false

  constructor(io: BlockIo, range: Range, signal: AbortSignal | undefined) {
    this.io = io
    this.range = range
    this.pace = new Pace(range.chunk * io.geometry.blocksize)
    this.signal = signal
  }

  start(controller: ReadableByteStreamController): void {
    this.controller = controller
    if (this.signal?.aborted) this.abort()
    else this.forgetSignal = onAbort(this.signal, this.abort)
  }

  pull(): void | Promise<void> {
    try {
      if (this.window === null) {
        const waiting = ReadWindow.ready(this.io, this.range)
        if (waiting !== null) return this.waitForMemory(waiting)
        this.window = new ReadWindow(this.io, this.range, this.cut)
      }
      if (!this.pace.due() && this.give(this.window)) return
      return this.wait(this.window)
    } catch (error) {
      return this.fail(error as Error)
    }
  }

  cancel(): Promise<void> {
    return this.close()
  }

  // Fills the reader's buffer, or one of a chunk, with what has arrived; false where nothing has.
  private give(window: ReadWindow): boolean {
    const request = this.controller!.byobRequest
    const view = request?.view as Uint8Array | null | undefined
    const filled = view ? this.fill(window, view) : this.enqueue(window)
    if (filled === 0 && !window.done) return false
    if (view && filled > 0) request!.respond(filled)
    if (window.done) {
      this.controller!.close()
      // Reads that wait, with buffers of their own, are told of the end by this.
      this.controller!.byobRequest?.respond(0)
      void this.close()
    }
    return true
  }

  private fill(window: ReadWindow, view: Uint8Array): number {
    let filled = 0
    while (filled < view.byteLength) {
      const slot = filled === 0 ? window.peek() : this.peekOn(window)
      if (slot === null) break
      const bytes = Math.min(slot.nlb * this.io.geometry.blocksize - this.given, view.byteLength - filled)
      view.set(slot.buffer.subarray(this.given, this.given + bytes), filled)
      filled += bytes
      this.consume(window, slot.nlb, bytes)
    }
    return filled
  }

  // An error is for the read that begins with it: what came before it is given first.
  private peekOn(window: ReadWindow): Slot | null {
    try {
      return window.peek()
    } catch {
      return null
    }
  }

  private enqueue(window: ReadWindow): number {
    const slot = window.peek()
    if (slot === null) return 0
    const bytes = slot.nlb * this.io.geometry.blocksize
    keepFreedMemory()
    // Of its own, since the stream takes its ArrayBuffer.
    const chunk = Buffer.allocUnsafeSlow(bytes - this.given)
    slot.buffer.copy(chunk, 0, this.given, bytes)
    this.consume(window, slot.nlb, chunk.length)
    this.controller!.enqueue(chunk)
    return chunk.length
  }

  private consume(window: ReadWindow, nlb: number, bytes: number): void {
    this.given += bytes
    if (this.given < nlb * this.io.geometry.blocksize) return
    this.given = 0
    window.release()
  }

  // Until the oldest chunk has arrived, or for a turn of the event loop where it has already.
  private async wait(window: ReadWindow): Promise<void> {
    await new Promise<void>((resolve) => {
      this.wake = resolve
      if (window.watch(resolve)) this.pace.pause(resolve)
    })
    this.wake = null
    if (!this.ended) await this.pull()
  }

  private async waitForMemory(waiting: Promise<void>): Promise<void> {
    try {
      await waiting
    } catch (error) {
      return this.fail(error as Error)
    }
    if (!this.ended) await this.pull()
  }

  private async fail(error: Error): Promise<never> {
    await this.close()
    throw error
  }

  // What ends the stream before its reader does.
  private end(error: Error): Promise<void> {
    if (!this.ended) this.controller!.error(error)
    return this.close()
  }

  private readonly cut = (): Promise<void> =>
    this.end(new ClosedError(`readableWebStream: ${this.io.device} was closed before the end of the range`))

  private readonly abort = (): void => {
    void this.end(new AbortError(this.signal!.reason))
  }

  private async close(): Promise<void> {
    this.ended = true
    this.forgetSignal()
    this.wake?.()
    await this.window?.close()
  }
}
