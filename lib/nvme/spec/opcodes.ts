// Opcodes of the admin and the NVM command set, with the specification's names (NVMe 1.4 base, sections 5 and 6).
// One table for each queue type, read both ways; names are looked up on cold paths only.

import { FNA } from './flags.ts'

/** Opcodes of admin commands. */
export const ADMIN = {
  DELETE_IO_SQ: 0x00,
  CREATE_IO_SQ: 0x01,
  GET_LOG_PAGE: 0x02,
  DELETE_IO_CQ: 0x04,
  CREATE_IO_CQ: 0x05,
  IDENTIFY: 0x06,
  ABORT: 0x08,
  SET_FEATURES: 0x09,
  GET_FEATURES: 0x0a,
  ASYNC_EVENT_REQUEST: 0x0c,
  NAMESPACE_MANAGEMENT: 0x0d,
  FIRMWARE_COMMIT: 0x10,
  FIRMWARE_DOWNLOAD: 0x11,
  DEVICE_SELF_TEST: 0x14,
  NAMESPACE_ATTACHMENT: 0x15,
  KEEP_ALIVE: 0x18,
  DIRECTIVE_SEND: 0x19,
  DIRECTIVE_RECEIVE: 0x1a,
  VIRTUALIZATION_MANAGEMENT: 0x1c,
  NVME_MI_SEND: 0x1d,
  NVME_MI_RECEIVE: 0x1e,
  CAPACITY_MANAGEMENT: 0x20,
  LOCKDOWN: 0x24,
  DOORBELL_BUFFER_CONFIG: 0x7c,
  FORMAT_NVM: 0x80,
  SECURITY_SEND: 0x81,
  SECURITY_RECEIVE: 0x82,
  SANITIZE: 0x84,
  GET_LBA_STATUS: 0x86,
} as const

/** Opcodes of the NVM command set's I/O commands. */
export const NVM = {
  FLUSH: 0x00,
  WRITE: 0x01,
  READ: 0x02,
  WRITE_UNCORRECTABLE: 0x04,
  COMPARE: 0x05,
  WRITE_ZEROES: 0x08,
  DATASET_MANAGEMENT: 0x09,
  VERIFY: 0x0c,
  RESERVATION_REGISTER: 0x0d,
  RESERVATION_REPORT: 0x0e,
  RESERVATION_ACQUIRE: 0x11,
  RESERVATION_RELEASE: 0x15,
  COPY: 0x19,
} as const

/** Namespace id that means every namespace. */
export const ALL_NAMESPACES = 0xffff_ffff
/** The highest namespace id: FFFFFFFEh. */
export const MAX_NSID = ALL_NAMESPACES - 1

const names = (table: Record<string, number>) =>
  new Map(Object.entries(table).map(([name, opcode]) => [opcode, title(name)]))

const ADMIN_NAMES = names(ADMIN)
const NVM_NAMES = names(NVM)

/** The specification's name of an opcode, as `Write Zeroes`; `Vendor Specific` and `Unknown` included. */
export function opcodeName(opcode: number, { admin = false } = {}): string {
  const known = (admin ? ADMIN_NAMES : NVM_NAMES).get(opcode)
  if (known !== undefined) return known
  const vendor = admin ? opcode >= 0xc0 : opcode >= 0x80
  return vendor ? 'Vendor Specific' : 'Unknown'
}

const READING: ReadonlySet<number> = new Set([
  ...[NVM.FLUSH, NVM.READ, NVM.COMPARE, NVM.VERIFY, NVM.RESERVATION_REPORT],
  // I/O Management Receive, Zone Management Receive.
  ...[0x12, 0x7a],
])

/** True for I/O commands that may change what a namespace holds: all that are not known to change nothing. */
export function mayChangeData(opcode: number): boolean {
  return !READING.has(opcode)
}

/** True for admin commands that end the data of a namespace, or of all: `nsid` says which. */
export function endsData(opcode: number, cdw10: number): boolean {
  if (opcode === ADMIN.FORMAT_NVM || opcode === ADMIN.SANITIZE || opcode === ADMIN.CAPACITY_MANAGEMENT)
    return true
  // Delete, and detach.
  return (
    (opcode === ADMIN.NAMESPACE_MANAGEMENT || opcode === ADMIN.NAMESPACE_ATTACHMENT) && (cdw10 & 0xf) === 1
  )
}

/**
 * True where such a command ends the data of every namespace, whichever it names.
 * @param fna of Identify Controller
 */
export function endsAllData(opcode: number, cdw10: number, fna: number): boolean {
  if (opcode === ADMIN.SANITIZE || opcode === ADMIN.CAPACITY_MANAGEMENT) return true
  if (opcode !== ADMIN.FORMAT_NVM) return false
  const erases = ((cdw10 >>> 9) & 7) !== 0
  return (fna & FNA.FORMAT_ALL) !== 0 || (erases && (fna & FNA.ERASE_ALL) !== 0)
}

/** Data direction, which is in an opcode's low two bits (section 4.2, figure 105): 1 to the device, 2 from it. */
export function dataDirection(opcode: number): 'none' | 'write' | 'read' | 'both' {
  return (['none', 'write', 'read', 'both'] as const)[opcode & 3]!
}

function title(name: string): string {
  return name
    .split('_')
    .map((word) =>
      word === 'IO' || word === 'SQ' || word === 'CQ' || word === 'NVM'
        ? word
        : word[0] + word.slice(1).toLowerCase(),
    )
    .join(' ')
    .replace('IO ', 'I/O ')
    .replace('SQ', 'Submission Queue')
    .replace('CQ', 'Completion Queue')
    .replace('Async', 'Asynchronous')
    .replace('Nvme Mi ', 'NVMe-MI ')
    .replace('Lba', 'LBA')
    .replace('Firmware Download', 'Firmware Image Download')
}
