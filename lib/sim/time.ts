// Times in addresses: `100us`, `2ms`.
// A unit is needed, since a bare number of seconds would be far from what a latency is; an hour at most:
// longer is a mistake.

import { parseDuration } from '../sys/units.ts'

const MAX_TIME_MS = 3_600_000

/** A time such as `100us`, in milliseconds; undefined where it is none, has no unit, or is over an hour. */
export function parseTime(text: string): number | undefined {
  if (text !== '0' && /\d$/.test(text)) return undefined
  try {
    const ms = parseDuration(text)
    return ms <= MAX_TIME_MS ? ms : undefined
  } catch {
    return undefined
  }
}
