// What the bytes of an endpoint are, as far as that is known without reading them, and sets of byte ranges: what a copy
// has done, and what it has left.

import { fstatSync } from 'node:fs'
import { ERRNO, errno, lseek, SEEK } from '../../lib/sys/libc.ts'

/**
 * A range of bytes from the start of what is copied. `data` must be read; `hole` and `zero` read as zeroes, the first
 * since nothing is stored there; `unmapped` is of no interest to whoever made the block map.
 */
export interface Extent {
  readonly at: number
  readonly bytes: number
  readonly kind: 'data' | 'hole' | 'zero' | 'unmapped'
}

/** Extents in order and without a gap. */
export type Extents = Iterable<Extent> | AsyncIterable<Extent>

/** Data and holes of a file, by SEEK_DATA and SEEK_HOLE. A file system that has no holes says that all is data. */
export function* fileExtents(fd: number, from: number, bytes: number): Iterable<Extent> {
  const end = from + bytes
  for (let at = from; at < end; ) {
    const data = lseek(fd, at, SEEK.DATA)
    // No data up to the end of the file (ENXIO), or no such question.
    const none = data < 0 && errno() === ERRNO.ENXIO
    // Of a file that has been cut meanwhile the end is found by reading: what was there is no hole.
    const start = data >= 0 ? Math.min(data, end) : none && fstatSync(fd).size >= end ? end : at
    if (start > at) yield { at, bytes: start - at, kind: 'hole' }
    if (start >= end) return
    const hole = data >= 0 ? lseek(fd, start, SEEK.HOLE) : -1
    const stop = hole > start ? Math.min(hole, end) : end
    yield { at: start, bytes: stop - start, kind: 'data' }
    at = stop
  }
}

/**
 * The same extents up to `end`, with boundaries that are multiples of `align`: a block that is data in part, or of two
 * kinds, is data.
 */
export async function* alignedExtents(extents: Extents, align: number, end: number): AsyncGenerator<Extent> {
  let at = 0
  for await (const extent of extents) {
    if (extent.kind === 'data') continue
    const last = extent.at + extent.bytes
    const from = Math.ceil(extent.at / align) * align
    const to = last >= end ? end : Math.floor(last / align) * align
    if (to <= from) continue
    if (from > at) yield { at, bytes: from - at, kind: 'data' }
    yield { at: from, bytes: to - from, kind: extent.kind }
    at = to
  }
  if (at < end) yield { at, bytes: end - at, kind: 'data' }
}

/** A set of byte ranges, in order, none of which touch. */
export class RangeSet {
  // From and to of each.
  readonly #ranges: [number, number][] = []

  /** Adds the bytes from `from` up to `to`. Quick where it is added to the last one. */
  add(from: number, to: number): void {
    if (to <= from) return
    const ranges = this.#ranges
    let at = ranges.length
    while (at > 0 && ranges[at - 1]![1] >= from) at--
    let after = at
    while (after < ranges.length && ranges[after]![0] <= to) {
      from = Math.min(from, ranges[after]![0])
      to = Math.max(to, ranges[after]![1])
      after++
    }
    ranges.splice(at, after - at, [from, to])
  }

  /** Bytes from 0 on without a gap. */
  get prefix(): number {
    const first = this.#ranges[0]
    return first === undefined || first[0] > 0 ? 0 : first[1]
  }

  /** Bytes of all of them. */
  get bytes(): number {
    return this.#ranges.reduce((sum, [from, to]) => sum + to - from, 0)
  }

  get isEmpty(): boolean {
    return this.#ranges.length === 0
  }

  [Symbol.iterator](): IterableIterator<[number, number]> {
    return this.#ranges[Symbol.iterator]()
  }

  /** Parts of `from` up to `to`, in order, each with whether it is in the set. */
  *split(from: number, to: number): Generator<{ from: number; to: number; inside: boolean }> {
    let at = from
    for (const [start, end] of this.#ranges) {
      if (end <= at) continue
      if (start >= to) break
      if (start > at) yield { from: at, to: start, inside: false }
      const stop = Math.min(end, to)
      yield { from: Math.max(start, at), to: stop, inside: true }
      at = stop
    }
    if (at < to) yield { from: at, to, inside: false }
  }

  /** Those whole blocks of it that are in the set; at `end` the last one may be cut. */
  aligned(align: number, end: number | undefined): RangeSet {
    const inner = new RangeSet()
    for (const [from, to] of this.#ranges) {
      const stop = end !== undefined && to >= end ? end : to - (to % align)
      inner.add(Math.ceil(from / align) * align, stop)
    }
    return inner
  }

  /** What is in both. */
  intersect(other: RangeSet): RangeSet {
    const both = new RangeSet()
    for (const [start, end] of this.#ranges) {
      for (const part of other.split(start, end)) if (part.inside) both.add(part.from, part.to)
    }
    return both
  }
}
