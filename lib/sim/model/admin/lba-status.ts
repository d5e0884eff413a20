// Get LBA Status (NVM command set 1.2, section 4.2.1): which blocks are allocated. Blocks that were never written, or were
// deallocated, are not, as far as the medium keeps them apart: see `granule` of Medium. Action types 10h and 11h, which
// list blocks that may be unreadable, are not there.

import {
  decodeGetLbaStatus,
  encodeLbaStatusList,
  LBA_RANGE_STATUS,
  LBA_STATUS_ACTION,
  LBA_STATUS_BYTES,
  LBA_STATUS_END,
  LBA_STATUS_HEADER_BYTES,
  type LbaStatus,
} from '../../../nvme/spec/lba-status.ts'
import { STATUS } from '../../../nvme/spec/status.ts'
import type { Controller } from '../controller.ts'
import type { BadRange, Namespace } from '../namespaces.ts'
import { sendData } from '../prp.ts'

// Blocks of one descriptor.
const MOST_BLOCKS = 2 ** 32
// Of one question to the medium.
const MOST_EXTENTS = 1024

export function getLbaStatus(c: Controller, sqe: Uint32Array, e: number): number {
  if (!c.config.lbaStatus) return STATUS.INVALID_OPCODE
  const [cdw10, cdw11, cdw12, cdw13] = [10, 11, 12, 13].map((dword) => sqe[e + dword]!)
  const request = { cdw10: cdw10!, cdw11: cdw11!, cdw12: cdw12!, cdw13: cdw13! }
  const { slba, bytes, rl, atype } = decodeGetLbaStatus(request)
  const ns = c.namespaces.get(sqe[e + 1]!)
  if (ns === undefined) return STATUS.INVALID_NAMESPACE_OR_FORMAT
  if (atype !== LBA_STATUS_ACTION.ALLOCATED || bytes > c.maxBytes) return STATUS.INVALID_FIELD
  if (slba >= ns.blocks || slba + rl > ns.blocks) return STATUS.LBA_OUT_OF_RANGE
  const end = rl === 0 ? ns.blocks : slba + rl
  const room = Math.max(0, Math.floor((bytes - LBA_STATUS_HEADER_BYTES) / LBA_STATUS_BYTES))
  const descriptors: LbaStatus[] = []
  let cmpc: number = LBA_STATUS_END.COMPLETE
  for (const range of joined(allocatedOf(c, ns, slba, end), ns.bad ?? [], slba, end)) {
    for (let at = range.start; at < range.end; at += MOST_BLOCKS) {
      if (descriptors.length === room) {
        cmpc = LBA_STATUS_END.INCOMPLETE
        break
      }
      const nlb = Math.min(MOST_BLOCKS, range.end - at)
      descriptors.push({ dslba: at, nlb, lbars: LBA_RANGE_STATUS.ALLOCATED })
    }
    if (cmpc === LBA_STATUS_END.INCOMPLETE) break
  }
  // What is asked for may be less than the header.
  return sendData(c, sqe, e, encodeLbaStatusList({ cmpc, descriptors }).subarray(0, bytes))
}

/** Blocks that the medium has data of, in order. */
function* allocatedOf({ medium }: Controller, ns: Namespace, slba: number, end: number): Generator<BadRange> {
  const stop = ns.at + end * ns.blockBytes
  for (let at = ns.at + slba * ns.blockBytes; at < stop; ) {
    for (const { bytes, data } of medium.extents(at, stop - at, MOST_EXTENTS)) {
      const start = Math.floor((at - ns.at) / ns.blockBytes)
      at += bytes
      if (data) yield { start, end: Math.ceil((at - ns.at) / ns.blockBytes) }
    }
  }
}

/** Two lists, each in order, as one: those that touch are one range. Of the second, what is between `from` and `to`. */
function* joined(
  ranges: Iterator<BadRange>,
  others: readonly BadRange[],
  from: number,
  to: number,
): Generator<BadRange> {
  let at = 0
  let next = ranges.next()
  let current: { start: number; end: number } | undefined
  for (;;) {
    const other = others[at]
    let range: BadRange
    if (!next.done && (other === undefined || next.value.start <= other.start)) {
      range = next.value
      next = ranges.next()
    } else if (other !== undefined) {
      at++
      range = { start: Math.max(from, other.start), end: Math.min(to, other.end) }
      if (range.start >= range.end) continue
    } else break
    if (current !== undefined && range.start <= current.end) current.end = Math.max(current.end, range.end)
    else {
      if (current !== undefined) yield current
      current = { ...range }
    }
  }
  if (current !== undefined) yield current
}
