// A WHATWG ReadableStream of bytes over a range of LBAs: for fetch, Response, CompressionStream and their like.
// Data is copied out of DMA memory, which no reader may take away; a reader that brings its own buffer
// (BYOB) gets it filled and returned, and nothing is allocated for a chunk.

import { type ReadableByteStreamController, ReadableStream } from 'node:stream/web'
import { ArgumentValueError } from '../../lib/errors.ts'
import { keepFreedMemory } from '../../lib/memory/heap.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import type { BlockIo } from '../queue/block-io.ts'
import { chunkOfBytes, RANGE_NAMES, type Range, type RangeOptions, resolveRange } from './range.ts'
import { Session } from './session.ts'
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
  private readonly session: Session<ReadWindow>
  private readonly blocksize: number
  private controller: ReadableByteStreamController | null = null
  // Bytes of the oldest chunk that have been given.
  private given = 0
  private ended = false

  constructor(io: BlockIo, range: Range, signal: AbortSignal | undefined) {
    this.blocksize = io.geometry.blocksize
    this.session = new Session({
      ...{ io, range, signal, call: 'readableWebStream' },
      ready: () => ReadWindow.ready(io, range),
      open: (closed) => new ReadWindow(io, range, closed),
      // What ends the stream before its reader does.
      ended: (cause) => {
        if (!this.ended) this.controller!.error(cause)
        return this.close()
      },
    })
  }

  start(controller: ReadableByteStreamController): void {
    this.controller = controller
    this.session.watch()
  }

  pull(): void | Promise<void> {
    const { session } = this
    try {
      const waiting = session.window === null ? session.begin() : null
      if (waiting !== null) return this.waitForMemory(waiting)
      const window = session.window!
      if (!session.due() && this.give(window)) return
      return this.wait(window)
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
      // Reads that wait, with buffers of their own, end with this.
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
      const bytes = Math.min(slot.nlb * this.blocksize - this.given, view.byteLength - filled)
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
    const bytes = slot.nlb * this.blocksize
    keepFreedMemory()
    // Of its own, since the stream takes its ArrayBuffer.
    const chunk = Buffer.allocUnsafeSlow(bytes - this.given)
    slot.buffer.copy(chunk, 0, this.given, bytes)
    this.consume(window, slot.nlb, chunk.length)
    const { length } = chunk
    // It is empty after that.
    this.controller!.enqueue(chunk)
    return length
  }

  private consume(window: ReadWindow, nlb: number, bytes: number): void {
    this.given += bytes
    if (this.given < nlb * this.blocksize) return
    this.given = 0
    window.release()
  }

  // Until the oldest chunk has arrived, or for a turn of the event loop where it has already.
  private async wait(window: ReadWindow): Promise<void> {
    await this.session.wait((wake) => {
      if (window.watch(wake)) this.session.pause(wake)
    })
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

  private close(): Promise<void> {
    this.ended = true
    return this.session.close()
  }
}
