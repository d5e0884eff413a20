// Submission and completion queues as the controller sees them: rings in host memory, doorbells, phase; completions, posted
// with their interrupt noted, and the flags of a failure's status, by one rule for all commands.
// A queue's ring must lie in one mapped range (CAP.CQR), so that an entry is found by adding.

import { STATUS } from '../../nvme/spec/status.ts'
import type { DmaRange } from '../dma/dma.ts'
import { hasRange } from '../faults/plan.ts'
import type { Controller } from './controller.ts'
import { recordError } from './health.ts'

export interface CompletionQueue {
  readonly id: number
  readonly range: DmaRange
  readonly words: Uint32Array
  /** Index of the first entry in `words`. */
  readonly base: number
  readonly size: number
  /** Index of its doorbell. */
  readonly doorbell: number
  /** Follows valid values of the doorbell only, as a submission queue's tail. */
  head: number
  tail: number
  /** Entries that the host has not yet taken, and those that are kept for commands of a backing. */
  used: number
  reserved: number
  /** Of the next entry, in place: bit 16. */
  phase: number
  readonly interrupts: boolean
  readonly vector: number
  /** Submission queues that complete here. */
  users: number
}

export interface SubmissionQueue {
  readonly id: number
  readonly range: DmaRange
  readonly words: Uint32Array
  readonly base: number
  readonly size: number
  readonly doorbell: number
  readonly cq: CompletionQueue
  head: number
  tail: number
  /** Commands that are executed later, and completions posted so far. */
  waiting: number
  posted: number
  /** It stands among those with commands. */
  listed: boolean
  /** It is deleted, or about to be: nothing of it is fetched any more. */
  closed: boolean
}

export const SQE_WORDS = 16
export const CQE_WORDS = 4
export const PHASE = 0x1_0000

interface RingPlace {
  readonly id: number
  readonly range: DmaRange
  readonly iova: number
  readonly size: number
  readonly doorbell: number
}

function ring({ id, range, iova, size, doorbell }: RingPlace) {
  // Made a small integer here, once: as a difference of addresses it would stay a floating-point number.
  const base = ((iova - range.start + range.base) / 4) | 0
  return { id, range, words: range.words, base, size, doorbell, head: 0, tail: 0 }
}

export function createCompletionQueue(
  place: RingPlace,
  interrupts: boolean,
  vector: number,
): CompletionQueue {
  return { ...ring(place), used: 0, reserved: 0, phase: PHASE, interrupts, vector, users: 0 }
}

export function createSubmissionQueue(place: RingPlace, cq: CompletionQueue): SubmissionQueue {
  return { ...ring(place), cq, waiting: 0, posted: 0, listed: false, closed: false }
}

/** Commands that were announced and not yet taken. */
export function commandsIn(sq: SubmissionQueue): number {
  return distance(sq.head, sq.tail, sq.size)
}

/** No entry can be posted until the host takes one: one always stays free. */
export function isFull(cq: CompletionQueue): boolean {
  return cq.used + cq.reserved === cq.size - 1
}

/**
 * Posts a completion; the queue must not be full.
 * @param status bits 31:17 of the last dword
 */
export function postCompletion(
  cq: CompletionQueue,
  sq: SubmissionQueue,
  cid: number,
  status: number,
  result: number,
): void {
  const at = cq.base + cq.tail * CQE_WORDS
  writeEntry(cq.words, at, result, (sq.id << 16) | sq.head, (status << 17) | cq.phase | cid)
  cq.used++
  sq.posted++
  if (++cq.tail === cq.size) {
    cq.tail = 0
    cq.phase ^= PHASE
  }
}

/** Writes a completion queue entry. */
export function writeEntry(words: Uint32Array, at: number, result: number, dw2: number, dw3: number): void {
  words[at] = result
  words[at + 1] = 0
  words[at + 2] = dw2
  // The phase last: it is what makes the entry valid for a host on another thread.
  words[at + 3] = dw3
}

/** Takes a new tail from the doorbell. False where the value is invalid: it is ignored. */
export function followTail(sq: SubmissionQueue, value: number): boolean {
  if (value >= sq.size) return false
  // A tail that passes the head would overwrite entries that were not yet read.
  const announced = distance(sq.tail, value, sq.size)
  const free = sq.size - 1 - distance(sq.head, sq.tail, sq.size)
  if (announced > free) return false
  sq.tail = value
  return true
}

/** Takes a new head from the doorbell. False where the value is invalid: it is ignored. */
export function followHead(cq: CompletionQueue, value: number): boolean {
  if (value >= cq.size) return false
  const taken = distance(cq.head, value, cq.size)
  if (taken > cq.used) return false
  cq.head = value
  cq.used -= taken
  return true
}

function distance(from: number, to: number, size: number): number {
  const d = to - from
  return d < 0 ? d + size : d
}

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
function isLasting(status: number): boolean {
  return !TRANSIENT.has(status)
}

/** Bits 31:17 of a completion's last dword for `sct << 8 | sc`, of a failure that is in the error log. */
function withFlags(status: number, dnr: boolean): number {
  return status | MORE | (dnr ? DNR : 0)
}

/** A failed command: into the error log, and the status gets its flags. */
export function conclude(
  c: Controller,
  sq: SubmissionQueue,
  sqe: Uint32Array,
  e: number,
  status: number,
  dnr = isLasting(status),
): number {
  const opcode = sqe[e]! & 0xff
  const field = withFlags(status, dnr)
  if (status >>> 8 === 2 && status !== STATUS.COMPARE_FAILURE) c.health.mediaErrors++
  const lba = sq.id !== 0 && hasRange(opcode) ? sqe[e + 11]! * 0x1_0000_0000 + sqe[e + 10]! : 0
  recordError(c.health, {
    sqid: sq.id,
    cid: sqe[e]! >>> 16,
    status: field,
    opcode,
    nsid: sqe[e + 1]!,
    lba,
  })
  return field
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
