// Medium in memory: taken from the system where it is written, read as zeroes where it never was.
// One reserved address range for any size up to many TiB, with a view for each further GiB made at
// its first use; the first part shares the DMA window's view, where a copy is one `copyWithin`.

import { viewOf } from '../../memory/mapping.ts'
import { STATUS } from '../../nvme/spec/status.ts'
import { MADV, madvise } from '../../sys/libc.ts'
import { PAGE_BYTES } from '../../sys/units.ts'
import { type Space, WINDOW_BYTES } from '../dma/space.ts'
import type { Pieces } from '../model/prp.ts'
import type { Medium } from './medium.ts'

const EXTENT_BYTES = 2 ** 30
// Less than this is faster overwritten than given back to the system and faulted in again.
const DISCARD_BYTES = 2 ** 16

export class MemoryMedium implements Medium {
  readonly bytes: number
  readonly near: number
  readonly #space: Space
  /** The window, and behind it the medium's first `near` bytes. */
  readonly #first: Uint8Array
  readonly #extents: Uint8Array[] = []
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
    const end = at + bytes
    if (bytes < DISCARD_BYTES) return this.#fill(at, end)
    const firstPage = Math.ceil(at / PAGE_BYTES) * PAGE_BYTES
    const lastPage = Math.floor(end / PAGE_BYTES) * PAGE_BYTES
    const address = this.#space.address + BigInt(WINDOW_BYTES) + BigInt(firstPage)
    if (madvise(address, lastPage - firstPage, MADV.DONTNEED) !== 0) return STATUS.INTERNAL_ERROR
    return this.#fill(at, firstPage) || this.#fill(lastPage, end)
  }

  flush(): number {
    return 0
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
