// DMA memory of one device for the data of remote hosts' commands: a fixed amount, which whoever comes first has first.

import { PageRuns } from '../../../lib/memory/page-runs.ts'
import type { DmaPool } from '../../../lib/memory/pool.ts'
import type { DmaAllocation } from '../../../lib/memory/tag.ts'
import { high32, low32 } from '../../../lib/sys/int64.ts'
import { PAGE_BYTES } from '../../../lib/sys/units.ts'

/** Memory for one command. */
export interface DmaBlock {
  readonly bytes: Uint8Array
  readonly memory: DataMemory
  readonly allocation: DmaAllocation
  readonly page: number
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
    return this.#runs.available * PAGE_BYTES
  }

  /** Memory, or null where there is none for this user now: its `onRoom` is called when it is worth asking again. */
  take(bytes: number, user: MemoryUser): DmaBlock | null {
    if (this.#closed) return null
    const pages = Math.ceil(bytes / PAGE_BYTES)
    if (user.held > 0 && user.held + bytes > this.bytes * SHARE) {
      this.#limited.add(user)
      return null
    }
    const [first] = this.#waiting
    const page = first === undefined || first === user ? this.#runs.take(pages) : -1
    if (page < 0) {
      this.#waiting.add(user)
      return null
    }
    this.#waiting.delete(user)
    user.held += bytes
    const at = page * PAGE_BYTES
    const iova = this.#allocation.iova + at
    return {
      ...{ memory: this, allocation: this.#allocation, page, lo: low32(iova), hi: high32(iova) },
      bytes: this.#buffer.subarray(at, at + bytes),
    }
  }

  give({ page, bytes }: DmaBlock, user: MemoryUser): void {
    user.held -= bytes.length
    this.#runs.give(page, Math.ceil(bytes.length / PAGE_BYTES))
    this.#offer()
    if (this.#limited.delete(user)) user.onRoom?.()
  }

  /** It wants none any more. */
  forget(user: MemoryUser): void {
    this.#limited.delete(user)
    if (this.#waiting.delete(user)) this.#offer()
  }

  #offer(): void {
    for (const user of this.#waiting) {
      user.onRoom?.()
      // It is still the first: there is too little for it, and nobody passes it.
      if (this.#waiting.has(user)) return
    }
  }

  /** Gives all of it back; with commands in flight, when they have ended. */
  close(): void {
    this.#closed = true
    this.#pool.discard(this.#buffer)
  }
}
