// Runs a benchmark and gathers what its jobs have measured.

import { onAbort } from '../../lib/sys/abort.ts'
import { unpackError } from '../shares/protocol.ts'
import { Histogram } from './histogram.ts'
import {
  type Board,
  COUNT,
  COUNT_WORDS,
  createBoard,
  type DirectionResult,
  type JobResult,
  PHASE,
} from './job.ts'
import { type BenchOptions, planJobs } from './plan.ts'
import { stop } from './start.ts'
import type { BenchTarget } from './target.ts'

const SAMPLE_MS = 250

/** Rates over the time since the sample before. */
export interface Sample {
  /** Milliseconds since the start, and which of PHASE the slowest job is in: VERIFY where any was reading back. */
  readonly at: number
  readonly phase: number
  /** I/Os and bytes in a second. */
  readonly read: Rate
  readonly write: Rate
}

export interface Rate {
  readonly iops: number
  readonly bandwidth: number
}

/** One direction of all jobs together. */
export interface DirectionSummary {
  readonly ios: number
  readonly bytes: number
  /** Milliseconds of the longest job, and in a second over that time. */
  readonly runtime: number
  readonly iops: number
  readonly bandwidth: number
  readonly slat: Histogram
  readonly clat: Histogram
  readonly lat: Histogram
  /** Rates of the samples that count. */
  readonly samples: Rate[]
}

export interface BenchResult {
  readonly options: BenchOptions
  readonly target: Pick<BenchTarget, 'name' | 'engine' | 'description' | 'bytes' | 'blocksize'>
  readonly startedAt: Date
  /** Milliseconds, with ramp and verification. */
  readonly elapsed: number
  readonly read: DirectionSummary
  readonly write: DirectionSummary
  readonly depths: number[]
  readonly verified: number
  /** Places that were written and not read back, since it was stopped or failed. */
  readonly unverified: number
  /** All samples, those of the ramp too. */
  readonly samples: Sample[]
  readonly usage: Usage
  /** True where it was stopped before its time. */
  readonly stopped: boolean
  /** What ended it before its time. What was measured until then is in the result. */
  readonly failure: Error | undefined
}

/** Of this process, its threads and a software controller in it. */
export interface Usage {
  /** Percent of one processor. */
  readonly user: number
  readonly system: number
  readonly switches: number
  readonly majorFaults: number
  readonly minorFaults: number
}

export interface RunOptions {
  /** Ends it early: what was measured until then is the result. */
  readonly signal?: AbortSignal | undefined
  /** Four times a second. */
  readonly onSample?: (sample: Sample) => void
}

/**
 * Runs a benchmark on an open target. What an I/O failed with, or VerifyError, is the result's `failure`.
 * @throws OutOfRangeError before anything has begun; what kept the jobs from beginning
 */
export async function runBench(
  target: BenchTarget,
  options: BenchOptions,
  { signal, onSample = () => {} }: RunOptions = {},
): Promise<BenchResult> {
  const plans = planJobs(options, target)
  const board = createBoard(plans.length)
  const forget = onAbort(signal, () => stop(board))
  if (signal?.aborted) stop(board)
  const samples: Sample[] = []
  let started = performance.now()
  let startedAt = new Date()
  let usage = startUsage()
  let timer: NodeJS.Timeout | undefined
  try {
    const results = await target.run(plans, board, () => {
      started = performance.now()
      startedAt = new Date()
      usage = startUsage()
      const look = sampler(board, plans.length, started)
      timer = setInterval(() => {
        const sample = look()
        samples.push(sample)
        onSample(sample)
      }, SAMPLE_MS)
    })
    const elapsed = performance.now() - started
    const failed = results.find(({ failure }) => failure !== undefined)?.failure
    return {
      options,
      target,
      startedAt,
      elapsed,
      read: summarize(results, samples, 'read'),
      write: summarize(results, samples, 'write'),
      depths: results[0]!.depths.map((_, i) => sum(results, ({ depths }) => depths[i]!)),
      verified: sum(results, ({ verified }) => verified),
      unverified: sum(results, ({ unverified }) => unverified),
      samples,
      usage: usage(),
      stopped: signal?.aborted ?? false,
      failure: failed && unpackError(failed),
    }
  } finally {
    clearInterval(timer)
    forget()
  }
}

const sum = <T>(items: readonly T[], of: (item: T) => number) =>
  items.reduce((total, item) => total + of(item), 0)

/** Returns what takes a sample of the time since the last one. */
function sampler({ counts }: Board, jobs: number, started: number): () => Sample {
  let before = started
  let last = [0, 0, 0, 0]
  let readBacks = 0
  return () => {
    const now = performance.now()
    const seconds = (now - before) / 1000
    const totals = [COUNT.READS, COUNT.READ_BYTES, COUNT.WRITES, COUNT.WRITTEN_BYTES].map((word) => {
      let total = 0
      for (let job = 0; job < jobs; job++) total += counts[job * COUNT_WORDS + word]!
      return total
    })
    const rates = totals.map((total, i) => (total - last[i]!) / seconds)
    const ofJobs = (word: number) =>
      Array.from({ length: jobs }, (_, job) => counts[job * COUNT_WORDS + word]!)
    const phases = ofJobs(COUNT.PHASE)
    const begun = ofJobs(COUNT.READ_BACKS).reduce((a, b) => a + b)
    // Time in which some job read back what it wrote says nothing of the rate.
    const readingBack = begun > readBacks || phases.includes(PHASE.VERIFY)
    const phase = readingBack ? PHASE.VERIFY : Math.min(...phases)
    before = now
    last = totals
    readBacks = begun
    return {
      at: now - started,
      phase,
      read: { iops: rates[0]!, bandwidth: rates[1]! },
      write: { iops: rates[2]!, bandwidth: rates[3]! },
    }
  }
}

function summarize(
  results: readonly JobResult[],
  samples: readonly Sample[],
  which: 'read' | 'write',
): DirectionSummary {
  const parts = results.map((result) => result[which])
  const ios = sum(parts, (part) => part.ios)
  const runtime = ios === 0 ? 0 : Math.max(...results.map((result) => result.runtime))
  const bytes = sum(parts, (part) => part.bytes)
  const perSecond = (count: number) => (runtime === 0 ? 0 : (count * 1000) / runtime)
  return {
    ios,
    bytes,
    runtime,
    iops: perSecond(ios),
    bandwidth: perSecond(bytes),
    slat: merge(parts, 'slat'),
    clat: merge(parts, 'clat'),
    lat: merge(parts, 'lat'),
    samples: samples.filter(({ phase }) => phase === PHASE.RUN).map((sample) => sample[which]),
  }
}

function merge(parts: readonly DirectionResult[], which: 'slat' | 'clat' | 'lat'): Histogram {
  const all = new Histogram()
  for (const part of parts) all.add(part[which])
  return all
}

function startUsage(): () => Usage {
  const started = performance.now()
  const before = process.resourceUsage()
  return () => {
    const after = process.resourceUsage()
    const micros = (performance.now() - started) * 1000
    const since = (
      key: 'voluntaryContextSwitches' | 'involuntaryContextSwitches' | 'majorPageFault' | 'minorPageFault',
    ) => after[key] - before[key]
    return {
      user: ((after.userCPUTime - before.userCPUTime) / micros) * 100,
      system: ((after.systemCPUTime - before.systemCPUTime) / micros) * 100,
      switches: since('voluntaryContextSwitches') + since('involuntaryContextSwitches'),
      majorFaults: since('majorPageFault'),
      minorFaults: since('minorPageFault'),
    }
  }
}
