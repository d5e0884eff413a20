// Identify Namespace of the NVM command set (NVMe 1.4 base, section 5.15.2.1, figure 245; fields of 2.0 included).
// Trade-off: sizes in logical blocks are numbers and not bigints, so that they add up with LBAs.

import { DecodeError } from '../../../errors.ts'
import {
  bits,
  blockCount,
  type Decoded,
  type Encodable,
  hex,
  list,
  raw,
  structure,
  u8,
  u16,
  u32,
  u128,
} from '../codec.ts'

const MAX_FORMATS = 64

const lbaFormatLayout = {
  /** Metadata bytes for each logical block. */
  ms: [0, u16],
  /** LBA data size: a power of two in bytes, 9 or more; 0 not available. nvme-cli calls it `ds`. */
  lbads: [2, u8],
  /** Relative performance: 0 best, 3 degraded. */
  rp: [3, bits(u8, 0, 2)],
} as const

const namespaceLayout = {
  /** Namespace size, capacity and utilization in logical blocks; rounded where that is no safe integer. */
  nsze: [0, blockCount],
  ncap: [8, blockCount],
  nuse: [16, blockCount],
  /** Namespace features. */
  nsfeat: [24, u8],
  /** Number of LBA formats: zero-based. */
  nlbaf: [25, u8],
  /** Formatted LBA size: see `formattedLba`. */
  flbas: [26, u8],
  /** Metadata capabilities, data protection capabilities and settings. */
  mc: [27, u8],
  dpc: [28, u8],
  dps: [29, u8],
  /** Multi-path I/O and sharing, reservation capabilities. */
  nmic: [30, u8],
  rescap: [31, u8],
  /** Format progress indicator: bit 7 supported, bits 6:0 per cent that remain. */
  fpi: [32, u8],
  /** Deallocate logical block features. */
  dlfeat: [33, u8],
  /** Atomic write unit normal, at power failure, of compare and write, in logical blocks: zero-based. */
  nawun: [34, u16],
  nawupf: [36, u16],
  nacwu: [38, u16],
  /** Atomic boundary size normal, offset, size at power failure, in logical blocks. */
  nabsn: [40, u16],
  nabo: [42, u16],
  nabspf: [44, u16],
  /** Optimal I/O boundary in logical blocks; 0 none. */
  noiob: [46, u16],
  /** NVM capacity in bytes. */
  nvmcap: [48, u128],
  /** Preferred write granularity and alignment, deallocate granularity and alignment, optimal write size. */
  npwg: [64, u16],
  npwa: [66, u16],
  npdg: [68, u16],
  npda: [70, u16],
  nows: [72, u16],
  /** Of Copy: blocks in a source range, blocks in a command, source ranges (zero-based). */
  mssrl: [74, u16],
  mcl: [76, u32],
  msrc: [80, u8],
  /** Number of unique capability LBA formats. */
  nulbaf: [82, u8],
  anagrpid: [92, u32],
  /** Namespace attributes: bit 0 write protected. */
  nsattr: [99, u8],
  nvmsetid: [100, u16],
  endgid: [102, u16],
  /** Globally unique identifier and EUI-64, as hexadecimal digits. */
  nguid: [104, hex(16)],
  eui64: [120, hex(8)],
  lbafs: [128, list(MAX_FORMATS, structure('LBA Format', 4, lbaFormatLayout))],
  /** Vendor specific. */
  vs: [384, raw(3712)],
} as const

const namespace = structure('Identify Namespace', 4096, namespaceLayout)

/** LBA Format data structure (figure 246). */
export interface LbaFormat extends Decoded<typeof lbaFormatLayout> {}

/** Identify Namespace data structure. All zero for an inactive namespace. */
export interface IdentifyNamespace extends Decoded<typeof namespaceLayout> {}

/** Decodes 4096 bytes; throws DecodeError on fewer. `lbafs` has the formats that the namespace has. */
export function decodeIdentifyNamespace(bytes: Uint8Array): IdentifyNamespace {
  const decoded = namespace.decode(bytes)
  const { nlbaf, nulbaf, lbafs } = decoded
  return { ...decoded, lbafs: lbafs.slice(0, nlbaf + 1 + nulbaf) }
}

/**
 * Encodes 4096 bytes, at the start of `target` where there is one. Fields left out are zero.
 * Throws OutOfRangeError for a value that does not fit, naming its field.
 */
export function encodeIdentifyNamespace(
  value: Encodable<typeof namespaceLayout>,
  target?: Uint8Array,
): Uint8Array {
  return namespace.encode(value, target)
}

/** What FLBAS says: the format in use, its index, and where its metadata goes. */
export interface FormattedLba extends LbaFormat {
  index: number
  /** Logical block in bytes, without metadata. */
  bytes: number
  /** Metadata follows each block's data, instead of standing in a buffer of its own. */
  extended: boolean
}

/** Index of the LBA format that FLBAS names, whether there is one or not. */
export function formatIndex(ns: Pick<IdentifyNamespace, 'flbas' | 'lbafs'>): number {
  // Bits 6:5 count where there are more than 16 formats; with fewer the specification has them ignored.
  const high = ns.lbafs.length > 16 ? (ns.flbas >>> 5) & 3 : 0
  return (ns.flbas & 0xf) | (high << 4)
}

/** The LBA format in use. Throws DecodeError where FLBAS names none, or one of less than 512 bytes. */
export function formattedLba(ns: Pick<IdentifyNamespace, 'flbas' | 'lbafs'>): FormattedLba {
  const index = formatIndex(ns)
  const format = ns.lbafs[index]
  if (format === undefined) {
    throw new DecodeError(`Identify Namespace: flbas names LBA format ${index} of ${ns.lbafs.length}`)
  }
  if (format.lbads < 9 || format.lbads > 31) {
    throw new DecodeError(
      `Identify Namespace: LBA format ${index} has a data size of 2^${format.lbads} bytes`,
    )
  }
  return { ...format, index, bytes: 2 ** format.lbads, extended: (ns.flbas & 0x10) !== 0 }
}
