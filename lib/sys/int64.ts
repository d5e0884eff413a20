// Numbers below 2^53 in 32-bit halves, as registers, queue entries and typed arrays have them.

/** The low half, as a signed 32-bit integer. */
export function low32(value: number): number {
  return value | 0
}

/** The high half, as a signed 32-bit integer. */
export function high32(value: number): number {
  return Math.floor(value / 2 ** 32) | 0
}

/** The number of two halves, signed or not. */
export function join32(low: number, high: number): number {
  return (high >>> 0) * 2 ** 32 + (low >>> 0)
}
