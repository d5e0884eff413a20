// PDUs of NVMe over TCP (NVMe/TCP Transport Specification 1.0, section 3.6): their headers, encoded and decoded, and what
// a receiver checks in each before it believes it. No I/O.

import { ProtocolError } from '../../errors.ts'

/** Types of PDUs: byte 0. */
export const PDU = {
  IC_REQ: 0x00,
  IC_RESP: 0x01,
  H2C_TERM_REQ: 0x02,
  C2H_TERM_REQ: 0x03,
  CAPSULE_CMD: 0x04,
  CAPSULE_RESP: 0x05,
  H2C_DATA: 0x06,
  C2H_DATA: 0x07,
  R2T: 0x09,
} as const

/** Flags: byte 1. */
export const FLAG = { HDGST: 0x01, DDGST: 0x02, LAST: 0x04, SUCCESS: 0x08 } as const

/** Bits of DGST in ICReq and ICResp. */
export const DGST = { HEADER: 1, DATA: 2 } as const

/** Fatal error status of a terminate request. */
export const FES = {
  INVALID_HEADER_FIELD: 1,
  SEQUENCE_ERROR: 2,
  HEADER_DIGEST_ERROR: 3,
  DATA_OUT_OF_RANGE: 4,
  LIMIT_EXCEEDED: 5,
  UNSUPPORTED_PARAMETER: 6,
} as const

const FES_NAMES: Record<number, string> = {
  1: 'invalid PDU header field',
  2: 'PDU sequence error',
  3: 'header digest error',
  4: 'data transfer out of range',
  5: 'limit of R2Ts or of a data transfer exceeded',
  6: 'unsupported parameter',
}

export const COMMON_BYTES = 8
export const IC_BYTES = 128
/** CapsuleCmd, and all others. */
export const COMMAND_BYTES = 72
export const HEADER_BYTES = 24
export const DIGEST_BYTES = 4
/** A terminate request has at most so many bytes of the header that was at fault. */
const MOST_COPIED = 128
/** Least that MAXH2CDATA may be. */
export const LEAST_H2C = 4096

interface Rule {
  readonly name: string
  readonly hlen: number
  /** Both, or neither, of the two digests where they were agreed. */
  readonly digests: boolean
  /** Whether it may, must, or can't carry data. */
  readonly data: 'none' | 'some' | 'any'
}

const RULES: Readonly<Record<number, Rule>> = {
  [PDU.IC_REQ]: { name: 'ICReq', hlen: IC_BYTES, digests: false, data: 'none' },
  [PDU.IC_RESP]: { name: 'ICResp', hlen: IC_BYTES, digests: false, data: 'none' },
  [PDU.H2C_TERM_REQ]: { name: 'H2CTermReq', hlen: HEADER_BYTES, digests: false, data: 'some' },
  [PDU.C2H_TERM_REQ]: { name: 'C2HTermReq', hlen: HEADER_BYTES, digests: false, data: 'some' },
  [PDU.CAPSULE_CMD]: { name: 'CapsuleCmd', hlen: COMMAND_BYTES, digests: true, data: 'any' },
  [PDU.CAPSULE_RESP]: { name: 'CapsuleResp', hlen: HEADER_BYTES, digests: true, data: 'none' },
  [PDU.H2C_DATA]: { name: 'H2CData', hlen: HEADER_BYTES, digests: true, data: 'some' },
  [PDU.C2H_DATA]: { name: 'C2HData', hlen: HEADER_BYTES, digests: true, data: 'some' },
  [PDU.R2T]: { name: 'R2T', hlen: HEADER_BYTES, digests: true, data: 'none' },
}

/** A violation of the protocol, with what a terminate request says of it. */
export type Violation = ProtocolError & { readonly fes: number; readonly fei: number }

/** @param fei offset of the field in the header, where it is one */
export function violation(fes: number, fei: number, message: string): Violation {
  return Object.assign(new ProtocolError(message), { fes, fei })
}

/** As ProtocolError for whatever was thrown while a PDU was received. */
export function isViolation(error: unknown): error is Violation {
  return error instanceof ProtocolError && 'fes' in error
}

/** The specification's name of a type of PDU. */
export function pduName(type: number): string {
  return RULES[type]?.name ?? `PDU of type ${type.toString(16).padStart(2, '0')}h`
}

/** What host and target agreed on for one connection. */
export interface Agreement {
  readonly hdgst: boolean
  readonly ddgst: boolean
}

/** Where the parts of a PDU are, which a receiver finds by its first eight bytes. */
export interface Layout {
  hlen: number
  /** Bytes of the header digest: 4 or 0. */
  hdgst: number
  /** Where the data begins, and how long it is. */
  pdo: number
  data: number
  /** Bytes of the data digest: 4 or 0. */
  ddgst: number
}

export function createLayout(): Layout {
  return { hlen: 0, hdgst: 0, pdo: 0, data: 0, ddgst: 0 }
}

/** A set of types of PDU, as a receiver takes them in a state. */
export function typeSet(...types: readonly number[]): number {
  return types.reduce((set, type) => set | (1 << type), 0)
}

/**
 * Checks the common header of a PDU that may come now, and says in `layout` where its parts are.
 * Throws a violation that names the field.
 *
 * @param accepted types that the receiver takes in its state: a `typeSet`
 * @param mostData most bytes of data that one may carry
 */
export function checkCommonHeader(
  layout: Layout,
  head: Uint8Array,
  accepted: number,
  agreement: Agreement,
  mostData: number,
): void {
  const type = head[0]!
  const rule = RULES[type]
  if (rule === undefined) {
    throw violation(FES.INVALID_HEADER_FIELD, 0, `PDU type ${type.toString(16)}h does not exist`)
  }
  const { name, hlen, digests, data: kind } = rule
  if ((accepted & (1 << type)) === 0) throw violation(FES.SEQUENCE_ERROR, 0, `${name} is not expected here`)
  const flags = head[1]!
  if (head[2] !== hlen) throw badField(2, `${name}: HLEN is ${head[2]}, ${hlen} is needed`)
  const plen = (head[4]! | (head[5]! << 8) | (head[6]! << 16) | (head[7]! << 24)) >>> 0
  const hdgst = digests && agreement.hdgst ? DIGEST_BYTES : 0
  const least = hlen + hdgst
  if (((flags & FLAG.HDGST) !== 0) !== hdgst > 0) {
    const agreed = agreement.hdgst ? 'on' : 'off'
    throw badField(1, `${name}: HDGSTF is ${flags & FLAG.HDGST}, and header digests are ${agreed}`)
  }
  if (plen < least) throw badField(4, `${name}: PLEN is ${plen}, its header alone has ${least} bytes`)
  layout.hlen = hlen
  layout.hdgst = hdgst
  layout.pdo = least
  layout.data = 0
  layout.ddgst = 0
  if (kind === 'none' || (kind === 'any' && plen === least)) {
    if (plen !== least) throw badField(4, `${name}: PLEN is ${plen}, ${least} is needed`)
    return
  }
  // A terminate request has its data right behind its header, and PDO is reserved.
  const pdo = digests ? head[3]! : hlen
  if (pdo < least || pdo % 4 !== 0 || pdo > plen) {
    throw badField(3, `${name}: PDO is ${pdo}, a multiple of 4 from ${least} to PLEN (${plen}) is needed`)
  }
  const ddgst = digests && agreement.ddgst ? DIGEST_BYTES : 0
  if (((flags & FLAG.DDGST) !== 0) !== ddgst > 0) {
    const agreed = agreement.ddgst ? 'on' : 'off'
    throw badField(1, `${name}: DDGSTF is ${(flags & FLAG.DDGST) >> 1}, and data digests are ${agreed}`)
  }
  const data = plen - pdo - ddgst
  if (data < 1) throw badField(4, `${name}: PLEN is ${plen}, with no data behind PDO (${pdo})`)
  const most = digests ? mostData : MOST_COPIED
  if (data > most) {
    throw badField(4, `${name}: PLEN is ${plen}: ${data} bytes of data, at most ${most} are taken`)
  }
  layout.pdo = pdo
  layout.data = data
  layout.ddgst = ddgst
}

function badField(fei: number, message: string): Violation {
  return violation(FES.INVALID_HEADER_FIELD, fei, message)
}

/** What ICReq asks for. */
export interface ConnectionRequest {
  readonly pfv: number
  /** Alignment of data, in dwords, zero-based. */
  readonly hpda: number
  readonly dgst: number
  /** R2Ts that may be outstanding for one command, zero-based. */
  readonly maxr2t: number
}

/** What ICResp answers. */
export interface ConnectionReply {
  readonly pfv: number
  readonly cpda: number
  readonly dgst: number
  /** Most bytes of data in one H2CData. */
  readonly maxh2cdata: number
}

function initialize(type: number, pfv: number, pda: number, dgst: number, dword: number): Buffer {
  const pdu = Buffer.alloc(IC_BYTES)
  writeCommon(pdu, 0, type, 0, IC_BYTES, 0, IC_BYTES)
  pdu.writeUInt16LE(pfv, 8)
  pdu[10] = pda
  pdu[11] = dgst
  pdu.writeUInt32LE(dword, 12)
  return pdu
}

export function encodeIcReq({ pfv, hpda, dgst, maxr2t }: ConnectionRequest): Buffer {
  return initialize(PDU.IC_REQ, pfv, hpda, dgst, maxr2t)
}

export function encodeIcResp({ pfv, cpda, dgst, maxh2cdata }: ConnectionReply): Buffer {
  return initialize(PDU.IC_RESP, pfv, cpda, dgst, maxh2cdata)
}

export function decodeIcReq(head: Buffer): ConnectionRequest {
  return {
    pfv: head.readUInt16LE(8),
    hpda: head[10]!,
    dgst: head[11]!,
    maxr2t: head.readUInt32LE(12),
  }
}

export function decodeIcResp(head: Buffer): ConnectionReply {
  return {
    pfv: head.readUInt16LE(8),
    cpda: head[10]!,
    dgst: head[11]!,
    maxh2cdata: head.readUInt32LE(12),
  }
}

/** Throws a violation that names the field where an ICResp can't be accepted. */
export function checkIcResp({ pfv, cpda, dgst, maxh2cdata }: ConnectionReply, asked: number): void {
  const field = (fei: number, what: string) => violation(FES.INVALID_HEADER_FIELD, fei, `ICResp: ${what}`)
  if (pfv !== 0) throw field(8, `PFV is ${pfv}, 0 is needed`)
  if (cpda > 31) throw field(10, `CPDA is ${cpda}, 0 to 31 are possible`)
  for (const [bit, name] of [
    [DGST.HEADER, 'header'],
    [DGST.DATA, 'data'],
  ] as const) {
    if (((dgst ^ asked) & bit) === 0) continue
    const words = (value: number) => ((value & bit) !== 0 ? 'on' : 'off')
    throw field(11, `DGST is ${dgst}: ${name} digests are ${words(asked)} here and ${words(dgst)} there`)
  }
  if ((dgst & ~3) !== 0) throw field(11, `DGST is ${dgst}, 0 to 3 are possible`)
  if (maxh2cdata < LEAST_H2C || maxh2cdata % 4 !== 0) {
    throw field(12, `MAXH2CDATA is ${maxh2cdata}, a multiple of 4 of at least ${LEAST_H2C} is needed`)
  }
}

/** Writes the common header at the start of a PDU. */
export function writeCommon(
  pdu: Buffer,
  at: number,
  type: number,
  flags: number,
  hlen: number,
  pdo: number,
  plen: number,
): void {
  pdu[at] = type
  pdu[at + 1] = flags
  pdu[at + 2] = hlen
  pdu[at + 3] = pdo
  pdu.writeUInt32LE(plen, at + 4)
}

/** A terminate request for a violation, with the header that was at fault. */
export function encodeTermReq(type: number, { fes, fei }: Violation, header: Uint8Array): Buffer {
  const copied = header.subarray(0, MOST_COPIED)
  const pdu = Buffer.alloc(HEADER_BYTES + copied.length)
  writeCommon(pdu, 0, type, 0, HEADER_BYTES, 0, pdu.length)
  pdu.writeUInt16LE(fes, 8)
  // Right behind FES, and so not on a dword.
  pdu.writeUInt32LE(fei, 10)
  pdu.set(copied, HEADER_BYTES)
  return pdu
}

/** What a terminate request says, for an error's message. */
export function describeTermReq(head: Buffer): string {
  const fes = head.readUInt16LE(8)
  const fei = head.readUInt32LE(10)
  const name = FES_NAMES[fes] ?? `FES ${fes}`
  return fes === FES.INVALID_HEADER_FIELD || fes === FES.UNSUPPORTED_PARAMETER
    ? `${name} at byte ${fei}`
    : name
}
