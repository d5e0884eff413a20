// Data pointers: PRP entries and lists (NVMe 1.4 base, section 4.3), or an SGL of one block where the controller's host
// allows that, turned into pieces of host memory.
// Neighbouring pages become one piece, since a driver's list nearly always runs through memory in
// order, and one long copy is faster than many of a page.

import { STATUS } from '../../nvme/spec/status.ts'
import type { DmaRange, DmaTable } from '../dma/dma.ts'
import type { Controller } from './controller.ts'

/** Where a command's data is in host memory: `count` pieces in order. Reused for every command. */
export interface Pieces {
  count: number
  /** Sum of the lengths. */
  bytes: number
  ranges: DmaRange[]
  /** Index of each piece in its range's `bytes`. */
  at: Int32Array
  length: Int32Array
}

export function createPieces(): Pieces {
  return { count: 0, bytes: 0, ranges: [], at: new Int32Array(64), length: new Int32Array(64) }
}

const HIGH = 0x1_0000_0000
/** PSDT 01b, bits 15:14 of dword 0. */
const PSDT_SGL = 0x4000

/**
 * Fills `pieces` with `bytes` of data from the PRP entries of the command at `sqe[e]`.
 * Returns 0, PRP Offset Invalid, or Data Transfer Error where an address is not mapped.
 */
export function followPrps(
  pieces: Pieces,
  dma: DmaTable,
  sqe: Uint32Array,
  e: number,
  bytes: number,
  pageBytes: number,
): number {
  pieces.count = 0
  pieces.bytes = bytes
  if ((sqe[e]! & PSDT_SGL) !== 0) return followDataBlock(pieces, dma, sqe, e, bytes)
  const low = sqe[e + 6]!
  if ((low & 3) !== 0) return STATUS.PRP_OFFSET_INVALID
  const inPage = pageBytes - (low & (pageBytes - 1))
  const first = Math.min(bytes, inPage)
  if (!addPiece(pieces, dma, sqe[e + 7]! * HIGH + low, first)) return STATUS.DATA_TRANSFER_ERROR
  const rest = bytes - first
  if (rest === 0) return 0
  const second = sqe[e + 8]!
  const secondIova = sqe[e + 9]! * HIGH + second
  if (rest > pageBytes) return followList(pieces, dma, secondIova, rest, pageBytes)
  if ((second & (pageBytes - 1)) !== 0) return STATUS.PRP_OFFSET_INVALID
  return addPiece(pieces, dma, secondIova, rest) ? 0 : STATUS.DATA_TRANSFER_ERROR
}

// The one SGL that there is: a data block. What it has beyond the data is zeroes, and nothing of other commands.
function followDataBlock(pieces: Pieces, dma: DmaTable, sqe: Uint32Array, e: number, bytes: number): number {
  if (sqe[e + 9] !== 0) return STATUS.SGL_DESCRIPTOR_TYPE_INVALID
  const length = sqe[e + 8]!
  if (length < bytes) return STATUS.DATA_SGL_LENGTH_INVALID
  const iova = sqe[e + 7]! * HIGH + sqe[e + 6]!
  const range = dma.find(iova, length)
  if (range === null || !addPiece(pieces, dma, iova, bytes)) return STATUS.DATA_TRANSFER_ERROR
  const at = iova - range.start + range.base
  if (length > bytes) range.bytes.fill(0, at + bytes, at + length)
  return 0
}

function followList(pieces: Pieces, dma: DmaTable, list: number, bytes: number, pageBytes: number): number {
  if (list % 8 !== 0) return STATUS.PRP_OFFSET_INVALID
  let rest = bytes
  let page = list
  for (;;) {
    const room = (pageBytes - (page % pageBytes)) / 8
    const needed = Math.ceil(rest / pageBytes)
    const used = Math.min(needed, room)
    const range = dma.find(page, used * 8)
    if (range === null) return STATUS.DATA_TRANSFER_ERROR
    const { words } = range
    let at = ((page - range.start + range.base) / 4) | 0
    // The last entry of a full page leads to the next page where more entries follow than fit.
    const entries = needed > room ? room - 1 : used
    for (let i = 0; i < entries; i++, at += 2) {
      const low = words[at]!
      if ((low & (pageBytes - 1)) !== 0) return STATUS.PRP_OFFSET_INVALID
      const length = Math.min(rest, pageBytes)
      if (!addPiece(pieces, dma, words[at + 1]! * HIGH + low, length)) return STATUS.DATA_TRANSFER_ERROR
      rest -= length
    }
    if (rest === 0) return 0
    const low = words[at]!
    if ((low & (pageBytes - 1)) !== 0) return STATUS.PRP_OFFSET_INVALID
    page = words[at + 1]! * HIGH + low
  }
}

function addPiece(pieces: Pieces, dma: DmaTable, iova: number, length: number): boolean {
  const range = dma.find(iova, length)
  if (range === null) return false
  const at = iova - range.start + range.base
  const last = pieces.count - 1
  if (last >= 0 && pieces.ranges[last] === range && pieces.at[last]! + pieces.length[last]! === at) {
    pieces.length[last]! += length
    return true
  }
  const n = last + 1
  if (n === pieces.at.length) grow(pieces)
  pieces.ranges[n] = range
  pieces.at[n] = at
  pieces.length[n] = length
  pieces.count = n + 1
  return true
}

function grow(pieces: Pieces): void {
  const at = new Int32Array(pieces.at.length * 2)
  at.set(pieces.at)
  pieces.at = at
  const length = new Int32Array(at.length)
  length.set(pieces.length)
  pieces.length = length
}

/** Sends `data` to where the command's PRPs lead. Returns a status. */
export function sendData(c: Controller, sqe: Uint32Array, e: number, data: Uint8Array): number {
  const { pieces } = c
  const status = followPrps(pieces, c.dma, sqe, e, data.length, c.pageBytes)
  if (status !== 0) return status
  for (let i = 0, at = 0; i < pieces.count; i++) {
    const length = pieces.length[i]!
    const part = length === data.length ? data : data.subarray(at, at + length)
    pieces.ranges[i]!.bytes.set(part, pieces.at[i]!)
    at += length
  }
  return 0
}

/** Fetches `data.length` bytes. Returns a status; `data` is untouched where it is not 0. */
export function fetchData(c: Controller, sqe: Uint32Array, e: number, data: Uint8Array): number {
  const { pieces } = c
  const status = followPrps(pieces, c.dma, sqe, e, data.length, c.pageBytes)
  if (status === 0) takeData(pieces, data)
  return status
}

/** Fills `data` with what the pieces hold. */
export function takeData(pieces: Pieces, data: Uint8Array): void {
  for (let i = 0, at = 0; i < pieces.count; i++) {
    const from = pieces.at[i]!
    const length = pieces.length[i]!
    data.set(pieces.ranges[i]!.bytes.subarray(from, from + length), at)
    at += length
  }
}
