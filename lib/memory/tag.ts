// What DMA buffers carry: whose memory they are, and their IOVA.
// A property of each buffer, and of each part of one from its first use on, in place of a table: found
// without a look-up, and gone with the buffer.

import { high32, low32 } from '../sys/int64.ts'
import { PAGE_BYTES } from '../sys/units.ts'

/** Whose memory a buffer is. */
export interface AllocationPool {
  /** The tag of a buffer, or of any part of one; throws where it is none, or freed. */
  tagOf(buffer: Uint8Array, call?: string): DmaTag
  /** Frees what was discarded, once it has no users. */
  reclaim(allocation: DmaAllocation): void
}

/** One buffer from `alloc`: where it is, and who still needs it. */
export interface DmaAllocation {
  readonly pool: AllocationPool
  /** The pool, and null once it was freed: what the hot path looks at. */
  owner: AllocationPool | null
  readonly iova: number
  readonly bytes: number
  /** Operations in flight that read or write it. */
  users: number
  /** No one wants it any more: it is freed with its last user. */
  discarded: boolean
}

/** What every DMA buffer, and every part of one that was used once, carries: its IOVA without a look-up. */
export interface DmaTag {
  readonly allocation: DmaAllocation
  readonly iova: number
  /** The IOVA's halves as signed 32-bit integers, which V8 need not put on the heap. */
  readonly lo: number
  readonly hi: number
}

export const kDma = Symbol('unvme.dma')
const kAllocation = Symbol('unvme.allocation')

export type DmaBuffer = Uint8Array & { [kDma]?: DmaTag }
type OwnedArrayBuffer = ArrayBuffer & { [kAllocation]?: DmaAllocation }

/** From now on `buffer` is the memory of `allocation`: parts of it can be tagged. */
export function own(buffer: ArrayBuffer, allocation: DmaAllocation): void {
  Object.defineProperty(buffer, kAllocation, { value: allocation })
}

/** The tag of what begins at `iova` within an allocation. */
export function tagFor(allocation: DmaAllocation, iova: number): DmaTag {
  return { allocation, iova, lo: low32(iova), hi: high32(iova) }
}

/** Tags a buffer that begins at `iova`. */
export function tag(buffer: Uint8Array, allocation: DmaAllocation, iova: number): DmaTag {
  const value = tagFor(allocation, iova)
  // Not enumerable: it is no one's business who prints a buffer.
  Object.defineProperty(buffer, kDma, { value })
  // A promise that resolves with a buffer looks for its `then`: here, and not in five prototypes, for 35 ns.
  Object.defineProperty(buffer, 'then', { value: undefined })
  return value
}

/**
 * Tags a buffer over the memory of one that is tagged; undefined where it is none.
 *
 * The getters `buffer` and `byteOffset` cost 20 ns each on Node 20, an own property 1 ns: so parts are tagged too.
 */
export function tagPart(buffer: Uint8Array): DmaTag | undefined {
  const allocation = (buffer?.buffer as OwnedArrayBuffer | undefined)?.[kAllocation]
  if (allocation === undefined) return undefined
  const { byteOffset, byteLength } = buffer
  // A view may be longer than what is mapped of it, and what is behind that is no memory of the device.
  const mapped = Math.ceil(allocation.bytes / PAGE_BYTES) * PAGE_BYTES
  if (byteOffset + byteLength > mapped) return undefined
  return tag(buffer, allocation, allocation.iova + byteOffset)
}
