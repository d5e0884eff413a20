// Messages made wrong at random, the same way for the same seed.

import fs from 'node:fs'
import { ftruncate, memfd_create } from '../../lib/sys/libc.ts'
import { newEventfd } from './wire.ts'

interface Mutated {
  bytes: Buffer
  fds: number[]
  /** Those of `fds` that were made for this, to be closed. */
  own: number[]
  /** The sender has nothing more to say. */
  last: boolean
  /** False where it is the message as it was. */
  changed: boolean
}

export interface Mutator {
  /** A new session: which of its messages is changed, and how. */
  next(): void
  mutate(message: Buffer, fds: readonly number[]): Mutated
}

export type Random = (below: number) => number

/** Numbers from 0 on, below what is asked for: a linear congruential generator. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

const INTERESTING = [0, 1, 2, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 16, 15, 4096, 4095, 0x1000_0000, 0x20]

/** A change of the bytes, in place or anew. */
const CHANGES: readonly ((b: Buffer, random: Random) => Buffer)[] = [
  // A bit, a byte, a word.
  (b, random) => {
    const at = random(b.length)
    b[at]! ^= 1 << random(8)
    return b
  },
  (b, random) => {
    b[random(b.length)] = random(256)
    return b
  },
  (b, random) => {
    b.writeUInt32LE(INTERESTING[random(INTERESTING.length)]!, random(b.length >> 2) * 4)
    return b
  },
  // A word of the payload, where there is one.
  (b, random) => {
    const words = (b.length - 16) >> 2
    if (words > 0) b.writeUInt32LE(INTERESTING[random(INTERESTING.length)]!, 16 + random(words) * 4)
    return b
  },
  // Longer or shorter, and the header says so.
  (b, random) => resize(b, 16 + random(b.length)),
  (b, random) => resize(b, b.length + random(64)),
  (b) => resize(b, 16),
  // Everything behind the header is noise.
  (b, random) => {
    for (let i = 16; i < b.length; i++) b[i] = random(256)
    return b
  },
]

function resize(b: Buffer, bytes: number): Buffer {
  const made = Buffer.alloc(bytes)
  b.copy(made)
  made.writeUInt32LE(bytes, 4)
  return made
}

/** Bytes of a message changed once or more. */
export function changeBytes(message: Buffer, random: Random): Buffer {
  let made: Buffer = Buffer.from(message)
  for (let i = random(3); i >= 0; i--) made = CHANGES[random(CHANGES.length)]!(made, random)
  return made
}

/** Descriptors of many kinds, to be closed by the caller. */
export function randomDescriptors(random: Random): number[] {
  return Array.from({ length: 1 + random(10) }, () => {
    switch (random(4)) {
      case 0:
        return newEventfd()
      case 1:
        return fs.openSync('/dev/null', 'r+')
      case 2:
        return fs.openSync('/', 'r')
      default: {
        const fd = memfd_create('fuzz', 1)
        ftruncate(fd, 4096 * random(4))
        return fd
      }
    }
  })
}

/** Changes replies: in each session one of the first 24, with the odd wrong one after it. */
export function createMutator(seed: number): Mutator {
  const random = createRandom(seed)
  let until = 0
  return {
    next() {
      until = random(24)
    },
    mutate(message, fds) {
      const same: Mutated = { bytes: message, fds: [...fds], own: [], last: false, changed: true }
      if (until-- > 0) return { ...same, changed: false }
      until = random(6)
      switch (random(12)) {
        case 0:
          return { ...same, bytes: message.subarray(0, random(message.length)), last: true }
        case 1: {
          const own = randomDescriptors(random)
          return { ...same, fds: [...fds, ...own].slice(0, 10), own }
        }
        case 2:
          return { ...same, fds: [] }
        case 3:
          return { ...same, bytes: Buffer.concat([message, message]) }
        case 4: {
          const noise = Buffer.from(Array.from({ length: 16 + random(64) }, () => random(256)))
          return { ...same, bytes: noise, last: true }
        }
        default: {
          const bytes = changeBytes(message, random)
          // A size that is not sent would only be waited for.
          return { ...same, bytes, last: bytes.readUInt32LE(4) > bytes.length }
        }
      }
    },
  }
}
