// The NVM command set (NVMe 1.4 base, section 6): each command checked, and executed on the medium.
// A command is executed whole when its turn comes; nothing of it is touched before everything that
// it names (blocks, host memory) was found to be in order.

import { DecodeError } from '../../errors.ts'
import {
  DSM_RANGE_BYTES,
  type DsmRange,
  decodeDsmAttributes,
  decodeDsmRanges,
} from '../../nvme/spec/commands.ts'
import { ALL_NAMESPACES, NVM } from '../../nvme/spec/opcodes.ts'
import { STATUS } from '../../nvme/spec/status.ts'
import { saveState } from '../media/nonvolatile.ts'
import type { Controller } from './controller.ts'
import { COUNTER } from './health.ts'
import { markBad, type Namespace, touchesBad, unmarkBad } from './namespaces.ts'
import { fetchData, followPrps } from './prp.ts'

const HIGH = 0x1_0000_0000
const FUA = 0x4000_0000

/** Executes the command at `sqe[e]`. Returns its status, `sct << 8 | sc`. */
export function executeIo(c: Controller, sqe: Uint32Array, e: number): number {
  const dw0 = sqe[e]!
  if ((dw0 & c.unknownFlags) !== 0) return STATUS.INVALID_FIELD
  const opcode = dw0 & 0xff
  const nsid = sqe[e + 1]!
  const ns = c.namespaces.get(nsid)
  if (ns === undefined) return opcode === NVM.FLUSH ? flush(c, nsid) : unknownNamespace(opcode)
  c.lastNamespace = ns
  switch (opcode) {
    case NVM.READ:
    case NVM.COMPARE:
      return read(c, ns, sqe, e, opcode)
    case NVM.WRITE:
      return write(c, ns, sqe, e)
    case NVM.FLUSH:
      return flush(c, nsid)
    case NVM.WRITE_ZEROES:
      return writeZeroes(c, ns, sqe, e)
    case NVM.DATASET_MANAGEMENT:
      return datasetManagement(c, ns, sqe, e)
    case NVM.VERIFY:
      return verify(c, ns, sqe, e)
    case NVM.WRITE_UNCORRECTABLE:
      return writeUncorrectable(c, ns, sqe, e)
    default:
      return STATUS.INVALID_OPCODE
  }
}

/** Read, or Compare, which the SMART log counts as a read. */
function read(c: Controller, ns: Namespace, sqe: Uint32Array, e: number, opcode: number): number {
  const slba = firstLba(sqe, e)
  const nlb = blockCount(sqe, e)
  const bytes = nlb * ns.blockBytes
  const status = locate(c, ns, slba, nlb, bytes, sqe, e)
  if (status !== 0) return status
  if (touchesBad(ns, slba, nlb)) return STATUS.UNRECOVERED_READ_ERROR
  c.counters[COUNTER.READS]!++
  c.counters[COUNTER.UNITS_READ]! += bytes / 512
  c.moved += bytes >>> 9
  const at = ns.at + slba * ns.blockBytes
  return opcode === NVM.READ ? c.medium.read(at, c.pieces) : c.medium.compare(at, c.pieces)
}

function write(c: Controller, ns: Namespace, sqe: Uint32Array, e: number): number {
  const slba = firstLba(sqe, e)
  const nlb = blockCount(sqe, e)
  const bytes = nlb * ns.blockBytes
  const status = locate(c, ns, slba, nlb, bytes, sqe, e)
  if (status !== 0) return status
  c.counters[COUNTER.WRITES]!++
  c.counters[COUNTER.UNITS_WRITTEN]! += bytes / 512
  c.moved += bytes >>> 9
  const failed = c.medium.write(ns.at + slba * ns.blockBytes, c.pieces)
  if (failed !== 0) return failed
  return noteWritten(c, ns, slba, nlb) || settle(c, ns, slba, nlb, (sqe[e + 12]! & FUA) !== 0)
}

/** What was written can be read from now on, also by a controller to come. Returns a status. */
function noteWritten(c: Controller, ns: Namespace, slba: number, nlb: number): number {
  return ns.bad !== null && unmarkBad(ns, slba, nlb) ? saveState(c) : 0
}

// What was just written is made durable where the command asks for it, or no cache is to be used.
function settle(c: Controller, ns: Namespace, slba: number, nlb: number, fua: boolean): number {
  if (!fua && c.features.writeCache) return 0
  return c.medium.flush(ns.at + slba * ns.blockBytes, nlb * ns.blockBytes)
}

/** Checks the blocks and finds the host's memory: fills `c.pieces`. */
function locate(
  c: Controller,
  ns: Namespace,
  slba: number,
  nlb: number,
  bytes: number,
  sqe: Uint32Array,
  e: number,
): number {
  if (slba + nlb > ns.blocks) return STATUS.LBA_OUT_OF_RANGE
  if (bytes > c.maxBytes) return STATUS.INVALID_FIELD
  return followPrps(c.pieces, c.dma, sqe, e, bytes, c.pageBytes)
}

function writeZeroes(c: Controller, ns: Namespace, sqe: Uint32Array, e: number): number {
  const slba = firstLba(sqe, e)
  const nlb = blockCount(sqe, e)
  if (slba + nlb > ns.blocks) return STATUS.LBA_OUT_OF_RANGE
  const status = c.medium.zero(ns.at + slba * ns.blockBytes, nlb * ns.blockBytes)
  if (status !== 0) return status
  // DEAC only allows to deallocate: blocks read zeroes either way.
  return noteWritten(c, ns, slba, nlb) || settle(c, ns, slba, nlb, (sqe[e + 12]! & FUA) !== 0)
}

function verify(c: Controller, ns: Namespace, sqe: Uint32Array, e: number): number {
  const slba = firstLba(sqe, e)
  const nlb = blockCount(sqe, e)
  if (slba + nlb > ns.blocks) return STATUS.LBA_OUT_OF_RANGE
  if (touchesBad(ns, slba, nlb)) return STATUS.UNRECOVERED_READ_ERROR
  const bytes = nlb * ns.blockBytes
  c.moved += bytes >>> 9
  return c.medium.verify(ns.at + slba * ns.blockBytes, bytes)
}

function writeUncorrectable(c: Controller, ns: Namespace, sqe: Uint32Array, e: number): number {
  const slba = firstLba(sqe, e)
  const nlb = blockCount(sqe, e)
  if (slba + nlb > ns.blocks) return STATUS.LBA_OUT_OF_RANGE
  markBad(ns, slba, nlb)
  return saveState(c)
}

function flush(c: Controller, nsid: number): number {
  if (nsid !== ALL_NAMESPACES && !c.namespaces.has(nsid)) return STATUS.INVALID_NAMESPACE_OR_FORMAT
  return c.medium.flush()
}

function datasetManagement(c: Controller, ns: Namespace, sqe: Uint32Array, e: number): number {
  const bytes = ((sqe[e + 10]! & 0xff) + 1) * DSM_RANGE_BYTES
  const data = new Uint8Array(bytes)
  const status = fetchData(c, sqe, e, data)
  if (status !== 0) return status
  const ranges = rangesOf(data, ns.blocks)
  if (ranges === null) return STATUS.LBA_OUT_OF_RANGE
  if (!decodeDsmAttributes(sqe[e + 11]!).ad) return 0
  for (const { slba, nlb } of ranges) {
    if (nlb === 0) continue
    const failed = c.medium.zero(ns.at + slba * ns.blockBytes, nlb * ns.blockBytes)
    if (failed !== 0) return failed
    const kept = noteWritten(c, ns, slba, nlb)
    if (kept !== 0) return kept
  }
  return 0
}

/** Null where one passes the end of the namespace, or of any device. */
function rangesOf(data: Uint8Array, blocks: number): DsmRange[] | null {
  try {
    const ranges = decodeDsmRanges(data)
    return ranges.some(({ slba, nlb }) => slba + nlb > blocks) ? null : ranges
  } catch (error) {
    if (error instanceof DecodeError) return null
    throw error
  }
}

function unknownNamespace(opcode: number): number {
  return KNOWN.has(opcode) ? STATUS.INVALID_NAMESPACE_OR_FORMAT : STATUS.INVALID_OPCODE
}

const KNOWN = new Set<number>([
  ...[NVM.FLUSH, NVM.WRITE, NVM.READ, NVM.WRITE_UNCORRECTABLE, NVM.COMPARE],
  ...[NVM.WRITE_ZEROES, NVM.DATASET_MANAGEMENT, NVM.VERIFY],
])

function firstLba(sqe: Uint32Array, e: number): number {
  return sqe[e + 11]! * HIGH + sqe[e + 10]!
}

function blockCount(sqe: Uint32Array, e: number): number {
  return (sqe[e + 12]! & 0xffff) + 1
}
