// DMA memory of one device for the data of remote hosts' commands: a fixed amount, which whoever comes first has first.

import { PageRuns } from '../../../lib/memory/page-runs.ts'
import type { DmaPool } from '../../../lib/memory/pool.ts'
import type { DmaAllocation } from '../../../lib/memory/tag.ts'
import { high32, low32 } from '../../../lib/sys/int64.ts'
import { PAGE_BYTES } from '../../../lib/sys/units.ts'

/** Memory for one command: its object is used again with its pages. */
export interface DmaBlock {
  bytes: Uint8Array
  readonly memory: DataMemory
  readonly allocation: DmaAllocation
  readonly page: number
  readonly pages: number
  /** Its address for the device, in halves. */
  readonly lo: number
  readonly hi: number
}

/** Who takes memory. */
export interface MemoryUser {
  /** Bytes that it has. */
  held: number
  onRoom: (() => void) | null
}

/** No user has more than this part of it, but for one command, so that none keeps all the others from working. */
const SHARE = 1 / 4

export class DataMemory {
  readonly bytes: number
  readonly #pool: DmaPool
  readonly #buffer: Buffer
  readonly #allocation: DmaAllocation
  readonly #runs: PageRuns
  // Blocks that were given back, by their pages, which are free as well: hosts ask for the same sizes again and again.
  readonly #idle: DmaBlock[][] = []
  #idlePages = 0
  // Who found none, in their order: as long as there are some, only the first is given any.
  readonly #waiting = new Set<MemoryUser>()
  // Who has as much as it may.
  readonly #limited = new Set<MemoryUser>()
  #closed = false

  /** @param bytes whole pages; throws OutOfMemoryError where the pool has no such memory */
  constructor(pool: DmaPool, bytes: number) {
    this.bytes = bytes
    this.#pool = pool
    this.#buffer = pool.alloc(bytes)
    this.#allocation = pool.tagOf(this.#buffer, 'serve').allocation
    this.#runs = new PageRuns(bytes / PAGE_BYTES)
  }

  /** Bytes that are free. */
  get available(): number {
    return (this.#runs.available + this.#idlePages) * PAGE_BYTES
  }

  /** Memory, or null where there is none for this user now: its `onRoom` is called when it is worth asking again. */
  take(bytes: number, user: MemoryUser): DmaBlock | null {
    if (this.#closed) return null
    const pages = Math.ceil(bytes / PAGE_BYTES)
    if (user.held > 0 && user.held + bytes > this.bytes * SHARE) {
      this.#limited.add(user)
      return null
    }
    const block = this.#mayTake(user) ? (this.#idle[pages]?.pop() ?? this.#make(pages)) : null
    if (block === null) {
      this.#waiting.add(user)
      return null
    }
    if (this.#waiting.size > 0) this.#waiting.delete(user)
    this.#idlePages -= pages
    user.held += bytes
    if (block.bytes.length !== bytes) block.bytes = this.#view(block.page, bytes)
    return block
  }

  // Whoever waits is first.
  #mayTake(user: MemoryUser): boolean {
    if (this.#waiting.size === 0) return true
    const [first] = this.#waiting
    return first === user
  }

  // Taken from the idle ones, or new; null where there is no such run of pages.
  #make(pages: number): DmaBlock | null {
    let page = this.#runs.take(pages)
    if (page < 0 && this.#idlePages > 0) {
      this.#joinIdle()
      page = this.#runs.take(pages)
    }
    if (page < 0) return null
    const at = page * PAGE_BYTES
    const iova = this.#allocation.iova + at
    this.#idlePages += pages
    return {
      ...{ memory: this, allocation: this.#allocation, page, pages, lo: low32(iova), hi: high32(iova) },
      bytes: this.#view(page, pages * PAGE_BYTES),
    }
  }

  #view(page: number, bytes: number): Uint8Array {
    return this.#buffer.subarray(page * PAGE_BYTES, page * PAGE_BYTES + bytes)
  }

  #joinIdle(): void {
    for (const blocks of this.#idle) {
      for (const { page, pages } of blocks?.splice(0) ?? []) this.#runs.give(page, pages)
    }
    this.#idlePages = 0
  }

  give(block: DmaBlock, user: MemoryUser): void {
    user.held -= block.bytes.length
    const { pages } = block
    const idle = this.#idle[pages]
    if (idle === undefined) this.#idle[pages] = [block]
    else idle.push(block)
    this.#idlePages += pages
    if (this.#waiting.size > 0) this.#offer()
    if (this.#limited.size > 0 && this.#limited.delete(user)) user.onRoom?.()
  }

  /** It wants none any more. */
  forget(user: MemoryUser): void {
    this.#limited.delete(user)
    if (this.#waiting.delete(user)) this.#offer()
  }

  #offer(): void {
    for (const user of this.#waiting) {
      user.onRoom?.()
      // It is still the first: there is too little for it, and none passes it.
      if (this.#waiting.has(user)) return
    }
  }

  /** None is given out any more. */
  stop(): void {
    this.#closed = true
  }

  /** Gives all of it back; with commands in flight, when they have ended. */
  close(): void {
    this.stop()
    this.#pool.discard(this.#buffer)
  }
}
