// BAR 0 as host and controller share it: registers, doorbells, and requests that a store must not lose.
// The controller finds out what changed by comparing, so that a store costs the host nothing more;
// only registers whose every write counts (write 1 to clear, NSSR, CC.EN to 0) go through words of their own.

import { ALL_ONES, CSTS, REGISTER } from '../../nvme/spec/registers.ts'
import type { SimConfig } from '../address.ts'

const REGISTER_WORDS = REGISTER.DOORBELLS / 4

/** Words through which the host asks for what is no plain register store. */
export const REQUEST = {
  /** Counts every register write: the controller looks at registers only when it has changed. */
  WRITES: 0,
  NSSR: 1,
  CLEAR_NSSRO: 2,
  /** Counts function-level resets that the host asked for, and those that were done. */
  RESETS: 3,
  RESETS_DONE: 4,
  /** Counts writes of 0 to CC.EN, each of which ends what was, also where the next write sets it again at once. */
  DISABLES: 5,
} as const
const REQUEST_WORDS = 8
const CC_EN = 1

export interface Bar {
  readonly registers: Uint32Array
  readonly requests: Uint32Array
  /** From offset 1000h on. */
  readonly doorbells: Uint32Array
  /** What the controller has last seen of each, or of its shadow: one row of numbers, however many queues there are. */
  readonly seen: Uint32Array
}

/** Indices of registers as words. */
export const WORD = {
  CAP_LO: REGISTER.CAP_LO / 4,
  CAP_HI: REGISTER.CAP_HI / 4,
  VS: REGISTER.VS / 4,
  INTMS: REGISTER.INTMS / 4,
  INTMC: REGISTER.INTMC / 4,
  CC: REGISTER.CC / 4,
  CSTS: REGISTER.CSTS / 4,
  AQA: REGISTER.AQA / 4,
  ASQ_LO: REGISTER.ASQ_LO / 4,
  ASQ_HI: REGISTER.ASQ_HI / 4,
  ACQ_LO: REGISTER.ACQ_LO / 4,
  ACQ_HI: REGISTER.ACQ_HI / 4,
} as const

/** Bytes that a bar needs. */
export function barBytes(config: Pick<SimConfig, 'qcount' | 'dstrd'>): number {
  return (REGISTER_WORDS + REQUEST_WORDS) * 4 + doorbellBytes(config)
}

/** Bytes that doorbells need, in whole pages. */
export function doorbellBytes({ qcount, dstrd }: Pick<SimConfig, 'qcount' | 'dstrd'>): number {
  return Math.ceil((2 * (qcount + 1) * (4 << dstrd)) / 4096) * 4096
}

/**
 * @param memory `barBytes` bytes; shared where the controller runs on another thread
 * @param doorbells `doorbellBytes` bytes, where others share the doorbells alone
 */
export function createBar(memory: ArrayBufferLike, doorbells?: ArrayBufferLike): Bar {
  const doorbellsAt = (REGISTER_WORDS + REQUEST_WORDS) * 4
  const words = doorbells ? new Uint32Array(doorbells) : new Uint32Array(memory, doorbellsAt)
  return {
    registers: new Uint32Array(memory, 0, REGISTER_WORDS),
    requests: new Uint32Array(memory, REGISTER_WORDS * 4, REQUEST_WORDS),
    doorbells: words,
    seen: new Uint32Array(words.length),
  }
}

/** Doorbells of a queue that is created or deleted start at 0. */
export function clearDoorbell(bar: Bar, queue: { readonly doorbell: number }): void {
  bar.doorbells[queue.doorbell] = 0
  bar.seen[queue.doorbell] = 0
}

export function clearDoorbells(bar: Bar): void {
  bar.doorbells.fill(0)
  bar.seen.fill(0)
}

/** A host's 32-bit read. */
export function readBar(bar: Bar, offset: number): number {
  if (offset < REGISTER.DOORBELLS) return bar.registers[offset >>> 2] ?? 0
  return bar.doorbells[(offset - REGISTER.DOORBELLS) >>> 2] ?? 0
}

/** A host's 32-bit write. Read-only and reserved registers ignore it, as does a device that is gone. */
export function writeBar(bar: Bar, offset: number, value: number): void {
  const { registers, requests, doorbells } = bar
  if (registers[WORD.VS] === ALL_ONES) return
  switch (offset) {
    case REGISTER.CC:
      registers[WORD.CC] = value
      // Behind the store: who sees the count sees the register, too.
      if ((value & CC_EN) === 0) Atomics.add(requests, REQUEST.DISABLES, 1)
      break
    case REGISTER.AQA:
    case REGISTER.ASQ_LO:
    case REGISTER.ASQ_HI:
    case REGISTER.ACQ_LO:
    case REGISTER.ACQ_HI:
      registers[offset >>> 2] = value
      break
    case REGISTER.INTMS:
    case REGISTER.INTMC: {
      const mask = registers[WORD.INTMS]!
      const changed = offset === REGISTER.INTMS ? mask | value : mask & ~value
      registers[WORD.INTMS] = changed
      registers[WORD.INTMC] = changed
      break
    }
    case REGISTER.CSTS:
      if ((value & CSTS.NSSRO) !== 0) requests[REQUEST.CLEAR_NSSRO] = 1
      break
    case REGISTER.NSSR:
      requests[REQUEST.NSSR] = value
      break
    default: {
      const index = (offset - REGISTER.DOORBELLS) >>> 2
      if (offset >= REGISTER.DOORBELLS && index < doorbells.length) doorbells[index] = value
    }
  }
  Atomics.add(requests, REQUEST.WRITES, 1)
}

/** Asks for a function-level reset; it is done when RESETS_DONE has the number that is returned. */
export function requestReset({ requests }: Bar): number {
  const number = Atomics.add(requests, REQUEST.RESETS, 1) + 1
  Atomics.add(requests, REQUEST.WRITES, 1)
  return number
}
