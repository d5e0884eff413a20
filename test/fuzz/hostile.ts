// An NVMe controller that misbehaves by a seeded plan: a PCI function that answers by the book, but for what the plan
// says. It reads and writes the host's memory where the commands say, and nowhere else.

import { createSharedMemory, type DmaArena, destroySharedMemory, viewOf } from '../../lib/memory/mapping.ts'
import { encodeIdentifyController, encodeIdentifyNamespace } from '../../lib/nvme/spec/identify.ts'
import { ADMIN, NVM } from '../../lib/nvme/spec/opcodes.ts'
import { ALL_ONES, decodeCapabilities, encodeCapabilities, REGISTER } from '../../lib/nvme/spec/registers.ts'
import type { PciFunction } from '../../lib/pci/function.ts'
import { PAGE_BYTES } from '../../lib/sys/units.ts'

/** How likely each misdeed is, from 0 to 1: for each completion, Identify or register read. */
export interface Plan {
  /** The completion comes twice; of an identifier that is not in flight; of one that is; with wrong SQID and SQHD. */
  readonly twice?: number
  readonly stray?: number
  readonly other?: number
  readonly wrongQueue?: number
  /** The phase bit is that of the round before. */
  readonly phase?: number
  /** Any status, any dwords 0 and 1; no completion at all. */
  readonly status?: number
  readonly result?: number
  readonly silent?: number
  /** The same for admin commands, of all kinds: by default none. */
  readonly admin?: number
  /** Identify data is random, as a whole or in some bytes. */
  readonly identify?: number
  /** CSTS reads all-ones once; all registers do for good; CSTS.CFS is set until a reset. */
  readonly onesOnce?: number
  readonly gone?: number
  readonly fatal?: number
  /** CSTS.RDY never follows CC.EN; a shutdown never ends. */
  readonly neverReady?: boolean
  readonly neverShutDown?: boolean
  /** Fields of CAP. */
  readonly cap?: Partial<ReturnType<typeof decodeCapabilities>>
}

export const BLOCK_BYTES = 512
export const BLOCKS = 1024
const DOORBELLS = 4096

export function generator(seed: number) {
  let state = (Math.imul(seed, 2654435761) ^ 0x5bd1e995) >>> 0 || 1
  const word = () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
  const next = () => word() / 2 ** 32
  return {
    word,
    below: (n: number) => Math.floor(next() * n),
    chance: (p: number | undefined) => p !== undefined && p > 0 && next() < p,
    pick: <T>(all: readonly T[]): T => all[Math.floor(next() * all.length)]!,
  }
}

interface Ring {
  readonly id: number
  readonly sq: number
  readonly cq: number
  readonly entries: number
  readonly cqEntries: number
  head: number
  tail: number
  phase: number
}

export interface Hostile extends PciFunction {
  /** Arenas that are mapped, and how often it was closed. */
  readonly arenas: ReadonlySet<DmaArena>
  readonly closes: number
  /** Misdeeds so far, and where a command was completed that had not been executed. */
  readonly misdeeds: number
  readonly lies: number
  /** From now on it does as it should. */
  behave(): void
}

export function createHostile(seed: number, initial: Plan): Hostile {
  const random = generator(seed)
  const { chance, word, below, pick } = random
  let plan = initial
  const [capLo, capHi] = encodeCapabilities({ ...decodeCapabilities(0x0101_03ff, 0x20), to: 0, ...plan.cap })
  const cap = decodeCapabilities(capLo, capHi)
  const doorbells = new Uint32Array(DOORBELLS)
  const medium = Buffer.alloc(BLOCKS * BLOCK_BYTES)
  const arenas = new Map<DmaArena, Uint8Array>()
  let nextIova = 2 ** 32 - 2 ** 20
  let rings = new Map<number, Ring>()
  // Completion queues that wait for their submission queue.
  const completionQueues = new Map<number, { cq: number; entries: number }>()
  let cc = 0
  let aqa = 0
  const bases = [0, 0, 0, 0]
  let isFatal = false
  let isGone = false
  let misdeeds = 0
  let lies = 0
  let closes = 0

  const does = (p: number | undefined): boolean => {
    if (!chance(p)) return false
    misdeeds++
    return true
  }

  // Host memory at an address: undefined where the host has none there.
  const at = (iova: number, bytes: number): Buffer | undefined => {
    for (const [arena, view] of arenas) {
      if (iova < arena.iova || iova + bytes > arena.iova + arena.bytes) continue
      return Buffer.from(view.buffer, view.byteOffset + (iova - arena.iova), bytes)
    }
    return undefined
  }

  const address = (words: Buffer, offset: number) =>
    words.readUInt32LE(offset) + words.readUInt32LE(offset + 4) * 2 ** 32

  // The pieces of host memory of a command's data: PRP1, and PRP2 as a page or a list.
  const pieces = (sqe: Buffer, bytes: number): Buffer[] => {
    const prp1 = address(sqe, 24)
    const prp2 = address(sqe, 32)
    const first = Math.min(bytes, PAGE_BYTES - (prp1 % PAGE_BYTES))
    const all = [at(prp1, first)]
    let left = bytes - first
    if (left > 0 && left <= PAGE_BYTES) all.push(at(prp2, left))
    else if (left > 0) {
      for (let entry = prp2; left > 0; entry += 8) {
        const n = Math.min(left, PAGE_BYTES)
        all.push(at(address(at(entry, 8)!, 0), n))
        left -= n
      }
    }
    return all.filter((piece) => piece !== undefined)
  }

  const put = (sqe: Buffer, data: Uint8Array) => {
    let done = 0
    for (const piece of pieces(sqe, data.length)) {
      piece.set(data.subarray(done, done + piece.length))
      done += piece.length
    }
  }

  const take = (sqe: Buffer, target: Buffer) => {
    let done = 0
    for (const piece of pieces(sqe, target.length)) {
      target.set(piece, done)
      done += piece.length
    }
  }

  const spoilt = (data: Uint8Array): Uint8Array => {
    if (!does(plan.identify)) return data
    switch (below(4)) {
      case 0:
        return Uint8Array.from({ length: data.length }, () => word() & 0xff)
      case 1:
        return data.fill(0xff)
      case 2:
        return data.fill(0)
      default:
        for (let i = 0; i < 40; i++) data[below(i % 2 === 0 ? 600 : data.length)] = word() & 0xff
        return data
    }
  }

  const identify = (cns: number): Uint8Array => {
    const data = Buffer.alloc(4096)
    if (cns === 1) {
      encodeIdentifyController(
        { mn: 'hostile', sn: '1', fr: '1', mdts: 1, nn: 1, oncs: 0, sqes: 0x66, cqes: 0x44, acl: 3 } as never,
        data,
      )
    } else if (cns === 0) {
      encodeIdentifyNamespace(
        { nsze: BLOCKS, ncap: BLOCKS, nuse: BLOCKS, lbafs: [{ ms: 0, lbads: 9, rp: 0 }] } as never,
        data,
      )
    } else if (cns === 2) {
      data.writeUInt32LE(1, 0)
    }
    return spoilt(data)
  }

  const admin = (sqe: Buffer): { status: number; result: number } | null => {
    const cdw10 = sqe.readUInt32LE(40)
    const cdw11 = sqe.readUInt32LE(44)
    const qid = cdw10 & 0xffff
    switch (sqe[0]) {
      case ADMIN.IDENTIFY:
        put(sqe, identify(cdw10 & 0xff))
        return { status: 0, result: 0 }
      case ADMIN.SET_FEATURES:
        return { status: 0, result: 0x0003_0003 }
      case ADMIN.CREATE_IO_CQ:
        completionQueues.set(qid, { cq: address(sqe, 24), entries: (cdw10 >>> 16) + 1 })
        return { status: 0, result: 0 }
      case ADMIN.CREATE_IO_SQ: {
        const queue = completionQueues.get(cdw11 >>> 16)
        if (queue === undefined) return { status: 0x100, result: 0 }
        const entries = (cdw10 >>> 16) + 1
        doorbells[doorbellOf(qid)] = 0
        rings.set(qid, ringOf(qid, address(sqe, 24), queue.cq, entries, queue.entries))
        return { status: 0, result: 0 }
      }
      case ADMIN.DELETE_IO_SQ:
        rings.delete(qid)
        return { status: 0, result: 0 }
      case ADMIN.DELETE_IO_CQ:
        completionQueues.delete(qid)
        return { status: 0, result: 0 }
      case ADMIN.ABORT:
        return { status: 0, result: 1 }
      case ADMIN.ASYNC_EVENT_REQUEST:
        return null
      default:
        return { status: 1, result: 0 }
    }
  }

  const io = (sqe: Buffer): { status: number; result: number } => {
    const slba = address(sqe, 40)
    const nlb = (sqe.readUInt32LE(48) & 0xffff) + 1
    if (sqe[0] === NVM.FLUSH) return { status: 0, result: 0 }
    if (slba + nlb > BLOCKS) return { status: 0x80, result: 0 }
    const blocks = medium.subarray(slba * BLOCK_BYTES, (slba + nlb) * BLOCK_BYTES)
    if (sqe[0] === NVM.READ) put(sqe, blocks)
    else if (sqe[0] === NVM.WRITE) take(sqe, blocks)
    else return { status: 1, result: 0 }
    return { status: 0, result: 0 }
  }

  const ringOf = (id: number, sq: number, cq: number, entries: number, cqEntries: number): Ring => ({
    ...{ id, sq, cq, entries, cqEntries },
    ...{ head: 0, tail: 0, phase: 1 },
  })

  const doorbellOf = (qid: number) => (2 * qid * cap.dstrd) / 4

  // Never beyond what the host has room for: one for each slot of the ring.
  const post = (ring: Ring, id: number, status: number, words: readonly number[], skewed = false) => {
    const { phase } = ring
    const entry = at(ring.cq + ring.tail * 16, 16)
    ring.tail++
    if (ring.tail === ring.cqEntries) {
      ring.tail = 0
      ring.phase ^= 1
    }
    if (entry === undefined) return
    entry.writeUInt32LE(words[0]!, 0)
    entry.writeUInt32LE(words[1]!, 4)
    entry.writeUInt32LE(does(plan.wrongQueue) ? word() : (ring.head | (ring.id << 16)) >>> 0, 8)
    const dw3 = (id | ((status << 1) << 16) | ((skewed ? phase ^ 1 : phase) << 16)) >>> 0
    entry.writeUInt32LE(dw3, 12)
  }

  const complete = (
    ring: Ring,
    id: number,
    answer: { status: number; result: number },
    left: readonly number[],
  ) => {
    const isAdmin = ring.id === 0
    const scale = isAdmin ? (plan.admin ?? 0) : 1
    const p = (likely: number | undefined) => (likely ?? 0) * scale
    if (does(p(plan.silent))) return
    const status = does(p(plan.status)) ? word() & 0x7fff : answer.status
    const words = does(p(plan.result)) ? [word(), word()] : [answer.result, 0]
    if (does(p(plan.stray))) post(ring, word() & 0xffff, 0, words)
    if (left.length > 0 && does(p(plan.other))) {
      lies++
      post(ring, pick(left), 0, words)
    }
    post(ring, id, status, words, does(p(plan.phase)))
    if (does(p(plan.twice))) post(ring, id, word() & 0x7fff, words)
  }

  const run = () => {
    if ((cc & 1) === 0 || plan.neverReady || isFatal || isGone) return
    for (const ring of [...rings.values()]) {
      const tail = doorbells[doorbellOf(ring.id)]! % ring.entries
      while (ring.head !== tail && !isFatal) {
        const entry = at(ring.sq + ring.head * 64, 64)
        ring.head = (ring.head + 1) % ring.entries
        if (entry === undefined) continue
        const sqe = Buffer.from(entry)
        if (ring.id !== 0 && does(plan.fatal)) {
          isFatal = true
          return
        }
        const left: number[] = []
        for (let head = ring.head; head !== tail; head = (head + 1) % ring.entries) {
          left.push(at(ring.sq + head * 64, 64)!.readUInt16LE(2))
        }
        const answer = ring.id === 0 ? admin(sqe) : io(sqe)
        if (answer !== null) complete(ring, sqe.readUInt16LE(2), answer, left)
      }
    }
  }

  const csts = (): number => {
    if (does(plan.onesOnce)) return ALL_ONES
    const ready = (cc & 1) !== 0 && !plan.neverReady ? 1 : 0
    const shutDown = (cc & 0xc000) !== 0 ? (plan.neverShutDown ? 4 : 8) : 0
    return ready | shutDown | (isFatal ? 2 : 0)
  }

  const disable = () => {
    rings = new Map()
    completionQueues.clear()
    doorbells.fill(0)
    isFatal = false
  }

  const enable = () => {
    const entries = (aqa & 0xfff) + 1
    rings.set(
      0,
      ringOf(0, bases[0]! + bases[1]! * 2 ** 32, bases[2]! + bases[3]! * 2 ** 32, entries, entries),
    )
  }

  return {
    address: `hostile:${seed}`,
    transport: 'sim',
    emulated: true,
    maxArenaBytes: 2 ** 26,
    doorbells,
    notify: null,
    step: run,
    vectors: 0,
    onRemoved: null,
    get arenas() {
      return new Set(arenas.keys())
    },
    get closes() {
      return closes
    },
    get misdeeds() {
      return misdeeds
    },
    get lies() {
      return lies
    },
    behave() {
      plan = { ...(plan.cap !== undefined && { cap: plan.cap }) }
    },
    readRegister(offset) {
      if (isGone || does(plan.gone)) {
        isGone = true
        return ALL_ONES
      }
      switch (offset) {
        case REGISTER.CAP_LO:
          return capLo
        case REGISTER.CAP_HI:
          return capHi
        case REGISTER.VS:
          return 0x0001_0400
        case REGISTER.CC:
          return cc
        case REGISTER.CSTS:
          return csts()
        default:
          return word()
      }
    },
    writeRegister(offset, value) {
      if (offset === REGISTER.AQA) aqa = value
      if (offset >= REGISTER.ASQ_LO && offset <= REGISTER.ACQ_HI)
        bases[(offset - REGISTER.ASQ_LO) >> 2] = value
      if (offset !== REGISTER.CC) return
      const was = cc & 1
      cc = value
      if (was === 1 && (value & 1) === 0) disable()
      if (was === 0 && (value & 1) === 1) enable()
    },
    enableInterrupts() {},
    arm() {},
    disarm() {},
    mapDma(bytes) {
      const { fd, address } = createSharedMemory(bytes)
      const arena = { iova: nextIova, bytes, fd, address }
      nextIova += bytes
      arenas.set(arena, new Uint8Array(viewOf(address, bytes)))
      return arena
    },
    unmapDma(arena) {
      arenas.delete(arena)
      destroySharedMemory({ ...arena, hugePages: false })
    },
    async reset() {
      cc = 0
      disable()
    },
    quiesce() {
      cc = 0
      disable()
    },
    async close() {
      closes++
      for (const arena of [...arenas.keys()]) this.unmapDma(arena)
    },
  }
}
