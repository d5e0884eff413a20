// DMA memory for the requests of clients: parts in sizes of powers of two, cut from slabs, and bounded in sum. Who finds
// none left waits, in order, so that a server reads no more from its sockets than it has memory for.
// A slab is cut for one size at a time, and again once all of its parts have come back and another size needs it.

import { ClosedError, OutOfMemoryError } from '../../lib/errors.ts'
import type { DmaPool } from '../../lib/memory/pool.ts'
import type { DmaTag } from '../../lib/memory/tag.ts'

/** Bytes of a slab, and of the largest part. */
export const PART_BYTES = 2 ** 20
const LEAST_SHIFT = 12
const SIZES = Math.log2(PART_BYTES) - LEAST_SHIFT + 1

interface Slab {
  readonly memory: Buffer
  /** Of the size that it is cut for now. */
  size: number
  free: Part[]
  /** Parts that a command without an answer may still write to: the slab goes when all others have come back. */
  lost: number
  /** By size, once it was cut for it. */
  readonly cuts: Part[][]
}

export interface Part {
  readonly data: Buffer
  readonly tag: DmaTag
  readonly slab: Slab
}

/** Who gets parts: `bytes` in all, of up to PART_BYTES each. */
export interface PartHolder {
  readonly parts: Part[]
  /** It has what it waited for; an error, where there will be none. */
  onParts(failure: Error | null): void
}

interface Waiter {
  readonly holder: PartHolder
  readonly bytes: number
}

export class PartPool {
  private readonly pool: DmaPool
  private readonly most: number
  private readonly slabs: Slab[] = []
  // By size: slabs with a free part, the one that was used last at the end.
  private readonly open: Slab[][] = Array.from({ length: SIZES }, () => [])
  private readonly waiters: Waiter[] = []
  private growing = false
  private serving = false
  private closed = false

  /** @param bytes most memory in all; at least a slab */
  constructor(pool: DmaPool, bytes: number) {
    this.pool = pool
    this.most = Math.max(1, Math.floor(bytes / PART_BYTES))
  }

  /** Most bytes that one holder can have. */
  get bytes(): number {
    return this.most * PART_BYTES
  }

  /** Holders that wait. */
  get waiting(): number {
    return this.waiters.length
  }

  /** Bytes of memory that have been taken from the device's pool. */
  get held(): number {
    return this.slabs.length * PART_BYTES
  }

  /**
   * Parts for `bytes`, at most `this.bytes`: all of PART_BYTES but the last.
   * @returns false where `onParts` will tell
   */
  take(holder: PartHolder, bytes: number): boolean {
    try {
      if (this.waiters.length === 0 && this.obtain(holder.parts, bytes)) return true
      this.waiters.push({ holder, bytes })
    } catch (error) {
      // As for one that has waited: after this call.
      queueMicrotask(() => holder.onParts(error as Error))
    }
    return false
  }

  /** Gives all parts of a holder back. */
  give({ parts }: PartHolder): void {
    for (let i = 0; i < parts.length; i++) this.giveOne(parts[i]!)
    parts.length = 0
    if (this.waiters.length > 0) this.serve()
  }

  /**
   * The device may still write to the parts of a holder, since a command had no answer. No other gets them, and the slabs that
   * they are of are replaced.
   */
  lose({ parts }: PartHolder): void {
    // A closed one has given its slabs back already.
    for (const part of this.closed ? [] : parts) {
      const { slab } = part
      if (slab.lost++ === 0) {
        remove(this.slabs, slab)
        remove(this.open[slab.size]!, slab)
      }
      this.discardLost(slab)
    }
    parts.length = 0
    if (this.waiters.length > 0) this.serve()
  }

  // What was given to others still has to be read: their parts come back first.
  private discardLost(slab: Slab): void {
    if (slab.lost + slab.free.length === countOf(slab.size)) this.pool.discard(slab.memory)
  }

  /** Takes a holder out that waits. */
  forget(holder: PartHolder): void {
    const at = this.waiters.findIndex((waiter) => waiter.holder === holder)
    if (at < 0) return
    this.waiters.splice(at, 1)
    this.serve()
  }

  /** Gives the memory back, as soon as no command uses it. */
  close(): void {
    this.closed = true
    this.refuse(new ClosedError('the server is closed'))
    for (const { memory } of this.slabs.splice(0)) this.pool.discard(memory)
    for (const slabs of this.open) slabs.length = 0
  }

  private giveOne(part: Part): void {
    const { slab } = part
    if (slab.lost > 0) {
      slab.free.push(part)
      this.discardLost(slab)
      return
    }
    if (slab.free.length === 0 && !this.closed) this.open[slab.size]!.push(slab)
    slab.free.push(part)
  }

  // All of them or none.
  private obtain(parts: Part[], bytes: number): boolean {
    let missing = true
    try {
      for (let left = bytes; left > 0; left -= PART_BYTES) {
        const part = this.obtainOne(sizeOf(left))
        if (part === null) return false
        parts.push(part)
      }
      missing = false
      return true
    } finally {
      if (missing) {
        for (const taken of parts) this.giveOne(taken)
        parts.length = 0
      }
    }
  }

  private obtainOne(size: number): Part | null {
    const slabs = this.open[size]!
    if (slabs.length === 0 && !this.provide(size)) return null
    const slab = slabs[slabs.length - 1]!
    const part = slab.free.pop()!
    if (slab.free.length === 0) slabs.pop()
    return part
  }

  // A slab with parts of this size: a new one, or one that is idle in another size.
  private provide(size: number): boolean {
    if (this.closed) return false
    if (this.slabs.length < this.most && !this.growing && this.grow(size)) return true
    for (const slabs of this.open) {
      const at = slabs.findIndex(({ free, size: cut }) => free.length === countOf(cut))
      if (at < 0) continue
      this.cut(slabs.splice(at, 1)[0]!, size)
      return true
    }
    return false
  }

  private grow(size: number): boolean {
    // Where another process has to take memory first, that is waited for without blocking.
    const waiting = this.pool.ready([PART_BYTES])
    if (waiting !== null) {
      this.growing = true
      waiting.then(
        () => this.grown(null),
        (error) => this.grown(error),
      )
      return false
    }
    try {
      const memory = this.pool.alloc(PART_BYTES)
      const slab: Slab = { memory, size, free: [], lost: 0, cuts: [] }
      this.slabs.push(slab)
      this.cut(slab, size)
      return true
    } catch (error) {
      // What the others give back will do, where there is any.
      if (!(error instanceof OutOfMemoryError) || this.slabs.length === 0) throw error
      return false
    }
  }

  private grown(error: Error | null): void {
    this.growing = false
    if (error !== null && this.slabs.length === 0) this.refuse(error)
    else this.serve()
  }

  private cut(slab: Slab, size: number): void {
    const { memory } = slab
    const bytes = 2 ** (LEAST_SHIFT + size)
    slab.cuts[size] ??= Array.from({ length: countOf(size) }, (_, i) => ({
      data: memory.subarray(i * bytes, (i + 1) * bytes),
      tag: this.pool.tagAt(memory, i * bytes),
      slab,
    }))
    slab.size = size
    slab.free = [...slab.cuts[size]]
    this.open[size]!.push(slab)
  }

  // A holder that is called may give parts back, or take more.
  private serve(): void {
    if (this.serving) return
    this.serving = true
    try {
      for (let first = this.waiters[0]; first !== undefined; first = this.waiters[0]) {
        if (!this.obtain(first.holder.parts, first.bytes)) break
        this.waiters.shift()
        first.holder.onParts(null)
      }
    } catch (error) {
      this.refuse(error as Error)
    } finally {
      this.serving = false
    }
  }

  private refuse(error: Error): void {
    for (const { holder } of this.waiters.splice(0)) holder.onParts(error)
  }
}

function remove(slabs: Slab[], slab: Slab): void {
  const at = slabs.indexOf(slab)
  if (at >= 0) slabs.splice(at, 1)
}

const countOf = (size: number): number => PART_BYTES / 2 ** (LEAST_SHIFT + size)

function sizeOf(bytes: number): number {
  return bytes >= PART_BYTES ? SIZES - 1 : Math.max(LEAST_SHIFT, 32 - Math.clz32(bytes - 1)) - LEAST_SHIFT
}
