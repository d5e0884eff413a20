// Header of the Telemetry Host-Initiated and Controller-Initiated log pages (NVMe 1.4 base, sections 5.14.1.7 and .8).
// Trade-off: the header tells how long each area is; what is in the areas is the vendor's, and stays bytes.

import { type Decoded, type Encodable, raw, structure, u8, u16, u24, u32 } from '../codec.ts'

/** Bytes of the header, and of each block that it counts in. */
export const TELEMETRY_BLOCK_BYTES = 512

const layout = {
  /** Log identifier: 7 host-initiated, 8 controller-initiated. */
  lid: [0, u8],
  /** IEEE OUI of who made the data. */
  ieee: [5, u24],
  /** Last block of data areas 1 to 3: each area starts behind the one before; 0 where all up to it are empty. */
  dalb1: [8, u16],
  dalb2: [10, u16],
  dalb3: [12, u16],
  /** Last block of data area 4 (2.0). */
  dalb4: [16, u32],
  /** Generation number of the host-initiated data (2.0). */
  hostdgn: [381, u8],
  /** Controller-initiated data available, and its generation number. */
  ctrlavail: [382, u8],
  ctrldgn: [383, u8],
  /** Reason identifier, vendor specific. */
  rsnident: [384, raw(128)],
} as const

const header = structure('Telemetry Log Header', TELEMETRY_BLOCK_BYTES, layout)

export interface TelemetryHeader extends Decoded<typeof layout> {}

/** Decodes the first 512 bytes; throws DecodeError on fewer. */
export function decodeTelemetryHeader(bytes: Uint8Array): TelemetryHeader {
  return header.decode(bytes)
}

/** Encodes the first 512 bytes. Fields left out are zero. */
export function encodeTelemetryHeader(value: Encodable<typeof layout>, target?: Uint8Array): Uint8Array {
  return header.encode(value, target)
}

/**
 * Bytes of the log, header included, up to the end of a data area: an area that is empty has no last block (0), and
 * those before it still count.
 */
export function telemetryBytes(log: TelemetryHeader, area: 1 | 2 | 3 | 4): number {
  const { dalb1, dalb2, dalb3, dalb4 } = log
  return (Math.max(...[dalb1, dalb2, dalb3, dalb4].slice(0, area)) + 1) * TELEMETRY_BLOCK_BYTES
}
