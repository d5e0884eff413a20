// Data structures of commands, to and from host memory.
// Trade-off: they are copied piece by piece through an array of their own; nothing here is on the I/O path.

import type { Controller } from './controller.ts'
import { followPrps } from './prp.ts'

/** Sends `data` to where the command's PRPs lead. Returns a status. */
export function sendData(c: Controller, sqe: Uint32Array, e: number, data: Uint8Array): number {
  const { pieces } = c
  const status = followPrps(pieces, c.dma, sqe, e, data.length, c.pageBytes)
  if (status !== 0) return status
  for (let i = 0, at = 0; i < pieces.count; i++) {
    const length = pieces.length[i]!
    pieces.ranges[i]!.bytes.set(data.subarray(at, at + length), pieces.at[i]!)
    at += length
  }
  return 0
}

/** Fetches `data.length` bytes. Returns a status; `data` is untouched where it is not 0. */
export function fetchData(c: Controller, sqe: Uint32Array, e: number, data: Uint8Array): number {
  const { pieces } = c
  const status = followPrps(pieces, c.dma, sqe, e, data.length, c.pageBytes)
  if (status !== 0) return status
  for (let i = 0, at = 0; i < pieces.count; i++) {
    const from = pieces.at[i]!
    const length = pieces.length[i]!
    data.set(pieces.ranges[i]!.bytes.subarray(from, from + length), at)
    at += length
  }
  return 0
}
