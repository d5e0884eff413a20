// Fabrics commands (NVMe over Fabrics 1.1a, section 3; NVMe 2.0 base, section 6): entries, Connect's data, the discovery log.

import { DecodeError } from '../../errors.ts'
import { high32, join32 } from '../../sys/int64.ts'

/** Opcode of every Fabrics command; FCTYPE, byte 4, says which. */
export const FABRICS_OPCODE = 0x7f

export const FCTYPE = {
  PROPERTY_SET: 0x00,
  CONNECT: 0x01,
  PROPERTY_GET: 0x04,
  AUTHENTICATION_SEND: 0x05,
  AUTHENTICATION_RECEIVE: 0x06,
  DISCONNECT: 0x08,
} as const

const NAMES: Record<number, string> = {
  [FCTYPE.PROPERTY_SET]: 'Property Set',
  [FCTYPE.CONNECT]: 'Connect',
  [FCTYPE.PROPERTY_GET]: 'Property Get',
  [FCTYPE.AUTHENTICATION_SEND]: 'Authentication Send',
  [FCTYPE.AUTHENTICATION_RECEIVE]: 'Authentication Receive',
  [FCTYPE.DISCONNECT]: 'Disconnect',
}

export function fabricsName(fctype: number): string {
  return NAMES[fctype] ?? `Fabrics command ${fctype.toString(16)}h`
}

/** Statuses of Fabrics commands, `sct << 8 | sc`: some of these numbers mean something else to other commands. */
export const FABRICS_STATUS = {
  INCOMPATIBLE_FORMAT: 0x180,
  CONTROLLER_BUSY: 0x181,
  CONNECT_INVALID_PARAMETERS: 0x182,
  CONNECT_RESTART_DISCOVERY: 0x183,
  CONNECT_INVALID_HOST: 0x184,
  DISCOVER_RESTART: 0x190,
  AUTHENTICATION_REQUIRED: 0x191,
} as const

const STATUS_NAMES: Record<number, string> = {
  [FABRICS_STATUS.INCOMPATIBLE_FORMAT]: 'Incompatible Format',
  [FABRICS_STATUS.CONTROLLER_BUSY]: 'Controller Busy',
  [FABRICS_STATUS.CONNECT_INVALID_PARAMETERS]: 'Connect Invalid Parameters',
  [FABRICS_STATUS.CONNECT_RESTART_DISCOVERY]: 'Connect Restart Discovery',
  [FABRICS_STATUS.CONNECT_INVALID_HOST]: 'Connect Invalid Host',
  [FABRICS_STATUS.DISCOVER_RESTART]: 'Discover Restart',
  [FABRICS_STATUS.AUTHENTICATION_REQUIRED]: 'Authentication Required',
}

/** Name of a status that only Fabrics commands have; undefined for all others. */
export function fabricsStatusName(status: number): string | undefined {
  return STATUS_NAMES[status]
}

/** PSDT 01b: an SGL, in every command. */
export const PSDT_SGL = 0x40
/** Last byte of an SGL descriptor: data within the capsule, or by PDUs of its own. */
export const SGL = { IN_CAPSULE: 0x01, TRANSPORT: 0x5a } as const

/** Controller id of a Connect to a subsystem that makes controllers as hosts come. */
export const CNTLID_DYNAMIC = 0xffff

/** The discovery service's name. */
export const DISCOVERY_NQN = 'nqn.2014-08.org.nvmexpress.discovery'
/** Most bytes of a qualified name. */
export const MAX_NQN_BYTES = 223

export const CONNECT_BYTES = 1024
const HOSTID_AT = 0
const CNTLID_AT = 16
const SUBNQN_AT = 256
const HOSTNQN_AT = 512
const NQN_FIELD_BYTES = 256

/** Where Connect's fields are, for the invalid parameter offset of its answer. */
export const CONNECT_FIELD = {
  RECFMT: 40,
  QID: 42,
  SQSIZE: 44,
  KATO: 48,
} as const
/** In the data. */
export const CONNECT_DATA_FIELD = {
  HOSTID: HOSTID_AT,
  CNTLID: CNTLID_AT,
  SUBNQN: SUBNQN_AT,
  HOSTNQN: HOSTNQN_AT,
} as const

export interface ConnectData {
  /** 16 bytes. */
  readonly hostid: Uint8Array
  readonly cntlid: number
  readonly subnqn: string
  readonly hostnqn: string
}

export function encodeConnectData({ hostid, cntlid, subnqn, hostnqn }: ConnectData): Buffer {
  const data = Buffer.alloc(CONNECT_BYTES)
  data.set(hostid, HOSTID_AT)
  data.writeUInt16LE(cntlid, CNTLID_AT)
  data.write(subnqn, SUBNQN_AT, MAX_NQN_BYTES, 'utf8')
  data.write(hostnqn, HOSTNQN_AT, MAX_NQN_BYTES, 'utf8')
  return data
}

/** Throws DecodeError for data of another length, or a name without an end. */
export function decodeConnectData(data: Buffer): ConnectData {
  if (data.length !== CONNECT_BYTES) {
    throw new DecodeError(`Connect's data: ${data.length} bytes, ${CONNECT_BYTES} are needed`)
  }
  return {
    hostid: Uint8Array.from(data.subarray(HOSTID_AT, HOSTID_AT + 16)),
    cntlid: data.readUInt16LE(CNTLID_AT),
    subnqn: nqnAt(data, SUBNQN_AT, 'SUBNQN'),
    hostnqn: nqnAt(data, HOSTNQN_AT, 'HOSTNQN'),
  }
}

function nqnAt(data: Buffer, at: number, field: string): string {
  const end = data.indexOf(0, at)
  if (end < 0 || end - at > MAX_NQN_BYTES) {
    throw new DecodeError(`${field}: no NUL within ${MAX_NQN_BYTES + 1} bytes`)
  }
  return data.toString('utf8', at, end)
}

/** A submission queue entry as its sixteen dwords, without SGL and identifier. */
export type Entry = readonly number[]

function entry(fctype: number, dwords: Readonly<Record<number, number>>): number[] {
  const words = new Array<number>(16).fill(0)
  words[0] = FABRICS_OPCODE
  words[1] = fctype
  for (const [at, value] of Object.entries(dwords)) words[Number(at)] = value >>> 0
  return words
}

export interface ConnectRequest {
  readonly qid: number
  /** Entries of the queue, less one. */
  readonly sqsize: number
  /** Milliseconds; of the admin queue. */
  readonly kato: number
}

/** Connect, of record format 0. */
export function encodeConnect({ qid, sqsize, kato }: ConnectRequest): Entry {
  return entry(FCTYPE.CONNECT, { 10: qid << 16, 11: sqsize, 12: kato })
}

/** @param bytes 4 or 8 */
export function encodePropertyGet(offset: number, bytes: 4 | 8): Entry {
  return entry(FCTYPE.PROPERTY_GET, { 10: bytes === 8 ? 1 : 0, 11: offset })
}

/** Of 4 bytes. */
export function encodePropertySet(offset: number, value: number): Entry {
  return entry(FCTYPE.PROPERTY_SET, { 11: offset, 12: value })
}

export function encodeDisconnect(): Entry {
  return entry(FCTYPE.DISCONNECT, {})
}

/** SECP E9h and SPSP 0101h: NVMe's authentication, of messages of DH-HMAC-CHAP. */
export const AUTHENTICATION_PROTOCOL = 0xe901_0100

/** @param bytes of the message */
export function encodeAuthenticationSend(bytes: number): Entry {
  return entry(FCTYPE.AUTHENTICATION_SEND, { 10: AUTHENTICATION_PROTOCOL, 11: bytes })
}

/** @param bytes that a message may have */
export function encodeAuthenticationReceive(bytes: number): Entry {
  return entry(FCTYPE.AUTHENTICATION_RECEIVE, { 10: AUTHENTICATION_PROTOCOL, 11: bytes })
}

/** AUTHREQ in dword 0 of Connect's answer: authentication is required, or that with a secure channel out of it. */
export const AUTHREQ = { ATR: 0x2_0000, ASCR: 0x4_0000 } as const

// Discovery Log Page (70h).

export const DISCOVERY_LOG = 0x70
export const DISCOVERY_RECORD_BYTES = 1024

export const TRTYPE = { RDMA: 1, FC: 2, TCP: 3, LOOP: 254 } as const
export const ADRFAM = { IPV4: 1, IPV6: 2, IB: 3, FC: 4 } as const
export const SUBTYPE = { REFERRAL: 1, NVM: 2, CURRENT_DISCOVERY: 3 } as const

/** One entry of the discovery log. */
export interface DiscoveryRecord {
  readonly trtype: number
  readonly adrfam: number
  readonly subtype: number
  readonly treq: number
  readonly portid: number
  readonly cntlid: number
  readonly asqsz: number
  readonly eflags: number
  readonly trsvcid: string
  readonly subnqn: string
  readonly traddr: string
  readonly sectype: number
}

export interface DiscoveryLog {
  readonly genctr: number
  readonly records: readonly DiscoveryRecord[]
}

export function encodeDiscoveryLog({ genctr, records }: DiscoveryLog): Buffer {
  const log = Buffer.alloc((records.length + 1) * DISCOVERY_RECORD_BYTES)
  log.writeUInt32LE(genctr >>> 0, 0)
  log.writeUInt32LE(high32(genctr) >>> 0, 4)
  log.writeUInt32LE(records.length, 8)
  records.forEach((record, i) => {
    const at = log.subarray((i + 1) * DISCOVERY_RECORD_BYTES)
    at[0] = record.trtype
    at[1] = record.adrfam
    at[2] = record.subtype
    at[3] = record.treq
    at.writeUInt16LE(record.portid, 4)
    at.writeUInt16LE(record.cntlid, 6)
    at.writeUInt16LE(record.asqsz, 8)
    at.writeUInt16LE(record.eflags, 10)
    // Filled up with spaces, as ASCII fields of the specification are.
    at.fill(' ', 32, 64).write(record.trsvcid, 32, 32, 'latin1')
    at.write(record.subnqn, 256, MAX_NQN_BYTES, 'utf8')
    at.fill(' ', 512, 768).write(record.traddr, 512, 256, 'latin1')
    at[768] = record.sectype
  })
  return log
}

/** Header of the log: what a reader needs for the rest. */
export function decodeDiscoveryHeader(log: Buffer): { genctr: number; numrec: number } {
  if (log.length < 16) throw new DecodeError(`discovery log: ${log.length} bytes, 16 at least are needed`)
  const half = (at: number) => join32(log.readUInt32LE(at), log.readUInt32LE(at + 4))
  return { genctr: half(0), numrec: half(8) }
}

/** Decodes a log of `numrec` records. Throws DecodeError where it is too short. */
export function decodeDiscoveryLog(log: Buffer): DiscoveryLog {
  const { genctr, numrec } = decodeDiscoveryHeader(log)
  if (log.length < (numrec + 1) * DISCOVERY_RECORD_BYTES) {
    throw new DecodeError(`discovery log: ${log.length} bytes are too few for ${numrec} records`)
  }
  const records = Array.from({ length: numrec }, (_, i) => {
    const at = log.subarray((i + 1) * DISCOVERY_RECORD_BYTES, (i + 2) * DISCOVERY_RECORD_BYTES)
    return {
      trtype: at[0]!,
      adrfam: at[1]!,
      subtype: at[2]!,
      treq: at[3]!,
      portid: at.readUInt16LE(4),
      cntlid: at.readUInt16LE(6),
      asqsz: at.readUInt16LE(8),
      eflags: at.readUInt16LE(10),
      trsvcid: text(at, 32, 32),
      subnqn: text(at, 256, NQN_FIELD_BYTES),
      traddr: text(at, 512, 256),
      sectype: at[768]!,
    }
  })
  return { genctr, records }
}

// Some fill their fields up with spaces, some with NULs.
function text(bytes: Buffer, at: number, length: number): string {
  return bytes
    .toString('utf8', at, at + length)
    .replace(/\0.*$/s, '')
    .trim()
}
