// Medium in memory: taken from the system where it is written, read as zeroes where it never was.
// One reserved address range for any size up to many TiB, with a view for each further GiB made at
// its first use; the first part shares the DMA window's view, where a copy is one `copyWithin`.

import { viewOf } from '../../memory/mapping.ts'
import { STATUS } from '../../nvme/spec/status.ts'
import { MADV, madvise } from '../../sys/libc.ts'
import { PAGE_BYTES } from '../../sys/units.ts'
import { type Space, WINDOW_BYTES } from '../dma/space.ts'
import type { Pieces } from '../model/prp.ts'
import type { Medium, MediumExtent } from './medium.ts'

const EXTENT_BYTES = 2 ** 30
// Less than this is faster overwritten than given back to the system and faulted in again.
const DISCARD_BYTES = 2 ** 16
/** Bytes that are written, or not, together: 2 to this power. The system's own pages tell less: reading makes some. */
export const GRANULE_SHIFT = 16
const GRANULE_BYTES = 2 ** GRANULE_SHIFT

export class MemoryMedium implements Medium {
  readonly bytes: number
  readonly near: number
  readonly written: Uint8Array
  readonly granule = GRANULE_BYTES
  readonly #space: Space
  /** The window, and behind it the medium's first `near` bytes. */
  readonly #first: Uint8Array
  readonly #extents: Uint8Array[] = []
  // As `written`, of those: undefined where nothing was written yet.
  readonly #extentsWritten: (Uint8Array | undefined)[] = []
  // What `#find` found: the array, the index in it, and the bytes up to its end.
  #array: Uint8Array
  #index = 0
  #room = 0

  /** @param first the view of the space's beginning: the very array that DMA ranges in the window have */
  constructor(space: Space, first: Uint8Array) {
    this.bytes = space.mediumBytes
    this.#space = space
    this.#first = first
    this.#array = first
    this.near = first.length - WINDOW_BYTES
    this.written = new Uint8Array(Math.ceil(this.near / GRANULE_BYTES))
  }

  read(at: number, pieces: Pieces): number {
    let from = at
    for (let i = 0; i < pieces.count; i++) {
      const to = pieces.ranges[i]!.bytes
      let index = pieces.at[i]!
      for (let rest = pieces.length[i]!; rest > 0; ) {
        this.#find(from)
        const length = Math.min(rest, this.#room)
        copy(to, index, this.#array, this.#index, length)
        from += length
        index += length
        rest -= length
      }
    }
    return 0
  }

  write(at: number, pieces: Pieces): number {
    let to = at
    for (let i = 0; i < pieces.count; i++) {
      const from = pieces.ranges[i]!.bytes
      let index = pieces.at[i]!
      for (let rest = pieces.length[i]!; rest > 0; ) {
        this.#find(to)
        const length = Math.min(rest, this.#room)
        copy(this.#array, this.#index, from, index, length)
        this.#mark(to, length)
        to += length
        index += length
        rest -= length
      }
    }
    return 0
  }

  compare(at: number, pieces: Pieces): number {
    let from = at
    for (let i = 0; i < pieces.count; i++) {
      const host = pieces.ranges[i]!.bytes
      let index = pieces.at[i]!
      for (let rest = pieces.length[i]!; rest > 0; ) {
        this.#find(from)
        const length = Math.min(rest, this.#room)
        const mine = this.#array.subarray(this.#index, this.#index + length)
        if (Buffer.compare(mine, host.subarray(index, index + length)) !== 0) return STATUS.COMPARE_FAILURE
        from += length
        index += length
        rest -= length
      }
    }
    return 0
  }

  verify(): number {
    return 0
  }

  zero(at: number, bytes: number): number {
    const status = this.#zero(at, at + bytes)
    if (status === 0) this.#unmark(at, at + bytes)
    return status
  }

  #zero(at: number, end: number): number {
    if (end - at < DISCARD_BYTES) return this.#fill(at, end)
    const firstPage = Math.ceil(at / PAGE_BYTES) * PAGE_BYTES
    const lastPage = Math.floor(end / PAGE_BYTES) * PAGE_BYTES
    const address = this.#space.address + BigInt(WINDOW_BYTES) + BigInt(firstPage)
    if (madvise(address, lastPage - firstPage, MADV.DONTNEED) !== 0) return STATUS.INTERNAL_ERROR
    return this.#fill(at, firstPage) || this.#fill(lastPage, end)
  }

  flush(): number {
    return 0
  }

  extents(at: number, bytes: number, most: number): MediumExtent[] {
    const extents: MediumExtent[] = []
    const end = at + bytes
    for (let from = at; from < end && extents.length < most; ) {
      const { marks, start, stop } = this.#marksOf(from)
      const data = marks !== undefined && marks[(from - start) >>> GRANULE_SHIFT] === 1
      const next = marks?.indexOf(data ? 0 : 1, (from - start) >>> GRANULE_SHIFT) ?? -1
      const to = Math.min(end, next < 0 ? stop : start + next * GRANULE_BYTES)
      const last = extents.at(-1)
      // One that goes on in the next array of marks.
      if (last?.data === data) extents[extents.length - 1] = { bytes: last.bytes + to - from, data }
      else extents.push({ bytes: to - from, data })
      from = to
    }
    return extents
  }

  /** The marks that have byte `at`, and the bytes of the medium that they are of. */
  #marksOf(at: number): { marks: Uint8Array | undefined; start: number; stop: number } {
    const { near } = this
    if (at < near) return { marks: this.written, start: 0, stop: near }
    const n = Math.floor((at - near) / EXTENT_BYTES)
    const start = near + n * EXTENT_BYTES
    return { marks: this.#extentsWritten[n], start, stop: Math.min(this.bytes, start + EXTENT_BYTES) }
  }

  /** Bytes of one array were written. */
  #mark(at: number, bytes: number): void {
    let marks = this.written
    let from = at
    if (at >= this.near) {
      const n = Math.floor((at - this.near) / EXTENT_BYTES)
      marks = this.#extentsWritten[n] ??= new Uint8Array(EXTENT_BYTES / GRANULE_BYTES)
      from = at - this.near - n * EXTENT_BYTES
    }
    const last = (from + bytes - 1) >>> GRANULE_SHIFT
    for (let i = from >>> GRANULE_SHIFT; i <= last; i++) marks[i] = 1
  }

  /** Whole granules read as zeroes from now on; the medium's last one may be shorter. */
  #unmark(at: number, end: number): void {
    for (let from = Math.ceil(at / GRANULE_BYTES) * GRANULE_BYTES; from < end; ) {
      const { marks, start, stop } = this.#marksOf(from)
      const to = end >= this.bytes ? end : end - (end % GRANULE_BYTES)
      if (to <= from) return
      marks?.fill(
        0,
        (from - start) >>> GRANULE_SHIFT,
        Math.ceil((Math.min(to, stop) - start) / GRANULE_BYTES),
      )
      from = stop
    }
  }

  #fill(at: number, end: number): number {
    for (let from = at; from < end; ) {
      this.#find(from)
      const length = Math.min(end - from, this.#room)
      this.#array.fill(0, this.#index, this.#index + length)
      from += length
    }
    return 0
  }

  #find(at: number): void {
    if (at < this.near) {
      this.#array = this.#first
      this.#index = WINDOW_BYTES + at
      this.#room = this.near - at
      return
    }
    const far = at - this.near
    const n = Math.floor(far / EXTENT_BYTES)
    const extent = this.#extents[n] ?? this.#open(n)
    this.#array = extent
    this.#index = far - n * EXTENT_BYTES
    this.#room = extent.length - this.#index
  }

  #open(n: number): Uint8Array {
    const at = this.near + n * EXTENT_BYTES
    const bytes = Math.min(EXTENT_BYTES, this.bytes - at)
    const extent = new Uint8Array(viewOf(this.#space.address + BigInt(WINDOW_BYTES) + BigInt(at), bytes))
    this.#extents[n] = extent
    return extent
  }
}

function copy(to: Uint8Array, toAt: number, from: Uint8Array, fromAt: number, bytes: number): void {
  if (to === from) to.copyWithin(toAt, fromAt, fromAt + bytes)
  else to.set(from.subarray(fromAt, fromAt + bytes), toAt)
}
