// Sizes and durations as people write them, and numbers as they are printed: in one place for addresses, options, reports.
// Dd's rule for the letters, and exact: what is no whole number of bytes is an error, never rounded.

import { ArgumentTypeError, OutOfRangeError } from '../errors.ts'

/** Bytes of a page: of the memory that devices reach, and of their lists of it (CC.MPS 0). */
export const PAGE_BYTES = 4096
/** Bytes of a huge page on x86-64. */
export const HUGE_PAGE_BYTES = 2 ** 21

/** Units of sizes in powers of 1024 and of 1000, as they are printed. */
export const BINARY_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const
export const DECIMAL_UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'] as const

const LETTERS = 'kmgtpe'

/**
 * Bytes of a size, by dd's rule: `K`, `M`, `G`, `T`, `P` and `E`, alone or with `iB`, are powers of 1024; with `B`
 * they are powers of 1000. `512` and `512B` are bytes. Upper and lower case are the same, but for `b` after a bare
 * number: that is a block of 512 bytes for dd and one byte for others. `1.5G` is taken, since it is a whole number of
 * bytes.
 * @returns a safe integer from 0
 * @throws ArgumentTypeError for what is no size; OutOfRangeError for a fraction of a byte, or for 8 PiB and more
 */
export function parseSize(text: string): number {
  const parts = /^(\d{1,30})(?:\.(\d{1,30}))?(?:([kmgtpe])(i?b)?|B)?$/i.exec(text)
  if (parts === null) {
    throw new ArgumentTypeError(`'${text}' is not a size such as 512, 4k, 128KiB, 1G (1024s) or 1GB (1000s)`)
  }
  const [, whole = '', fraction = '', letter, suffix] = parts
  if (letter === undefined && text.endsWith('b')) {
    throw new ArgumentTypeError(
      `'${text}' can be blocks of 512 bytes, as for dd, or bytes: write ${text.slice(0, -1)} for bytes`,
    )
  }
  const base = suffix?.toLowerCase() === 'b' ? 1000n : 1024n
  const power = letter === undefined ? 0 : LETTERS.indexOf(letter.toLowerCase()) + 1
  const scaled = BigInt(whole + fraction) * base ** BigInt(power)
  const divisor = 10n ** BigInt(fraction.length)
  if (scaled % divisor !== 0n) throw new OutOfRangeError(`${text} is no whole number of bytes`)
  const bytes = Number(scaled / divisor)
  if (Number.isSafeInteger(bytes)) return bytes
  throw new OutOfRangeError(`${text} is more than ${Number.MAX_SAFE_INTEGER} bytes`)
}

const MILLISECONDS = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1e3, m: 6e4, h: 3.6e6, d: 8.64e7 } as const

/**
 * Milliseconds of a duration: `100us`, `2ms`, `15s`, `1.5m`, `2h`, `1d`; seconds without a unit.
 * @throws ArgumentTypeError for what is no duration
 */
export function parseDuration(text: string): number {
  const parts = /^(\d{1,15}(?:\.\d{1,15})?)(ns|us|µs|ms|s|m|h|d)?$/.exec(text)
  if (parts === null) {
    throw new ArgumentTypeError(`'${text}' is not a duration such as 100us, 2ms, 15s or 1m`)
  }
  return Number(parts[1]) * MILLISECONDS[(parts[2] ?? 's') as keyof typeof MILLISECONDS]
}

/** Bytes in powers of 1000 with two decimals, as makers of devices and nvme-cli count: `1.07 GB`. */
export function bytesText(bytes: number | bigint): string {
  let value = Number(bytes)
  let unit = 0
  while (value >= 1000 && unit < DECIMAL_UNITS.length - 1) {
    value /= 1000
    unit++
  }
  return `${Number.isInteger(value) && unit === 0 ? value : value.toFixed(2)} ${DECIMAL_UNITS[unit]}`
}

/** Exactly, in the largest power of 1024 that divides it: `4 KiB`, `1 MiB`, `512 bytes`. */
export function sizeText(bytes: number): string {
  let unit = 0
  while (bytes > 0 && bytes % 1024 === 0 && unit < BINARY_UNITS.length - 1) {
    bytes /= 1024
    unit++
  }
  return `${bytes} ${unit === 0 ? 'bytes' : BINARY_UNITS[unit]}`
}

/** In whole KiB, from 1 MiB on in whole MiB, rounded up: what is needed to hold it. */
export function roomText(bytes: number): string {
  return bytes < 2 ** 20 ? `${Math.ceil(bytes / 1024)} KiB` : `${Math.ceil(bytes / 2 ** 20)} MiB`
}

// As fio writes them: at most four characters and a unit.

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
