// What every stream and iterator has beside its data: how it ends before its time, and when the event loop has its turn.
// Trade-off: of Node streams no event is relied upon, since one may have been made with `emitClose: false`.

import type { Readable, Writable } from 'node:stream'
import { AbortError, ArgumentValueError, ClosedError, NvmeError } from '../../lib/errors.ts'
import { onAbort } from '../../lib/sys/abort.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import { scheduler } from '../queue/scheduler.ts'
import { checkBoolean } from '../queue/validate.ts'

/** What Node's streams and those of fs call their ends. */
export interface EndingOptions {
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
export const ENDING_NAMES: OptionNames<EndingOptions> = {
  emitClose: true,
  autoClose: true,
  autoDestroy: true,
}

/** The same for Node, checked. */
export function endingOptions(call: string, { emitClose = true, autoClose, autoDestroy }: EndingOptions) {
  checkBoolean(`${call}: emitClose`, emitClose)
  checkBoolean(`${call}: autoClose`, autoClose)
  checkBoolean(`${call}: autoDestroy`, autoDestroy)
  if (autoClose !== undefined && autoDestroy !== undefined && autoClose !== autoDestroy) {
    throw new ArgumentValueError(`${call}: autoClose and autoDestroy are the same; give one of them`)
  }
  return { emitClose, autoDestroy: autoDestroy ?? autoClose ?? true }
}

/** The ends of one stream. */
export class Ending {
  readonly #stream: Readable | Writable
  #forget = (): void => {}
  readonly #done: Promise<void>
  #settle!: () => void

  constructor(stream: Readable | Writable) {
    this.#stream = stream
    this.#done = new Promise((resolve) => {
      this.#settle = resolve
    })
  }

  /**
   * From now on an abort destroys the stream: at once, where it came before. Node's own `addAbortSignal` warns where more
   * than ten streams share a signal.
   */
  watch(signal: AbortSignal | undefined): void {
    if (signal === undefined) return
    const abort = () => this.#destroy(new AbortError(signal.reason))
    if (signal.aborted) abort()
    else this.#forget = onAbort(signal, abort)
  }

  /** For `_destroy`: passes the error on when `closed` has settled, and then tells those who wait. */
  finish(closed: Promise<void> | null, error: Error | null, callback: (error: Error | null) => void): void {
    this.#forget()
    const report = () => {
      try {
        callback(error)
      } finally {
        // After 'error' and 'close', which Node emits by the same queue.
        process.nextTick(this.#settle)
      }
    }
    if (closed === null) report()
    else void closed.then(() => process.nextTick(report))
  }

  /** Destroys the stream. Resolves when its commands have ended and its memory has been given back. */
  dispose(): Promise<void> {
    this.#stream.destroy()
    return this.#done
  }

  /** The namespace is closed. A stream without any listener ends quietly: its error would be an uncaught exception. */
  cut(device: string): Promise<void> {
    if (this.#stream.eventNames().length === 0) return this.dispose()
    this.#destroy(new ClosedError(`${device} was closed before the end of the stream`))
    return this.#done
  }

  #destroy(error: Error): void {
    const stream = this.#stream
    const ended = 'readableEnded' in stream ? stream.readableEnded : stream.writableFinished
    if (ended) stream.destroy()
    else stream.destroy(error)
  }
}

/**
 * Calls back with what the promise settles with, outside of it: what a listener throws is then an uncaught exception,
 * and not a rejection.
 */
export function whenSettled(promise: Promise<unknown>, callback: (error: Error | null) => void): void {
  promise.then(
    () => process.nextTick(callback, null),
    (error) => process.nextTick(callback, error),
  )
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

// At least so many bytes are counted for a step.
const LEAST_STEP_BYTES = 4096

export class Pace {
  private readonly bytes: number

  /** @param bytes what a step moves, more or less */
  constructor(bytes: number) {
    this.bytes = Math.max(bytes, LEAST_STEP_BYTES)
  }

  /** One step more; true where the event loop should run before the next. */
  due(): boolean {
    return scheduler.isTurnDue(this.bytes)
  }

  /** Calls back after a turn of the event loop. */
  pause(callback: () => void): void {
    setImmediate(callback)
  }
}
