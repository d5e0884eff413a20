// Timestamp data structure (NVMe 1.4 base, section 5.21.1.14, figure 302): a feature, and a field of logs.
// Trade-off: milliseconds are a plain number, as Date takes them; who set them stays visible beside.

import { bits, type Decoded, type Encodable, flag, structure, u8, u48 } from './codec.ts'

/** Where a timestamp comes from. */
export const TIMESTAMP_ORIGIN = {
  /** Zero at the last controller level reset. */
  RESET: 0,
  /** Set by the host. */
  HOST: 1,
} as const

const layout = {
  /** Milliseconds since midnight, 1 January 1970 UTC, or since the reset. */
  timestamp: [0, u48],
  /** The controller may have stopped counting at times. */
  synch: [6, flag(u8, 0)],
  /** One of TIMESTAMP_ORIGIN. */
  origin: [6, bits(u8, 1, 3)],
} as const

export const timestampField = structure('Timestamp', 8, layout)

export interface Timestamp extends Decoded<typeof layout> {}

/** Decodes 8 bytes; throws DecodeError on fewer. */
export function decodeTimestamp(bytes: Uint8Array): Timestamp {
  return timestampField.decode(bytes)
}

/** Encodes 8 bytes. Throws OutOfRangeError for a value that does not fit. */
export function encodeTimestamp(value: Encodable<typeof layout>, target?: Uint8Array): Uint8Array {
  return timestampField.encode(value, target)
}
