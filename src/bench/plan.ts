// What a benchmark does, in fio's words, and what each of its jobs is given.
// Jobs that read or write at random share the region; jobs that go through it in order, or verify
// what they wrote, have a part of it each.

import { OutOfRangeError } from '../../lib/errors.ts'
import { partsOf } from '../threads/spread.ts'

export const RW = ['read', 'write', 'randread', 'randwrite', 'randrw', 'rw'] as const
export type Rw = (typeof RW)[number]

export const VERIFY = ['none', 'crc32'] as const

/** What the results call a run that was given no name. */
export const DEFAULT_NAME = 'bench'

/** Percentiles that fio reports by default. */
export const PERCENTILES: readonly number[] = [
  1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99,
]

export interface BenchOptions {
  /** What the results call it. */
  readonly name: string
  readonly rw: Rw
  /** Bytes of one I/O: a multiple of the block size. */
  readonly bs: number
  /** I/Os in flight of each job. */
  readonly iodepth: number
  /** Jobs, each on a thread and a queue of its own. */
  readonly numjobs: number
  /** Milliseconds; without it every job ends when it has gone over its part of the region, `loops` times. */
  readonly runtime: number | undefined
  /** Times that a job goes over its part, at most. Infinity where time alone ends it. */
  readonly loops: number
  /** Milliseconds before that which do not count. */
  readonly rampTime: number
  /** The region in bytes; default: from `offset` to the end. */
  readonly size: number | undefined
  readonly offset: number
  /** Percentage of reads, where there are both. */
  readonly rwmixread: number
  readonly verify: (typeof VERIFY)[number]
  /** Places at random are drawn each for itself, and not each once in a pass. */
  readonly norandommap: boolean
  /** Where the random numbers begin: the same seed makes the same run. */
  readonly seed: number
  /** Percentiles of latencies in the reports: above 0, up to 100, ascending. */
  readonly percentiles: readonly number[]
  /** Leaves out all latencies, for the highest rate. */
  readonly gtodReduce: boolean
}

/** What one job does. */
export interface JobPlan {
  readonly index: number
  readonly random: boolean
  /** With places at random: each once in a pass. */
  readonly randomMap: boolean
  readonly seed: number
  /** Percentage of reads: 0 to 100. */
  readonly reads: number
  readonly bs: number
  readonly iodepth: number
  /** Bytes: where its region begins, and how many times `bs` it holds. */
  readonly offset: number
  readonly slots: number
  readonly runtime: number | undefined
  /** Passes over its region, at most. */
  readonly passes: number
  readonly rampTime: number
  readonly verify: boolean
  readonly latencies: boolean
}

/** What is measured on: a device or a file. */
export interface TargetFacts {
  readonly name: string
  readonly bytes: number
  readonly blocksize: number
}

/** True where it changes what is on the device. */
export function writes(rw: Rw): boolean {
  return rw !== 'read' && rw !== 'randread'
}

/** The jobs' shares of the work. Throws OutOfRangeError for what the target can't do. */
export function planJobs(options: BenchOptions, { name, bytes, blocksize }: TargetFacts): JobPlan[] {
  const { rw, bs, numjobs, offset, size = bytes - offset } = options
  if (bs % blocksize !== 0) {
    throw new OutOfRangeError(`--bs ${bs}: ${name} has blocks of ${blocksize} bytes, a multiple is needed`)
  }
  if (offset % blocksize !== 0) {
    throw new OutOfRangeError(
      `--offset ${offset}: ${name} has blocks of ${blocksize} bytes, a multiple is needed`,
    )
  }
  if (size <= 0 || offset + size > bytes) {
    throw new OutOfRangeError(`--offset ${offset} and --size ${size}: ${name} has ${bytes} bytes`)
  }
  const slots = Math.floor(size / bs)
  if (slots < 1) throw new OutOfRangeError(`--size ${size} holds no I/O of --bs ${bs}`)
  const random = rw.startsWith('rand')
  const verify = options.verify !== 'none'
  const own = !random || verify
  if (own && slots < numjobs) {
    throw new OutOfRangeError(
      `--size ${size} can't be shared by ${numjobs} jobs: it holds ${slots} I/Os of ${bs} bytes`,
    )
  }
  const parts = partsOf({ slba: 0, nlb: slots }, numjobs)
  return Array.from({ length: numjobs }, (_, index) => {
    const part = own ? parts[index]! : { slba: 0, nlb: slots }
    return {
      index,
      random,
      randomMap: random && !options.norandommap,
      seed: options.seed,
      reads: readShare(options),
      bs,
      iodepth: options.iodepth,
      offset: offset + part.slba * bs,
      slots: part.nlb,
      runtime: options.runtime,
      passes: options.loops,
      rampTime: options.rampTime,
      verify,
      latencies: !options.gtodReduce,
    }
  })
}

function readShare({ rw, rwmixread }: BenchOptions): number {
  if (rw === 'read' || rw === 'randread') return 100
  return rw === 'write' || rw === 'randwrite' ? 0 : rwmixread
}
