// A result in fio's layout, so that who knows one can read the other.
// Jobs are reported as one group, as fio does with --group_reporting; percentages of latencies and
// depths are cut as fio cuts them.

import { binary, decimal, short } from '../../lib/sys/units.ts'
import type { Histogram } from './histogram.ts'
import { DEPTH_LEVELS } from './job.ts'
import type { BenchResult, DirectionSummary } from './run.ts'

/** Bounds of fio's latency buckets, in their units. */
export const LATENCY_STEPS = [2, 4, 10, 20, 50, 100, 250, 500, 750, 1000] as const

const EIO = 5

interface TimeUnit {
  /** As fio names it: `nsec`, `usec`, `msec`. */
  readonly name: string
  readonly ns: number
}

const NSEC: TimeUnit = { name: 'nsec', ns: 1 }
const USEC: TimeUnit = { name: 'usec', ns: 1e3 }
const MSEC: TimeUnit = { name: 'msec', ns: 1e6 }

/** The largest unit in which the smallest and the largest of some times can still be distinguished. */
export function timeUnit(min: number, max: number): TimeUnit {
  if (min > 2e6 && max > 99_999e3) return MSEC
  return min > 2e3 && max > 99_999 ? USEC : NSEC
}

/** Mean, deviation and extremes of some numbers; zeroes where there are none. */
export function describe(values: readonly number[]): {
  min: number
  max: number
  mean: number
  stddev: number
} {
  const n = values.length
  if (n === 0) return { min: 0, max: 0, mean: 0, stddev: 0 }
  const mean = values.reduce((sum, value) => sum + value, 0) / n
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  let [min, max] = [Number.POSITIVE_INFINITY, 0]
  for (const value of values) {
    if (value < min) min = value
    if (value > max) max = value
  }
  return { min, max, mean, stddev: n < 2 ? 0 : Math.sqrt(squares / (n - 1)) }
}

/** As fio's `error`: 0, or the errno of what ended the run, EIO where that is no system call. */
export function errorNumber(failure: Error | undefined): number {
  if (failure === undefined) return 0
  return 'errno' in failure && typeof failure.errno === 'number' ? Math.abs(failure.errno) : EIO
}

/** The whole report, several lines. */
export function reportText(result: BenchResult): string {
  const { options, target, read, write, stopped, failure } = result
  const { name, rw, bs, iodepth, numjobs } = options
  const jobs = numjobs === 1 ? '1 job' : `${numjobs} jobs, each on a thread and a queue of its own`
  const lines = [
    `${name}: rw=${rw}, bs=${bs}B, ioengine=${target.engine}, iodepth=${iodepth}`,
    `${target.name}: ${target.description}`,
    `${jobs}${stopped ? '; stopped before the end' : ''}`,
    '',
    `${name}: (groupid=0, jobs=${numjobs}): err=${String(errorNumber(failure)).padStart(2)}${failure ? ` (${failure.message})` : ''}: ${result.startedAt.toString()}`,
    ...(read.ios > 0 ? directionLines('read', result, read) : []),
    ...(write.ios > 0 ? directionLines('write', result, write) : []),
    ...distributionLines(result),
    ...usageLines(result),
    '',
    'Run status group 0 (all jobs):',
    ...(read.ios > 0 ? [statusLine('READ', read)] : []),
    ...(write.ios > 0 ? [statusLine('WRITE', write)] : []),
  ]
  return lines.join('\n')
}

function directionLines(name: string, { options }: BenchResult, direction: DirectionSummary): string[] {
  const { iops, bandwidth, bytes, runtime, slat, clat, lat, samples } = direction
  const total = `${binary(bytes)}/${Math.round(runtime)}msec`
  const head = `  ${name}: IOPS=${short(iops)}, BW=${binary(bandwidth)}/s (${decimal(bandwidth)}/s)(${total})`
  const bw = describe(samples.map((sample) => sample.bandwidth / 1024))
  const rate = describe(samples.map((sample) => sample.iops))
  const count = samples.length
  return [
    head,
    ...(options.gtodReduce
      ? []
      : [...latencyLines({ slat, clat, lat }), ...percentileLines(clat, options.percentiles)]),
    ...(count === 0
      ? []
      : [
          `   bw (  KiB/s): ${spread(bw, 0)}, samples=${count}`,
          `   iops        : ${spread(rate, 0)}, samples=${count}`,
        ]),
  ]
}

function spread({ min, max, mean, stddev }: ReturnType<typeof describe>, digits: number): string {
  const text = (value: number) => value.toFixed(digits).padStart(5)
  return `min=${text(min)}, max=${text(max)}, avg=${mean.toFixed(2)}, stdev=${stddev.toFixed(2)}`
}

function latencyLines(parts: Record<'slat' | 'clat' | 'lat', Histogram>): string[] {
  return Object.entries(parts).map(([name, histogram]) => {
    const { min, max, mean, stddev } = histogram
    const unit = timeUnit(min, max)
    const whole = (ns: number) => short(ns / unit.ns).padStart(5)
    const exact = (ns: number) => (ns / unit.ns).toFixed(2).padStart(5)
    return `${name.padStart(8)} (${unit.name}): min=${whole(min)}, max=${whole(max)}, avg=${exact(mean)}, stdev=${exact(stddev)}`
  })
}

function percentileLines(clat: Histogram, percentiles: readonly number[]): string[] {
  const values = percentiles.map((percent) => clat.percentile(percent))
  // Two digits, as fio, or as many as tell them apart.
  const digits = Math.max(2, ...percentiles.map((percent) => (String(percent).split('.')[1] ?? '').length))
  const unit = timeUnit(clat.min, clat.max)
  const texts = values.map((ns) => String(Math.round(ns / unit.ns)))
  const width = Math.max(4, ...texts.map((text) => text.length))
  const cells = texts.map(
    (text, i) => `${percentiles[i]!.toFixed(digits).padStart(digits + 3)}th=[${text.padStart(width)}]`,
  )
  const rows: string[] = []
  for (let i = 0; i < cells.length; i += 4) {
    const last = i + 4 >= cells.length
    rows.push(`     | ${cells.slice(i, i + 4).join(', ')}${last ? '' : ','}`)
  }
  return [`    clat percentiles (${unit.name}):`, ...rows]
}

/** Percent of all I/Os in each of fio's latency buckets, those that are not empty. */
export function latencyShares({ read, write }: BenchResult): Record<'ns' | 'us' | 'ms', [string, number][]> {
  const total = read.lat.n + write.lat.n
  const count = (from: number, to: number) =>
    read.lat.countBetween(from, to) + write.lat.countBetween(from, to)
  const shares = (scale: number): [string, number][] => {
    let from = scale === 1 ? 0 : scale
    return LATENCY_STEPS.map((step) => {
      const n = count(from, step * scale)
      from = step * scale
      return [String(step), total === 0 ? 0 : (100 * n) / total]
    })
  }
  const ms = shares(1e6)
  const above = [
    ['2000', 1e9, 2e9],
    ['>=2000', 2e9, Number.POSITIVE_INFINITY],
  ] as const
  for (const [name, from, to] of above) ms.push([name, total === 0 ? 0 : (100 * count(from, to)) / total])
  return { ns: shares(1), us: shares(1e3), ms }
}

function distributionLines(result: BenchResult): string[] {
  if (result.options.gtodReduce) return []
  const names = { ns: 'nsec', us: 'usec', ms: 'msec' } as const
  return Object.entries(latencyShares(result)).flatMap(([unit, shares]) => {
    const some = shares.filter(([, percent]) => percent > 0)
    if (some.length === 0) return []
    const texts = some.map(([step, percent]) => `${step}=${Math.max(0.01, percent).toFixed(2)}%`)
    const lines: string[] = []
    for (let i = 0; i < texts.length; i += 5) {
      lines.push(`  lat (${names[unit as keyof typeof names]})   : ${texts.slice(i, i + 5).join(', ')}`)
    }
    return lines
  })
}

/** Percent of all I/Os that were sent at each of fio's depths. */
export function depthShares({ depths }: BenchResult): [string, number][] {
  const total = depths.reduce((sum, n) => sum + n, 0)
  return depths.map((n, i) => [
    i === DEPTH_LEVELS.length - 1 ? `>=${DEPTH_LEVELS[i]}` : String(DEPTH_LEVELS[i]),
    total === 0 ? 0 : (100 * n) / total,
  ])
}

function usageLines(result: BenchResult): string[] {
  const { usage, read, write, options, verified, unverified } = result
  const depths = depthShares(result).map(([level, percent]) => `${level}=${percent.toFixed(1)}%`)
  return [
    `  cpu          : usr=${usage.user.toFixed(2)}%, sys=${usage.system.toFixed(2)}%, ctx=${usage.switches}, ` +
      `majf=${usage.majorFaults}, minf=${usage.minorFaults}`,
    `  IO depths    : ${depths.join(', ')}`,
    `     issued rwts: total=${read.ios},${write.ios},0,0 short=0,0,0,0 dropped=0,0,0,0`,
    ...(options.verify === 'none'
      ? []
      : [
          `     verified  : ${verified} I/Os read back as they were written${unverified > 0 ? `; ${unverified} not read back` : ''}`,
        ]),
  ]
}

function statusLine(name: string, { bandwidth, bytes, runtime }: DirectionSummary): string {
  const rate = `${binary(bandwidth)}/s (${decimal(bandwidth)}/s)`
  const time = Math.round(runtime)
  return `${name.padStart(7)}: bw=${rate}, io=${binary(bytes)} (${decimal(bytes)}), run=${time}-${time}msec`
}
