// Messages made wrong at random, the same way for the same seed.

import fs from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { eventfd, F, fcntl, ftruncate, MFD, memfd_create, SEAL } from '../../lib/sys/libc.ts'
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
  /** What is done as soon as it has been sent. */
  after?(): void
}

export interface Mutator {
  /** A new session: which of its messages is changed, and how. */
  next(): void
  mutate(message: Buffer, fds: readonly number[]): Mutated
}

/** A descriptor that is not what belongs there, and what its owner does as soon as the other side has it. */
export interface WrongFile {
  /** For messages. */
  readonly kind: string
  readonly fd: number
  after(): void
}

const ALLOW_SEALING = MFD.CLOEXEC | MFD.ALLOW_SEALING
const F_SEAL_WRITE = 8
const O_NONBLOCK = fs.constants.O_NONBLOCK

function memory(bytes: number, seals = 0, flags: number = ALLOW_SEALING): number {
  const fd = memfd_create('wrong', flags)
  ftruncate(fd, bytes)
  if (seals !== 0) fcntl(fd, F.ADD_SEALS, seals)
  return fd
}

const shorten = (fd: number) => () => void ftruncate(fd, 0)
const nothing = () => {}

/** Another descriptor of the same file, with other rights; the first one is closed. */
function reopen(fd: number, flags: number): number {
  const again = fs.openSync(`/proc/self/fd/${fd}`, flags)
  fs.closeSync(fd)
  return again
}

type MakeFile = (bytes: number) => Omit<WrongFile, 'kind'>

/** Files where memory of `bytes` belongs, or an eventfd. */
const WRONG_FILES: Readonly<Record<string, MakeFile>> = {
  'memfd without a seal, shortened': (bytes) => {
    const fd = memory(bytes)
    return { fd, after: shorten(fd) }
  },
  'memfd that can not be sealed, shortened': (bytes) => {
    const fd = memory(bytes, 0, MFD.CLOEXEC)
    return { fd, after: shorten(fd) }
  },
  'memfd whose seals are sealed, shortened': (bytes) => {
    const fd = memory(bytes, SEAL.SEAL)
    return { fd, after: shorten(fd) }
  },
  'memfd that is sealed and too short': (bytes) => ({
    fd: memory(bytes - 4096, SEAL.SHRINK | SEAL.GROW),
    after: nothing,
  }),
  'memfd of no bytes': () => ({ fd: memory(0, SEAL.SHRINK), after: nothing }),
  'memfd that is read-only': (bytes) => ({
    fd: reopen(memory(bytes, SEAL.SHRINK), fs.constants.O_RDONLY),
    after: nothing,
  }),
  'memfd that is sealed against writing': (bytes) => ({
    fd: memory(bytes, SEAL.SHRINK | F_SEAL_WRITE),
    after: nothing,
  }),
  'file on disk, shortened': (bytes) => {
    const name = path.join(tmpdir(), `unvme-wrong-${process.pid}-${count++}`)
    const fd = fs.openSync(name, 'w+')
    fs.unlinkSync(name)
    ftruncate(fd, bytes)
    return { fd, after: shorten(fd) }
  },
  'file in shared memory, shortened': (bytes) => {
    const name = `/dev/shm/unvme-wrong-${process.pid}-${count++}`
    const fd = fs.openSync(name, 'w+')
    fs.unlinkSync(name)
    ftruncate(fd, bytes)
    return { fd, after: shorten(fd) }
  },
  directory: () => ({ fd: fs.openSync('/', 'r'), after: nothing }),
  '/dev/zero': () => ({ fd: fs.openSync('/dev/zero', 'r+'), after: nothing }),
  '/dev/full': () => ({ fd: fs.openSync('/dev/full', 'r+'), after: nothing }),
  '/proc/self/mem': () => ({ fd: fs.openSync('/proc/self/mem', 'r+'), after: nothing }),
  eventfd: () => ({ fd: newEventfd(), after: nothing }),
  'eventfd that is full and blocks': () => {
    const fd = eventfd(0, 0x80800)
    fill(fd)
    return {
      fd,
      after() {
        fcntl(fd, F.SETFL, fcntl(fd, F.GETFL, 0) & ~O_NONBLOCK)
      },
    }
  },
}

let count = 0

/** As many as an eventfd can count. */
function fill(fd: number): void {
  const most = Buffer.alloc(8, 0xff)
  most[0] = 0xfe
  fs.writeSync(fd, most)
}

/** The kinds of `wrongFile`. */
export const WRONG_KINDS: readonly string[] = Object.keys(WRONG_FILES)

/** A descriptor of a kind, or of any, where a file of `bytes` or an eventfd belongs; the caller closes it. */
export function wrongFile(
  bytes: number,
  random: Random,
  kind = WRONG_KINDS[random(WRONG_KINDS.length)]!,
): WrongFile {
  return { kind, ...WRONG_FILES[kind]!(bytes) }
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

/** Makes the descriptors of replies wrong, or breaks the replies off; every eighth session is as it should be. */
export function createFileMutator(seed: number, bytes: number): Mutator {
  const random = createRandom(seed)
  let session = 0
  let until = 0
  return {
    next() {
      session++
      until = random(24)
    },
    mutate(message, fds) {
      const same: Mutated = { bytes: message, fds: [...fds], own: [], last: false, changed: true }
      const right = { ...same, changed: false }
      if (session % 8 === 0) return right
      if (fds.length > 0 && random(8) > 0) {
        const files = Array.from({ length: 1 + random(3) }, () => wrongFile(bytes, random))
        const own = files.map(({ fd }) => fd)
        const after = () => {
          for (const file of files) file.after()
        }
        // In place of the right one, or before it.
        return { ...same, fds: random(4) === 0 ? [...own, ...fds] : own, own, after }
      }
      if (until-- > 0) return right
      until = random(40)
      switch (random(4)) {
        case 0:
          return { ...same, bytes: message.subarray(0, random(message.length)), last: true }
        case 1:
          return { ...same, fds: [] }
        case 2: {
          const { fd: own } = wrongFile(bytes, random)
          return {
            ...same,
            bytes: message.subarray(0, random(message.length)),
            fds: [own],
            own: [own],
            last: true,
          }
        }
        default:
          return right
      }
    },
  }
}
