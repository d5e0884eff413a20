// Operations that go on in the background (NVMe 1.4 base, sections 5.8, 5.24 and 8.11): self-test and sanitize.
// Their work is done at once and only their time passes; what they found is said when it is over.

import { SANITIZE_STATE, SELF_TEST, SELF_TEST_RESULT } from '../../nvme/spec/logs.ts'
import { ALL_NAMESPACES } from '../../nvme/spec/opcodes.ts'
import { updateSlowPath } from '../faults/slow-path.ts'
import { saveState } from '../media/nonvolatile.ts'
import type { Controller } from './controller.ts'
import { EVENT, raiseEvent } from './events.ts'
import { COUNTER } from './health.ts'
import { unmarkBad } from './namespaces.ts'
import { nextDue } from './pending.ts'

/** A result of the self-test log. */
export interface TestResult {
  readonly result: number
  readonly code: number
  /** Power on hours when it ended. */
  readonly hours: number
  readonly nsid?: number
  /** Segment that failed, with the first LBA that did. */
  readonly segment?: number
  readonly lba?: number
}

interface Running {
  readonly startedAt: number
  readonly duration: number
}

export interface Background {
  test: (Running & { readonly code: number; readonly nsid: number }) | null
  /** Newest first. */
  results: TestResult[]
  sanitizing: Running | null
  /** Of the last sanitize operation: state, dword 10, and whether data has been written since. */
  sanitizeState: number
  sanitizeDword: number
  sanitizeWrites: number
  /** When the next of them is over, on the controller's clock. */
  until: number
}

const RESULTS = 20
/** Segment 7 of a self-test reads the media. */
const MEDIA_CHECK = 7

export function createBackground(): Background {
  return {
    test: null,
    results: [],
    sanitizing: null,
    sanitizeState: SANITIZE_STATE.NEVER,
    sanitizeDword: 0,
    sanitizeWrites: 0,
    until: Number.POSITIVE_INFINITY,
  }
}

/** When something will happen without a command: a delayed one is due, or an operation is over. */
export function nextEvent(c: Controller): number {
  if (c.stoppedUntil !== 0) return c.stoppedUntil
  return Math.min(nextDue(c.pending), c.background.until)
}

/** Ends what is over. Called when `until` has come. */
export function followBackground(c: Controller): void {
  const { test, sanitizing } = c.background
  const now = c.clock()
  if (test !== null && now >= test.startedAt + test.duration) endTest(c, verdict(c, test.nsid))
  if (sanitizing !== null && now >= sanitizing.startedAt + sanitizing.duration) endSanitize(c)
  setUntil(c.background)
}

/** Share of an operation that is done, from 0 to under 1. */
export function progressOf(c: Controller, { startedAt, duration }: Running): number {
  return Math.min(0.999, (c.clock() - startedAt) / Math.max(duration, 1e-9))
}

export function startTest(c: Controller, code: number, nsid: number): void {
  const { operation } = c.config
  const duration = code === SELF_TEST.EXTENDED ? 2 * operation : operation
  c.background.test = { code, nsid, startedAt: c.clock(), duration }
  setUntil(c.background)
}

/** Ends the self-test that runs, if any, before it is done. `result`: one of SELF_TEST_RESULT. */
export function abortTest(c: Controller, result: number): void {
  if (c.background.test !== null) endTest(c, { result })
  setUntil(c.background)
}

/** What a controller level reset does to operations: only the short self-test ends. */
export function resetBackground(c: Controller): void {
  if (c.background.test?.code === SELF_TEST.SHORT) abortTest(c, SELF_TEST_RESULT.ABORTED_BY_RESET)
}

// Blocks that can't be read are what a test of the media can find.
function verdict(c: Controller, nsid: number): Omit<TestResult, 'code' | 'hours'> {
  for (const ns of c.namespaces.values()) {
    const bad = ns.bad?.[0]
    if (bad !== undefined && (nsid === ALL_NAMESPACES || nsid === ns.nsid)) {
      return { result: SELF_TEST_RESULT.SEGMENT_FAILED, segment: MEDIA_CHECK, nsid: ns.nsid, lba: bad.start }
    }
  }
  return { result: SELF_TEST_RESULT.NO_ERROR }
}

function endTest(c: Controller, found: Omit<TestResult, 'code' | 'hours'>): void {
  const { background, health } = c
  const { code, nsid } = background.test!
  const hours = Math.floor((c.clock() - health.poweredAt) / 3_600_000)
  const tested = nsid === 0 || nsid === ALL_NAMESPACES ? {} : { nsid }
  background.results = [{ code, hours, ...tested, ...found }, ...background.results].slice(0, RESULTS)
  background.test = null
  saveState(c)
}

/** Starts a sanitize operation: the data is gone from now on. Returns a status. */
export function startSanitize(c: Controller, dword: number): number {
  const status = c.medium.zero(0, c.medium.bytes)
  if (status !== 0) return status
  abortTest(c, SELF_TEST_RESULT.ABORTED_BY_SANITIZE)
  for (const ns of c.allocated.values()) unmarkBad(ns, 0, ns.blocks)
  const { background } = c
  background.sanitizing = { startedAt: c.clock(), duration: c.config.operation }
  background.sanitizeState = SANITIZE_STATE.IN_PROGRESS
  background.sanitizeDword = dword
  setUntil(background)
  return 0
}

function endSanitize(c: Controller): void {
  const { background } = c
  const unexpected = (background.sanitizeDword & NO_DEALLOCATE) !== 0
  background.sanitizing = null
  background.sanitizeState = unexpected ? SANITIZE_STATE.COMPLETED_DEALLOCATED : SANITIZE_STATE.COMPLETED
  background.sanitizeWrites = c.counters[COUNTER.WRITES]!
  updateSlowPath(c)
  saveState(c)
  raiseEvent(c.events, unexpected ? EVENT.SANITIZED_DEALLOCATED : EVENT.SANITIZED)
}

const NO_DEALLOCATE = 0x200

function setUntil(background: Background): void {
  const { test, sanitizing } = background
  const end = (running: Running | null) =>
    running === null ? Number.POSITIVE_INFINITY : running.startedAt + running.duration
  background.until = Math.min(end(test), end(sanitizing))
}
