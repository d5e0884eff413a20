// One job of a benchmark: which I/O comes next, and what became of each.
// Trade-off: two looks at the clock for an I/O, 80 ns each: before it is sent, and when it is done or sent; what is
// counted for all threads to see is in shared memory, in words that only this job writes.

import type { Engine, Source } from './engine.ts'
import { Histogram, type HistogramData } from './histogram.ts'
import type { JobPlan } from './plan.ts'
import { Random } from './random.ts'
import { check, stamp } from './verify.ts'

/** Words that the jobs and the thread that started them share. */
export interface Board {
  /** For each job: see COUNT. */
  readonly counts: Float64Array
  /** See FLAG. */
  readonly flags: Int32Array
}

export const COUNT = { READS: 0, READ_BYTES: 1, WRITES: 2, WRITTEN_BYTES: 3, PHASE: 4 } as const
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
  /** Milliseconds that count. */
  readonly runtime: number
  /** I/Os that were read and found to be what was written. */
  readonly verified: number
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

/** Does what the plan says, then reads back what was written where that was asked for. */
export async function runJob(plan: JobPlan, engine: Engine, board: Board): Promise<JobResult> {
  const job = new Job(plan, engine, board)
  await engine.run(job)
  const { generations } = job
  let verified = 0
  if (generations !== null) {
    board.counts[plan.index * COUNT_WORDS + COUNT.PHASE] = PHASE.VERIFY
    const readBack = new ReadBack(plan, engine, board, generations)
    await engine.run(readBack)
    verified = readBack.verified
  }
  board.counts[plan.index * COUNT_WORDS + COUNT.PHASE] = PHASE.DONE
  const result = job.result()
  return { ...result, verified: result.verified + verified }
}

class Job implements Source {
  exhausted = false
  /** By place, where writes are verified: the number of its last write. */
  readonly generations: Uint32Array | null
  readonly #plan: JobPlan
  readonly #engine: Engine
  readonly #board: Board
  readonly #base: number
  readonly #random: Random
  readonly #read = new Direction()
  readonly #write = new Direction()
  readonly #depths = new Float64Array(DEPTH_LEVELS.length)
  // By slot: when its I/O was begun and sent, what it is, where, and the generation that a read will see.
  readonly #begun: Float64Array
  readonly #sent: Float64Array
  readonly #isWrite: Uint8Array
  readonly #place: Float64Array
  readonly #expected: Uint32Array
  // By place: whether a write is in flight.
  readonly #writing: Uint8Array | null
  #generation = 0
  #verified = 0
  #inFlight = 0
  #issued = 0
  #ramping: boolean
  #startedAt: number
  #endAt: number
  #lastAt = 0

  constructor(plan: JobPlan, engine: Engine, board: Board) {
    const { iodepth, index, slots, verify, reads, rampTime, runtime } = plan
    this.#plan = plan
    this.#engine = engine
    this.#board = board
    this.#base = index * COUNT_WORDS
    this.#random = new Random(index)
    this.#begun = new Float64Array(iodepth)
    this.#sent = new Float64Array(iodepth)
    this.#isWrite = new Uint8Array(iodepth)
    this.#place = new Float64Array(iodepth)
    this.#expected = new Uint32Array(iodepth)
    const remembers = verify && reads < 100
    this.generations = remembers ? new Uint32Array(slots) : null
    this.#writing = remembers ? new Uint8Array(slots) : null
    for (const buffer of engine.buffers) this.#random.fill(buffer)
    this.#ramping = rampTime > 0
    this.#startedAt = performance.now()
    this.#endAt = this.#startedAt + (runtime ?? Number.POSITIVE_INFINITY)
    this.#phase(this.#ramping ? PHASE.RAMP : PHASE.RUN)
  }

  next(slot: number): boolean {
    if (this.exhausted) return false
    const { bs, offset, latencies, verify, random, slots } = this.#plan
    const write = this.#chooseWrite()
    const place = random ? this.#random.below(slots) : this.#issued % slots
    // Of two writes of one place at once nobody knows which is the last.
    if (write && this.#writing?.[place] === 1) return false
    const at = offset + place * bs
    if (write && verify) stamp(this.#engine.buffers[slot]!, at, ++this.#generation)
    const before = latencies ? performance.now() : 0
    if (!this.#engine.start(slot, write, at)) return false
    if (latencies) {
      this.#begun[slot] = before
      this.#sent[slot] = performance.now()
    }
    this.#isWrite[slot] = write ? 1 : 0
    this.#place[slot] = place
    if (verify) this.#remember(slot, place, write)
    this.#inFlight++
    this.#depths[Math.min(DEPTH_LEVELS.length - 1, 31 - Math.clz32(this.#inFlight))]!++
    if (++this.#issued === slots && this.#plan.runtime === undefined) this.exhausted = true
    return true
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

  result(): JobResult {
    const { bs } = this.#plan
    return {
      read: this.#read.result(bs),
      write: this.#write.result(bs),
      depths: Array.from(this.#depths),
      runtime: Math.max(0, this.#lastAt - this.#startedAt),
      verified: this.#verified,
    }
  }

  #chooseWrite(): boolean {
    const { reads } = this.#plan
    if (reads === 100 || reads === 0) return reads === 0
    return this.#random.below(100) >= reads
  }

  #lookAtRamp(now: number): void {
    const { rampTime, runtime } = this.#plan
    if (now < this.#startedAt + rampTime) return
    this.#ramping = false
    this.#startedAt = now
    this.#endAt = now + (runtime ?? Number.POSITIVE_INFINITY)
    this.#read.clear()
    this.#write.clear()
    this.#depths.fill(0)
    this.#phase(PHASE.RUN)
  }

  #phase(phase: number): void {
    this.#board.counts[this.#base + COUNT.PHASE] = phase
  }

  // A read beside a write of the same place may see either: it is not checked.
  #remember(slot: number, place: number, write: boolean): void {
    const { generations } = this
    if (generations === null) return
    if (write) {
      this.#writing![place] = 1
      generations[place] = this.#generation
    }
    this.#expected[slot] = this.#writing![place] === 1 ? 0 : generations[place]!
  }

  #verify(slot: number, write: boolean): void {
    const place = this.#place[slot]!
    if (write) {
      if (this.#writing !== null) this.#writing[place] = 0
      return
    }
    const expected = this.generations === null ? undefined : this.#expected[slot]!
    if (expected === 0 || expected !== this.generations?.[place]) return
    const { offset, bs } = this.#plan
    check(this.#engine.buffers[slot]!, offset + place * bs, expected)
    this.#verified++
  }
}

/** Reads everything that a job has written, in order, and checks it. */
class ReadBack implements Source {
  verified = 0
  readonly #plan: JobPlan
  readonly #engine: Engine
  readonly #board: Board
  readonly #generations: Uint32Array
  readonly #place: Float64Array
  #next = 0

  constructor(plan: JobPlan, engine: Engine, board: Board, generations: Uint32Array) {
    this.#plan = plan
    this.#engine = engine
    this.#board = board
    this.#generations = generations
    this.#place = new Float64Array(plan.iodepth)
  }

  get exhausted(): boolean {
    return this.#next >= this.#generations.length || this.#board.flags[FLAG.STOP] !== 0
  }

  next(slot: number): boolean {
    while (!this.exhausted && this.#generations[this.#next] === 0) this.#next++
    if (this.exhausted) return false
    const { offset, bs } = this.#plan
    if (!this.#engine.start(slot, false, offset + this.#next * bs)) return false
    this.#place[slot] = this.#next++
    return true
  }

  complete(slot: number): void {
    const place = this.#place[slot]!
    const { offset, bs } = this.#plan
    check(this.#engine.buffers[slot]!, offset + place * bs, this.#generations[place])
    this.verified++
  }
}
