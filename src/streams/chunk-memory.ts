// Buffers for what a stream gives away: nobody says when they are done with, so that none is used twice.
// Trade-off: small ones are cut from slabs, as fs.createReadStream does, and keep their neighbours from being
// collected; a fresh one for each would cost more than all the rest of a chunk.

import { keepFreedMemory } from '../../lib/memory/heap.ts'

const SLAB_BYTES = 64 * 1024

/** Chunks for one stream. */
export class ChunkMemory {
  #slab: Buffer | null = null
  #cut = 0

  /** A Buffer with what `data` holds. */
  copy(data: Buffer): Buffer {
    const chunk = this.alloc(data.length)
    data.copy(chunk)
    return chunk
  }

  /** A Buffer of `bytes`, whose content is anything. */
  alloc(bytes: number): Buffer {
    if (bytes > SLAB_BYTES / 4) {
      keepFreedMemory()
      return Buffer.allocUnsafeSlow(bytes)
    }
    if (this.#slab === null || this.#cut + bytes > SLAB_BYTES) {
      this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
      this.#cut = 0
    }
    const at = this.#cut
    this.#cut += bytes
    return this.#slab.subarray(at, at + bytes)
  }
}
