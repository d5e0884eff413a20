// What a queue holds until it can be sent: operations in their order, and commands that are to be sent again, after a reset
// of the controller or a failure that may pass. Which may be sent again, and when, is decided here.

import { anaStateOf } from '../../lib/nvme/spec/ana.ts'
import { NVM } from '../../lib/nvme/spec/opcodes.ts'
import { retryDelay } from '../../lib/nvme/spec/status.ts'
import { KIND, type Operation } from './operation.ts'

// Between two attempts of what a device's only path refuses for its access.
const LEAST_ACCESS_MS = 20
const MOST_ACCESS_MS = 1000

export class Fifo<T> {
  // A power of two long.
  #ring: (T | undefined)[] = new Array(16)
  #head = 0
  #length = 0

  get length(): number {
    return this.#length
  }

  /** The one that is taken next. */
  get first(): T | undefined {
    return this.#ring[this.#head]
  }

  push(item: T): void {
    if (this.#length === this.#ring.length) this.#grow()
    this.#ring[(this.#head + this.#length++) & (this.#ring.length - 1)] = item
  }

  shift(): T | undefined {
    if (this.#length === 0) return undefined
    const item = this.#ring[this.#head]
    // It must not be kept alive.
    this.#ring[this.#head] = undefined
    this.#head = (this.#head + 1) & (this.#ring.length - 1)
    this.#length--
    return item
  }

  /** Puts items before all others, in their order. */
  unshift(items: readonly T[]): void {
    for (let i = items.length - 1; i >= 0; i--) {
      if (this.#length === this.#ring.length) this.#grow()
      this.#head = (this.#head - 1) & (this.#ring.length - 1)
      this.#ring[this.#head] = items[i]
      this.#length++
    }
  }

  /** Takes out those that it is true for, wherever they are, in their order. */
  take(which: (item: T) => boolean): T[] {
    const taken: T[] = []
    for (let left = this.#length; left > 0; left--) {
      const item = this.shift()!
      if (which(item)) taken.push(item)
      else this.push(item)
    }
    return taken
  }

  #grow(): void {
    const { length } = this.#ring
    const items = [...this.#ring.slice(this.#head), ...this.#ring.slice(0, this.#head)]
    this.#ring = [...items, ...new Array(length)]
    this.#head = 0
  }
}

/**
 * Commands that leave the same behind however often they are executed, so that it does not matter whether the first
 * one was. Compare is not among them: its answer is about the moment in which it was sent.
 */
const REPEATABLE: ReadonlySet<number> = new Set([
  NVM.FLUSH,
  NVM.WRITE,
  NVM.READ,
  NVM.WRITE_UNCORRECTABLE,
  NVM.WRITE_ZEROES,
  NVM.DATASET_MANAGEMENT,
  NVM.VERIFY,
])
const WRITES: ReadonlySet<number> = new Set([
  NVM.WRITE,
  NVM.WRITE_UNCORRECTABLE,
  NVM.WRITE_ZEROES,
  NVM.DATASET_MANAGEMENT,
])

/** Whether commands of the operation may be sent again: transfers and ranges by opcode, single commands as marked. */
export function isRepeatable({ kind, opc, retry, once }: Operation): boolean {
  return REPEATABLE.has(opc) && !once && (kind !== KIND.SINGLE || retry)
}

/** One command of an operation that is to be sent again. */
export interface Part {
  readonly op: Operation
  /** All of the operation's blocks, or some. */
  readonly slba: number
  readonly nlb: number
  /** In which order commands were posted first. */
  readonly order: number
  /** How often it is sent again with this time. */
  readonly attempt: number
  /** Milliseconds of a steady clock, before which it is not sent. */
  readonly from: number
  /** When its only path refused it first, for an access that may come back; 0 where that is not so. */
  readonly refusedAt: number
  /** It was there at a reset: what is new of its namespace waits until it has ended. */
  first: boolean
}

/** What a controller says of times. */
export interface RetryTimes {
  /** Seconds that a change of the access to a namespace may take (ANATT); 0 where that is not said. */
  readonly anatt: number
  /** CRDT1 to 3 of Identify Controller, in units of 100 ms. */
  readonly retryDelays: readonly number[]
}

/**
 * When a command is sent again that has failed with `field`, or met a reset (0), and which attempt that is.
 * @param before what it was, where it was sent again already
 */
export function nextAttempt(
  before: Part | undefined,
  field: number,
  { retryDelays, anatt }: RetryTimes,
  severalPaths: boolean,
): Pick<Part, 'attempt' | 'refusedAt' | 'from'> {
  const now = performance.now()
  let attempt = (before?.attempt ?? 0) + 1
  let delay = field === 0 ? 0 : retryDelay(field, retryDelays)
  let refusedAt = 0
  if (!severalPaths && anaStateOf(field) !== undefined) {
    // No other path has access: it waits for this one, for as long as a change may take.
    refusedAt = before?.refusedAt || now
    const waited = now - refusedAt
    if (before !== undefined && waited < anatt * 1000) attempt = before.attempt
    delay = Math.max(delay, Math.min(Math.max(waited, LEAST_ACCESS_MS), MOST_ACCESS_MS))
  }
  return { attempt, refusedAt, from: delay === 0 ? 0 : now + delay }
}

/** Those of one namespace keep none of another from being sent. */
export class Resends {
  /** Those to be sent, in the order of their first posting. */
  #parts: Part[] = []
  /** Those that were sent again and have no answer, by command identifier. */
  readonly #inFlight = new Map<number, Part>()
  // Namespaces some of whose parts overlap, one of which writes: each is sent when the one before it has ended.
  #oneByOne: ReadonlySet<number> = new Set()

  /** They are what was in flight at a reset: what is new of their namespaces waits until they have ended. */
  goFirst(): void {
    for (const part of this.#parts) part.first = true
  }

  isFirst(nsid: number): boolean {
    const isFirst = (part: Part) => part.first && nsidOf(part) === nsid
    for (const part of this.#inFlight.values()) if (isFirst(part)) return true
    return this.#parts.some(isFirst)
  }

  /** Commands that are to be sent, or were and have no answer. */
  get pending(): number {
    return this.#parts.length + this.#inFlight.size
  }

  get length(): number {
    return this.#parts.length
  }

  add(parts: readonly Part[]): void {
    this.#parts = [...this.#parts, ...parts].sort((a, b) => (a.order - b.order) | 0)
    // What is in flight counts: its blocks are in use.
    const all = [...this.#inFlight.values(), ...this.#parts]
    const overlaps = (nsid: number) => overlap(all.filter((part) => nsidOf(part) === nsid))
    this.#oneByOne = new Set([...namespacesOf(all)].filter(overlaps))
  }

  /**
   * The next one that may be sent now.
   * @param mayGo whether anything can be sent to a namespace
   */
  next(now: number, mayGo: (nsid: number) => boolean): Part | undefined {
    const inFlight = this.#oneByOne.size > 0 ? namespacesOf([...this.#inFlight.values()]) : NONE
    const behind = new Set<number>()
    for (const part of this.#parts) {
      const nsid = nsidOf(part)
      if (behind.has(nsid)) continue
      const oneByOne = this.#oneByOne.has(nsid)
      const waits = !mayGo(nsid) || (oneByOne && inFlight.has(nsid))
      if (!waits && part.from <= now) return part
      // Behind one that has to wait for its time, nothing that overlaps may go first.
      if (waits || oneByOne) behind.add(nsid)
    }
    return undefined
  }

  sent(part: Part, cid: number): void {
    this.#parts.splice(this.#parts.indexOf(part), 1)
    this.#inFlight.set(cid, part)
  }

  /** The command has ended, or never will: what it was sent as, where that was again. */
  ended(cid: number): Part | undefined {
    const part = this.#inFlight.get(cid)
    this.#inFlight.delete(cid)
    return part
  }

  /** Those that it is true for, which are no longer to be sent. */
  take(which: (part: Part) => boolean): Part[] {
    const taken = this.#parts.filter(which)
    this.#parts = this.#parts.filter((part) => !taken.includes(part))
    return taken
  }
}

const NONE: ReadonlySet<number> = new Set()

function nsidOf({ op }: Part): number {
  return op.geometry.nsid
}

function namespacesOf(parts: readonly Part[]): Set<number> {
  return new Set(parts.map(nsidOf))
}

/** True where two of the parts have a block in common that one of them writes, or what one writes is not known. */
function overlap(parts: readonly Part[]): boolean {
  if (!parts.some(({ op }) => WRITES.has(op.opc))) return false
  if (parts.some(({ op }) => op.opc === NVM.DATASET_MANAGEMENT)) return parts.length > 1
  const ranged = parts.filter(({ nlb }) => nlb > 0).sort((a, b) => a.slba - b.slba)
  let end = 0
  let endOfWrites = 0
  for (const { op, slba, nlb } of ranged) {
    const writes = WRITES.has(op.opc)
    if (slba < (writes ? end : endOfWrites)) return true
    end = Math.max(end, slba + nlb)
    if (writes) endOfWrites = Math.max(endOfWrites, slba + nlb)
  }
  return false
}
