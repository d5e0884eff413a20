// Dataset Management: dword 11 and the ranges (NVM command set 1.0, section 3.2.3; NVMe 1.4 base, section 6.7).
// Trade-off: ranges hold what the command was given, with counts of blocks that are not zero-based, as there.

import { OutOfRangeError } from '../../../errors.ts'
import { type Decoded, type Encodable, flag, lbaCount, structure, u32, word } from '../codec.ts'

export const DSM_RANGE_BYTES = 16
export const DSM_MAX_RANGES = 256

const attributesLayout = {
  /** Integral dataset for read, for write. */
  idr: [0, flag(u32, 0)],
  idw: [0, flag(u32, 1)],
  /** Deallocate. */
  ad: [0, flag(u32, 2)],
} as const

const rangeLayout = {
  /** Context attributes: hints of access frequency, latency, size. */
  cattr: [0, u32],
  nlb: [4, u32],
  slba: [8, lbaCount],
} as const

const attributes = word('Dataset Management dword 11', attributesLayout)
const range = structure('Dataset Management range', DSM_RANGE_BYTES, rangeLayout)

export interface DsmRange extends Decoded<typeof rangeLayout> {}

/** Dword 11 of Dataset Management. */
export function encodeDsmAttributes(value: Encodable<typeof attributesLayout>): number {
  return attributes.encode(value)
}
export function decodeDsmAttributes(dword: number): Decoded<typeof attributesLayout> {
  return attributes.decode(dword)
}

/** The data of Dataset Management, 16 bytes for each range. Throws OutOfRangeError on none and on more than 256. */
export function encodeDsmRanges(ranges: readonly Encodable<typeof rangeLayout>[]): Uint8Array {
  if (ranges.length < 1 || ranges.length > DSM_MAX_RANGES) {
    throw new OutOfRangeError(`Dataset Management: ${ranges.length} ranges, where 1 to 256 are possible`)
  }
  const bytes = new Uint8Array(ranges.length * DSM_RANGE_BYTES)
  ranges.forEach((value, i) => {
    range.encode(value, bytes.subarray(i * DSM_RANGE_BYTES))
  })
  return bytes
}

/** Decodes as many ranges as there are whole ones; throws DecodeError for an LBA beyond any device. */
export function decodeDsmRanges(bytes: Uint8Array): DsmRange[] {
  const count = Math.floor(bytes.length / DSM_RANGE_BYTES)
  return Array.from({ length: count }, (_, i) => range.decode(bytes.subarray(i * DSM_RANGE_BYTES)))
}
