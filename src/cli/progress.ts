// Progress on a terminal, of a long transfer and of an operation that goes on in the background: one line, four times a second, with rate and time left.
// Trade-off: own lines rather than a library. cli-progress draws the bar, but rate, time left and units would
// still be ours, and it looks the same as a file when stderr is redirected half-way.

import { setTimeout as sleep } from 'node:timers/promises'
import { AbortError } from '../../lib/errors.ts'
import { bytesText } from './output.ts'

const DRAW_MS = 250
// The rate is that of the last few seconds: a device's cache that is full shows, a hiccup does not.
const SAMPLES = 16
const MIN_BAR = 10
const MAX_BAR = 40

/** Bytes over time. */
export class Meter {
  readonly total: number | undefined
  bytes = 0
  readonly #samples: { at: number; bytes: number }[]

  /** @param now milliseconds, of any clock */
  constructor(total: number | undefined, now: number) {
    this.total = total
    this.#samples = [{ at: now, bytes: 0 }]
  }

  sample(now: number): void {
    this.#samples.push({ at: now, bytes: this.bytes })
    if (this.#samples.length > SAMPLES) this.#samples.shift()
  }

  /** Bytes in a second, over the last samples. */
  get rate(): number {
    const first = this.#samples[0]!
    const last = this.#samples.at(-1)!
    return last.at > first.at ? ((last.bytes - first.bytes) * 1000) / (last.at - first.at) : 0
  }

  /** Seconds, or undefined where no one knows. */
  get secondsLeft(): number | undefined {
    if (this.total === undefined || this.rate === 0) return undefined
    return Math.max(0, this.total - this.bytes) / this.rate
  }
}

/** `0:07`, `12:30`, `1:02:03`. */
export function clockText(seconds: number): string {
  const whole = Math.ceil(seconds)
  const pad = (n: number) => String(n).padStart(2, '0')
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  return h > 0 ? `${h}:${pad(m)}:${pad(s)}` : `${m}:${pad(s)}`
}

/** The line, no longer than `columns`: parts that do not fit are left out, the bar first. */
export function progressLine(what: string, meter: Meter, columns: number): string {
  const { total, bytes, secondsLeft } = meter
  const share = total ? Math.min(1, bytes / total) : undefined
  const percent = share === undefined ? [] : [`${String(Math.floor(share * 100)).padStart(3)} %`]
  const amount = bytesText(bytes).padStart(9) + (total === undefined ? '' : ` of ${bytesText(total)}`)
  const rate = `${bytesText(meter.rate).padStart(9)}/s`
  const left = secondsLeft === undefined ? [] : [`${clockText(secondsLeft)} left`]
  const before = [what, ...percent].join(' ')
  const after = [amount, rate, ...left].join('  ')
  const room = Math.min(MAX_BAR, columns - before.length - after.length - 7)
  if (share !== undefined && room >= MIN_BAR) {
    const done = Math.floor(share * room)
    return `${before}  ${'━'.repeat(done)}${'─'.repeat(room - done)}  ${after}`
  }
  const short = `${before}  ${after}`
  return (short.length < columns ? short : [...percent, rate.trim(), ...left].join(' ')).slice(0, columns - 1)
}

export interface Progress {
  /** To be called as often as one likes. */
  update(bytes: number): void
  /** Takes the line away. */
  stop(): void
}

type Terminal = Pick<NodeJS.WriteStream, 'isTTY' | 'columns' | 'write'>

/** Lines that are drawn over. */
class Painter {
  readonly #terminal: Terminal
  #drawn: readonly string[] = []

  constructor(terminal: Terminal) {
    this.#terminal = terminal
  }

  draw(lines: readonly string[]): void {
    const columns = this.#terminal.columns || 80
    // A terminal that has become narrower shows one line in several rows.
    const rows = this.#drawn.reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / columns)), 0)
    const up = rows > 1 ? `\u001b[${rows - 1}A` : ''
    const clear = rows > 1 && lines.length === 0 ? '\u001b[J' : ''
    this.#terminal.write(
      `${up}\r${lines.map((line) => `${line}\u001b[K`).join('\n')}${clear || (lines.length === 0 ? '\u001b[K' : '')}`,
    )
    this.#drawn = lines
  }

  clear(): void {
    if (this.#drawn.length > 0) this.draw([])
  }
}

/**
 * Shows progress from now on; does nothing where `terminal` is none.
 * @param total bytes, or undefined where they are not known
 */
export function startProgress(
  what: string,
  total: number | undefined,
  terminal: Terminal = process.stderr,
): Progress {
  if (!terminal.isTTY) return { update() {}, stop() {} }
  const meter = new Meter(total, performance.now())
  const painter = new Painter(terminal)
  const timer = setInterval(() => {
    meter.sample(performance.now())
    painter.draw([progressLine(what, meter, terminal.columns || 80)])
  }, DRAW_MS)
  return {
    update(bytes) {
      meter.bytes = bytes
    },
    stop() {
      clearInterval(timer)
      painter.clear()
    },
  }
}

/** What a copy reports: see CopyReport. */
interface Report {
  bytes: number
  read: number
  written: number
  skipped: number
  bad: number
  targets: readonly { name: string; bytes: number; error?: Error }[]
}

/** On a terminal; a line every ten seconds without one; an object in a line every second; or nothing. */
export type ReportOutput = 'terminal' | 'lines' | 'json' | 'none'

const LINE_MS = 10_000
const JSON_MS = 1000

/** Shows the reports of a copy: a line, and one for each target where there are several. */
export function startReports(
  what: string,
  total: number | undefined,
  output: ReportOutput,
  { terminal = process.stderr, jsonLine }: { terminal?: Terminal; jsonLine(line: string): void },
): { update(report: Report): void; stop(): void } {
  if (output === 'none' || (output === 'terminal' && !terminal.isTTY)) return { update() {}, stop() {} }
  const meter = new Meter(total, performance.now())
  const meters: Meter[] = []
  let last: Report | undefined
  const painter = new Painter(terminal)
  const onTerminal = output !== 'json' && terminal.isTTY
  const show = () => {
    const now = performance.now()
    meter.sample(now)
    for (const one of meters) one.sample(now)
    if (output === 'json') {
      if (last === undefined) return
      const targets = last.targets.map(({ error, ...one }) => ({
        ...one,
        ...(error && { error: error.message }),
      }))
      const { rate, secondsLeft } = meter
      const figures = {
        ...last,
        total: total ?? null,
        bytesPerSecond: Math.round(rate),
        secondsLeft,
        targets,
      }
      jsonLine(JSON.stringify({ type: 'progress', ...figures }))
    } else if (onTerminal) {
      painter.draw(reportLines(what, meter, meters, last, terminal.columns || 80))
    } else {
      terminal.write(`${reportLines(what, meter, meters, last, LINE_COLUMNS).join('\n')}\n`)
    }
  }
  const timer = setInterval(show, output === 'json' ? JSON_MS : onTerminal ? DRAW_MS : LINE_MS)
  return {
    update(report) {
      last = report
      meter.bytes = report.bytes
      if (report.targets.length < 2) return
      for (const [at, target] of report.targets.entries()) {
        meters[at] ??= new Meter(total, performance.now())
        meters[at].bytes = target.bytes
      }
    },
    stop() {
      clearInterval(timer)
      painter.clear()
    },
  }
}

// Without a terminal there is no width, and a bar is of no use: as for 79 columns, which have none beside so many figures.
const LINE_COLUMNS = 80
// Columns of the share, the rate and the time left, and of the name that stands before them.
const FIGURES = 31
const LEAST_LABEL = 8

/** A line for all, with what was skipped or is bad where there is space, and one for each of several targets. */
export function reportLines(
  what: string,
  meter: Meter,
  meters: readonly Meter[],
  report: Report | undefined,
  columns: number,
): string[] {
  const extras = [
    ...(report !== undefined && report.skipped > 0 ? [`${bytesText(report.skipped)} skipped`] : []),
    ...(report !== undefined && report.bad > 0 ? [`${bytesText(report.bad)} bad`] : []),
  ]
  const extra = extras.length > 0 ? `  ${extras.join('  ')}` : ''
  const least = progressLine(what, meter, columns - extra.length)
  // What is bad is said however narrow it is; a bar makes way for it.
  const fits = extra.length > 0 && least.startsWith(what) && columns > extra.length
  const lines = [fits ? least + extra : progressLine(what, meter, columns)]
  if (meters.length < 2 || report === undefined) return lines
  const longest = Math.max(...report.targets.map(({ name }) => name.length))
  const width = Math.max(LEAST_LABEL, Math.min(longest, columns >> 1, columns - FIGURES))
  for (const [at, { name, error }] of report.targets.entries()) {
    const label = (name.length <= width ? name : `…${name.slice(1 - width)}`).padEnd(width)
    const line = error
      ? `  ${label} failed: ${error.message}`
      : progressLine(`  ${label}`, meters[at]!, columns)
    // Too narrow for both: what says which target it is counts more than the rate.
    const named = line.startsWith(`  ${label}`) ? line : `  ${label} ${line.trim()}`
    lines.push(named.slice(0, columns - 1))
  }
  return lines
}

const LOOK_MS = 200

/** What one look at an operation finds: its share from 0 to 1 while it runs, or that it is over. */
export type Look = number | 'over'

/** Waits until `look` finds the operation over. Rejects with AbortError when `signal` is aborted: it goes on then. */
export async function waitUntilOver(
  what: string,
  look: () => Promise<Look>,
  signal: AbortSignal,
  terminal: Pick<NodeJS.WriteStream, 'isTTY' | 'write'> = process.stderr,
): Promise<void> {
  let drawn = false
  try {
    for (let found = await look(); found !== 'over'; found = await look()) {
      if (terminal.isTTY) terminal.write(`\r${what}: ${Math.floor(found * 100)} %\u001b[K`)
      drawn = terminal.isTTY
      await sleep(LOOK_MS, undefined, { signal }).catch(() => {
        throw new AbortError(signal.reason)
      })
    }
  } finally {
    if (drawn) terminal.write('\r\u001b[K')
  }
}
