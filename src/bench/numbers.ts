// Numbers as fio writes them: at most four characters and a unit, in powers of 1000 or 1024.
// Trade-off: only what reports need; the exact values are in the JSON.

import { BINARY_UNITS, DECIMAL_UNITS } from '../../lib/sys/units.ts'

/** `972`, `45.2k`, `1234k`: no more than four digits. */
export function short(value: number): string {
  return `${scaled(value, 1000, ['', 'k', 'M', 'G', 'T'])}`
}

/** `703MiB`: powers of 1024. */
export function binary(bytes: number): string {
  return scaled(bytes, 1024, BINARY_UNITS)
}

/** `737MB`: powers of 1000. */
export function decimal(bytes: number): string {
  return scaled(bytes, 1000, DECIMAL_UNITS)
}

function scaled(value: number, base: number, units: readonly string[]): string {
  let unit = 0
  while (Math.round(value) >= (unit === 0 ? 10_000 : base) && unit < units.length - 1) {
    value /= base
    unit++
  }
  return digits(value, unit > 0) + units[unit]
}

/** Three significant digits where there is a fraction to show. */
function digits(value: number, fraction: boolean): string {
  if (!fraction || value >= 100) return String(Math.round(value))
  return value.toFixed(value >= 10 ? 1 : 2)
}

export interface TimeUnit {
  /** As fio names it: `nsec`, `usec`, `msec`. */
  readonly name: string
  /** `ns`, `us`, `ms`. */
  readonly short: string
  readonly ns: number
}

const NSEC: TimeUnit = { name: 'nsec', short: 'ns', ns: 1 }
const USEC: TimeUnit = { name: 'usec', short: 'us', ns: 1e3 }
const MSEC: TimeUnit = { name: 'msec', short: 'ms', ns: 1e6 }

/** The largest unit in which the smallest and the largest of some times can still be told apart. */
export function timeUnit(min: number, max: number): TimeUnit {
  if (min > 2e6 && max > 99_999e3) return MSEC
  return min > 2e3 && max > 99_999 ? USEC : NSEC
}

/** `812 ns`, `12.3 us`, `4.56 ms`, `1.20 s`. */
export function timeText(ns: number): string {
  if (ns < 1000) return `${Math.round(ns)} ns`
  if (ns < 1e6) return `${digits(ns / 1e3, true)} us`
  return ns < 1e9 ? `${digits(ns / 1e6, true)} ms` : `${digits(ns / 1e9, true)} s`
}

/** The same for a round number, without zeroes that say nothing: `30 us`. */
export function timeTick(ns: number): string {
  return timeText(ns).replace(/\.0+ /, ' ')
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
