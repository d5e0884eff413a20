// Diffie-Hellman groups of RFC 7919, which DH-HMAC-CHAP uses by number. Their primes are computed, as the RFC defines them.

import { createPublicKey, diffieHellman, generateKeyPairSync, type KeyPairKeyObjectResult } from 'node:crypto'

export const DH_GROUP = {
  NULL: 0,
  FFDHE2048: 1,
  FFDHE3072: 2,
  FFDHE4096: 3,
  FFDHE6144: 4,
  FFDHE8192: 5,
} as const

/** By number: as options name them. */
export const DH_GROUP_NAMES = [
  'null',
  'ffdhe2048',
  'ffdhe3072',
  'ffdhe4096',
  'ffdhe6144',
  'ffdhe8192',
] as const

// Bits, and what makes each one a prime.
const GROUPS: readonly (readonly [bits: number, offset: bigint])[] = [
  [0, 0n],
  [2048, 560_316n],
  [3072, 2_625_351n],
  [4096, 5_736_041n],
  [6144, 15_705_020n],
  [8192, 10_965_728n],
]
const GUARD_BITS = 64n

const primes = new Map<number, Buffer>()

/** Bytes of a group's values: 0 for the null group, undefined for a number that is no group. */
export function groupBytes(group: number): number | undefined {
  const bits = GROUPS[group]?.[0]
  return bits === undefined ? undefined : bits / 8
}

/** 2^bits - 2^(bits - 64) + (floor(2^(bits - 130) e) + offset) 2^64 - 1 */
export function groupPrime(group: number): Buffer {
  const known = primes.get(group)
  if (known !== undefined) return known
  const [count, offset] = GROUPS[group]!
  const bits = BigInt(count)
  const prime = (1n << bits) - (1n << (bits - 64n)) + ((eulerBits(bits - 130n) + offset) << 64n) - 1n
  const bytes = Buffer.from(prime.toString(16), 'hex')
  primes.set(group, bytes)
  return bytes
}

// floor(2^bits e), by its series.
function eulerBits(bits: bigint): bigint {
  let sum = 0n
  let term = 1n << (bits + GUARD_BITS)
  for (let k = 1n; term > 0n; k++) {
    sum += term
    term /= k
  }
  return sum >> GUARD_BITS
}

/** One half of an exchange. */
export interface Exchange {
  /** To send: as many bytes as the group's prime. */
  readonly value: Buffer
  /** Throws RangeError where the peer's value is none of the group, 1 or one less than the prime included. */
  agree(value: Uint8Array): Buffer
}

// Node's types leave this form out.
const generateKeys = generateKeyPairSync as unknown as (
  type: 'dh',
  options: { prime: Buffer; generator: number },
) => KeyPairKeyObjectResult

/**
 * A new private value, and the public one of it. Of the null group none.
 * Key objects, since `createDiffieHellman` tests whether the prime is one, which takes half a minute for 8192 bits on Node 24.
 */
export function beginExchange(group: number): Exchange {
  const length = groupBytes(group)!
  if (length === 0) return { value: Buffer.alloc(0), agree: () => Buffer.alloc(0) }
  const prime = groupPrime(group)
  const { privateKey, publicKey } = generateKeys('dh', { prime, generator: 2 })
  const { algorithm, value } = readPublicKey(publicKey.export({ type: 'spki', format: 'der' }))
  const least = padded(Buffer.from([2]), length)
  const most = Buffer.from(prime)
  most[length - 1]! -= 2
  return {
    value: padded(value, length),
    agree(peer) {
      const other = padded(Buffer.from(peer), length)
      if (other.length !== length || other.compare(least) < 0 || other.compare(most) > 0) {
        throw new RangeError(`a value of 2 to p - 2 in ${length} bytes is needed`)
      }
      const bits = der(DER.BIT_STRING, Buffer.from([0]), derInteger(other))
      const spki = der(DER.SEQUENCE, algorithm, bits)
      const key = createPublicKey({ key: spki, format: 'der', type: 'spki' })
      return padded(diffieHellman({ privateKey, publicKey: key }), length)
    },
  }
}

// A public key as ASN.1 has it (RFC 5280, SubjectPublicKeyInfo): SEQUENCE { algorithm, BIT STRING { INTEGER } }.

const DER = { INTEGER: 0x02, BIT_STRING: 0x03, SEQUENCE: 0x30 } as const

function der(tag: number, ...parts: Buffer[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  if (length < 0x80) return Buffer.concat([Buffer.from([tag, length]), ...parts])
  if (length < 0x100) return Buffer.concat([Buffer.from([tag, 0x81, length]), ...parts])
  return Buffer.concat([Buffer.from([tag, 0x82, length >> 8, length & 0xff]), ...parts])
}

// No leading zeros but the one of a number that would be negative.
function derInteger(value: Buffer): Buffer {
  const digits = value.subarray(value.findIndex((byte) => byte !== 0))
  return der(DER.INTEGER, Buffer.alloc(digits[0]! >> 7), digits)
}

function derContent(bytes: Buffer, at: number): [start: number, end: number] {
  const first = bytes[at + 1]!
  const more = first < 0x80 ? 0 : first & 0x7f
  const start = at + 2 + more
  return [start, start + (more === 0 ? first : bytes.readUIntBE(at + 2, more))]
}

function readPublicKey(key: Buffer): { algorithm: Buffer; value: Buffer } {
  const [algorithmAt] = derContent(key, 0)
  const [, algorithmEnd] = derContent(key, algorithmAt)
  const [bitsAt] = derContent(key, algorithmEnd)
  // Before the content of a bit string: how many bits of it mean nothing.
  const [start, end] = derContent(key, bitsAt + 1)
  return {
    algorithm: key.subarray(algorithmAt, algorithmEnd),
    value: key.subarray(key[start] === 0 ? start + 1 : start, end),
  }
}

function padded(bytes: Buffer, length: number): Buffer {
  return bytes.length >= length ? bytes : Buffer.concat([Buffer.alloc(length - bytes.length), bytes])
}
