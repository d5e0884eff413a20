// Completions: posted with their interrupt noted, and the flags of a failure's status.
// Trade-off: one rule for all commands instead of a flag at each of the places that fail.

import { STATUS } from '../../nvme/spec/status.ts'
import type { Controller } from './controller.ts'
import { type CompletionQueue, postCompletion, type SubmissionQueue } from './queues.ts'

/** Instead of a status: the command is answered later, or never. */
export const NO_COMPLETION = -1

const MORE = 0x2000
const DNR = 0x4000

// Failures that the same command may well not meet again.
const TRANSIENT = new Set<number>([
  STATUS.DATA_TRANSFER_ERROR,
  STATUS.ABORTED_POWER_LOSS,
  STATUS.INTERNAL_ERROR,
  STATUS.ABORT_REQUESTED,
  STATUS.ABORTED_SQ_DELETION,
  STATUS.COMMAND_INTERRUPTED,
  STATUS.TRANSIENT_TRANSPORT_ERROR,
  STATUS.NAMESPACE_NOT_READY,
  STATUS.FORMAT_IN_PROGRESS,
  STATUS.SANITIZE_IN_PROGRESS,
  STATUS.ABORT_COMMAND_LIMIT_EXCEEDED,
  STATUS.ASYNC_EVENT_REQUEST_LIMIT_EXCEEDED,
  STATUS.WRITE_FAULT,
])

/** Whether the same command, sent again, would fail again: Do Not Retry. */
export function isLasting(status: number): boolean {
  return !TRANSIENT.has(status)
}

/** Bits 31:17 of a completion's last dword for `sct << 8 | sc`, of a failure that is in the error log. */
export function withFlags(status: number, dnr: boolean): number {
  return status | MORE | (dnr ? DNR : 0)
}

/** Posts a completion; the queue must not be full. `status` is bits 31:17 of the last dword. */
export function complete(
  c: Controller,
  sq: SubmissionQueue,
  cid: number,
  status: number,
  result: number,
): void {
  const { cq } = sq
  postCompletion(cq, sq, cid, status, result)
  noteInterrupt(c, cq)
}

/** The host is to be interrupted for this queue, once the step is over. */
export function noteInterrupt(c: Controller, cq: CompletionQueue): void {
  if (cq.interrupts && c.raised[cq.vector] === 0) {
    c.raised[cq.vector] = 1
    c.raisedCount++
  }
}
