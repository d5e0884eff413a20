// An io_uring instance with entries for NVMe commands (SQE128, CQE32), mapped.

import { UnsupportedError } from '../../errors.ts'
import { map, replaceMapping, viewOf } from '../../memory/mapping.ts'
import {
  close,
  ERRNO,
  errno,
  errnoName,
  io_uring_register,
  io_uring_setup,
  MAP,
  munmap,
  PROT,
  systemCallError,
} from '../../sys/libc.ts'
import {
  CQ_EVENTFD_DISABLED,
  CQ_OFFSET,
  CQE_WORDS,
  MAP_RINGS,
  MAP_SQES,
  PARAMS,
  PARAMS_BYTES,
  REGISTER_EVENTFD,
  SETUP,
  SQ_OFFSET,
  SQE_WORDS,
} from './abi.ts'

/** A mapping, which another thread finds by its address. */
interface Range {
  readonly address: bigint
  readonly bytes: number
}

/** A ring as plain data: its descriptor, where it is mapped, and where in it what stands, as indices of 32-bit words. */
export interface RingShare {
  readonly fd: number
  readonly sqEntries: number
  readonly cqEntries: number
  readonly polled: boolean
  readonly rings: Range
  readonly sqes: Range
  readonly sqHead: number
  readonly sqTail: number
  readonly sqFlags: number
  readonly sqArray: number
  readonly cqHead: number
  readonly cqTail: number
  readonly cqFlags: number
  readonly cqes: number
}

export interface RingOptions {
  /** Commands at once; rounded up to a power of two. */
  readonly entries: number
  /** A thread of the kernel looks for entries: no system call for a command, and a processor for it. */
  readonly sqpoll?: boolean
}

// How long the kernel's thread looks before it sleeps.
const IDLE_MS = 200

/**
 * Makes a ring.
 * @throws UnsupportedError where the kernel is too old or refuses
 */
export function createRing({ entries, sqpoll = false }: RingOptions): RingShare {
  const flags = SETUP.SQE128 | SETUP.CQE32 | SETUP.CLAMP | SETUP.SUBMIT_ALL
  const how = sqpoll ? SETUP.SQPOLL : SETUP.COOP_TASKRUN | SETUP.TASKRUN_FLAG
  const params = new Uint32Array(PARAMS_BYTES / 4)
  params[PARAMS.FLAGS] = flags | how
  params[PARAMS.SQ_IDLE_MS] = IDLE_MS
  const fd = io_uring_setup(entries, bytesOf(params))
  if (fd < 0) throw refusal(errno())
  try {
    const ring = mapRing(fd, params, sqpoll)
    // An entry of the ring names the entry of the same number, for good.
    const { words } = viewsOfRing(ring)
    for (let i = 0; i < ring.sqEntries; i++) words[ring.sqArray + i] = i
    words[ring.cqFlags] = CQ_EVENTFD_DISABLED
    return ring
  } catch (error) {
    close(fd)
    throw error
  }
}

const WHY_NOT = [
  [ERRNO.EPERM, 'the system refuses io_uring (a container, or kernel.io_uring_disabled)'],
  [ERRNO.ENOSYS, 'the kernel has no io_uring, or a container hides it'],
  [ERRNO.EINVAL, 'the kernel is older than 5.19'],
  [ERRNO.ENOMEM, 'the limit of locked memory (RLIMIT_MEMLOCK) is too low'],
] as const

function refusal(error: number): UnsupportedError {
  const name = errnoName(error)
  const why = WHY_NOT.find(([code]) => code === error)?.[1] ?? 'io_uring_setup failed'
  return new UnsupportedError(`no io_uring: ${why} (${name})`)
}

function mapRing(fd: number, params: Uint32Array, polled: boolean): RingShare {
  const sqEntries = params[PARAMS.SQ_ENTRIES]!
  const cqEntries = params[PARAMS.CQ_ENTRIES]!
  const sq = (field: number) => params[PARAMS.SQ_OFFSETS + field]!
  const cq = (field: number) => params[PARAMS.CQ_OFFSETS + field]!
  const ringBytes = Math.max(
    sq(SQ_OFFSET.ARRAY) + 4 * sqEntries,
    cq(CQ_OFFSET.CQES) + 4 * CQE_WORDS * cqEntries,
  )
  const rings = mapRange(fd, wholePages(ringBytes), MAP_RINGS)
  const sqes = mapRange(fd, wholePages(4 * SQE_WORDS * sqEntries), MAP_SQES)
  return {
    ...{ fd, sqEntries, cqEntries, polled, rings, sqes },
    sqHead: sq(SQ_OFFSET.HEAD) >> 2,
    sqTail: sq(SQ_OFFSET.TAIL) >> 2,
    sqFlags: sq(SQ_OFFSET.FLAGS) >> 2,
    sqArray: sq(SQ_OFFSET.ARRAY) >> 2,
    cqHead: cq(CQ_OFFSET.HEAD) >> 2,
    cqTail: cq(CQ_OFFSET.TAIL) >> 2,
    cqFlags: cq(CQ_OFFSET.FLAGS) >> 2,
    cqes: cq(CQ_OFFSET.CQES) >> 2,
  }
}

function mapRange(fd: number, bytes: number, offset: number): Range {
  return { address: map(0n, bytes, PROT.READ | PROT.WRITE, MAP.SHARED | MAP.POPULATE, fd, offset), bytes }
}

/** The ring's memory, in whichever thread of the process. */
export function viewsOfRing({ rings, sqes }: RingShare): { words: Uint32Array; sqes: Uint32Array } {
  const words = ({ address, bytes }: Range) => new Uint32Array(viewOf(address, bytes))
  return { words: words(rings), sqes: words(sqes) }
}

/**
 * Ends a ring: no view of it may be used any more. What was in flight goes on in the kernel, with pages that it holds.
 * @param shared another thread may still have views: they show pages of no one from now on, whose addresses stay in use
 */
export function closeRing({ fd, rings, sqes }: RingShare, shared = false): void {
  close(fd)
  for (const { address, bytes } of [rings, sqes]) {
    if (shared) replaceMapping(address, bytes)
    else munmap(address, bytes)
  }
}

/** From now on completions count on an eventfd, while the ring's flags let them. Throws SystemCallError. */
export function signalCompletions({ fd }: RingShare, eventfd: number): void {
  const argument = Buffer.alloc(4)
  argument.writeInt32LE(eventfd)
  if (io_uring_register(fd, REGISTER_EVENTFD, argument, 1) !== 0) throw systemCallError('io_uring_register')
}

const bytesOf = (words: Uint32Array) => new Uint8Array(words.buffer)

const wholePages = (bytes: number) => Math.ceil(bytes / 4096) * 4096
