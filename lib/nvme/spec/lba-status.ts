// Get LBA Status (NVM command set 1.2, section 4.2.1): the dwords of the command, and the list that it gives.
// Controllers tell which blocks are allocated (ATYPE 02h) since NVM command set 1.1 alone, where their AOCS says so
// (CNS 06h, RALBAS). What NVMe 1.4 and 2.0 have (ATYPE 10h and 11h) tells blocks that may be unreadable, and nothing of holes.

import { OutOfRangeError } from '../../errors.ts'
import { high32, join32 } from '../../sys/int64.ts'
import { bits, type Decoded, entries, lbaCount, scaled, structure, u8, u32, word } from './codec.ts'

/** Action types (ATYPE): which blocks are listed. Each is optional. */
export const LBA_STATUS_ACTION = {
  /** Allocated blocks: those that are not listed are deallocated. */
  ALLOCATED: 0x02,
  /** Potentially unrecoverable blocks, after a scan of the range, which may take long. */
  SCAN: 0x10,
  /** Those that the controller knows of without one. */
  TRACKED: 0x11,
} as const

/** What ended the command (CMPC). */
export const LBA_STATUS_END = {
  /** Nothing is said: of blocks behind the last descriptor nothing is known. */
  UNKNOWN: 0,
  /** The list is full, and there is more. */
  INCOMPLETE: 1,
  /** All of the range has been looked at. */
  COMPLETE: 2,
} as const

/** LBA range status (LBARS). The second, and no other, is of ATYPE 02h. */
export const LBA_RANGE_STATUS = {
  /** Reading may fail, or not. */
  MAY_FAIL: 0,
  /** Reading may fail, or has to: Write Uncorrectable. */
  FAILS: 1,
  ALLOCATED: 2,
  WRITTEN_UNCORRECTABLE: 3,
} as const

/** Bytes of a list's header, and of each descriptor. */
export const LBA_STATUS_HEADER_BYTES = 8
export const LBA_STATUS_BYTES = 16
/** Most blocks of RL; 0 in its place: all up to the end of the namespace. */
export const LBA_STATUS_MOST_BLOCKS = 0xffff

const actionLayout = {
  /** Range length in blocks; 0: up to the end of the namespace. */
  rl: [0, bits(u32, 0, 16)],
  /** One of LBA_STATUS_ACTION. */
  atype: [0, bits(u32, 24, 8)],
} as const
const cdw13 = word('Get LBA Status dword 13', actionLayout)

export interface LbaStatusRequest extends Decoded<typeof actionLayout> {
  slba: number
  /** Of the list, a multiple of 4: MNDW. */
  bytes: number
}

/** Throws OutOfRangeError for a value that does not fit. */
export function encodeGetLbaStatus({ slba, bytes, rl, atype }: LbaStatusRequest) {
  if (!Number.isInteger(bytes / 4) || bytes < LBA_STATUS_HEADER_BYTES || bytes > 2 ** 34) {
    throw new OutOfRangeError(`list of LBA status: ${bytes} bytes, where a multiple of 4 from 8 on is needed`)
  }
  if (!Number.isSafeInteger(slba) || slba < 0) throw new OutOfRangeError(`Get LBA Status: slba ${slba}`)
  return {
    cdw10: slba >>> 0,
    cdw11: high32(slba) >>> 0,
    cdw12: bytes / 4 - 1,
    cdw13: cdw13.encode({ rl, atype }),
  }
}

export function decodeGetLbaStatus(dwords: {
  cdw10: number
  cdw11: number
  cdw12: number
  cdw13: number
}): LbaStatusRequest {
  const slba = join32(dwords.cdw10, dwords.cdw11)
  return { slba, bytes: ((dwords.cdw12 >>> 0) + 1) * 4, ...cdw13.decode(dwords.cdw13) }
}

const header = structure('LBA Status Descriptor List', LBA_STATUS_HEADER_BYTES, {
  nlsd: [0, u32],
  cmpc: [4, u8],
})

const descriptorLayout = {
  dslba: [0, lbaCount],
  /** Blocks, and not one less, as the list itself has it. */
  nlb: [8, scaled(u32, 1, 1)],
  /** One of LBA_RANGE_STATUS. */
  lbars: [13, bits(u8, 0, 3)],
} as const
const descriptors = entries(structure('LBA Status Descriptor', LBA_STATUS_BYTES, descriptorLayout))

/** Blocks of one status. */
export interface LbaStatus extends Decoded<typeof descriptorLayout> {}

export interface LbaStatusList {
  /** Number of descriptors that the controller says it gives; those that did not fit are not among `descriptors`. */
  nlsd: number
  /** One of LBA_STATUS_END. */
  cmpc: number
  descriptors: LbaStatus[]
}

/** Throws DecodeError on fewer than 8 bytes, and for an LBA beyond any device. */
export function decodeLbaStatusList(bytes: Uint8Array): LbaStatusList {
  const { nlsd, cmpc } = header.decode(bytes)
  const end = LBA_STATUS_HEADER_BYTES + nlsd * LBA_STATUS_BYTES
  return { nlsd, cmpc, descriptors: descriptors.decode(bytes.subarray(LBA_STATUS_HEADER_BYTES, end)) }
}

/** Encodes into `target`, whose rest is cleared. Throws OutOfRangeError where they do not fit. */
export function encodeLbaStatusList(
  list: Pick<LbaStatusList, 'cmpc' | 'descriptors'>,
  target: Uint8Array = new Uint8Array(LBA_STATUS_HEADER_BYTES + list.descriptors.length * LBA_STATUS_BYTES),
): Uint8Array {
  target.fill(0)
  header.encode({ nlsd: list.descriptors.length, cmpc: list.cmpc }, target)
  descriptors.encode(list.descriptors, target.subarray(LBA_STATUS_HEADER_BYTES))
  return target
}
