// Charts as SVG text: lines over time, a distribution, percentiles. Colours and fonts come from the page's CSS.
// Trade-off: fixed sizes that the page scales; a title on an invisible column for each value in place of a script,
// so that a report says its numbers wherever it is opened.

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
