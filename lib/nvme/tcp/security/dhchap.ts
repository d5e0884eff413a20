// DH-HMAC-CHAP (NVMe 2.0 base, 8.13.5): its messages, and how a response is computed. Host and target share it.

import { createHash, createHmac, type KeyObject, timingSafeEqual } from 'node:crypto'
import { DecodeError } from '../../../errors.ts'
import { groupBytes } from './dh-groups.ts'
import { hashBytes, hashName } from './keys.ts'

/** AUTH_TYPE << 8 | AUTH_ID */
export const MESSAGE = {
  NEGOTIATE: 0x000,
  CHALLENGE: 0x101,
  REPLY: 0x102,
  SUCCESS1: 0x103,
  SUCCESS2: 0x104,
  FAILURE2: 0x0f0,
  FAILURE1: 0x0f1,
} as const

/** Reasons of a failure, by what follows reason code 1. */
export const FAILURE = {
  FAILED: 1,
  PROTOCOL_UNUSABLE: 2,
  CONCATENATION_MISMATCH: 3,
  HASH_UNUSABLE: 4,
  GROUP_UNUSABLE: 5,
  INCORRECT_PAYLOAD: 6,
  INCORRECT_MESSAGE: 7,
} as const

const FAILURES: Record<number, string> = {
  [FAILURE.FAILED]: 'authentication failed',
  [FAILURE.PROTOCOL_UNUSABLE]: 'no protocol that both have',
  [FAILURE.CONCATENATION_MISMATCH]: 'secure channel concatenation mismatch',
  [FAILURE.HASH_UNUSABLE]: 'no hash that both take',
  [FAILURE.GROUP_UNUSABLE]: 'no DH group that both take',
  [FAILURE.INCORRECT_PAYLOAD]: 'incorrect payload',
  [FAILURE.INCORRECT_MESSAGE]: 'incorrect protocol message',
}

const PROTOCOL_DHCHAP = 1
const NEGOTIATE_BYTES = 72
const HASHES_AT = 12
const GROUPS_AT = 42
const MOST_IDS = 30
const HEADER_BYTES = 16
const FAILURE_REASON = 1
const FAILURE_BYTES = 16

/** Most bytes of a message: a reply with SHA-512 and the largest group. */
export const MOST_MESSAGE_BYTES = 4096

export interface Negotiate {
  readonly tid: number
  /** Secure channel concatenation that is asked for. */
  readonly concatenation: number
  readonly hashes: readonly number[]
  readonly groups: readonly number[]
}

export interface Challenge {
  readonly tid: number
  readonly hash: number
  readonly group: number
  readonly seqnum: number
  readonly challenge: Buffer
  readonly value: Buffer
}

export interface ChallengeReply {
  readonly tid: number
  readonly response: Buffer
  readonly seqnum: number
  /** The host's own challenge, where the controller has to prove itself. */
  readonly challenge: Buffer | null
  readonly value: Buffer
}

export interface Failure {
  readonly tid: number
  readonly explanation: number
}

/** Which message it is. Throws DecodeError for less than a header. */
export function messageOf(bytes: Buffer): { readonly message: number; readonly tid: number } {
  if (bytes.length < HEADER_BYTES) throw new DecodeError(`DH-HMAC-CHAP: a message of ${bytes.length} bytes`)
  return { message: (bytes[0]! << 8) | bytes[1]!, tid: bytes.readUInt16LE(4) }
}

function begin(message: number, tid: number, bytes: number): Buffer {
  const out = Buffer.alloc(bytes)
  out[0] = message >> 8
  out[1] = message & 0xff
  out.writeUInt16LE(tid, 4)
  return out
}

export function encodeNegotiate({ tid, concatenation, hashes, groups }: Negotiate): Buffer {
  const out = begin(MESSAGE.NEGOTIATE, tid, NEGOTIATE_BYTES)
  out[6] = concatenation
  out[7] = 1
  out[8] = PROTOCOL_DHCHAP
  out[10] = hashes.length
  out[11] = groups.length
  out.set(hashes, HASHES_AT)
  out.set(groups, GROUPS_AT)
  return out
}

/** Throws DecodeError for another number of protocols than one, or none of DH-HMAC-CHAP. */
export function decodeNegotiate(bytes: Buffer): Negotiate {
  need(bytes, NEGOTIATE_BYTES, 'Negotiate')
  const [hashes, groups] = [bytes[10]!, bytes[11]!]
  if (bytes[7] !== 1 || bytes[8] !== PROTOCOL_DHCHAP || hashes > MOST_IDS || groups > MOST_IDS) {
    throw new DecodeError('DH-HMAC-CHAP: Negotiate offers something else')
  }
  return {
    ...{ tid: bytes.readUInt16LE(4), concatenation: bytes[6]! },
    hashes: [...bytes.subarray(HASHES_AT, HASHES_AT + hashes)],
    groups: [...bytes.subarray(GROUPS_AT, GROUPS_AT + groups)],
  }
}

export function encodeChallenge({ tid, hash, group, seqnum, challenge, value }: Challenge): Buffer {
  const out = begin(MESSAGE.CHALLENGE, tid, HEADER_BYTES + challenge.length + value.length)
  out[6] = challenge.length
  out[8] = hash
  out[9] = group
  out.writeUInt16LE(value.length, 10)
  out.writeUInt32LE(seqnum, 12)
  out.set(challenge, HEADER_BYTES)
  out.set(value, HEADER_BYTES + challenge.length)
  return out
}

/** Throws DecodeError for a hash or a group that there is not, and for lengths that are not theirs. */
export function decodeChallenge(bytes: Buffer): Challenge {
  need(bytes, HEADER_BYTES, 'Challenge')
  const [hash, group, length] = [bytes[8]!, bytes[9]!, bytes.readUInt16LE(10)]
  const hl = hashBytes(hash)
  if (hl === undefined || bytes[6] !== hl)
    throw new DecodeError(`DH-HMAC-CHAP: hash ${hash} of ${bytes[6]} bytes`)
  if (groupBytes(group) !== length) throw new DecodeError(`DH-HMAC-CHAP: group ${group} with ${length} bytes`)
  need(bytes, HEADER_BYTES + hl + length, 'Challenge')
  return {
    ...{ tid: bytes.readUInt16LE(4), hash, group, seqnum: bytes.readUInt32LE(12) },
    challenge: bytes.subarray(HEADER_BYTES, HEADER_BYTES + hl),
    value: bytes.subarray(HEADER_BYTES + hl, HEADER_BYTES + hl + length),
  }
}

export function encodeReply({ tid, response, seqnum, challenge, value }: ChallengeReply): Buffer {
  const hl = response.length
  const out = begin(MESSAGE.REPLY, tid, HEADER_BYTES + 2 * hl + value.length)
  out[6] = hl
  out[8] = challenge === null ? 0 : 1
  out.writeUInt16LE(value.length, 10)
  out.writeUInt32LE(seqnum, 12)
  out.set(response, HEADER_BYTES)
  if (challenge !== null) out.set(challenge, HEADER_BYTES + hl)
  out.set(value, HEADER_BYTES + 2 * hl)
  return out
}

/** Throws DecodeError for other lengths than those that were agreed on. */
export function decodeReply(bytes: Buffer, hash: number, group: number): ChallengeReply {
  need(bytes, HEADER_BYTES, 'Reply')
  const hl = hashBytes(hash)!
  const length = bytes.readUInt16LE(10)
  if (bytes[6] !== hl || length !== groupBytes(group))
    throw new DecodeError('DH-HMAC-CHAP: Reply of other lengths')
  need(bytes, HEADER_BYTES + 2 * hl + length, 'Reply')
  return {
    ...{ tid: bytes.readUInt16LE(4), seqnum: bytes.readUInt32LE(12) },
    response: bytes.subarray(HEADER_BYTES, HEADER_BYTES + hl),
    challenge: bytes[8] === 0 ? null : bytes.subarray(HEADER_BYTES + hl, HEADER_BYTES + 2 * hl),
    value: bytes.subarray(HEADER_BYTES + 2 * hl, HEADER_BYTES + 2 * hl + length),
  }
}

export function encodeSuccess1(tid: number, hash: number, response: Buffer | null): Buffer {
  const hl = hashBytes(hash)!
  const out = begin(MESSAGE.SUCCESS1, tid, HEADER_BYTES + hl)
  out[6] = hl
  if (response === null) return out
  out[8] = 1
  out.set(response, HEADER_BYTES)
  return out
}

/** The controller's response; null where it gives none. Throws DecodeError for one of another length. */
export function decodeSuccess1(bytes: Buffer, hash: number): Buffer | null {
  need(bytes, HEADER_BYTES, 'Success1')
  if (bytes[8] === 0) return null
  const hl = hashBytes(hash)!
  if (bytes[6] !== hl) throw new DecodeError(`DH-HMAC-CHAP: Success1 with a hash of ${bytes[6]} bytes`)
  need(bytes, HEADER_BYTES + hl, 'Success1')
  return bytes.subarray(HEADER_BYTES, HEADER_BYTES + hl)
}

export function encodeSuccess2(tid: number): Buffer {
  return begin(MESSAGE.SUCCESS2, tid, HEADER_BYTES)
}

/** @param message FAILURE1 of a controller, FAILURE2 of a host */
export function encodeFailure(message: number, { tid, explanation }: Failure): Buffer {
  const out = begin(message, tid, FAILURE_BYTES)
  out[6] = FAILURE_REASON
  out[7] = explanation
  return out
}

export function describeFailure(bytes: Buffer): string {
  return FAILURES[bytes[7]!] ?? `reason ${bytes[6]}, explanation ${bytes[7]}`
}

function need(bytes: Buffer, least: number, what: string): void {
  if (bytes.length < least) {
    throw new DecodeError(`DH-HMAC-CHAP: ${what} has ${bytes.length} bytes, ${least} are needed`)
  }
}

/** What a response proves. */
export interface Proof {
  readonly hash: number
  readonly key: KeyObject
  readonly challenge: Buffer
  /** What the DH exchange agreed on; empty for the null group. */
  readonly shared: Buffer
  readonly seqnum: number
  readonly tid: number
  readonly hostnqn: string
  readonly subnqn: string
}

/** Of the host: that it has its key. */
export function hostResponse(proof: Proof): Buffer {
  return respond(proof, 'HostHost', proof.hostnqn, proof.subnqn)
}

/** Of the controller. */
export function controllerResponse(proof: Proof): Buffer {
  return respond(proof, 'Controller', proof.subnqn, proof.hostnqn)
}

function respond(proof: Proof, who: string, first: string, second: string): Buffer {
  const { hash, key, challenge, shared, seqnum, tid } = proof
  const name = hashName(hash)
  const numbers = Buffer.alloc(7)
  numbers.writeUInt32LE(seqnum, 0)
  // The byte after them says that no secure channel is concatenated.
  numbers.writeUInt16LE(tid, 4)
  const augmented =
    shared.length === 0
      ? challenge
      : createHmac(name, createHash(name).update(shared).digest()).update(challenge).digest()
  return createHmac(name, key)
    .update(augmented)
    .update(numbers)
    .update(`${who}${first}\0${second}`, 'utf8')
    .digest()
}

/** In a time that tells nothing of where they differ. */
export function isSame(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}
