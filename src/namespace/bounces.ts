// DMA memory that buffers of any kind are copied through: see `promises.ts`.
// Trade-off: a bounded amount, in sizes of powers of two, kept for as long as the namespace is open, since mapping
// memory costs more than a command. Calls that find none left wait for it, in order.

import { AbortError, ClosedError, OutOfMemoryError } from '../../lib/errors.ts'
import type { DmaPool } from '../../lib/memory/pool.ts'
import { type DmaBuffer, kDma } from '../../lib/memory/tag.ts'
import { onAbort } from '../../lib/sys/abort.ts'

/** Bytes of the largest bounce buffer. */
export const BOUNCE_BYTES = 128 * 1024
// A page, the least that memory is given in, as a power of two.
const LEAST_SHIFT = 12
// A full queue of small ones many times over, and of the largest as many as keep any device busy.
const MOST_BYTES = 128 * BOUNCE_BYTES

interface Waiter {
  readonly bytes: number
  readonly resolve: (buffer: Buffer) => void
  readonly reject: (error: Error) => void
  /** Ends the listening for its signal. */
  unwatch: () => void
}

/** The bounce buffers of one namespace. */
export class Bounces {
  private readonly pool: DmaPool
  private readonly device: string
  // By the power of two that their length is.
  private readonly idle: Buffer[][] = []
  private readonly waiters: Waiter[] = []
  private idleBytes = 0
  private usedBytes = 0
  private closed = false
  // Memory has been asked of another process, and waiters are served when it has answered.
  private growing = false
  // There is no more memory: none is asked for until somebody gives some back.
  private full = false

  /** @param device named in messages */
  constructor(pool: DmaPool, device: string) {
    this.pool = pool
    this.device = device
  }

  /**
   * Memory for `bytes` (up to BOUNCE_BYTES, or one block), which holds anything; null where `wait` gives it later.
   * Throws ClosedError, OutOfMemoryError.
   */
  take(bytes: number): Buffer | null {
    if (this.closed) throw this.closedError()
    return this.waiters.length > 0 ? null : this.obtain(bytes)
  }

  /** The same, as soon as others give theirs back, or another process has taken more. Rejects with AbortError, ClosedError. */
  wait(bytes: number, signal: AbortSignal | undefined): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.closed) return reject(this.closedError())
      if (signal?.aborted) return reject(new AbortError(signal.reason))
      const waiter: Waiter = { bytes, resolve, reject, unwatch() {} }
      this.waiters.push(waiter)
      if (signal === undefined) return
      waiter.unwatch = onAbort(signal, () => {
        this.waiters.splice(this.waiters.indexOf(waiter), 1)
        reject(new AbortError(signal.reason))
        // It may have been what kept smaller ones from being served.
        this.serve()
      })
    })
  }

  /** Memory of `take` or `wait` is not needed any more. A lost command may still write to it: then it goes for good. */
  give(buffer: Buffer): void {
    const { allocation } = (buffer as DmaBuffer)[kDma]!
    this.usedBytes -= buffer.length
    this.full = false
    if (this.closed || allocation.owner === null || allocation.users > 0) {
      this.pool.discard(buffer)
    } else {
      this.idleBytes += buffer.length
      this.idle[shiftOf(buffer.length)]!.push(buffer)
    }
    if (this.waiters.length > 0) this.serve()
  }

  /** Gives everything back that is not in use, and the rest as soon as it is not. */
  close(): void {
    this.closed = true
    this.dropIdle()
    this.refuse(this.closedError())
  }

  private closedError(): Error {
    return new ClosedError(`${this.device} was closed`)
  }

  private serve(): void {
    while (this.waiters.length > 0) {
      const { bytes, resolve, reject, unwatch } = this.waiters[0]!
      try {
        const buffer = this.obtain(bytes)
        if (buffer === null) return
        resolve(buffer)
      } catch (error) {
        reject(error as Error)
      }
      this.waiters.shift()
      unwatch()
    }
  }

  private obtain(bytes: number): Buffer | null {
    const shift = shiftOf(bytes)
    this.idle[shift] ??= []
    const known = this.idle[shift].pop()
    const buffer = known ?? this.alloc(2 ** shift)
    if (buffer === null) return null
    if (known !== undefined) this.idleBytes -= known.length
    this.usedBytes += buffer.length
    return buffer
  }

  // What is idle in other sizes makes room. Null where there is none, and somebody will give some back.
  private alloc(bytes: number): Buffer | null {
    if (this.usedBytes + this.idleBytes + bytes > MOST_BYTES) this.dropIdle()
    if (this.usedBytes + bytes > MOST_BYTES) return null
    if (this.growing || this.full) return null
    try {
      const waiting = this.pool.ready([bytes])
      if (waiting === null) return this.pool.alloc(bytes)
      this.grow(waiting)
      return null
    } catch (error) {
      return this.insteadOf(error, bytes)
    }
  }

  // What can be had without more memory: of other sizes, or by waiting for somebody to give some back.
  private insteadOf(error: unknown, bytes: number): Buffer | null {
    if (!(error instanceof OutOfMemoryError)) throw error
    if (this.idleBytes > 0) {
      this.dropIdle()
      return this.alloc(bytes)
    }
    if (this.usedBytes === 0) throw error
    return null
  }

  // Where `alloc` would block until another process has taken more memory, that is waited for instead.
  private grow(waiting: Promise<void>): void {
    this.growing = true
    waiting.then(
      () => this.grown(null),
      (error) => this.grown(error),
    )
  }

  private grown(error: Error | null): void {
    this.growing = false
    if (this.closed) return
    if (error instanceof OutOfMemoryError && this.idleBytes > 0) this.dropIdle()
    else if (error instanceof OutOfMemoryError && this.usedBytes > 0) this.full = true
    else if (error !== null) this.refuse(error)
    if (!this.full) this.serve()
  }

  private refuse(error: Error): void {
    for (const { reject, unwatch } of this.waiters.splice(0)) {
      unwatch()
      reject(error)
    }
  }

  private dropIdle(): void {
    for (const buffers of this.idle) {
      for (const buffer of buffers?.splice(0) ?? []) this.pool.discard(buffer)
    }
    this.idleBytes = 0
  }
}

function shiftOf(bytes: number): number {
  return Math.max(LEAST_SHIFT, 32 - Math.clz32(bytes - 1))
}
