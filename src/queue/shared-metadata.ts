// Metadata of namespaces whose format has a buffer of its own for it, where the caller brings none.
// Trade-off: all commands share two regions: what they write as metadata is zeroes, what they read of it is nobody's.

import { type DmaPool, PAGE_BYTES } from '../../lib/memory/pool.ts'
import type { DmaAllocation } from '../../lib/memory/tag.ts'
import type { Queue } from '../../lib/nvme/host/queue.ts'
import { high32, low32 } from '../../lib/sys/int64.ts'
import { KIND, type Operation } from './operation.ts'

/** Where the commands of an operation point with their metadata pointer. */
export interface Metadata {
  point(pair: Pick<Queue, 'pointMetadata'>, op: Operation): void
}

export class SharedMetadata implements Metadata {
  #bytes = 0
  #zeroes: Half = { lo: 0, hi: 0 }
  #sink: Half = { lo: 0, hi: 0 }

  /** Makes room for commands with `bytes` of metadata. */
  grow(pool: DmaPool, bytes: number): void {
    if (bytes <= this.#bytes) return
    this.#bytes = Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES
    const tag = pool.tagOf(pool.alloc(2 * this.#bytes))
    this.#zeroes = half(tag.allocation, 0)
    this.#sink = half(tag.allocation, this.#bytes)
  }

  point(pair: Pick<Queue, 'pointMetadata'>, op: Operation): void {
    if (op.geometry.metadataBytes === 0 || op.kind !== KIND.TRANSFER) {
      pair.pointMetadata(0, 0)
      return
    }
    const { lo, hi } = (op.opc & 1) !== 0 ? this.#zeroes : this.#sink
    pair.pointMetadata(lo, hi)
  }
}

interface Half {
  lo: number
  hi: number
}

function half({ iova }: DmaAllocation, offset: number): Half {
  const at = iova + offset
  return { lo: low32(at), hi: high32(at) }
}
