// Create and Delete I/O Submission and Completion Queue (NVMe 1.4 base, sections 5.3 to 5.6).
// Trade-off: physically contiguous queues only, as CAP.CQR says.

import { STATUS } from '../../../nvme/spec/status.ts'
import { complete } from '../completion.ts'
import { type Controller, vectorsOf } from '../controller.ts'
import { endPending, removePending } from '../pending.ts'
import { clearDoorbell, createCompletionQueue, createSubmissionQueue, isFull } from '../queues.ts'

const HIGH = 0x1_0000_0000
const CONTIGUOUS = 1
const INTERRUPTS = 2
const IOSQES_SHIFT = 16
const IOCQES_SHIFT = 20

interface Request {
  readonly id: number
  readonly size: number
  readonly iova: number
  readonly contiguous: boolean
  readonly dw11: number
}

function requestAt(sqe: Uint32Array, e: number): Request {
  const dw10 = sqe[e + 10]!
  const dw11 = sqe[e + 11]!
  return {
    id: dw10 & 0xffff,
    size: (dw10 >>> 16) + 1,
    iova: sqe[e + 7]! * HIGH + sqe[e + 6]!,
    contiguous: (dw11 & CONTIGUOUS) !== 0,
    dw11,
  }
}

export function createCq(c: Controller, sqe: Uint32Array, e: number): number {
  const request = requestAt(sqe, e)
  const { id, size, iova, dw11 } = request
  const interrupts = (dw11 & INTERRUPTS) !== 0
  const vector = dw11 >>> 16
  const status = check(c, request, c.cqs, (c.cc >>> IOCQES_SHIFT) & 0xf, 4)
  if (status !== 0) return status
  if (interrupts && vector >= vectorsOf(c.config)) return STATUS.INVALID_INTERRUPT_VECTOR
  const range = c.dma.find(iova, size * 16)
  if (range === null) return STATUS.DATA_TRANSFER_ERROR
  const doorbell = (2 * id + 1) << c.config.dstrd
  const cq = createCompletionQueue({ id, range, iova, size, doorbell }, interrupts, vector)
  clearDoorbell(c.bar, cq)
  c.cqs[id] = cq
  return 0
}

export function createSq(c: Controller, sqe: Uint32Array, e: number): number {
  const request = requestAt(sqe, e)
  const { id, size, iova, dw11 } = request
  const cqid = dw11 >>> 16
  const status = check(c, request, c.sqs, (c.cc >>> IOSQES_SHIFT) & 0xf, 6)
  if (status !== 0) return status
  if (!isIoQueue(c, cqid)) return STATUS.INVALID_QUEUE_IDENTIFIER
  const cq = c.cqs[cqid]
  if (cq === undefined) return STATUS.COMPLETION_QUEUE_INVALID
  const range = c.dma.find(iova, size * 64)
  if (range === null) return STATUS.DATA_TRANSFER_ERROR
  const doorbell = (2 * id) << c.config.dstrd
  const sq = createSubmissionQueue({ id, range, iova, size, doorbell }, cq)
  clearDoorbell(c.bar, sq)
  c.sqs[id] = sq
  c.active.push(sq)
  cq.users++
  return 0
}

/** True for an identifier of an I/O queue that there may be: as many as were granted. */
function isIoQueue(c: Controller, id: number): boolean {
  return id !== 0 && id <= c.features.queues
}

function check(
  c: Controller,
  { id, size, iova, contiguous }: Request,
  queues: readonly unknown[],
  entryShift: number,
  neededShift: number,
): number {
  if (!isIoQueue(c, id) || queues[id] !== undefined) return STATUS.INVALID_QUEUE_IDENTIFIER
  if (size < 2 || size > c.config.qsize || entryShift !== neededShift) return STATUS.INVALID_QUEUE_SIZE
  if (!contiguous) return STATUS.INVALID_FIELD
  return iova % c.pageBytes === 0 ? 0 : STATUS.PRP_OFFSET_INVALID
}

export function deleteSq(c: Controller, sqe: Uint32Array, e: number): number {
  const id = sqe[e + 10]! & 0xffff
  const sq = c.sqs[id]
  if (id === 0 || sq === undefined) return STATUS.INVALID_QUEUE_IDENTIFIER
  for (const slot of removePending(c.pending, (queue) => queue === sq)) {
    const cid = c.pending.entries[slot * 16]! >>> 16
    endPending(c.pending, slot)
    if (!isFull(sq.cq)) complete(c, sq, cid, STATUS.ABORTED_SQ_DELETION, 0)
  }
  c.sqs[id] = undefined
  c.active = c.active.filter((other) => other !== sq)
  sq.cq.users--
  clearDoorbell(c.bar, sq)
  return 0
}

export function deleteCq(c: Controller, sqe: Uint32Array, e: number): number {
  const id = sqe[e + 10]! & 0xffff
  const cq = c.cqs[id]
  if (id === 0 || cq === undefined) return STATUS.INVALID_QUEUE_IDENTIFIER
  if (cq.users > 0) return STATUS.INVALID_QUEUE_DELETION
  c.cqs[id] = undefined
  clearDoorbell(c.bar, cq)
  return 0
}
