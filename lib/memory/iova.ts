// Hands out I/O virtual addresses from the ranges that an IOMMU allows, and takes them back.
// First fit over a sorted list of free ranges, since a function has few and large arenas.

import { OutOfRangeError } from '../errors.ts'
import { PAGE_BYTES } from '../sys/units.ts'

/** A range of I/O virtual addresses, both ends included. */
export interface IovaRange {
  first: number
  last: number
}

// Below 4 GiB are the windows of 32-bit BARs: a switch without access control may take such an address for
// a neighbour's. So these are handed out last.
const PREFERRED = 2 ** 32
// Page 0 is never handed out: a PRP entry of 0 means that there is none.
const LOWEST = PAGE_BYTES

interface Hole {
  start: number
  end: number
}

/** Free I/O virtual addresses of one address space. */
export class IovaSpace {
  // Sorted, never touching each other; `end` is exclusive.
  #holes: Hole[]
  readonly #taken = new Map<number, number>()

  /**
   * @param ranges what the IOMMU allows, in any order; overlapping ones are joined
   * @param reserved what must not be handed out all the same
   */
  constructor(ranges: readonly IovaRange[], reserved: readonly IovaRange[] = []) {
    this.#holes = []
    for (const { first, last } of ranges) {
      const start = Math.max(LOWEST, Math.ceil(first / PAGE_BYTES) * PAGE_BYTES)
      const end = Math.floor((last + 1) / PAGE_BYTES) * PAGE_BYTES
      if (end > start) this.#add({ start, end })
    }
    for (const { first, last } of reserved) {
      this.#exclude(
        Math.floor(first / PAGE_BYTES) * PAGE_BYTES,
        Math.ceil((last + 1) / PAGE_BYTES) * PAGE_BYTES,
      )
    }
  }

  /**
   * Takes a free range. Returns its IOVA, or -1 where no hole is large enough.
   * @param bytes a multiple of 4096
   * @param alignment a power of two from 4096 on; given up where only less can be had
   */
  take(bytes: number, alignment = PAGE_BYTES): number {
    if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes % PAGE_BYTES !== 0) {
      throw new OutOfRangeError(`an IOVA range of ${bytes} bytes: a multiple of ${PAGE_BYTES} is needed`)
    }
    const iova = this.#find(bytes, alignment)
    if (iova < 0) return -1
    this.#cut(iova, iova + bytes)
    this.#taken.set(iova, bytes)
    return iova
  }

  /** Gives back what `take` returned. */
  give(iova: number): void {
    const bytes = this.#taken.get(iova)
    if (bytes === undefined) throw new OutOfRangeError(`IOVA ${iova.toString(16)}h was not taken`)
    this.#taken.delete(iova)
    this.#add({ start: iova, end: iova + bytes })
  }

  /** Bytes that are free, in holes of any size. */
  get available(): number {
    return this.#holes.reduce((sum, { start, end }) => sum + end - start, 0)
  }

  /** The free ranges, sorted. */
  get holes(): IovaRange[] {
    return this.#holes.map(({ start, end }) => ({ first: start, last: end - 1 }))
  }

  #find(bytes: number, alignment: number): number {
    for (const align of alignment > PAGE_BYTES ? [alignment, PAGE_BYTES] : [PAGE_BYTES]) {
      for (const from of [PREFERRED, 0]) {
        for (const { start, end } of this.#holes) {
          const at = Math.ceil(Math.max(start, from) / align) * align
          if (at + bytes <= end) return at
        }
      }
    }
    return -1
  }

  #exclude(from: number, to: number): void {
    this.#holes = this.#holes.flatMap(({ start, end }) =>
      [
        { start, end: Math.min(end, from) },
        { start: Math.max(start, to), end },
      ].filter((part) => part.end > part.start),
    )
  }

  #cut(start: number, end: number): void {
    const at = this.#holes.findIndex((hole) => hole.start <= start && end <= hole.end)
    const hole = this.#holes[at]!
    const rest = [
      { start: hole.start, end: start },
      { start: end, end: hole.end },
    ]
    this.#holes.splice(at, 1, ...rest.filter((part) => part.end > part.start))
  }

  #add(added: Hole): void {
    let { start, end } = added
    const apart = this.#holes.filter((hole) => {
      if (hole.end < start || hole.start > end) return true
      start = Math.min(start, hole.start)
      end = Math.max(end, hole.end)
      return false
    })
    this.#holes = [...apart, { start, end }].sort((a, b) => a.start - b.start)
  }
}
