// Diffie-Hellman groups of RFC 7919, which DH-HMAC-CHAP uses by number. Their primes are computed, as the RFC defines them.

import { createDiffieHellman, type DiffieHellman } from 'node:crypto'

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
  /** Throws where the peer's value is none of the group, 1 or one less than the prime included. */
  agree(value: Uint8Array): Buffer
}

/** A new private value, and the public one of it. Of the null group none. */
export function beginExchange(group: number): Exchange {
  const length = groupBytes(group)!
  if (length === 0) return { value: Buffer.alloc(0), agree: () => Buffer.alloc(0) }
  const half: DiffieHellman = createDiffieHellman(groupPrime(group), 2)
  return {
    value: padded(half.generateKeys(), length),
    agree: (value) => padded(half.computeSecret(value), length),
  }
}

function padded(bytes: Buffer, length: number): Buffer {
  return bytes.length === length ? bytes : Buffer.concat([Buffer.alloc(length - bytes.length), bytes])
}
