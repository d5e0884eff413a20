// One read, write or other command of any length, from its start to its report: what aread returns.
// Trade-off: operations are reused, first in first out, so that starting one allocates nothing; a descriptor
// is its caller's until apoll has reported it, and another's soon after.

import { DescriptorError } from '../lib/errors.ts'
import { nvmeError } from '../lib/nvme/index.ts'
import type { DmaAllocation } from '../lib/pci/index.ts'
import type { Geometry } from './geometry.ts'
import type { IoQueue } from './io-queue.ts'

/** UNVMe's I/O descriptor. */
export interface IoDescriptor {
  /** The caller's buffer; null for commands without data. */
  readonly buf: Buffer | null
  /** First LBA, and number of blocks; 0 for commands without a range. */
  readonly slba: number
  readonly nlb: number
  /** Queue, from 0. */
  readonly qid: number
  /** Opcode. */
  readonly opc: number
  /** Counts the operations of a queue. */
  readonly id: number
}

export const STATE = { FREE: 0, IN_FLIGHT: 1, DONE: 2 } as const

/** How an operation becomes commands: one, or as many as its blocks need. */
export const KIND = { SINGLE: 0, RANGE: 1 } as const

export class Operation implements IoDescriptor {
  buf: Buffer | null = null
  slba = 0
  nlb = 0
  readonly qid: number
  opc = 0
  id = 0

  readonly queue: IoQueue
  state: number = STATE.FREE
  kind: number = KIND.SINGLE
  geometry: Geometry
  allocation: DmaAllocation | null = null
  /** IOVA of the next command's data, in halves. */
  lo = 0
  hi = 0
  /** Bytes of data of a single command. */
  bytes = 0
  /** Blocks in one command, and bytes of data for each block: 0 where there are none. */
  stride = 1
  blockBytes = 0
  /** Blocks that have been posted, and commands of them in flight. */
  sent = 0
  pending = 0
  cdw10 = 0
  cdw11 = 0
  cdw12 = 0
  cdw13 = 0
  cdw14 = 0
  cdw15 = 0
  /** Dword 0 of the last completion. */
  result = 0
  /** First failure: its status field, and which blocks. */
  field = 0
  failedSlba = 0
  failedNlb = 0
  /** A failure that is no status: timeout, removal, close. */
  cause: Error | null = null
  /** Called when done, in place of apoll; `context` is the callee's. */
  onDone: ((op: Operation) => void) | null = null
  context: unknown = null

  constructor(queue: IoQueue, geometry: Geometry) {
    this.qid = queue.qid
    this.queue = queue
    this.geometry = geometry
  }

  /** The error that this operation ended with, or null. */
  error(): Error | null {
    if (this.cause !== null) return this.cause
    if (this.field === 0) return null
    const { opc: opcode, queue, geometry, field } = this
    const range = this.kind === KIND.RANGE ? { slba: this.failedSlba, nlb: this.failedNlb } : {}
    return nvmeError({ opcode, qid: queue.pair.qid, nsid: geometry.nsid, ...range }, field)
  }
}

/** Idle operations of one queue, the longest idle first; grows to as many as are ever in use at once. */
export class OperationPool {
  readonly #queue: IoQueue
  readonly #geometry: Geometry
  #ring: Operation[]
  #head = 0
  #count: number
  #id = 0

  constructor(queue: IoQueue, geometry: Geometry, size: number) {
    this.#queue = queue
    this.#geometry = geometry
    this.#ring = Array.from({ length: size }, () => new Operation(queue, geometry))
    this.#count = size
  }

  take(): Operation {
    if (this.#count === 0) this.#grow()
    const op = this.#ring[this.#head]!
    this.#head = this.#head + 1 === this.#ring.length ? 0 : this.#head + 1
    this.#count--
    op.id = this.#id
    this.#id = (this.#id + 1) | 0
    return op
  }

  give(op: Operation): void {
    op.state = STATE.FREE
    op.buf = null
    op.allocation = null
    op.onDone = null
    op.context = null
    const at = this.#head + this.#count
    this.#ring[at >= this.#ring.length ? at - this.#ring.length : at] = op
    this.#count++
  }

  // Only when all are out: places of those that come back are held by a new one each.
  #grow(): void {
    const more = this.#ring.length
    const fresh = Array.from({ length: more }, () => new Operation(this.#queue, this.#geometry))
    this.#ring = [...fresh, ...fresh]
    this.#head = 0
    this.#count = more
  }
}

/** The error for a descriptor that can't be polled. */
export function notInFlight(op: unknown): Error {
  const id = op instanceof Operation ? `descriptor ${op.id} of queue ${op.qid}` : `${typeof op}`
  return new DescriptorError(`apoll of ${id}: it is not in flight; apoll reports each descriptor once`)
}
