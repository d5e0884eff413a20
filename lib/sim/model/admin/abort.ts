// Abort (NVMe 1.4 base, section 5.1): takes back a command that was not yet executed.
// Trade-off: only delayed commands can be aborted, since all others are done within the step that fetched them.

import { STATUS } from '../../../nvme/spec/status.ts'
import { complete } from '../completion.ts'
import type { Controller } from '../controller.ts'
import { endPending, removePending } from '../pending.ts'
import type { SubmissionQueue } from '../queues.ts'

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
  if (abortPending(c, sq, cid) || (sq.id === 0 && abortEventRequest(c, sq, cid))) c.result = 0
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
