// Create and Delete I/O Submission and Completion Queue, and Abort (NVMe 1.4 base, sections 5.3 to 5.6, and 5.1). Queues
// are physically contiguous, as CAP.CQR says. Only delayed commands can be aborted, and those that a backing has not begun: all
// others are done within the step that fetched them.

import { decodeCreateCq, decodeCreateSq, decodeQueue } from '../../../nvme/spec/commands.ts'
import { decodeConfiguration } from '../../../nvme/spec/registers.ts'
import { STATUS } from '../../../nvme/spec/status.ts'
import { join32 } from '../../../sys/int64.ts'
import { abortBacked, deleteBacked, removeSq } from '../backing.ts'
import { clearDoorbell } from '../bar.ts'
import { type Controller, vectorsOf } from '../controller.ts'
import { endPending, removePending } from '../pending.ts'
import {
  complete,
  createCompletionQueue,
  createSubmissionQueue,
  isFull,
  type SubmissionQueue,
} from '../queues.ts'

interface Request {
  readonly id: number
  readonly size: number
  readonly iova: number
}

function requestAt(sqe: Uint32Array, e: number): Request {
  const { qid, qsize } = decodeQueue(sqe[e + 10]!)
  return { id: qid, size: qsize + 1, iova: join32(sqe[e + 6]!, sqe[e + 7]!) }
}

export function createCq(c: Controller, sqe: Uint32Array, e: number): number {
  const request = requestAt(sqe, e)
  const { id, size, iova } = request
  const { pc, ien: interrupts, iv: vector } = decodeCreateCq(sqe[e + 11]!)
  const status = check(c, request, pc, c.cqs, decodeConfiguration(c.cc).iocqes === 4)
  if (status !== 0) return status
  if (interrupts && vector >= vectorsOf(c.config)) return STATUS.INVALID_INTERRUPT_VECTOR
  const range = c.dma.find(iova, size * 16)
  if (range === null) return STATUS.DATA_TRANSFER_ERROR
  const doorbell = (2 * id + 1) << c.config.dstrd
  const cq = createCompletionQueue({ id, range, iova, size, doorbell }, interrupts, vector)
  startDoorbell(c, cq)
  c.cqs[id] = cq
  return 0
}

export function createSq(c: Controller, sqe: Uint32Array, e: number): number {
  const request = requestAt(sqe, e)
  const { id, size, iova } = request
  const { pc, cqid } = decodeCreateSq(sqe[e + 11]!)
  const status = check(c, request, pc, c.sqs, decodeConfiguration(c.cc).iosqes === 6)
  if (status !== 0) return status
  if (!isIoQueue(c, cqid)) return STATUS.INVALID_QUEUE_IDENTIFIER
  const cq = c.cqs[cqid]
  if (cq === undefined) return STATUS.COMPLETION_QUEUE_INVALID
  const range = c.dma.find(iova, size * 64)
  if (range === null) return STATUS.DATA_TRANSFER_ERROR
  const doorbell = (2 * id) << c.config.dstrd
  const sq = createSubmissionQueue({ id, range, iova, size, doorbell }, cq)
  startDoorbell(c, sq)
  c.sqs[id] = sq
  cq.users++
  endGhosts(c, sq)
  return 0
}

function startDoorbell(c: Controller, queue: { readonly doorbell: number }): void {
  clearDoorbell(c.bar, queue)
  c.doorbellsEnd = Math.max(c.doorbellsEnd, queue.doorbell + 1)
}

/** A fault: commands of before the reset end on the new queue of the same id. */
function endGhosts(c: Controller, sq: SubmissionQueue): void {
  for (const { cid } of c.ghosts.filter(({ qid }) => qid === sq.id)) {
    if (!isFull(sq.cq)) complete(c, sq, cid, 0, 0)
  }
  c.ghosts = c.ghosts.filter(({ qid }) => qid !== sq.id)
}

/** True for an identifier of an I/O queue that there may be: as many as were granted. */
function isIoQueue(c: Controller, id: number): boolean {
  return id !== 0 && id <= c.features.queues
}

function check(
  c: Controller,
  { id, size, iova }: Request,
  contiguous: boolean,
  queues: readonly unknown[],
  entriesFit: boolean,
): number {
  if (!isIoQueue(c, id) || queues[id] !== undefined) return STATUS.INVALID_QUEUE_IDENTIFIER
  if (size < 2 || size > c.config.qsize || !entriesFit) return STATUS.INVALID_QUEUE_SIZE
  if (!contiguous) return STATUS.INVALID_FIELD
  return iova % c.pageBytes === 0 ? 0 : STATUS.PRP_OFFSET_INVALID
}

export function deleteSq(c: Controller, sqe: Uint32Array, e: number): number {
  const { qid: id } = decodeQueue(sqe[e + 10]!)
  const sq = c.sqs[id]
  if (id === 0 || sq === undefined) return STATUS.INVALID_QUEUE_IDENTIFIER
  if (c.backed !== null && sq.waiting > 0) {
    return deleteBacked(c.backed, c.sqs[0]!, sq, sqe[e]! >>> 16)
  }
  for (const slot of removePending(c.pending, (queue) => queue === sq)) {
    const cid = c.pending.entries[slot * 16]! >>> 16
    endPending(c.pending, slot)
    if (!isFull(sq.cq)) complete(c, sq, cid, STATUS.ABORTED_SQ_DELETION, 0)
  }
  removeSq(c, sq)
  return 0
}

export function deleteCq(c: Controller, sqe: Uint32Array, e: number): number {
  const { qid: id } = decodeQueue(sqe[e + 10]!)
  const cq = c.cqs[id]
  if (id === 0 || cq === undefined) return STATUS.INVALID_QUEUE_IDENTIFIER
  if (cq.users > 0) return STATUS.INVALID_QUEUE_DELETION
  c.cqs[id] = undefined
  clearDoorbell(c.bar, cq)
  return 0
}

/** Abort Command Limit: this many may be outstanding; those fetched in one step count as such. */
export const ABORT_LIMIT = 4
const NOT_ABORTED = 1

export function abort(c: Controller, sqe: Uint32Array, e: number): number {
  if (++c.aborts > ABORT_LIMIT) return STATUS.ABORT_COMMAND_LIMIT_EXCEEDED
  const dw10 = sqe[e + 10]!
  const cid = dw10 >>> 16
  const sq = c.sqs[dw10 & 0xffff]
  c.result = NOT_ABORTED
  if (sq === undefined) return 0
  // The aborted command is answered first, and on the admin queue the Abort needs room behind it.
  const room = sq.cq.size - 1 - sq.cq.used - (sq.id === 0 ? 1 : 0)
  if (room < 1) return 0
  const withdrawn = c.backed !== null && abortBacked(c.backed, sq, cid)
  if (withdrawn || abortPending(c, sq, cid) || (sq.id === 0 && abortEventRequest(c, sq, cid))) c.result = 0
  return 0
}

function abortPending(c: Controller, sq: SubmissionQueue, cid: number): boolean {
  const slots = removePending(c.pending, (queue, other) => queue === sq && other === cid)
  for (const slot of slots) {
    endPending(c.pending, slot)
    complete(c, sq, cid, STATUS.ABORT_REQUESTED, 0)
  }
  return slots.length > 0
}

function abortEventRequest(c: Controller, sq: SubmissionQueue, cid: number): boolean {
  const at = c.events.requests.indexOf(cid)
  if (at < 0) return false
  c.events.requests.splice(at, 1)
  complete(c, sq, cid, STATUS.ABORT_REQUESTED, 0)
  return true
}
