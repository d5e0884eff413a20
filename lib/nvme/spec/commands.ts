// Commands (NVMe 2.0 base, section 5; 1.4 where it is the same): their dwords, which the driver encodes and the software
// controller decodes, the data of Dataset Management, and how many bytes a command makes the controller read or write.

import { OutOfRangeError } from '../../errors.ts'
import { high32, join32 } from '../../sys/int64.ts'
import { bits, type Decoded, type Encodable, entries, flag, lbaCount, structure, u32, word } from './codec.ts'
import { FEATURE, FEATURE_SELECT, featureInfo } from './features.ts'
import { ADMIN, NVM } from './opcodes.ts'

// Create and Delete I/O Submission and Completion Queue (sections 5.3 to 5.6).

const queueLayout = {
  qid: [0, bits(u32, 0, 16)],
  /** Entries: zero-based; 0 for a delete. */
  qsize: [0, bits(u32, 16, 16)],
} as const

const completionQueueLayout = {
  /** Physically contiguous, interrupts enabled, interrupt vector. */
  pc: [0, flag(u32, 0)],
  ien: [0, flag(u32, 1)],
  iv: [0, bits(u32, 16, 16)],
} as const

const submissionQueueLayout = {
  /** Physically contiguous, priority, completion queue. */
  pc: [0, flag(u32, 0)],
  qprio: [0, bits(u32, 1, 2)],
  cqid: [0, bits(u32, 16, 16)],
} as const

/** Dword 10 of each of the four; dword 11 of the two that create. */
export const { decode: decodeQueue, encode: encodeQueue } = word('I/O queue dword 10', queueLayout)
export const { decode: decodeCreateCq, encode: encodeCreateCq } = word(
  'Create I/O Completion Queue dword 11',
  completionQueueLayout,
)
export const { decode: decodeCreateSq, encode: encodeCreateSq } = word(
  'Create I/O Submission Queue dword 11',
  submissionQueueLayout,
)

// Get Log Page (section 5.14): the length and the offset are bytes here.

const dw10 = word('Get Log Page dword 10', {
  lid: [0, bits(u32, 0, 8)],
  lsp: [0, bits(u32, 8, 7)],
  rae: [0, flag(u32, 15)],
  numdl: [0, bits(u32, 16, 16)],
})
const dw11 = word('Get Log Page dword 11', {
  numdu: [0, bits(u32, 0, 16)],
  lsi: [0, bits(u32, 16, 16)],
})
const dw14 = word('Get Log Page dword 14', {
  uuid: [0, bits(u32, 0, 7)],
  ot: [0, flag(u32, 23)],
  csi: [0, bits(u32, 24, 8)],
})

/** What a Get Log Page command asks for. */
export interface LogPageRequest {
  /** Log page identifier: see LOG_PAGE. */
  lid: number
  /** Bytes to transfer, a multiple of 4. */
  bytes: number
  /** Log page offset in bytes, a multiple of 4. */
  lpo?: number | undefined
  /** Log specific field and identifier. */
  lsp?: number | undefined
  lsi?: number | undefined
  /** Retain asynchronous event: the event that names this page stays reported. */
  rae?: boolean | undefined
  /** UUID index, command set identifier, offset type (the offset is an index, 2.0). */
  uuid?: number | undefined
  csi?: number | undefined
  ot?: boolean | undefined
}

/** The same with nothing left out. */
export type DecodedLogPageRequest = { [K in keyof LogPageRequest]-?: NonNullable<LogPageRequest[K]> }

export interface LogPageDwords {
  cdw10: number
  cdw11: number
  cdw12: number
  cdw13: number
  cdw14: number
}

/** Throws OutOfRangeError for a value that does not fit. */
export function encodeGetLogPage(request: LogPageRequest): LogPageDwords {
  const { lid, bytes, lpo = 0, lsp = 0, lsi = 0, rae = false, uuid = 0, csi = 0, ot = false } = request
  if (!Number.isInteger(bytes / 4) || bytes < 4 || bytes > 2 ** 34) {
    throw new OutOfRangeError(`length of a log page: ${bytes} bytes, where a multiple of 4 is needed`)
  }
  if (!Number.isSafeInteger(lpo) || lpo < 0 || (!ot && lpo % 4 !== 0)) {
    throw new OutOfRangeError(`log page offset ${lpo}: a multiple of 4 is needed`)
  }
  const numd = bytes / 4 - 1
  return {
    cdw10: dw10.encode({ lid, lsp, rae, numdl: numd & 0xffff }),
    cdw11: dw11.encode({ numdu: Math.floor(numd / 0x1_0000), lsi }),
    cdw12: lpo >>> 0,
    cdw13: high32(lpo) >>> 0,
    cdw14: dw14.encode({ uuid, ot, csi }),
  }
}

export function decodeGetLogPage(dwords: LogPageDwords): DecodedLogPageRequest {
  const { lid, lsp, rae, numdl } = dw10.decode(dwords.cdw10)
  const { numdu, lsi } = dw11.decode(dwords.cdw11)
  const bytes = (numdu * 0x1_0000 + numdl + 1) * 4
  const lpo = join32(dwords.cdw12, dwords.cdw13)
  return { lid, lsp, rae, bytes, lsi, lpo, ...dw14.decode(dwords.cdw14) }
}

// Namespace Management and Namespace Attachment (sections 5.20 and 5.19).

/** Selections of Namespace Management. */
export const NAMESPACE_MANAGEMENT = { CREATE: 0, DELETE: 1 } as const
/** Selections of Namespace Attachment. */
export const NAMESPACE_ATTACHMENT = { ATTACH: 0, DETACH: 1 } as const

const selectLayout = {
  /** One of NAMESPACE_MANAGEMENT or NAMESPACE_ATTACHMENT. */
  sel: [0, bits(u32, 0, 4)],
} as const

/** Dword 10 of Namespace Management and of Namespace Attachment. */
export const { decode: decodeNamespaceSelect, encode: encodeNamespaceSelect } = word(
  'Namespace Management dword 10',
  selectLayout,
)

// Format NVM, Sanitize and Device Self-test (sections 5.23, 5.24 and 5.8).

const formatLayout = {
  /** LBA format: its low four bits, and above them two more where there are more than 16 formats. */
  lbafl: [0, bits(u32, 0, 4)],
  lbafu: [0, bits(u32, 12, 2)],
  /** Metadata settings: at the end of each block's data, instead of in a buffer of its own. */
  mset: [0, flag(u32, 4)],
  /** Protection information: 0 none, 1 to 3 its type. */
  pi: [0, bits(u32, 5, 3)],
  /** Protection information location: the first eight bytes of metadata, instead of the last. */
  pil: [0, flag(u32, 8)],
  /** Secure erase settings: one of FORMAT_ERASE. */
  ses: [0, bits(u32, 9, 3)],
} as const

/** Secure erase settings of Format NVM. */
export const FORMAT_ERASE = { NONE: 0, USER_DATA: 1, CRYPTO: 2 } as const

const sanitizeLayout = {
  /** One of SANITIZE_ACTION. */
  sanact: [0, bits(u32, 0, 3)],
  /** Allow unrestricted sanitize exit. */
  ause: [0, flag(u32, 3)],
  /** Overwrite pass count: 0 means 16. */
  owpass: [0, bits(u32, 4, 4)],
  /** Overwrite invert pattern between passes. */
  oipbp: [0, flag(u32, 8)],
  /** No deallocate after sanitize. */
  ndas: [0, flag(u32, 9)],
} as const

/** Actions of Sanitize. */
export const SANITIZE_ACTION = { EXIT_FAILURE: 1, BLOCK_ERASE: 2, OVERWRITE: 3, CRYPTO_ERASE: 4 } as const

const selfTestLayout = {
  /** One of SELF_TEST. */
  stc: [0, bits(u32, 0, 4)],
} as const

/** Dword 10 of Format NVM. */
export const { decode: decodeFormat, encode: encodeFormat } = word('Format NVM dword 10', formatLayout)
/** Dword 10 of Sanitize; dword 11 is the overwrite pattern. */
export const { decode: decodeSanitize, encode: encodeSanitize } = word('Sanitize dword 10', sanitizeLayout)
/** Dword 10 of Device Self-test. */
export const { decode: decodeSelfTest, encode: encodeSelfTest } = word(
  'Device Self-test dword 10',
  selfTestLayout,
)

// Firmware Image Download and Firmware Commit (sections 5.11 and 5.12): lengths and offsets are bytes here.

/** Commit actions. */
export const COMMIT_ACTION = {
  /** The image goes to a slot, and is not activated. */
  REPLACE: 0,
  /** It goes to a slot, which becomes active at the next controller level reset. */
  REPLACE_AND_ACTIVATE: 1,
  /** The slot that is named becomes active at the next controller level reset. */
  ACTIVATE: 2,
  /** The image, where one was downloaded, or the slot that is named, becomes active at once. */
  ACTIVATE_NOW: 3,
  REPLACE_BOOT_PARTITION: 6,
  ACTIVATE_BOOT_PARTITION: 7,
} as const

const commitLayout = {
  /** Firmware slot: 0 lets the controller choose. */
  fs: [0, bits(u32, 0, 3)],
  /** One of COMMIT_ACTION. */
  ca: [0, bits(u32, 3, 3)],
  /** Boot partition identifier. */
  bpid: [0, bits(u32, 31, 1)],
} as const

/** Dword 10 of Firmware Commit. */
export const { decode: decodeFirmwareCommit, encode: encodeFirmwareCommit } = word(
  'Firmware Commit dword 10',
  commitLayout,
)

/**
 * Dwords 10 and 11 of Firmware Image Download.
 * @param part bytes of this part, and where it belongs in the image: multiples of 4
 */
export function encodeFirmwareDownload({ bytes, offset }: { bytes: number; offset: number }): {
  cdw10: number
  cdw11: number
} {
  const fits = (n: number) => Number.isInteger(n / 4) && n / 4 < 2 ** 32
  if (!fits(bytes) || bytes < 4 || !fits(offset) || offset < 0) {
    throw new OutOfRangeError(`a firmware part of ${bytes} bytes at ${offset}: multiples of 4 are needed`)
  }
  return { cdw10: bytes / 4 - 1, cdw11: offset / 4 }
}

export function decodeFirmwareDownload(dwords: { cdw10: number; cdw11: number }): {
  bytes: number
  offset: number
} {
  return { bytes: (dwords.cdw10 + 1) * 4, offset: dwords.cdw11 * 4 }
}

// Dataset Management (NVM command set 1.0, section 3.2.3): counts of blocks are not zero-based, as there.

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

/** Dword 11 of Dataset Management. */
export const { decode: decodeDsmAttributes, encode: encodeDsmAttributes } = word(
  'Dataset Management dword 11',
  attributesLayout,
)
const rangeList = entries(structure('Dataset Management range', DSM_RANGE_BYTES, rangeLayout))

export interface DsmRange extends Decoded<typeof rangeLayout> {}

/** The data of Dataset Management, 16 bytes for each range. Throws OutOfRangeError on none and on more than 256. */
export function encodeDsmRanges(ranges: readonly Encodable<typeof rangeLayout>[]): Uint8Array {
  if (ranges.length < 1 || ranges.length > DSM_MAX_RANGES) {
    throw new OutOfRangeError(`Dataset Management: ${ranges.length} ranges, where 1 to 256 are possible`)
  }
  return rangeList.encode(ranges)
}

/** Decodes as many ranges as there are whole ones; throws DecodeError for an LBA beyond any device. */
export const decodeDsmRanges = rangeList.decode

/** Opcode, and dwords 10 to 12: 0 where they are left out. */
export interface CommandDwords {
  opcode: number
  cdw10?: number | undefined
  cdw11?: number | undefined
  cdw12?: number | undefined
}

const IDENTIFY_BYTES = 4096
const DOORBELL_PAGES_BYTES = 2 * 4096
const LBA_RANGE_BYTES = 64
// Namespace Management, select: create. Directive Receive of Streams: Allocate Resources.
const CREATE = 0
const STREAMS_ALLOCATE = 0x0103

// Zoned namespaces, and I/O Management (2.0): of no use here but to know their lengths.
const ZONE_MANAGEMENT_RECEIVE = 0x7a
const ZONE_APPEND = 0x7d
const IO_MANAGEMENT_RECEIVE = 0x12

/** A count of dwords as commands have it: zero-based. */
const dwords = (numd: number) => ((numd >>> 0) + 1) * 4

/** Bytes of an admin command's data; 0 where it has none, or nothing is known of it. */
export function adminDataBytes({ opcode, cdw10 = 0, cdw11 = 0, cdw12 = 0 }: CommandDwords): number {
  switch (opcode) {
    case ADMIN.IDENTIFY:
    case ADMIN.NAMESPACE_ATTACHMENT:
      return IDENTIFY_BYTES
    case ADMIN.NAMESPACE_MANAGEMENT:
      return (cdw10 & 0xf) === CREATE ? IDENTIFY_BYTES : 0
    case ADMIN.GET_LOG_PAGE:
      return dwords(((cdw11 & 0xffff) << 16) | (cdw10 >>> 16))
    case ADMIN.GET_FEATURES:
      return ((cdw10 >>> 8) & 7) === FEATURE_SELECT.SUPPORTED ? 0 : featureBytes(cdw10 & 0xff, cdw11, 'get')
    case ADMIN.SET_FEATURES:
      return featureBytes(cdw10 & 0xff, cdw11, 'set')
    case ADMIN.FIRMWARE_DOWNLOAD:
      return dwords(cdw10)
    case ADMIN.SECURITY_SEND:
    case ADMIN.SECURITY_RECEIVE:
      return cdw11 >>> 0
    case ADMIN.DIRECTIVE_RECEIVE:
      return (cdw11 & 0xffff) === STREAMS_ALLOCATE ? 0 : dwords(cdw10)
    case ADMIN.GET_LBA_STATUS:
      return dwords(cdw12)
    case ADMIN.DOORBELL_BUFFER_CONFIG:
      return DOORBELL_PAGES_BYTES
    case ADMIN.CREATE_IO_SQ:
      return ((cdw10 >>> 16) + 1) * 64
    case ADMIN.CREATE_IO_CQ:
      return ((cdw10 >>> 16) + 1) * 16
    default:
      return 0
  }
}

function featureBytes(fid: number, cdw11: number, call: 'get' | 'set'): number {
  // A host identifier of 64 bits, unless EXHID asks for 128.
  if (fid === FEATURE.HOST_IDENTIFIER) return (cdw11 & 1) === 1 ? 16 : 8
  // As many ranges as are given; all of the page comes back.
  if (fid === FEATURE.LBA_RANGE_TYPE && call === 'set') return ((cdw11 & 0x3f) + 1) * LBA_RANGE_BYTES
  const { getBytes, setBytes } = featureInfo(fid)
  return call === 'get' ? getBytes : setBytes
}

/**
 * Bytes of an I/O command's data; 0 where it has none, or nothing is known of it.
 * @param blockBytes what one block takes of the data
 */
export function ioDataBytes(command: CommandDwords, blockBytes: number): number {
  const { opcode, cdw10 = 0, cdw11 = 0, cdw12 = 0 } = command
  switch (opcode) {
    case NVM.READ:
    case NVM.WRITE:
    case NVM.COMPARE:
    case ZONE_APPEND:
      return ((cdw12 & 0xffff) + 1) * blockBytes
    case NVM.DATASET_MANAGEMENT:
      return ((cdw10 & 0xff) + 1) * 16
    case NVM.COPY:
      return ((cdw12 & 0xff) + 1) * copyRangeBytes((cdw12 >>> 8) & 0xf)
    case NVM.RESERVATION_REGISTER:
    case NVM.RESERVATION_ACQUIRE:
      return 16
    case NVM.RESERVATION_RELEASE:
      return 8
    case NVM.RESERVATION_REPORT:
      return dwords(cdw10)
    case ZONE_MANAGEMENT_RECEIVE:
      return dwords(cdw12)
    case IO_MANAGEMENT_RECEIVE:
      return dwords(cdw11)
    default:
      return 0
  }
}

/** Bytes of a source range of Copy, by its descriptor format. */
function copyRangeBytes(format: number): number {
  if (format > 3) return 0
  return format % 2 === 0 ? 32 : 40
}
