// DMA memory of one device for the requests of a server's clients: parts of whole pages, cut from slabs, and bounded in sum.
// Who finds none waits, in order, so that a server takes no more from its sockets than it has memory for. What a command without
// an answer may still be written to is no one else's until the device says that it is not.

import { ClosedError, CommandTimeoutError, OutOfMemoryError } from '../../lib/errors.ts'
import { PageRuns } from '../../lib/memory/page-runs.ts'
import type { DmaPool } from '../../lib/memory/pool.ts'
import type { DmaTag } from '../../lib/memory/tag.ts'
import { PAGE_BYTES } from '../../lib/sys/units.ts'

/** Bytes of a slab, and of the largest part. */
export const PART_BYTES = 2 ** 20
const PAGE_SHIFT = 12
const SLAB_PAGES = PART_BYTES / PAGE_BYTES
/** No user has more than this of it, but for one command, so that none keeps all the others from working. */
const SHARE = 1 / 4

interface Slab {
  readonly memory: Buffer
  readonly runs: PageRuns
}

/** Memory for data: its object is used again with its pages. */
export interface Part {
  /** As many as were asked for. */
  bytes: Buffer
  readonly tag: DmaTag
  readonly memory: ServerMemory
  readonly slab: Slab
  readonly page: number
  readonly pages: number
}

/** Who gets parts for a number of bytes: all of PART_BYTES but the last. */
export interface PartHolder {
  readonly parts: Part[]
  /** It has what it waited for; an error, where there will be none. */
  onParts(failure: Error | null): void
}

/** Who has a share, and asks part by part. */
export interface MemoryUser {
  /** Called when it is worth asking again. */
  readonly onRoom: (() => void) | null
}

/** What one user has, and waits for; it is `limited` where it has as much as it may. */
class Share implements PartHolder {
  readonly parts: Part[] = []
  held = 0
  waits = false
  limited = false
  readonly user: MemoryUser
  private readonly memory: ServerMemory

  constructor(user: MemoryUser, memory: ServerMemory) {
    this.user = user
    this.memory = memory
  }

  // It asks again: what it does not take then, it does not want any more.
  onParts(failure: Error | null): void {
    this.waits = false
    if (failure === null) this.user.onRoom?.()
    this.memory.release(this)
  }
}

export class ServerMemory {
  private readonly pool: DmaPool
  private readonly most: number
  private readonly share: number
  private readonly slabs: Slab[] = []
  // Parts that were given back, by their pages, which are free as well: clients ask for the same sizes again and again.
  private readonly idle: Part[][] = Array.from({ length: SLAB_PAGES + 1 }, () => [])
  private idlePages = 0
  // Pages that someone has, and those of them that the device may still write to.
  private usedPages = 0
  private lostPages = 0
  private readonly waiters: { readonly holder: PartHolder; readonly bytes: number }[] = []
  private readonly shares = new Map<MemoryUser, Share>()
  private growing = false
  private serving = false
  private closed = false

  /**
   * @param bytes most memory in all; at least a slab
   * @param share how much of it one user may have
   */
  constructor(pool: DmaPool, bytes: number, share = SHARE) {
    this.pool = pool
    this.most = Math.max(1, Math.floor(bytes / PART_BYTES))
    this.share = share
  }

  /** Most bytes that one holder can have. */
  get bytes(): number {
    return this.most * PART_BYTES
  }

  /** Bytes of memory that have been taken from the device's pool. */
  get held(): number {
    return this.slabs.length * PART_BYTES
  }

  /** Bytes that someone has. */
  get inUse(): number {
    return this.usedPages * PAGE_BYTES
  }

  /** Takes all of it from the device's pool at once. Throws OutOfMemoryError. */
  fill(): void {
    while (this.slabs.length < this.most) this.addSlab()
  }

  /**
   * Parts for `bytes`, at most `this.bytes`.
   * @returns false where `onParts` will tell
   */
  reserve(holder: PartHolder, bytes: number): boolean {
    try {
      if (this.waiters.length === 0 && this.obtain(holder.parts, bytes)) return true
      this.waiters.push({ holder, bytes })
      if (this.lostPages > 0) queueMicrotask(() => this.serve())
    } catch (error) {
      // As for one that has waited: after this call.
      queueMicrotask(() => holder.onParts(error as Error))
    }
    return false
  }

  /** Takes all parts of a holder back. */
  release({ parts }: Pick<PartHolder, 'parts'>): void {
    for (let i = 0; i < parts.length; i++) this.takeBack(parts[i]!)
    parts.length = 0
    if (this.waiters.length > 0) this.serve()
  }

  /** Takes them from a holder, but no other gets them before the call that is returned: the device may still write to them. */
  lose(holder: PartHolder): () => void {
    const parts = holder.parts.splice(0)
    const pages = parts.reduce((sum, part) => sum + part.pages, 0)
    this.lostPages += pages
    if (this.waiters.length > 0) this.serve()
    return () => {
      this.lostPages -= pages
      this.release({ parts })
    }
  }

  /** Takes a holder out that waits. */
  forget(holder: PartHolder): void {
    const at = this.waiters.findIndex((waiter) => waiter.holder === holder)
    if (at < 0) return
    this.waiters.splice(at, 1)
    this.serve()
  }

  /** A part for a user, of up to PART_BYTES; null where there is none for it now: its `onRoom` is called. */
  take(bytes: number, user: MemoryUser): Part | null {
    if (this.closed) return null
    const share = this.shares.get(user) ?? this.join(user)
    // What it has waited for, unless it wants something else now.
    if (share.parts.length > 0 && share.parts[0]!.bytes.length !== bytes) this.release(share)
    if (share.parts.length === 0) {
      share.limited = share.held > 0 && share.held + bytes > this.bytes * this.share
      share.waits ||= !share.limited && !this.reserve(share, bytes)
      if (share.limited || share.waits) return null
    }
    share.held += bytes
    return share.parts.pop()!
  }

  give(part: Part, user: MemoryUser): void {
    const share = this.shares.get(user)
    if (share !== undefined) share.held -= part.bytes.length
    this.takeBack(part)
    if (this.waiters.length > 0) this.serve()
    if (share?.limited === true) user.onRoom?.()
  }

  /** It wants none any more. */
  forgetUser(user: MemoryUser): void {
    const share = this.shares.get(user)
    this.shares.delete(user)
    if (share !== undefined) this.forget(share)
  }

  /** None is given out any more. */
  stop(): void {
    this.closed = true
    this.refuse(new ClosedError('the server is closed'))
  }

  /** Gives all of it back to the device's pool; with commands in flight, when they have ended. */
  close(): void {
    this.stop()
    for (const { memory } of this.slabs.splice(0)) this.pool.discard(memory)
  }

  private join(user: MemoryUser): Share {
    const share = new Share(user, this)
    this.shares.set(user, share)
    return share
  }

  private takeBack(part: Part): void {
    const { pages } = part
    this.idle[pages]!.push(part)
    this.idlePages += pages
    this.usedPages -= pages
  }

  private obtain(parts: Part[], bytes: number): boolean {
    let whole = false
    try {
      for (let left = bytes; left > 0; left -= PART_BYTES) {
        const part = this.obtainOne(left < PART_BYTES ? left : PART_BYTES)
        if (part === null) return false
        parts.push(part)
      }
      whole = true
    } finally {
      // None, where it can't have all.
      if (!whole) for (const taken of parts.splice(0)) this.takeBack(taken)
    }
    return true
  }

  private obtainOne(bytes: number): Part | null {
    if (this.closed) return null
    const pages = (bytes + PAGE_BYTES - 1) >>> PAGE_SHIFT
    const part = this.idle[pages]!.pop() ?? this.make(pages)
    if (part === null) return null
    this.idlePages -= pages
    this.usedPages += pages
    if (part.bytes.length !== bytes) part.bytes = viewOf(part.slab, part.page, bytes)
    return part
  }

  // An idle part, from what no part has; from a new slab; from other idle parts. Null where there is no such run of pages.
  private make(pages: number): Part | null {
    const part = this.cut(pages)
    if (part !== null) return part
    if (this.slabs.length < this.most && !this.growing && this.grow()) return this.cut(pages)
    if (this.idlePages === 0) return null
    for (const idle of this.idle) {
      for (const { slab, page, pages } of idle.splice(0)) slab.runs.give(page, pages)
    }
    this.idlePages = 0
    return this.cut(pages)
  }

  private cut(pages: number): Part | null {
    for (const slab of this.slabs) {
      const page = slab.runs.take(pages)
      if (page < 0) continue
      this.idlePages += pages
      const tag = this.pool.tagAt(slab.memory, page * PAGE_BYTES)
      return { bytes: viewOf(slab, page, pages * PAGE_BYTES), tag, memory: this, slab, page, pages }
    }
    return null
  }

  private grow(): boolean {
    // Where another process has to take memory first, that is waited for without blocking.
    const waiting = this.pool.ready([PART_BYTES])
    if (waiting !== null) {
      this.growing = true
      const grown = (error: Error | null) => {
        this.growing = false
        if (error !== null && this.slabs.length === 0) this.refuse(error)
        else this.serve()
      }
      waiting.then(() => grown(null), grown)
      return false
    }
    try {
      this.addSlab()
      return true
    } catch (error) {
      // What the others give back will do, where there is any.
      if (!(error instanceof OutOfMemoryError) || this.slabs.length === 0) throw error
      return false
    }
  }

  private addSlab(): void {
    this.slabs.push({ memory: this.pool.alloc(PART_BYTES), runs: new PageRuns(SLAB_PAGES) })
  }

  // A holder that is called may give parts back, or take more.
  private serve(): void {
    if (this.serving) return
    this.serving = true
    try {
      for (let first = this.waiters[0]; first !== undefined; first = this.waiters[0]) {
        const served = this.obtain(first.holder.parts, first.bytes)
        if (!served && !this.hopeless) break
        this.waiters.shift()
        first.holder.onParts(
          served ? null : new CommandTimeoutError('no memory: commands had no answer; reset() frees theirs'),
        )
      }
    } catch (error) {
      this.refuse(error as Error)
    } finally {
      this.serving = false
    }
  }

  // What is lost may never come back, and nothing else will.
  private get hopeless(): boolean {
    return this.lostPages > 0 && this.lostPages === this.usedPages && !this.growing
  }

  private refuse(error: Error): void {
    for (const { holder } of this.waiters.splice(0)) holder.onParts(error)
  }
}

const viewOf = ({ memory }: Slab, page: number, bytes: number) =>
  memory.subarray(page * PAGE_BYTES, page * PAGE_BYTES + bytes)
