// One step of the controller: looks at registers and doorbells, executes what they announced, posts completions.
// A step is bounded in commands and bytes, so that whoever hosts the controller is back soon; queues
// take turns, a burst of commands each.

import { encodeAsyncEvent } from '../../nvme/spec/async-event.ts'
import { STATUS } from '../../nvme/spec/status.ts'
import { meetFault } from '../faults/plan.ts'
import type { FaultAction } from '../faults/syntax.ts'
import { executeAdmin } from './admin/index.ts'
import { followBackground } from './background.ts'
import { serveBacked } from './backing.ts'
import { REQUEST } from './bar.ts'
import { type Controller, timeOf } from './controller.ts'
import { EVENT, raiseEvent, takeEvent } from './events.ts'
import { serveFast } from './fast-path.ts'
import { executeIo } from './io-commands.ts'
import { addPending, endPending, nextLatency, takeDue, takeReleased } from './pending.ts'
import {
  commandsIn,
  complete,
  conclude,
  followHead,
  followTail,
  isFull,
  NO_COMPLETION,
  noteInterrupt,
  postCompletion,
  SQE_WORDS,
  type SubmissionQueue,
} from './queues.ts'
import { askForRings, doorbellOf } from './shadow.ts'
import { followRegisters, goFatal, vanish } from './state.ts'

const STEP_COMMANDS = 512
// 1 MiB, in units of 512 bytes; the command that reaches it is the last.
const STEP_UNITS = 2048
const IDLE_STEPS = 64

/**
 * Does what there is to do now. Returns the number of commands taken from queues or executed; 0 means that
 * nothing will change before a register or doorbell is written, or the next delayed command is due.
 */
export function step(c: Controller): number {
  if (c.bar.requests[REQUEST.WRITES] !== c.seenWrites) followRegisters(c)
  if (!c.ready || (c.stoppedUntil !== 0 && isStopped(c))) return 0
  if (c.background.until !== Number.POSITIVE_INFINITY && c.clock() >= c.background.until) followBackground(c)
  if (c.slowPath || c.pending.count !== 0) c.now = Number.NaN
  let done = c.pending.count === 0 ? 0 : executeDue(c)
  followDoorbells(c)
  done += serveQueues(c)
  if (c.events.queue.length !== 0) reportEvents(c)
  if (done !== 0) c.idleSteps = 0
  else if (++c.idleSteps >= IDLE_STEPS) checkDoorbells(c)
  return done
}

/** A fault stopped it, and its time is not over. */
function isStopped(c: Controller): boolean {
  if (c.clock() < c.stoppedUntil) return true
  c.stoppedUntil = 0
  return false
}

// A queue's own object is looked at only where its doorbell was rung: a step costs much the same with any number of queues.
function followDoorbells(c: Controller): void {
  const { doorbellsEnd, shadow } = c
  const { doorbells, seen } = c.bar
  const stride = 1 << c.config.dstrd
  for (let i = 0; i < doorbellsEnd; i += stride) {
    const value = shadow === null ? doorbells[i]! : doorbellOf(c, shadow, i)
    if (value !== seen[i]) followDoorbell(c, i, value)
  }
  if (shadow !== null) askForRings(c, shadow)
}

function followDoorbell(c: Controller, doorbell: number, value: number): void {
  c.bar.seen[doorbell] = value
  const place = doorbell >> c.config.dstrd
  const sq = (place & 1) === 0 ? c.sqs[place >> 1] : undefined
  const cq = (place & 1) === 0 ? undefined : c.cqs[place >> 1]
  const isInvalid = (sq && !announce(c, sq, value)) || (cq && !followHead(cq, value))
  if (isInvalid) raiseEvent(c.events, EVENT.INVALID_DOORBELL_VALUE)
}

function announce(c: Controller, sq: SubmissionQueue, tail: number): boolean {
  if (sq.closed) return true
  if (!followTail(sq, tail)) return false
  if (!sq.listed) {
    sq.listed = true
    c.busy[c.busyCount++] = sq
  }
  return true
}

/** Queues with commands take turns, in this step and from step to step. */
function serveQueues(c: Controller): number {
  c.aborts = 0
  c.moved = 0
  const { burst } = c.features
  let done = 0
  // Turns since a command was taken: some may wait for room in a completion queue, or for memory.
  let idle = 0
  while (idle < c.busyCount && done < STEP_COMMANDS && c.moved < STEP_UNITS) {
    const sq = c.busy[c.turn]!
    // A queue on its own has all turns.
    const limit = c.busyCount === 1 ? STEP_COMMANDS - done : Math.min(STEP_COMMANDS - done, burst)
    const served = sq.closed ? 0 : sq.id === 0 || c.slowPath ? serve(c, sq, limit) : serveIo(c, sq, limit)
    done += served
    idle = served === 0 ? idle + 1 : 0
    // A command has stopped the controller.
    if (!c.ready || c.stoppedUntil !== 0) break
    if (sq.head === sq.tail || sq.closed) {
      // The others have all their turns.
      idle = 0
      sq.listed = false
      c.busy[c.turn] = c.busy[--c.busyCount]!
    } else c.turn++
    if (c.turn >= c.busyCount) c.turn = 0
  }
  return done
}

/** Commands of an I/O queue that nothing delays or harms: they can stop neither the controller nor the queue. */
function serveIo(c: Controller, sq: SubmissionQueue, limit: number): number {
  const { cq, words, base } = sq
  const count = Math.min(commandsIn(sq), cq.size - 1 - cq.used, limit)
  let done = serveFast(c, sq, count)
  while (done < count && c.moved < STEP_UNITS) {
    const e = base + sq.head * SQE_WORDS
    sq.head = sq.head + 1 === sq.size ? 0 : sq.head + 1
    postCompletion(cq, sq, words[e]! >>> 16, runIo(c, sq, words, e), 0)
    done++
    if (done < count && c.moved < STEP_UNITS) done += serveFast(c, sq, count - done)
  }
  if (done !== 0) noteInterrupt(c, cq)
  return done
}

function runIo(c: Controller, sq: SubmissionQueue, sqe: Uint32Array, e: number): number {
  const status = executeIo(c, sqe, e)
  return status === 0 ? 0 : conclude(c, sq, sqe, e, status)
}

/** Commands of the admin queue, or of any queue while commands are delayed or go wrong, or go to a backing. */
function serve(c: Controller, sq: SubmissionQueue, limit: number): number {
  if (c.backed !== null && sq.id !== 0) return serveBacked(c, c.backed, sq, limit)
  const { cq, words, base } = sq
  let served = 0
  while (served < limit && c.moved < STEP_UNITS && sq.head !== sq.tail && !isFull(cq)) {
    const e = base + sq.head * SQE_WORDS
    sq.head = sq.head + 1 === sq.size ? 0 : sq.head + 1
    served++
    if (!c.slowPath || !delayOrFail(c, sq, words, e)) run(c, sq, words, e, true)
    // A command may have stopped the controller, or deleted this queue.
    if (!c.ready || c.stoppedUntil !== 0 || (sq.id !== 0 && c.sqs[sq.id] !== sq)) break
  }
  return served
}

/** Executes a command and posts its completion. */
function run(c: Controller, sq: SubmissionQueue, sqe: Uint32Array, e: number, answer: boolean): void {
  c.result = 0
  let status = sq.id === 0 ? executeAdmin(c, sqe, e) : executeAnyIo(c, sqe, e)
  if (status === NO_COMPLETION) return
  if (status !== 0) status = conclude(c, sq, sqe, e, status)
  if (answer) complete(c, sq, sqe[e]! >>> 16, status, c.result)
}

function executeAnyIo(c: Controller, sqe: Uint32Array, e: number): number {
  return c.background.sanitizing === null ? executeIo(c, sqe, e) : STATUS.SANITIZE_IN_PROGRESS
}

/** Delays a command, or makes it go wrong. False where it is to be executed as usual, now. */
function delayOrFail(c: Controller, sq: SubmissionQueue, sqe: Uint32Array, e: number): boolean {
  const action = c.faults.rules.length === 0 ? null : meetFault(c.faults, sq.id, sqe, e)
  const extra = delayOf(action)
  const delay = (sq.id === 0 ? 0 : nextLatency(c.pending)) + extra
  if (delay === 0 && action?.kind !== 'behind') {
    if (action === null || action.kind === 'delay') return false
    applyFault(c, sq, sqe, e, action)
    return true
  }
  addPending(c.pending, sq, sqe, e, timeOf(c) + delay, action)
  if (c.health.busySince < 0) c.health.busySince = timeOf(c)
  return true
}

function delayOf(action: FaultAction | null): number {
  switch (action?.kind) {
    case 'delay':
      return action.ms
    case 'swallow':
    case 'afterReset':
      return Number.POSITIVE_INFINITY
    default:
      return 0
  }
}

/** What a fault does to a command whose time has come. */
function applyFault(
  c: Controller,
  sq: SubmissionQueue,
  sqe: Uint32Array,
  e: number,
  action: FaultAction,
): void {
  switch (action.kind) {
    case 'status': {
      const field = conclude(c, sq, sqe, e, action.status, action.dnr ?? false)
      complete(c, sq, sqe[e]! >>> 16, field, 0)
      break
    }
    case 'lose':
      run(c, sq, sqe, e, false)
      break
    case 'twice': {
      const cid = sqe[e]! >>> 16
      run(c, sq, sqe, e, true)
      if (!isFull(sq.cq)) complete(c, sq, cid, 0, 0)
      break
    }
    case 'stop':
      c.stoppedUntil = c.clock() + action.ms
      run(c, sq, sqe, e, true)
      break
    case 'fatal':
      c.refusals = action.refuse ?? 0
      c.serial = action.serial ?? c.serial
      goFatal(c)
      break
    case 'cut':
      c.medium.cutPower?.(action.kept ?? 0)
      vanish(c, false)
      break
    case 'vanish':
      vanish(c, action.notify ?? false)
      break
    default:
      run(c, sq, sqe, e, true)
  }
}

function executeDue(c: Controller): number {
  const p = c.pending
  let done = 0
  if (p.stalled.length > 0) {
    const stalled = p.stalled
    p.stalled = []
    for (const slot of stalled) done += executePending(c, slot)
  }
  const now = timeOf(c)
  c.moved = 0
  while (done < STEP_COMMANDS && c.moved < STEP_UNITS) {
    const slot = takeDue(p, now)
    if (slot < 0) break
    done += executePending(c, slot)
  }
  if (p.held.length > 0) {
    for (const slot of takeReleased(p)) done += executePending(c, slot)
  }
  if (p.count === 0 && c.health.busySince >= 0) {
    c.health.busy += now - c.health.busySince
    c.health.busySince = -1
  }
  return done
}

function executePending(c: Controller, slot: number): number {
  const p = c.pending
  const sq = p.queues[slot]
  // A command before it in this step may have stopped the controller.
  if (sq === null || sq === undefined) return 0
  if (isFull(sq.cq)) {
    p.stalled.push(slot)
    return 0
  }
  const action = p.actions[slot]
  const e = slot * SQE_WORDS
  if (action) applyFault(c, sq, p.entries, e, action)
  else run(c, sq, p.entries, e, true)
  if (p.queues[slot] !== null) endPending(p, slot)
  return 1
}

function reportEvents(c: Controller): void {
  const admin = c.sqs[0]
  while (admin !== undefined && !isFull(admin.cq)) {
    const taken = takeEvent(c.events)
    if (taken === null) return
    complete(c, admin, taken.cid, 0, encodeAsyncEvent(taken.event))
  }
}

/**
 * Doorbells of queues that do not exist stay 0; whoever rings one is notified. Looked at now and then, and by a host
 * before it lets the controller sleep. True where one was rung.
 */
export function checkDoorbells(c: Controller): boolean {
  c.idleSteps = 0
  const { doorbells } = c.bar
  const stride = c.config.dstrd
  let rung = false
  for (let i = 0; c.ready && i < 2 * (c.config.qcount + 1); i++) {
    const queues = (i & 1) === 0 ? c.sqs : c.cqs
    if (doorbells[i << stride] === 0 || queues[i >> 1] !== undefined) continue
    doorbells[i << stride] = 0
    rung = true
    raiseEvent(c.events, EVENT.INVALID_DOORBELL_REGISTER)
  }
  return rung
}
