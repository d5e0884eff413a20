// Error Information log page (NVMe 1.4 base, section 5.14.1.1, figure 195). Keys are nvme-cli's.
// Trade-off: every entry of the page is given, unused ones too (error_count 0), so that positions are kept.

import { DecodeError, OutOfRangeError } from '../../../errors.ts'
import { bits, type Decoded, type Encodable, structure, u8, u16, u32, u64 } from '../codec.ts'

export const ERROR_LOG_ENTRY_BYTES = 64

const layout = {
  /** Counts errors over the controller's life; 0 means that the entry is not used. */
  error_count: [0, u64],
  /** Submission queue and command; FFFFh where the error belongs to no command. */
  sqid: [8, u16],
  cmdid: [10, u16],
  /** Status without its phase tag: `decodeStatus(status_field << 1)` tells what it says. */
  status_field: [12, bits(u16, 1, 15)],
  phase_tag: [12, bits(u16, 0, 1)],
  /** Where the command is wrong: byte in bits 7:0, bit in 10:8; FFFFh where it can't be told. */
  parm_error_location: [14, u16],
  /** First LBA that had the error. A bigint: controllers put all-ones there where it means nothing. */
  lba: [16, u64],
  nsid: [24, u32],
  /** Log page with more information, vendor specific; 0 none. */
  vs: [28, u8],
  /** Transport type; 0 for PCI Express. */
  trtype: [29, u8],
  /** Command set and opcode (2.0). */
  csi: [30, u8],
  opcode: [31, u8],
  /** Command specific information. */
  cs: [32, u64],
  trtype_spec_info: [40, u16],
  log_page_version: [63, u8],
} as const

const entry = structure('Error Information Log Entry', ERROR_LOG_ENTRY_BYTES, layout)

export interface ErrorLogEntry extends Decoded<typeof layout> {}

/**
 * The entries of an error log, newest first: as many as there are whole ones.
 * Throws DecodeError where there is not even one.
 */
export function decodeErrorLog(bytes: Uint8Array): ErrorLogEntry[] {
  const count = Math.floor(bytes.length / entry.bytes)
  if (count === 0) throw new DecodeError(`${entry.name}: 64 bytes are needed, there are ${bytes.length}`)
  return Array.from({ length: count }, (_, i) => entry.decode(bytes.subarray(i * entry.bytes)))
}

/** Encodes entries one after the other, 64 bytes each. Fields left out are zero. */
export function encodeErrorLog(
  entries: readonly Encodable<typeof layout>[],
  target: Uint8Array = new Uint8Array(entries.length * entry.bytes),
): Uint8Array {
  if (target.length < entries.length * entry.bytes) {
    throw new OutOfRangeError(`Error log: ${entries.length} entries do not fit in ${target.length} bytes`)
  }
  entries.forEach((value, i) => {
    entry.encode(value, target.subarray(i * entry.bytes))
  })
  return target
}
