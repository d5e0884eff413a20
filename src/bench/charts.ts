// A result's charts as SVG text: rates over time, the distribution of latencies, and their percentiles. Colours and fonts
// come from the page's CSS. Latencies are on logarithmic axes, since what matters spans decades; a title on an invisible
// column for each value stands in place of a script, so that a report says its numbers wherever it is opened.

import { decimal, short, timeText, timeTick } from '../../lib/sys/units.ts'
import type { Histogram } from './histogram.ts'
import type { BenchResult, DirectionSummary } from './run.ts'

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

const WIDTH = 880
const HEIGHT = 280
const PLOT = { left: 64, right: 16, top: 20, bottom: 40 } as const
const PLOT_WIDTH = WIDTH - PLOT.left - PLOT.right
const PLOT_HEIGHT = HEIGHT - PLOT.top - PLOT.bottom

export interface Point {
  readonly x: number
  readonly y: number
  /** What is shown where the pointer rests. */
  readonly title: string
}

export interface Series {
  /** Class of its colour: `read` or `write`. */
  readonly name: string
  readonly points: readonly Point[]
}

export interface Tick {
  readonly at: number
  readonly label: string
}

export interface Axis {
  readonly label: string
  readonly min: number
  readonly max: number
  readonly ticks: readonly Tick[]
  /** Where values are placed by their logarithm. */
  readonly log?: boolean
}

export interface Mark {
  readonly at: number
  readonly label: string
}

interface Frame {
  readonly x: Axis
  readonly y: Axis
  /** For who can't see it. */
  readonly title: string
}

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`)
}

const place = ({ min, max, log }: Axis, value: number) => {
  if (max === min) return 0
  return log ? Math.log(value / min) / Math.log(max / min) : (value - min) / (max - min)
}
const px = (n: number) => n.toFixed(1)
const xOf = (axis: Axis, value: number) => PLOT.left + place(axis, value) * PLOT_WIDTH
const yOf = (axis: Axis, value: number) => PLOT.top + (1 - place(axis, value)) * PLOT_HEIGHT

/** Round numbers from 0 to at least `max`, some five of them. */
export function ticksTo(max: number, label: (value: number) => string): Tick[] {
  const rough = (max || 1) / 4
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough)! * power
  const count = Math.ceil((max || 1) / step)
  return Array.from({ length: count + 1 }, (_, i) => ({ at: i * step, label: label(i * step) }))
}

/** Decades, or 1-2-5 where there are few, from `min` to `max`. */
export function logTicks(min: number, max: number, label: (value: number) => string): Tick[] {
  const steps = max / min > 1e4 ? [1] : max / min > 50 ? [1, 3] : [1, 2, 5]
  const ticks: Tick[] = []
  for (let power = 10 ** Math.floor(Math.log10(min)); power <= max; power *= 10) {
    for (const step of steps) {
      const at = step * power
      if (at >= min && at <= max) ticks.push({ at, label: label(at) })
    }
  }
  return ticks
}

/** @param shade a range of x that does not count, and what it is */
export function lineChart(
  frame: Frame,
  series: readonly Series[],
  shade?: { to: number; label: string },
): string {
  const { x, y } = frame
  const parts: string[] = []
  if (shade !== undefined && shade.to > x.min) {
    const end = xOf(x, Math.min(shade.to, x.max))
    parts.push(
      `<rect class="shade" x="${PLOT.left}" y="${PLOT.top}" width="${px(end - PLOT.left)}" height="${PLOT_HEIGHT}"/>`,
      `<text class="note" x="${PLOT.left + 6}" y="${PLOT.top + 14}">${escapeHtml(shade.label)}</text>`,
    )
  }
  for (const { name, points } of series) {
    if (points.length === 0) continue
    const at = points.map((point) => `${px(xOf(x, point.x))},${px(yOf(y, point.y))}`)
    const [first, last] = [px(xOf(x, points[0]!.x)), px(xOf(x, points.at(-1)!.x))]
    const floor = px(yOf(y, y.min))
    if (!y.log)
      parts.push(
        `<polygon class="area ${name}" points="${first},${floor} ${at.join(' ')} ${last},${floor}"/>`,
      )
    parts.push(`<polyline class="line ${name}" points="${at.join(' ')}"/>`)
    // A single value has no line.
    const radius = points.length === 1 ? 4 : 0
    if (radius > 0)
      parts.push(`<circle class="dot ${name}" cx="${first}" cy="${px(yOf(y, points[0]!.y))}" r="4"/>`)
  }
  return svg(frame, parts.join('') + hoverColumns(frame, series))
}

export interface Bar {
  readonly from: number
  readonly to: number
  readonly height: number
  readonly title: string
}

export function barChart(frame: Frame, name: string, bars: readonly Bar[], marks: readonly Mark[]): string {
  const { x, y } = frame
  const rects = bars.map(({ from, to, height, title }) => {
    const left = xOf(x, from)
    const width = Math.max(1, xOf(x, to) - left - 1)
    const top = yOf(y, height)
    // A visible trace of what is rare.
    const tall = height > 0 ? Math.max(1.5, PLOT.top + PLOT_HEIGHT - top) : 0
    const bottom = PLOT.top + PLOT_HEIGHT
    return (
      `<g class="column"><rect class="hit" x="${px(left)}" y="${PLOT.top}" width="${px(width + 1)}" height="${PLOT_HEIGHT}"/>` +
      `<rect class="bar ${name}" x="${px(left)}" y="${px(bottom - tall)}" width="${px(width)}" height="${px(tall)}"/>` +
      `<title>${escapeHtml(title)}</title></g>`
    )
  })
  return svg(frame, rects.join('') + markLines(x, marks))
}

// Some room for each letter, since text can't be measured here.
const LETTER = 6.8

function markLines(x: Axis, marks: readonly Mark[]): string {
  // A label takes the highest lane in which it touches no other.
  const lanes: { from: number; to: number }[][] = []
  const texts: string[] = []
  const lines = marks.map(({ at, label }) => {
    const left = xOf(x, at)
    const width = label.length * LETTER + 8
    const before = left + width > WIDTH - PLOT.right
    const span = before ? { from: left - width, to: left } : { from: left, to: left + width }
    const free = lanes.findIndex((lane) => lane.every(({ from, to }) => span.to <= from || span.from >= to))
    const lane = free < 0 ? lanes.length : free
    lanes[lane] = [...(lanes[lane] ?? []), span]
    const place = `x="${px(left + (before ? -4 : 4))}" y="${PLOT.top + 10 + lane * 15}"${before ? ' text-anchor="end"' : ''}`
    texts.push(`<text class="mark" ${place}>${escapeHtml(label)}</text>`)
    return `<line class="mark" x1="${px(left)}" y1="${PLOT.top}" x2="${px(left)}" y2="${PLOT.top + PLOT_HEIGHT}"/>`
  })
  // Labels over all lines: another mark's may go through one.
  return [...lines, ...texts].join('')
}

function hoverColumns({ x }: Frame, series: readonly Series[]): string {
  const longest = series.reduce<readonly Point[]>(
    (most, { points }) => (points.length > most.length ? points : most),
    [],
  )
  return longest
    .map((point, i) => {
      const at = xOf(x, point.x)
      const before = i === 0 ? PLOT.left : (at + xOf(x, longest[i - 1]!.x)) / 2
      const next = longest[i + 1]
      const after = next === undefined ? WIDTH - PLOT.right : (at + xOf(x, next.x)) / 2
      const titles = series.flatMap(({ points }) => points[i]?.title ?? [])
      return (
        `<g class="column"><rect class="hit" x="${px(before)}" y="${PLOT.top}" width="${px(after - before)}" height="${PLOT_HEIGHT}"/>` +
        `<line class="guide" x1="${px(at)}" y1="${PLOT.top}" x2="${px(at)}" y2="${PLOT.top + PLOT_HEIGHT}"/>` +
        `<title>${escapeHtml(titles.join('\n'))}</title></g>`
      )
    })
    .join('')
}

function svg({ x, y, title }: Frame, content: string): string {
  const bottom = PLOT.top + PLOT_HEIGHT
  const rows = y.ticks.map(({ at, label }) => {
    const top = px(yOf(y, at))
    return (
      `<line class="grid" x1="${PLOT.left}" y1="${top}" x2="${WIDTH - PLOT.right}" y2="${top}"/>` +
      `<text class="tick" x="${PLOT.left - 8}" y="${top}" dy="0.35em" text-anchor="end">${escapeHtml(label)}</text>`
    )
  })
  const columns = x.ticks.map(({ at, label }) => {
    const left = px(xOf(x, at))
    const anchor = xOf(x, at) + (label.length * LETTER) / 2 > WIDTH ? 'end' : 'middle'
    return (
      `<line class="tick" x1="${left}" y1="${bottom}" x2="${left}" y2="${bottom + 4}"/>` +
      `<text class="tick" x="${left}" y="${bottom + 17}" text-anchor="${anchor}">${escapeHtml(label)}</text>`
    )
  })
  return (
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeHtml(title)}">${rows.join('')}` +
    `<line class="axis" x1="${PLOT.left}" y1="${bottom}" x2="${WIDTH - PLOT.right}" y2="${bottom}"/>${columns.join('')}` +
    `<text class="label" x="${WIDTH - PLOT.right}" y="${HEIGHT - 4}" text-anchor="end">${escapeHtml(x.label)}</text>` +
    `<text class="label" x="${PLOT.left - 8}" y="10" text-anchor="end">${escapeHtml(y.label)}</text>${content}</svg>`
  )
}
