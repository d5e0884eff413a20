// One job of a benchmark: which I/O comes next, and what became of each.
// Trade-off: up to 16 I/Os share two looks at the clock, at some 50 ns each: when the first is found to be done, and when all are sent
// that follow them. A latency is exact within what those take. What is counted for all threads to see is in shared
// memory, in words that only this job writes. What is written with --verify is read back after each pass, as fio does it: a later pass would hide what became of an earlier one.

import { type PackedError, packError } from '../shares/protocol.ts'
import type { Engine, Source } from './engine.ts'
import { Histogram, type HistogramData } from './histogram.ts'
import type { JobPlan } from './plan.ts'
import { Random, RandomMap } from './random.ts'
import { check, stamp } from './verify.ts'

/** Words that the jobs and the thread that started them share. */
export interface Board {
  /** For each job: see COUNT. */
  readonly counts: Float64Array
  /** See FLAG. */
  readonly flags: Int32Array
}

export const COUNT = {
  READS: 0,
  READ_BYTES: 1,
  WRITES: 2,
  WRITTEN_BYTES: 3,
  PHASE: 4,
  READ_BACKS: 5,
} as const
export const COUNT_WORDS = 8
export const FLAG = { GO: 0, STOP: 1 } as const
export const PHASE = { SETUP: 0, RAMP: 1, RUN: 2, VERIFY: 3, DONE: 4 } as const

export function createBoard(jobs: number): Board {
  return {
    counts: new Float64Array(new SharedArrayBuffer(jobs * COUNT_WORDS * 8)),
    flags: new Int32Array(new SharedArrayBuffer(8)),
  }
}

/** Depths are counted as fio counts them: 1, 2, 4, … and 64 or more. */
export const DEPTH_LEVELS = [1, 2, 4, 8, 16, 32, 64] as const

export interface DirectionResult {
  readonly ios: number
  readonly bytes: number
  /** Nanoseconds to send, from then to the end, and both. */
  readonly slat: HistogramData
  readonly clat: HistogramData
  readonly lat: HistogramData
}

export interface JobResult {
  readonly read: DirectionResult
  readonly write: DirectionResult
  /** I/Os that were sent when so many were in flight with them. */
  readonly depths: number[]
  /** Milliseconds that count: those of reading back do not. */
  readonly runtime: number
  /** I/Os that were read and found to be what was written. */
  readonly verified: number
  /** Places whose last write was not read back, since the job was stopped or failed. */
  readonly unverified: number
  /** What ended the job before its time; what it measured until then counts. */
  readonly failure: PackedError | undefined
}

class Direction {
  ios = 0
  readonly slat = new Histogram()
  readonly clat = new Histogram()
  readonly lat = new Histogram()

  clear(): void {
    this.ios = 0
    for (const histogram of [this.slat, this.clat, this.lat]) histogram.clear()
  }

  result(bs: number): DirectionResult {
    const { ios, slat, clat, lat } = this
    return { ios, bytes: ios * bs, slat: slat.data, clat: clat.data, lat: lat.data }
  }
}

/**
 * Does what the plan says, and reads back what each pass has written where that was asked for. What fails ends all
 * jobs of the board, and is in the result with what was measured until then.
 */
export async function runJob(plan: JobPlan, engine: Engine, board: Board): Promise<JobResult> {
  const job = new Job(plan, engine, board)
  const { written } = job
  const readBack = written === null ? null : new ReadBack(plan, engine, board, written)
  let failure: PackedError | undefined
  try {
    do {
      await engine.run(job)
      if (readBack === null) break
      job.pause()
      readBack.rewind()
      await engine.run(readBack)
    } while (job.resume())
  } catch (error) {
    failure = packError(error)
    board.flags[FLAG.STOP] = 1
  }
  board.counts[plan.index * COUNT_WORDS + COUNT.PHASE] = PHASE.DONE
  return {
    ...job.result(),
    verified: job.verified + (readBack?.verified ?? 0),
    unverified: written?.unread() ?? 0,
    failure,
  }
}

/** What is known of each place where writes are verified. */
class Written {
  /** The number of the last write; 0: none. */
  readonly generations: Uint32Array
  /** Bits: see STATE. */
  readonly states: Uint8Array

  constructor(slots: number) {
    this.generations = new Uint32Array(slots)
    this.states = new Uint8Array(slots)
  }

  unread(): number {
    return this.states.reduce((count, state) => count + (state & STATE.UNREAD ? 1 : 0), 0)
  }
}

// A write is in flight; it was written and not read back yet.
const STATE = { WRITING: 1, UNREAD: 2 } as const

class Job implements Source {
  exhausted = false
  /** Where writes are verified. */
  readonly written: Written | null
  /** Reads that were checked. */
  verified = 0
  readonly #plan: JobPlan
  readonly #engine: Engine
  readonly #board: Board
  readonly #base: number
  readonly #random: Random
  readonly #map: RandomMap | null
  readonly #read = new Direction()
  readonly #write = new Direction()
  readonly #depths = new Float64Array(DEPTH_LEVELS.length)
  // By slot: when its I/O was begun and sent, what it is, where, and the generation that a read will see.
  readonly #begun: Float64Array
  readonly #sent: Float64Array
  readonly #isWrite: Uint8Array
  readonly #place: Float64Array
  readonly #expected: Uint32Array
  // Slots that were begun and not sent yet.
  readonly #unsent: Int32Array
  #unsentCount = 0
  #generation = 0
  #inFlight = 0
  // Of this pass, and passes that are over.
  #issued = 0
  #passes = 0
  #ramping: boolean
  #startedAt: number
  #endAt: number
  #lastAt: number
  // Milliseconds of the passes before, and when this one began.
  #busy = 0
  #passAt: number

  constructor(plan: JobPlan, engine: Engine, board: Board) {
    const { iodepth, index, slots, verify, reads, rampTime, runtime, randomMap, seed } = plan
    this.#plan = plan
    this.#engine = engine
    this.#board = board
    this.#base = index * COUNT_WORDS
    this.#random = new Random(seed + index)
    this.#map = randomMap ? new RandomMap(slots, this.#random) : null
    this.#begun = new Float64Array(iodepth)
    this.#sent = new Float64Array(iodepth)
    this.#isWrite = new Uint8Array(iodepth)
    this.#place = new Float64Array(iodepth)
    this.#expected = new Uint32Array(iodepth)
    this.#unsent = new Int32Array(iodepth)
    this.written = verify && reads < 100 ? new Written(slots) : null
    for (const buffer of engine.buffers) this.#random.fill(buffer)
    this.#ramping = rampTime > 0
    this.#startedAt = this.#passAt = this.#lastAt = performance.now()
    this.#endAt = this.#startedAt + (runtime ?? Number.POSITIVE_INFINITY)
    this.#phase(this.#ramping ? PHASE.RAMP : PHASE.RUN)
  }

  next(slot: number, now: number): boolean {
    if (this.exhausted) return false
    const { bs, offset, latencies, verify, slots } = this.#plan
    const write = this.#chooseWrite()
    const place = this.#choosePlace()
    // Of two writes of one place at once it is not known which is the last.
    if (write && this.written !== null && this.written.states[place]! & STATE.WRITING) return false
    const at = offset + place * bs
    if (write && verify) {
      // 0 is no write.
      this.#generation = (this.#generation + 1) >>> 0 || 1
      stamp(this.#engine.buffers[slot]!, at, this.#generation)
    }
    if (!this.#engine.start(slot, write, at)) return false
    if (latencies) {
      this.#begun[slot] = now
      this.#unsent[this.#unsentCount++] = slot
    }
    this.#isWrite[slot] = write ? 1 : 0
    this.#place[slot] = place
    if (verify) this.#remember(slot, place, write)
    this.#inFlight++
    this.#depths[Math.min(DEPTH_LEVELS.length - 1, 31 - Math.clz32(this.#inFlight))]!++
    if (++this.#issued === slots) this.#endPass()
    return true
  }

  sent(): void {
    if (this.#unsentCount === 0) return
    const now = performance.now()
    for (let i = 0; i < this.#unsentCount; i++) this.#sent[this.#unsent[i]!] = now
    this.#unsentCount = 0
  }

  complete(slot: number, now: number): void {
    const write = this.#isWrite[slot] === 1
    const direction = write ? this.#write : this.#read
    direction.ios++
    if (this.#plan.latencies) {
      const begun = this.#begun[slot]!
      const sent = this.#sent[slot]!
      direction.slat.record((sent - begun) * 1e6)
      direction.clat.record((now - sent) * 1e6)
      direction.lat.record((now - begun) * 1e6)
    }
    this.#inFlight--
    const at = this.#base + (write ? COUNT.WRITES : COUNT.READS)
    const { counts, flags } = this.#board
    counts[at]!++
    counts[at + 1]! += this.#plan.bs
    if (this.#plan.verify) this.#verify(slot, write)
    this.#lastAt = now
    if (this.#ramping) this.#lookAtRamp(now)
    else if (now >= this.#endAt) this.exhausted = true
    if (flags[FLAG.STOP] !== 0) this.exhausted = true
  }

  /** After a pass: until `resume` the time does not count. */
  pause(): void {
    this.#busy += Math.max(0, this.#lastAt - this.#passAt)
    this.#passAt = this.#lastAt
    this.#phase(PHASE.VERIFY)
    this.#board.counts[this.#base + COUNT.READ_BACKS]!++
  }

  /** Begins the next pass; false where there is none. */
  resume(): boolean {
    const now = performance.now()
    const over = !this.#ramping && (this.#passes >= this.#plan.passes || now >= this.#endAt)
    if (over || this.#board.flags[FLAG.STOP] !== 0) return false
    this.exhausted = false
    this.#passAt = this.#lastAt = now
    this.#phase(this.#ramping ? PHASE.RAMP : PHASE.RUN)
    return true
  }

  result(): Pick<JobResult, 'read' | 'write' | 'depths' | 'runtime'> {
    // Stopped before anything counted.
    if (this.#ramping) this.#startCounting(this.#lastAt)
    const { bs } = this.#plan
    return {
      read: this.#read.result(bs),
      write: this.#write.result(bs),
      depths: Array.from(this.#depths),
      runtime: this.#busy + Math.max(0, this.#lastAt - this.#passAt),
    }
  }

  #choosePlace(): number {
    const { random, slots } = this.#plan
    if (!random) return this.#issued
    return this.#map === null ? this.#random.below(slots) : this.#map.at(this.#issued)
  }

  // What the ramp does counts for no pass.
  #endPass(): void {
    this.#issued = 0
    this.#map?.shuffle()
    if (!this.#ramping) this.#passes++
    if (this.written !== null || this.#passes >= this.#plan.passes) this.exhausted = true
  }

  #chooseWrite(): boolean {
    const { reads } = this.#plan
    if (reads === 100 || reads === 0) return reads === 0
    return this.#random.below(100) >= reads
  }

  #lookAtRamp(now: number): void {
    const { rampTime, runtime } = this.#plan
    if (now < this.#startedAt + rampTime) return
    this.#startCounting(now)
    this.#endAt = now + (runtime ?? Number.POSITIVE_INFINITY)
    this.#phase(PHASE.RUN)
    // The first pass that counts begins here: what the ramp wrote is read back before it is written over.
    if (this.written !== null) this.exhausted = true
  }

  #startCounting(now: number): void {
    this.#ramping = false
    this.#busy = this.#issued = 0
    this.#passAt = now
    this.#read.clear()
    this.#write.clear()
    this.#depths.fill(0)
  }

  #phase(phase: number): void {
    this.#board.counts[this.#base + COUNT.PHASE] = phase
  }

  // A read beside a write of the same place may see either: it is not checked.
  #remember(slot: number, place: number, write: boolean): void {
    if (this.written === null) return
    const { generations, states } = this.written
    if (write) {
      states[place] = STATE.WRITING | STATE.UNREAD
      generations[place] = this.#generation
    }
    this.#expected[slot] = states[place]! & STATE.WRITING ? 0 : generations[place]!
  }

  #verify(slot: number, write: boolean): void {
    const place = this.#place[slot]!
    if (write) {
      if (this.written !== null) this.written.states[place]! &= ~STATE.WRITING
      return
    }
    const expected = this.written === null ? undefined : this.#expected[slot]!
    if (expected === 0 || expected !== this.written?.generations[place]) return
    const { offset, bs } = this.#plan
    check(this.#engine.buffers[slot]!, offset + place * bs, expected)
    this.verified++
  }
}

/** Reads what a job has written since the last time, in order, and checks it. */
class ReadBack implements Source {
  verified = 0
  readonly #plan: JobPlan
  readonly #engine: Engine
  readonly #board: Board
  readonly #written: Written
  readonly #place: Float64Array
  #next = 0

  constructor(plan: JobPlan, engine: Engine, board: Board, written: Written) {
    this.#plan = plan
    this.#engine = engine
    this.#board = board
    this.#written = written
    this.#place = new Float64Array(plan.iodepth)
  }

  rewind(): void {
    this.#next = 0
  }

  get exhausted(): boolean {
    return this.#next >= this.#plan.slots || this.#board.flags[FLAG.STOP] !== 0
  }

  next(slot: number): boolean {
    const { states } = this.#written
    while (!this.exhausted && !(states[this.#next]! & STATE.UNREAD)) this.#next++
    if (this.exhausted) return false
    const { offset, bs } = this.#plan
    if (!this.#engine.start(slot, false, offset + this.#next * bs)) return false
    this.#place[slot] = this.#next++
    return true
  }

  sent(): void {}

  complete(slot: number): void {
    const place = this.#place[slot]!
    const { offset, bs } = this.#plan
    check(this.#engine.buffers[slot]!, offset + place * bs, this.#written.generations[place])
    this.#written.states[place] = 0
    this.verified++
  }
}
