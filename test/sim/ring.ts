// A tiny NVMe host for the tests of the software controller: rings written by hand, nothing of lib/nvme's driver.
// One arena, entries written as dwords; slow, and simple enough to be trusted.

import { type DmaArena, viewOf } from '../../lib/memory/mapping.ts'
import { openSim, type SimFunction, type SimOptions } from '../../lib/sim/index.ts'
import { atEnd } from '../support/at-end.ts'

export interface Completion {
  readonly result: number
  readonly sqhd: number
  readonly sqid: number
  readonly cid: number
  readonly phase: number
  /** `sct << 8 | sc`. */
  readonly status: number
  readonly more: boolean
  readonly dnr: boolean
}

export interface Command {
  readonly opcode: number
  readonly cid?: number
  readonly nsid?: number
  /** Bits 15:8 of dword 0. */
  readonly flags?: number
  readonly prp1?: number
  readonly prp2?: number
  /** Dwords 10 to 15. */
  readonly dw?: readonly number[]
}

interface Ring {
  readonly qid: number
  readonly size: number
  readonly sq: number
  readonly cq: number
  tail: number
  head: number
  phase: number
}

export const PAGE = 4096

/** One controller, brought up, with DMA memory to play in; closed at the end of the file at the latest. */
export class Rig {
  readonly sim: SimFunction
  readonly arena: DmaArena
  readonly bytes: Uint8Array
  readonly words: Uint32Array
  readonly stride: number
  readonly rings: Ring[] = []
  #next = 0
  #cid = 1

  constructor(sim: SimFunction, arenaBytes: number) {
    atEnd(() => sim.close())
    this.sim = sim
    this.arena = sim.mapDma(arenaBytes)
    this.bytes = new Uint8Array(viewOf(this.arena.address, arenaBytes))
    this.words = new Uint32Array(this.bytes.buffer)
    this.stride = 1 << (sim.readRegister(4) & 0xf)
  }

  /** Pages of the arena: their IOVA. */
  alloc(pages: number): number {
    const iova = this.arena.iova + this.#next * PAGE
    this.#next += pages
    return iova
  }

  /** The bytes at an IOVA in the arena. */
  at(iova: number, bytes: number): Uint8Array {
    const start = iova - this.arena.iova
    return this.bytes.subarray(start, start + bytes)
  }

  wordsAt(iova: number): Uint32Array {
    return this.words.subarray((iova - this.arena.iova) / 4)
  }

  ring(qid: number): Ring {
    return this.rings[qid]!
  }

  addRing(qid: number, size: number, sq: number, cq: number): Ring {
    const ring = { qid, size, sq, cq, tail: 0, head: 0, phase: 1 }
    this.rings[qid] = ring
    return ring
  }

  /** Writes an entry at the tail; `ring` tells. Returns its identifier. */
  post(qid: number, command: Command): number {
    const ring = this.ring(qid)
    const cid = command.cid ?? this.#cid++ & 0xffff
    const entry = this.wordsAt(ring.sq + ring.tail * 64)
    const { opcode, flags = 0, nsid = 0, prp1 = 0, prp2 = 0, dw = [] } = command
    entry[0] = opcode | (flags << 8) | (cid << 16)
    entry[1] = nsid
    entry.fill(0, 2, 16)
    entry[6] = prp1 >>> 0
    entry[7] = Math.floor(prp1 / 2 ** 32)
    entry[8] = prp2 >>> 0
    entry[9] = Math.floor(prp2 / 2 ** 32)
    dw.forEach((value, i) => {
      entry[10 + i] = value
    })
    ring.tail = (ring.tail + 1) % ring.size
    return cid
  }

  ringTail(qid: number, value = this.ring(qid).tail): void {
    this.sim.doorbells[2 * qid * this.stride] = value
    this.sim.notify?.()
  }

  ringHead(qid: number, value = this.ring(qid).head): void {
    this.sim.doorbells[(2 * qid + 1) * this.stride] = value
    this.sim.notify?.()
  }

  /** The next completion, taken from the queue where there is one. The head doorbell is the caller's. */
  take(qid: number): Completion | undefined {
    this.sim.step?.()
    const ring = this.ring(qid)
    const at = (ring.cq - this.arena.iova) / 4 + ring.head * 4
    const dw3 = this.words[at + 3]!
    if (((dw3 >>> 16) & 1) !== ring.phase) return undefined
    const dw2 = this.words[at + 2]!
    ring.head = (ring.head + 1) % ring.size
    if (ring.head === 0) ring.phase ^= 1
    return {
      result: this.words[at]!,
      sqhd: dw2 & 0xffff,
      sqid: dw2 >>> 16,
      cid: dw3 & 0xffff,
      phase: (dw3 >>> 16) & 1,
      status: (dw3 >>> 17) & 0x7ff,
      more: (dw3 & 0x4000_0000) !== 0,
      dnr: (dw3 & 0x8000_0000) !== 0,
    }
  }

  /** Waits for the next completion, and hands its entry back. */
  async next(qid: number): Promise<Completion> {
    for (;;) {
      const completion = this.take(qid)
      if (completion !== undefined) {
        this.ringHead(qid)
        return completion
      }
      await new Promise(setImmediate)
    }
  }

  /** One command, and its completion. */
  async run(qid: number, command: Command): Promise<Completion> {
    this.post(qid, command)
    this.ringTail(qid)
    return this.next(qid)
  }

  admin(command: Command): Promise<Completion> {
    return this.run(0, command)
  }

  /** Lets the controller do what it has to do now, without a completion to wait for. */
  async settle(): Promise<void> {
    const { step, activity } = this.sim
    if (step !== null) for (let i = 0; i < 200; i++) step()
    // A worker that sleeps has looked at everything that the host did before.
    else while (!activity().asleep) await new Promise(setImmediate)
  }

  /** Sets the admin queue's registers and enables the controller. */
  enable(entries = 32): void {
    const sq = this.alloc(Math.ceil((entries * 64) / PAGE))
    const cq = this.alloc(1)
    const { sim } = this
    sim.writeRegister(0x24, ((entries - 1) << 16) | (entries - 1))
    sim.writeRegister(0x28, sq >>> 0)
    sim.writeRegister(0x2c, Math.floor(sq / 2 ** 32))
    sim.writeRegister(0x30, cq >>> 0)
    sim.writeRegister(0x34, Math.floor(cq / 2 ** 32))
    sim.writeRegister(0x14, CC_ENABLE)
    this.addRing(0, entries, sq, cq)
  }

  async ready(): Promise<void> {
    while ((this.csts & 3) === 0) await new Promise(setImmediate)
  }

  get csts(): number {
    return this.sim.readRegister(0x1c)
  }

  /** Creates an I/O queue pair. */
  async createPair(qid: number, size: number, { vector = -1 } = {}): Promise<Ring> {
    const cq = this.alloc(Math.ceil((size * 16) / PAGE))
    const sq = this.alloc(Math.ceil((size * 64) / PAGE))
    const interrupts = vector < 0 ? 0 : 2 | (vector << 16)
    const made = await this.admin({ opcode: 5, prp1: cq, dw: [((size - 1) << 16) | qid, 1 | interrupts] })
    const and = await this.admin({ opcode: 1, prp1: sq, dw: [((size - 1) << 16) | qid, 1 | (qid << 16)] })
    if (made.status !== 0 || and.status !== 0) throw new Error(`queue ${qid}: ${made.status}, ${and.status}`)
    return this.addRing(qid, size, sq, cq)
  }
}

/** CC: enabled, 64 and 16 byte entries. */
export const CC_ENABLE = 0x0046_0001

/** Opens and enables a controller. */
export async function bringUp(
  address = 'sim:?size=64M',
  options: SimOptions = {},
  arenaBytes = 2 ** 24,
): Promise<Rig> {
  const rig = new Rig(await openSim(address, options), arenaBytes)
  rig.enable()
  await rig.ready()
  return rig
}

/** Dwords 10 to 12 of a read, write or the like. */
export function range(slba: number, nlb: number, control = 0): number[] {
  return [slba >>> 0, Math.floor(slba / 2 ** 32), (nlb - 1) | (control << 16)]
}

export const READ = 2
export const WRITE = 1
