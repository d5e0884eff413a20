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
  let drawn = false
  const timer = setInterval(() => {
    meter.sample(performance.now())
    terminal.write(`\r${progressLine(what, meter, terminal.columns || 80)}\u001b[K`)
    drawn = true
  }, DRAW_MS)
  return {
    update(bytes) {
      meter.bytes = bytes
    },
    stop() {
      clearInterval(timer)
      if (drawn) terminal.write('\r\u001b[K')
    },
  }
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
