// What a measurement costs by itself: a job on an engine that does nothing, a look at the clock, a record.

import { createLook, type Engine, SLOT } from './engine.ts'
import { Histogram } from './histogram.ts'
import { createBoard, runJob } from './job.ts'
import { type BenchOptions, planJobs } from './plan.ts'

/** Nanoseconds of processor time. */
export interface Calibration {
  readonly iodepth: number
  /** Of each I/O, with its latencies and without. */
  readonly io: number
  readonly ioWithoutLatencies: number
  /** Of one look at the clock, and of one record in a histogram, of a value that is not the one before: an I/O has three. */
  readonly clock: number
  readonly record: number
}

const RUN_MS = 200
const ROUNDS = 5
const LOOPS = 200_000

/** Measures the measurement of such a job: some two seconds. */
export async function calibrate(options: BenchOptions): Promise<Calibration> {
  const { iodepth, bs } = options
  const facts = { name: 'nothing', bytes: Math.max(2 ** 30, 64 * bs), blocksize: 512 }
  const least = async (gtodReduce: boolean) => {
    const own = { ...options, gtodReduce, numjobs: 1, rampTime: 0, size: undefined, offset: 0 }
    const plan = planJobs({ ...own, runtime: RUN_MS, loops: Number.POSITIVE_INFINITY, verify: 'none' }, facts)
    let best = Number.POSITIVE_INFINITY
    for (let round = 0; round < ROUNDS; round++) {
      const { read, write, runtime } = await runJob(plan[0]!, createIdleEngine(iodepth), createBoard(1))
      best = Math.min(best, (runtime * 1e6) / (read.ios + write.ios))
    }
    return best
  }
  const histogram = new Histogram()
  let value = 1
  return {
    iodepth,
    io: await least(false),
    ioWithoutLatencies: await least(true),
    clock: leastOf(() => performance.now()),
    record: leastOf(() => {
      value = (value * 1103515245 + 12345) & 0xf_ffff
      histogram.record(value)
    }),
  }
}

function leastOf(step: () => void): number {
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < ROUNDS; round++) {
    const started = performance.now()
    for (let i = 0; i < LOOPS; i++) step()
    best = Math.min(best, ((performance.now() - started) * 1e6) / LOOPS)
  }
  return best
}

/** Every I/O is done when it is looked at. */
function createIdleEngine(depth: number): Engine {
  const started = new Uint8Array(depth)
  const look = createLook(depth, (slot) => {
    if (started[slot] === 0) return SLOT.FREE
    started[slot] = 0
    return SLOT.DONE
  })
  return {
    buffers: [],
    start(slot) {
      started[slot] = 1
      return true
    },
    async run(source) {
      while (look(source) > 0 || !source.exhausted);
    },
    async close() {},
  }
}
