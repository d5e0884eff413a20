// A controller whose namespaces are elsewhere: its I/O commands are handed to a backing, with their data, and end when that
// says so. Registers, queues, features and events stay the model's.
// A command that finds no memory stays in its queue. Data is copied: what a backing has is never the host's memory, so that a
// host may reset the controller, unmap memory or go away while commands are being done. A controller that was reset is not
// enabled again before they have ended, so that nothing old is written over what is new.

import type { encodeIdentifyController } from '../../nvme/spec/identify.ts'
import { ADMIN, ALL_NAMESPACES, NVM } from '../../nvme/spec/opcodes.ts'
import { STATUS } from '../../nvme/spec/status.ts'
import { clearDoorbell } from './bar.ts'
import type { Controller } from './controller.ts'
import { followPrps, sendData, takeData } from './prp.ts'
import {
  commandsIn,
  complete,
  conclude,
  isFull,
  NO_COMPLETION,
  SQE_WORDS,
  type SubmissionQueue,
} from './queues.ts'

/** Memory for the data of one command. */
export interface BackingBlock {
  readonly bytes: Uint8Array
}

/** @param status bits 31:17 of a completion's last dword, @param result its dword 0 */
export type BackingDone = (status: number, result: number) => void

export interface BackingNamespace {
  readonly nsid: number
  readonly blocks: number
  readonly blockBytes: number
}

/** What stands behind a controller in place of a medium. */
export interface Backing {
  readonly namespaces: readonly BackingNamespace[]
  /** Fields of Identify Controller that are not the model's own. */
  readonly identity: Parameters<typeof encodeIdentifyController>[0]
  /** I/O commands that it executes. */
  readonly opcodes: ReadonlySet<number>
  /** Identify Namespace, and Namespace Identification Descriptors. */
  identifyNamespace(nsid: number): Uint8Array
  describeNamespace(nsid: number): Uint8Array
  /** A log page that is the device's; null where there is no such page. */
  readLog(lid: number): Promise<Uint8Array> | null
  /** Memory for a command's data; null where there is none now: then the backing calls for a step when there is. */
  alloc(bytes: number, nsid: number): BackingBlock | null
  free(block: BackingBlock): void
  /**
   * Executes an I/O command.
   * @param sqe its 16 dwords, whose data pointer means nothing; it and the block are the backing's until `done`, called once
   */
  execute(sqe: Uint32Array, block: BackingBlock | null, qid: number, done: BackingDone): void
  /** Ends a command that is not begun, with Command Abort Requested; false where it can't. */
  withdraw(done: BackingDone): boolean
  /** Makes durable what was written; never rejects. */
  flush(): Promise<void>
}

/** A command that is being done: its object is used again. */
interface HandedCommand {
  readonly sqe: Uint32Array
  /** Null once the host knows it no more. */
  sq: SubmissionQueue | null
  block: BackingBlock | null
  status: number
  result: number
  /** Sends what it asked for, where that is not the data of a block; returns a status. */
  deliver: (() => number) | null
  readonly done: BackingDone
}

/** A controller's commands with its backing. */
export interface Backed {
  readonly backing: Backing
  /** Called when a step would find something to do. */
  wake: () => void
  /** No command is taken any more. */
  stopped: boolean
  readonly inFlight: Set<HandedCommand>
  /** Those that have ended, and whose completions are not posted yet. */
  readonly ended: HandedCommand[]
  readonly idle: HandedCommand[]
  /** Commands in flight that the host knows no more, and whether it wants the controller enabled meanwhile. */
  past: number
  enableWaits: boolean
  /** Delete I/O Submission Queue commands that wait for what is in flight on the queue. */
  readonly deletions: { readonly sq: SubmissionQueue; readonly cid: number }[]
  /** Shutdowns so far: the end of a flush is for one of them. */
  shutdowns: number
}

export function createBacked(backing: Backing): Backed {
  return {
    backing,
    wake: () => {},
    stopped: false,
    inFlight: new Set(),
    ended: [],
    idle: [],
    past: 0,
    enableWaits: false,
    deletions: [],
    shutdowns: 0,
  }
}

/** Admin commands of such a controller: what changes a device for all its users is none of its host's business. */
export const ADMIN_COMMANDS: ReadonlySet<number> = new Set([
  ...[ADMIN.DELETE_IO_SQ, ADMIN.CREATE_IO_SQ, ADMIN.DELETE_IO_CQ, ADMIN.CREATE_IO_CQ, ADMIN.ABORT],
  ...[ADMIN.GET_LOG_PAGE, ADMIN.IDENTIFY, ADMIN.SET_FEATURES, ADMIN.GET_FEATURES],
  ...[ADMIN.ASYNC_EVENT_REQUEST, ADMIN.DOORBELL_BUFFER_CONFIG],
])

const FUA = 0x4000_0000
const NLB = 0xffff
const DSM_RANGE_BYTES = 16
const COPY_RANGE_BYTES = 32
/** Bits 1:0 of an opcode: which way its data goes. */
const TO_CONTROLLER = 1
const TO_HOST = 2

/** Takes commands of an I/O queue, as many as there is memory for; those that are in order are handed on. */
export function serveBacked(c: Controller, backed: Backed, sq: SubmissionQueue, limit: number): number {
  if (backed.stopped) return 0
  const count = Math.min(commandsIn(sq), limit)
  let served = 0
  while (served < count && !isFull(sq.cq) && begin(c, backed, sq)) served++
  return served
}

/** False where it has to wait for memory. */
function begin(c: Controller, backed: Backed, sq: SubmissionQueue): boolean {
  // A host can change its memory at any time: what counts is the copy.
  const command = copy(c, backed, sq.words, sq.base + sq.head * SQE_WORDS)
  const { sqe } = command
  const opcode = sqe[0]! & 0xff
  const bytes = dataBytes(c, sqe)
  let status = check(c, backed, sqe, bytes)
  let block: BackingBlock | null = null
  if (status === 0 && bytes > 0) {
    status = followPrps(c.pieces, c.dma, sqe, 0, bytes, c.pageBytes)
    if (status === 0) {
      block = backed.backing.alloc(bytes, sqe[1]!)
      if (block === null) {
        backed.idle.push(command)
        return false
      }
    }
  }
  sq.head = sq.head + 1 === sq.size ? 0 : sq.head + 1
  if (status !== 0) {
    backed.idle.push(command)
    complete(c, sq, sqe[0]! >>> 16, conclude(c, sq, sqe, 0, status), 0)
    return true
  }
  c.moved += bytes >>> 9
  if (block !== null && (opcode & TO_CONTROLLER) !== 0) takeData(c.pieces, block.bytes)
  // The host asked for no cache: what it writes is on the medium when it is answered.
  if (!c.features.writeCache && (opcode === NVM.WRITE || opcode === NVM.WRITE_ZEROES)) sqe[12]! |= FUA
  command.block = block
  note(backed, command, sq)
  backed.backing.execute(sqe, block, sq.id, command.done)
  return true
}

function check(c: Controller, { backing }: Backed, sqe: Uint32Array, bytes: number): number {
  const opcode = sqe[0]! & 0xff
  const nsid = sqe[1]!
  if ((sqe[0]! & c.unknownFlags) !== 0) return STATUS.INVALID_FIELD
  if (!backing.opcodes.has(opcode)) return STATUS.INVALID_OPCODE
  if (!c.namespaces.has(nsid) && !(opcode === NVM.FLUSH && nsid === ALL_NAMESPACES)) {
    return STATUS.INVALID_NAMESPACE_OR_FORMAT
  }
  return bytes > c.maxBytes ? STATUS.INVALID_FIELD : 0
}

/** Bytes of data that a command of the NVM command set moves. */
function dataBytes(c: Controller, sqe: Uint32Array): number {
  switch (sqe[0]! & 0xff) {
    case NVM.READ:
    case NVM.WRITE:
    case NVM.COMPARE:
      return ((sqe[12]! & NLB) + 1) * (c.namespaces.get(sqe[1]!)?.blockBytes ?? 0)
    case NVM.DATASET_MANAGEMENT:
      return ((sqe[10]! & 0xff) + 1) * DSM_RANGE_BYTES
    case NVM.COPY:
      return ((sqe[12]! & 0xff) + 1) * COPY_RANGE_BYTES
    default:
      return 0
  }
}

function copy(c: Controller, backed: Backed, words: Uint32Array, e: number): HandedCommand {
  const command = backed.idle.pop() ?? createCommand(c, backed)
  for (let i = 0; i < SQE_WORDS; i++) command.sqe[i] = words[e + i]!
  return command
}

/** It ends later, and has its place in the completion queue. */
function note(backed: Backed, command: HandedCommand, sq: SubmissionQueue): void {
  command.sq = sq
  sq.waiting++
  sq.cq.reserved++
  backed.inFlight.add(command)
}

function createCommand(c: Controller, backed: Backed): HandedCommand {
  const command: HandedCommand = {
    sqe: new Uint32Array(SQE_WORDS),
    ...{ sq: null, block: null, status: 0, result: 0, deliver: null },
    done: (status, result) => end(c, backed, command, status, result),
  }
  return command
}

function end(c: Controller, backed: Backed, command: HandedCommand, status: number, result: number): void {
  backed.inFlight.delete(command)
  if (command.sq !== null) {
    command.status = status
    command.result = result
    backed.ended.push(command)
    backed.wake()
    return
  }
  release(backed, command)
  if (--backed.past > 0 || !backed.enableWaits) return
  backed.enableWaits = false
  // The next step looks at the registers, and finds that it is to be enabled.
  c.seenWrites = -1
  backed.wake()
}

function release(backed: Backed, command: HandedCommand): void {
  const { block } = command
  command.sq = command.block = command.deliver = null
  backed.idle.push(command)
  if (block !== null) backed.backing.free(block)
}

/** Posts the completions of commands that have ended; returns their number. */
export function completeBacked(c: Controller, backed: Backed): number {
  const { ended } = backed
  const count = ended.length
  for (let i = 0; i < count; i++) {
    const command = ended[i]!
    const { sqe, block, result, deliver } = command
    const sq = command.sq!
    let { status } = command
    let field = status
    if (status === 0) {
      if (deliver !== null) status = deliver()
      // The host may have unmapped the memory meanwhile.
      else if (block !== null && (sqe[0]! & TO_HOST) !== 0) status = sendData(c, sqe, 0, block.bytes)
      if (status !== 0) field = conclude(c, sq, sqe, 0, status)
    } else field = conclude(c, sq, sqe, 0, status & 0x7ff, (status & DNR) !== 0)
    release(backed, command)
    sq.waiting--
    sq.cq.reserved--
    complete(c, sq, sqe[0]! >>> 16, field, result)
  }
  ended.splice(0, count)
  if (backed.deletions.length > 0) endDeletions(c, backed)
  return count
}

const DNR = 0x4000

/**
 * An admin command that is answered when `page` is there.
 * @param send what is done with it then, on the command's own dwords; returns a status
 */
export function answerLater(
  c: Controller,
  backed: Backed,
  sqe: Uint32Array,
  e: number,
  page: Promise<Uint8Array>,
  send: (page: Uint8Array, sqe: Uint32Array) => number,
): number {
  const command = copy(c, backed, sqe, e)
  note(backed, command, c.sqs[0]!)
  page.then(
    (bytes) => {
      command.deliver = () => send(bytes, command.sqe)
      command.done(0, 0)
    },
    () => command.done(STATUS.INTERNAL_ERROR, 0),
  )
  return NO_COMPLETION
}

/** Abort. */
export function abortBacked({ backing, inFlight }: Backed, sq: SubmissionQueue, cid: number): boolean {
  for (const command of inFlight) {
    if (command.sq === sq && command.sqe[0]! >>> 16 === cid) return backing.withdraw(command.done)
  }
  return false
}

/** Delete I/O Submission Queue, with commands in flight on it: what is not begun ends, the rest is waited for. */
export function deleteBacked(
  backed: Backed,
  admin: SubmissionQueue,
  sq: SubmissionQueue,
  cid: number,
): number {
  if (sq.closed) return STATUS.INVALID_QUEUE_IDENTIFIER
  sq.closed = true
  backed.deletions.push({ sq, cid })
  admin.cq.reserved++
  for (const { sq: of, done } of [...backed.inFlight]) if (of === sq) backed.backing.withdraw(done)
  return NO_COMPLETION
}

function endDeletions(c: Controller, backed: Backed): void {
  for (const deletion of [...backed.deletions]) {
    const { sq, cid } = deletion
    if (sq.waiting > 0) continue
    backed.deletions.splice(backed.deletions.indexOf(deletion), 1)
    removeSq(c, sq)
    const admin = c.sqs[0]!
    admin.cq.reserved--
    complete(c, admin, cid, 0, 0)
  }
}

/** The queue is there no more. */
export function removeSq(c: Controller, sq: SubmissionQueue): void {
  c.sqs[sq.id] = undefined
  sq.closed = true
  sq.cq.users--
  clearDoorbell(c.bar, sq)
}

/** The controller stops: the host gets no answers of what is in flight, and what is not begun never is. */
export function forgetBacked(backed: Backed): void {
  const { backing, inFlight, ended, deletions } = backed
  backed.enableWaits = false
  deletions.length = 0
  for (const command of ended.splice(0)) release(backed, command)
  for (const command of inFlight) {
    if (command.sq === null) continue
    command.sq = null
    backed.past++
  }
  for (const { done } of [...inFlight]) backing.withdraw(done)
}

/** False where the controller has to wait with being enabled. */
export function mayEnable(backed: Backed): boolean {
  backed.enableWaits = backed.past > 0
  return !backed.enableWaits
}
