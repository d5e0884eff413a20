// One read, write or other command of any length, from its start to its report: what aread returns.
// Operations are reused, first in first out, so that starting one allocates nothing; a descriptor
// is its caller's until apoll has reported it, and another's soon after.

import { type InspectOptions, inspect } from 'node:util'
import { DescriptorError } from '../../lib/errors.ts'
import type { LentMemory } from '../../lib/memory/source.ts'
import type { DmaAllocation, DmaTag } from '../../lib/memory/tag.ts'
import { nvmeError } from '../../lib/nvme/host/failure.ts'
import type { Queue } from '../../lib/nvme/host/queue.ts'
import { summary } from '../../lib/sys/show.ts'
import type { Geometry } from './geometry.ts'

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

/** What an operation knows of its queue. */
export interface OperationQueue {
  readonly qid: number
  readonly pair: Queue
  readonly operations: OperationPool
  /** Rings what was posted, and takes what completed. */
  poll(): boolean
  /** Sends nothing more of an operation whose caller has been answered. */
  cancel(op: Operation, cause: Error): void
}

/** DMA memory in place of a buffer that a device can't reach: as a tag it names what all such memory is counted by together. */
export interface Bounce extends DmaTag {
  readonly buffer: Buffer
  /** What commands without an answer are users of. */
  readonly memory: DmaAllocation
  readonly home: {
    /** It is not needed any more. */
    give(bounce: Bounce): void
  }
}

export const STATE = { FREE: 0, IN_FLIGHT: 1, DONE: 2 } as const

/**
 * How an operation becomes commands: a single one as it is, or as many as its blocks need, which carry data
 * (TRANSFER) or not (RANGE).
 */
export const KIND = { SINGLE: 0, RANGE: 1, TRANSFER: 2 } as const

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const { FREE, IN_FLIGHT } = STATE
const { SINGLE } = KIND

/** Fields that the hot path needs stand together at its beginning: a few cache lines for each operation. */
export class Operation implements IoDescriptor {
  state: number = STATE.FREE
  kind: number = KIND.SINGLE
  /** Commands in flight, and one more while there are blocks left to send. */
  pending = 0
  opc = 0
  slba = 0
  nlb = 0
  /** IOVA of the next command's data, in halves. */
  lo = 0
  hi = 0
  geometry: Geometry
  allocation: DmaAllocation | null = null
  /** First failure's status field; and what is no status, which counts before it: timeout, removal, close. */
  field = 0
  cause: Error | null = null
  /** Called when done, in place of apoll; `context` is the callee's. */
  onDone: ((op: Operation) => void) | null = null
  readonly queue: OperationQueue
  buf: Buffer | null = null
  id = 0
  /** Dword 0 of the last completion. */
  result = 0
  readonly qid: number
  context: unknown = null
  /** Of the promise that waits for it. */
  resolve: ((value: never) => void) | null = null
  /** What `buf` is of, in place of the caller's own, which the promise resolves with. */
  bounce: Bounce | null = null
  caller: Uint8Array | null = null
  /** Where `buf` is no DMA memory, and its commands read into it all the same. */
  lent: LentMemory | null = null
  /** Blocks that have been posted, of an operation of more than one command. */
  sent = 0
  /** Which blocks failed. */
  failedSlba = 0
  failedNlb = 0
  /** Bytes of data, and dwords, of a single command. */
  bytes = 0
  cdw10 = 0
  cdw11 = 0
  cdw12 = 0
  cdw13 = 0
  cdw14 = 0
  cdw15 = 0
  /** A single command that may be sent again where it is not known whether it was executed. */
  retry = false
  /** Its caller asked for one try: until its promise is settled. */
  once = false
  /** Its metadata: whose memory, and where, in halves. */
  metadata: DmaAllocation | null = null
  mptrLo = 0
  mptrHi = 0
  /** It ended while the device may still use its memory: a command of it had no answer. `takeError` forgets it. */
  lost = false

  constructor(queue: OperationQueue, geometry: Geometry) {
    this.qid = queue.qid
    this.queue = queue
    this.geometry = geometry
  }

  /** In flight from now on, with nothing of it posted. */
  begin(): void {
    this.state = IN_FLIGHT
    this.sent = 0
    this.pending = 1
  }

  /** The memory that its commands read or write, and the device may after they were given up. */
  memory(): DmaAllocation[] {
    const metadata = this.kind === SINGLE ? this.metadata : null
    return [this.bounce?.memory ?? this.allocation, metadata].filter((allocation) => allocation !== null)
  }

  /** Its memory has one more user, until `release`. */
  retain(): void {
    if (this.allocation !== null) this.allocation.users++
    if (this.kind === SINGLE && this.metadata !== null) this.metadata.users++
  }

  /** Its memory has one user less. */
  release(): void {
    if (this.allocation !== null) releaseMemory(this.allocation)
    if (this.kind === SINGLE && this.metadata !== null) releaseMemory(this.metadata)
  }

  /** What a console shows of a descriptor: what is public of it. */
  [inspect.custom](depth: number, options: InspectOptions): string {
    return summary('IoDescriptor', this.toJSON(), depth, options)
  }

  /** For JSON.stringify: what a console shows. */
  toJSON() {
    const { qid, opc, slba, nlb, id, buf } = this
    return { qid, opc, slba, nlb, id, bytes: buf?.length ?? 0 }
  }

  /** The error that this operation ended with, or null. */
  error(): Error | null {
    const { opc: opcode, queue, geometry, field, cause } = this
    if (cause !== null) return cause
    if (field === 0) return null
    const range = this.kind !== KIND.SINGLE ? { slba: this.failedSlba, nlb: this.failedNlb } : {}
    return nvmeError({ opcode, qid: queue.pair.qid, nsid: geometry.nsid, ...range }, field)
  }

  /** The same, and none from then on. */
  takeError(): Error | null {
    const error = this.error()
    this.field = 0
    this.cause = null
    this.lost = false
    return error
  }
}

// As many as fit a processor's first cache, where the longest idle one is taken each time. A power of two.
const FIRST_OPERATIONS = 16

/** Idle operations of one queue, the longest idle first; grows to as many as are ever in use at once. */
export class OperationPool {
  private readonly queue: OperationQueue
  private readonly geometry: Geometry
  private ring: Operation[]
  private mask = FIRST_OPERATIONS - 1
  // How often each has happened: the places in the ring, and a number for each operation.
  private taken = 0
  private given = FIRST_OPERATIONS

  constructor(queue: OperationQueue, geometry: Geometry) {
    this.queue = queue
    this.geometry = geometry
    this.ring = Array.from({ length: FIRST_OPERATIONS }, () => new Operation(queue, geometry))
  }

  take(): Operation {
    const { taken } = this
    if (taken === this.given) this.grow()
    this.taken = (taken + 1) | 0
    const op = this.ring[taken & this.mask]!
    op.id = taken
    return op
  }

  /** Its error has been taken; `onDone` and what belongs to it are their setter's to clear. */
  give(op: Operation): void {
    const { given } = this
    op.state = FREE
    this.ring[given & this.mask] = op
    this.given = (given + 1) | 0
  }

  // Only when all are out: places of those that come back are held by a new one each.
  private grow(): void {
    const more = this.ring.length
    const fresh = Array.from({ length: more }, () => new Operation(this.queue, this.geometry))
    this.ring = [...fresh, ...fresh]
    this.mask = 2 * more - 1
    this.given = (this.taken + more) | 0
  }
}

/** The memory has one user less: what was discarded goes with its last one. */
export function releaseMemory(allocation: DmaAllocation): void {
  allocation.users--
  if (allocation.discarded) allocation.pool.reclaim(allocation)
}

/** The error for a descriptor that can't be polled. */
export function notInFlight(op: unknown): Error {
  const id = op instanceof Operation ? `descriptor ${op.id} of queue ${op.qid}` : `${typeof op}`
  return new DescriptorError(`apoll of ${id}: it is not in flight; apoll reports each descriptor once`)
}
