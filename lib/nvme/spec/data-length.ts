// How many bytes a command makes the controller read or write, as far as its opcode and dwords say (NVMe 2.0 base,
// section 5; NVM command set 1.0, section 3; ZNS 1.1, section 3).
// Trade-off: the controller does not know how long a buffer is, and goes on beyond its end. What the specification
// leaves to a vendor or to a protocol is not known here, and counts as nothing.

import { FEATURE, FEATURE_SELECT, featureInfo } from './features.ts'
import { ADMIN, NVM } from './opcodes.ts'

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
