// What a controller keeps its blocks on: memory or a file, as byte ranges and pieces of host memory.

import type { Pieces } from '../model/prp.ts'

/** A range of bytes, from where the one before it ends: with data, or a hole, which reads as zeroes. */
export interface MediumExtent {
  readonly bytes: number
  readonly data: boolean
}

/** All namespaces one after the other. Offsets in bytes; a status is 0 or `sct << 8 | sc`. */
export interface Medium {
  readonly bytes: number
  /** Bytes of its beginning that stand right behind the DMA window, in the window's array. */
  readonly near: number
  /** A byte for each granule of them: 1 where it was written. Whoever writes them without `write` sets it. */
  readonly written: Uint8Array
  /** Bytes of a granule: what is known by itself to have data, or to be a hole. */
  readonly granule: number
  /** From the medium into host memory. */
  read(at: number, pieces: Pieces): number
  write(at: number, pieces: Pieces): number
  /** Compare Failure where anything differs. */
  compare(at: number, pieces: Pieces): number
  /** That the range can be read. */
  verify(at: number, bytes: number): number
  /** From now on the range reads zeroes; large ones take no space any more. */
  zero(at: number, bytes: number): number
  /** All that was written is durable; with a range, what that holds. */
  flush(at?: number, bytes?: number): number
  /** Where it has a volatile cache: from now on `cutPower` loses what is not flushed, by blocks of `unit` bytes. */
  recordUnflushed?(unit: number): void
  /** Loses what is not flushed, but for a share of its blocks, in per cent. */
  cutPower?(kept: number): void
  /** What was never written, or was zeroed since, is a hole: up to `most` extents of the range, from its beginning on. */
  extents(at: number, bytes: number, most: number): MediumExtent[]
}
