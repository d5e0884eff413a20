// Times in addresses: `100us`, `2ms`.
// Trade-off: one unit to a time, and an hour at most: longer is a mistake.

const TIMES = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000 } as const
const MAX_LATENCY = 3_600_000

/** A time as `100us`, in milliseconds; undefined where it is none, or over an hour. */
export function parseTime(text: string): number | undefined {
  const match = /^(\d{1,9}(?:\.\d{1,9})?)(ns|us|µs|ms|s)$/.exec(text)
  if (match === null) return text === '0' ? 0 : undefined
  const ms = Number(match[1]) * TIMES[match[2] as keyof typeof TIMES]
  return ms <= MAX_LATENCY ? ms : undefined
}
