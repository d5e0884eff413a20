// What a queue holds until it can be sent: operations in their order, and commands that are to be sent again, after a reset
// of the controller or a failure that may pass. Which commands may be sent again is decided here, too.

import { NVM } from '../../lib/nvme/spec/opcodes.ts'
import { KIND, type Operation } from './operation.ts'

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

  /** Takes an item out, wherever it is. False where it is not in. */
  remove(item: T): boolean {
    const items = [...this.#ring.slice(this.#head), ...this.#ring.slice(0, this.#head)].slice(0, this.#length)
    const at = items.indexOf(item)
    if (at < 0) return false
    items.splice(at, 1)
    this.#ring = [...items, ...new Array(this.#ring.length - items.length)]
    this.#head = 0
    this.#length--
    return true
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
}

export class Resends {
  /** Those to be sent, in the order of their first posting. */
  #parts: Part[] = []
  /** Those that were sent again and have no answer, by command identifier. */
  readonly #inFlight = new Map<number, Part>()
  // Some of them overlap, one of which writes: each is sent when the one before it has ended.
  #oneByOne = false

  #first = false

  /** They are what was in flight at a reset: what is new waits until they have ended. */
  goFirst(): void {
    this.#first = this.pending > 0
  }

  get first(): boolean {
    return this.#first && this.pending > 0
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
    this.#oneByOne = overlap([...this.#inFlight.values(), ...this.#parts])
  }

  /** The next one that may be sent now. */
  next(now: number): Part | undefined {
    if (this.#oneByOne && this.#inFlight.size > 0) return undefined
    const at = this.#parts.findIndex(({ from }) => from <= now)
    // Behind one that has to wait, nothing that overlaps may go first.
    if (at < 0 || (at > 0 && this.#oneByOne)) return undefined
    return this.#parts[at]
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

  /** Those of an operation, or all, which are no longer to be sent. */
  take(op?: Operation): Part[] {
    const all = this.#parts
    if (op === undefined) {
      this.#parts = []
      return all
    }
    this.#parts = all.filter((part) => part.op !== op)
    return all.filter((part) => part.op === op)
  }
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
