// A result's charts: rates over time, the distribution of latencies, and their percentiles.
// Trade-off: latencies on logarithmic axes, since what matters spans decades; nothing is smoothed.

import type { Histogram } from './histogram.ts'
import { decimal, short, timeText, timeTick } from './numbers.ts'
import type { BenchResult, DirectionSummary } from './run.ts'
import { type Axis, type Bar, barChart, lineChart, logTicks, type Series, ticksTo } from './svg.ts'

export type Way = 'read' | 'write'

/** The directions in which anything was done. */
export function waysOf(result: BenchResult): Way[] {
  return (['read', 'write'] as const).filter((way) => result[way].ios > 0)
}

/** I/Os or bytes in a second over time; null where it was over before a first sample. */
export function rateChart(result: BenchResult, what: 'iops' | 'bandwidth'): string | null {
  const { samples, options } = result
  if (samples.length === 0) return null
  const text =
    what === 'iops' ? (rate: number) => `${short(rate)} IOPS` : (rate: number) => `${decimal(rate)}/s`
  const tick = what === 'iops' ? short : decimal
  const series: Series[] = waysOf(result).map((way) => ({
    name: way,
    points: samples.map((sample) => {
      const y = sample[way][what]
      return { x: sample.at / 1000, y, title: `${(sample.at / 1000).toFixed(2)} s: ${way} ${text(y)}` }
    }),
  }))
  const most = Math.max(...series.flatMap(({ points }) => points.map(({ y }) => y)))
  const last = samples.at(-1)!.at / 1000
  const ticks = ticksTo(most, tick)
  const seconds = (value: number) => String(Number(value.toPrecision(3)))
  const x: Axis = {
    label: 'seconds',
    min: 0,
    max: last,
    ticks: ticksTo(last, seconds).filter(({ at }) => at <= last),
  }
  const y: Axis = { label: what === 'iops' ? 'IOPS' : 'bytes/s', min: 0, max: ticks.at(-1)!.at, ticks }
  const shade = options.rampTime > 0 ? { to: options.rampTime / 1000, label: 'ramp' } : undefined
  return lineChart({ x, y, title: `${y.label} over time` }, series, shade)
}

const MARKS = [
  [50, 'median'],
  [99, '99 %'],
  [99.9, '99.9 %'],
] as const
// Columns that a chart can show well.
const MAX_COLUMNS = 88

/** How many I/Os took how long. */
export function distributionChart({ lat }: DirectionSummary, way: Way): string {
  const min = Math.max(1, lat.percentile(0.01))
  const max = Math.max(2 * min, lat.percentile(99.99) * 1.02)
  const octaves = Math.log2(max / min)
  // Never finer than the histogram's own buckets.
  const perOctave = Math.min(16, Math.max(1, Math.floor(MAX_COLUMNS / octaves)))
  const step = 2 ** (1 / perOctave)
  const first = 2 ** (Math.floor(Math.log2(min) * perOctave) / perOctave)
  const bars: Bar[] = []
  for (let from = first; from < max; from *= step) {
    const n = lat.countBetween(Math.ceil(from), Math.ceil(from * step))
    const height = (100 * n) / lat.n
    const title = `${timeText(from)} to ${timeText(from * step)}: ${height.toFixed(2)} % (${n})`
    bars.push({ from, to: from * step, height, title })
  }
  const end = bars.at(-1)!.to
  const ticks = ticksTo(
    Math.max(...bars.map(({ height }) => height)),
    (percent) => `${Number(percent.toFixed(2))} %`,
  )
  const x: Axis = { label: 'latency', min: first, max: end, ticks: logTicks(first, end, timeTick), log: true }
  const y: Axis = { label: `${way}s`, min: 0, max: ticks.at(-1)!.at, ticks }
  const marks = MARKS.map(([percent, label]) => {
    const at = lat.percentile(percent)
    return { at, label: `${label} ${timeText(at)}` }
  }).filter(({ at }) => at >= first && at <= end)
  return barChart({ x, y, title: `Distribution of ${way} latencies` }, way, bars, marks)
}

// So far into the tail: 1 of 10 to the power of this.
const MAX_NINES = 5
// The median's place on that scale, where the chart begins.
const HALF = Math.log10(2)

/** Which latency how many percent do not exceed, with the tail drawn out. */
export function percentileChart(result: BenchResult): string {
  const ways = waysOf(result)
  const nines = Math.min(MAX_NINES, Math.max(1, ...ways.map((way) => Math.log10(result[way].lat.n))))
  const steps = Array.from({ length: 81 }, (_, i) => HALF + (i / 80) * (nines - HALF))
  const series: Series[] = ways.map((way) => ({
    name: way,
    points: steps.map((x) => {
      const percent = 100 * (1 - 10 ** -x)
      const y = Math.max(1, result[way].lat.percentile(percent))
      return { x, y, title: `${percentText(percent)} of ${way}s: up to ${timeText(y)}` }
    }),
  }))
  const all = series.flatMap(({ points }) => points.map(({ y }) => y))
  const [min, max] = [Math.min(...all) / 1.2, Math.max(...all) * 1.2]
  const labels = ['90 %', '99 %', '99.9 %', '99.99 %', '99.999 %']
  const x: Axis = {
    label: 'percent that took no longer',
    min: HALF,
    max: nines,
    ticks: [
      { at: HALF, label: '50 %' },
      ...labels.flatMap((label, i) => (i + 1 <= nines ? [{ at: i + 1, label }] : [])),
    ],
  }
  const y: Axis = { label: 'latency', min, max, ticks: logTicks(min, max, timeTick), log: true }
  return lineChart({ x, y, title: 'Percentiles of latencies' }, series)
}

function percentText(percent: number): string {
  return `${Number(percent.toFixed(percent > 99.9 ? 3 : 1))} %`
}

/** Percentiles for the table: the histogram's, in the order of fio's. */
export function percentilesOf(histogram: Histogram, percents: readonly number[]): string[] {
  return percents.map((percent) => timeText(histogram.percentile(percent)))
}
