// The life of a stream, iterator or transfer, beside its data: its window is opened when there is memory, it ends by its
// signal or with its namespace, waits, lets the event loop have its turn, and closes: commands end, memory goes back.

import { AbortError, ClosedError, NvmeError } from '../../lib/errors.ts'
import { onAbort } from '../../lib/sys/abort.ts'
import type { BlockIo } from '../queue/block-io.ts'
import { scheduler } from '../queue/scheduler.ts'
import type { Range } from './range.ts'

// Of very short steps at least so many bytes are counted.
const LEAST_STEP_BYTES = 4096

/** What a session is made of. */
interface SessionParts<W> {
  readonly io: BlockIo
  readonly range: Range
  /** Named in messages. */
  readonly call: string
  readonly signal: AbortSignal | undefined
  /** What to wait for before the window is opened: see `memoryFor`. */
  ready(): Promise<void> | null
  /** @param closed called when the namespace is closed */
  open(closed: () => Promise<void>): W
  /** It ends before its time. What this returns is what `close` of the namespace waits for. */
  ended(cause: Error): Promise<void>
}

/** Chunks in DMA memory, with their commands. */
interface ClosableWindow {
  /** Waits for what is in flight, then gives the memory back. */
  close(): Promise<void>
}

export class Session<W extends ClosableWindow> {
  readonly io: BlockIo
  readonly range: Range
  /** Null before `begin`. */
  window: W | null = null
  /** Why it ended before its time. */
  cause: Error | null = null
  /** What `wait` has returned, until it is over. */
  waiting: Promise<void> | null = null
  /** Settled by `settle`: all of it is over. */
  readonly settled: Promise<void>
  settle!: () => void

  private readonly parts: SessionParts<W>
  private readonly stepBytes: number
  private forgetSignal = (): void => {}
  private wakeUp: (() => void) | null = null

  constructor(parts: SessionParts<W>) {
    this.parts = parts
    this.io = parts.io
    this.range = parts.range
    this.stepBytes = Math.max(parts.range.chunk * parts.io.geometry.blocksize, LEAST_STEP_BYTES)
    this.settled = new Promise((resolve) => {
      this.settle = resolve
    })
  }

  /** Opens the window. Where there is no memory yet, returns what to wait for before it is called again. */
  begin(): Promise<void> | null {
    const waiting = this.parts.ready()
    if (waiting === null) this.window = this.parts.open(() => this.closed())
    return waiting
  }

  /** The window, as soon as there is memory for it. */
  async opened(): Promise<W> {
    for (let waiting = this.begin(); waiting !== null; waiting = this.begin()) await waiting
    return this.window!
  }

  /** From now on an abort ends it: at once, where it came before. */
  watch(): void {
    const { signal } = this.parts
    if (signal === undefined) return
    const abort = () => void this.stop(new AbortError(signal.reason))
    if (signal.aborted) abort()
    else this.forgetSignal = onAbort(signal, abort)
  }

  /** Its signal is without effect from now on. */
  unwatch(): void {
    this.forgetSignal()
  }

  /** Throws where it has been ended. */
  throwIfEnded(): void {
    if (this.cause !== null) throw this.cause
  }

  /** A step has been done, or will be: true where the event loop should run before it goes on. */
  due(): boolean {
    return scheduler.isTurnDue(this.stepBytes)
  }

  /** Calls back after a turn of the event loop. */
  pause(callback: () => void): void {
    setImmediate(callback)
  }

  /** A turn of the event loop. */
  turn(): Promise<void> {
    return new Promise((resolve) => this.pause(resolve))
  }

  /** @param arm is given what ends the waiting; an end of the session and `close` do so, too */
  wait(arm: (wake: () => void) => void): Promise<void> {
    let done!: () => void
    const promise = new Promise<void>((resolve) => {
      done = resolve
    })
    const wake = () => {
      if (this.wakeUp === wake) {
        this.wakeUp = null
        this.waiting = null
      }
      done()
    }
    this.wakeUp = wake
    this.waiting = promise
    arm(wake)
    return promise
  }

  /** Resolves when the commands in flight have ended, and the memory has been given back. */
  async close(): Promise<void> {
    this.unwatch()
    this.wakeUp?.()
    await this.window?.close()
  }

  // To a consumer that has not seen the end, this must not look like it.
  private closed(): Promise<void> {
    const { call, io } = this.parts
    return this.stop(new ClosedError(`${call}: ${io.device} was closed before the end of the range`))
  }

  private stop(cause: Error): Promise<void> {
    this.cause ??= cause
    const ended = this.parts.ended(this.cause)
    this.wakeUp?.()
    return ended
  }
}

/**
 * The same error. One of a kind that says how many bytes were written says `bytes`, where it does not say it yet, and no
 * more than `most`.
 */
export function withBytesWritten(error: unknown, bytes: number, most = Number.POSITIVE_INFINITY): unknown {
  if (error instanceof AbortError || error instanceof NvmeError) {
    error.bytesWritten = Math.min(error.bytesWritten ?? bytes, most)
  }
  return error
}
