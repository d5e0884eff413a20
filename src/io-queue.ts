// One I/O queue pair with its operations: splits them into commands, keeps the queue full, reports their ends.
// Trade-off: everything for a command is in arrays by command identifier, everything for an operation in a
// reused object; the price is that nothing here may be called from two threads.

import { CommandTimeoutError } from '../lib/errors.ts'
import { type Controller, high32, NVM, type QueuePair } from '../lib/nvme/index.ts'
import type { DmaAllocation, DmaTag } from '../lib/pci/index.ts'
import { type Geometry, MAX_BLOCKS } from './geometry.ts'
import { KIND, type Operation, OperationPool, STATE } from './operation.ts'

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const { TRANSFER, SINGLE } = KIND
const { FREE, IN_FLIGHT, DONE } = STATE
const { READ, WRITE } = NVM
// Every so many polls that find nothing, the clock is read and the controller's health looked at.
const LOOK_MASK = 63

/** Counters of a queue; bytes and commands are those that completed without an error. */
export interface IoQueueCounters {
  reads: number
  writes: number
  others: number
  failed: number
  bytesRead: number
  bytesWritten: number
  polls: number
  emptyPolls: number
}

/** What a queue needs of its controller, in whichever thread that is. */
export type QueueController = Pick<Controller, 'timeout' | 'checkHealth'>

export class IoQueue {
  /** As the API counts: from 0. The controller's own id, from 1, is `pair.qid`. */
  readonly qid: number
  readonly pair: QueuePair
  readonly operations: OperationPool
  readonly counters: IoQueueCounters = {
    reads: 0,
    writes: 0,
    others: 0,
    failed: 0,
    bytesRead: 0,
    bytesWritten: 0,
    polls: 0,
    emptyPolls: 0,
  }
  /** Operations that the scheduler polls for: those with `onDone`. */
  scheduled = 0
  /** Commands in flight that streams at work want, and how long they have wanted how many. */
  wanted = 0
  wantedTime = 0
  inFlightTime = 0
  /** The scheduler polls it. */
  awake = false
  /** Called when something is posted, or waits, that the scheduler must look after, unless it is awake. */
  wake: (queue: IoQueue) => void = () => {}

  private readonly controller: QueueController
  // By command identifier.
  private readonly ops: (Operation | null)[]
  private readonly slba: Float64Array
  private readonly nlb: Uint32Array
  // Operations with blocks left to post, then those that have not begun, each in order.
  private partial: Operation[] = []
  private waiting: Operation[] = []
  private flushArmed = false
  private accountedAt = 0
  private failure: Error | null = null
  private metadata: Metadata | null = null
  // Nothing fails, waits or needs metadata: an operation of one command may be posted as it is.
  private plain = true
  // Memory of commands that had no answer.
  private readonly lost: DmaAllocation[] = []

  constructor(controller: QueueController, pair: QueuePair, geometry: Geometry, qid = pair.qid - 1) {
    this.qid = qid
    this.pair = pair
    this.controller = controller
    this.operations = new OperationPool(this, geometry)
    this.ops = new Array(pair.entries - 1).fill(null)
    this.slba = new Float64Array(pair.entries - 1)
    this.nlb = new Uint32Array(pair.entries - 1)
  }

  /** From now on commands may need separate metadata: a namespace of the controller has it. */
  useMetadata(metadata: Metadata): void {
    this.metadata = metadata
    this.reconsider()
  }

  /** Operations not yet done, and not lost. */
  get busy(): boolean {
    return this.pair.inFlight > 0 || this.partial.length > 0 || this.waiting.length > 0
  }

  /**
   * Sets an operation up for a transfer of checked arguments, and starts it: see `start`.
   * @param tag the buffer's
   */
  transfer(
    op: Operation,
    geometry: Geometry,
    opc: number,
    buf: Buffer,
    { allocation, lo, hi }: DmaTag,
    slba: number,
    nlb: number,
  ): boolean {
    op.kind = TRANSFER
    op.opc = opc
    op.slba = slba
    op.nlb = nlb
    // Looked at before: to store a young object in an old one costs V8 10 ns, and a slot of a stream never changes.
    if (op.geometry !== geometry) op.geometry = geometry
    if (op.buf !== buf) {
      op.buf = buf
      op.allocation = allocation
    }
    if (this.plain === false || nlb > geometry.maxbpio) return this.startTransfer(op, lo, hi)
    // The commonest case: one command, nothing before it.
    const high = slba < 4294967296 ? 0 : high32(slba)
    const bytes = nlb << geometry.blockshift
    const dw12 = (nlb - 1) | geometry.flags
    const cid = this.pair.post(opc, geometry.nsid, lo, hi, bytes, slba | 0, high, dw12, 0, 0, 0)
    if (cid < 0) return false
    this.ops[cid] = op
    op.state = IN_FLIGHT
    op.pending = 1
    allocation.users++
    if (this.flushArmed === false) this.armFlush()
    return true
  }

  private startTransfer(op: Operation, lo: number, hi: number): boolean {
    op.lo = lo
    op.hi = hi
    return this.start(op)
  }

  /**
   * Starts an operation, as far as there is room; the rest of a long one follows as its first commands end.
   * @returns false where there was no room at all, and nothing was sent
   */
  start(op: Operation): boolean {
    const { failure } = this
    this.begin(op)
    if (failure !== null) {
      op.cause = failure
      this.retain(op)
      this.releaseMetadata(op)
      this.finish(op)
      return true
    }
    // Those that came first go first.
    if (this.partial.length > 0 || this.waiting.length > 0 || !this.post(op)) {
      op.state = FREE
      return false
    }
    this.retain(op)
    if (this.flushArmed === false) this.armFlush()
    return true
  }

  private begin(op: Operation): void {
    op.state = IN_FLIGHT
    op.sent = 0
    op.pending = 1
  }

  // After every change of what may keep an operation from being posted at once and as it is.
  private reconsider(): void {
    const { failure, metadata, partial, waiting } = this
    this.plain = failure === null && metadata === null && partial.length === 0 && waiting.length === 0
  }

  /** Starts an operation now, or when there is room: for the scheduler, which polls until it is done. */
  request(op: Operation): void {
    this.scheduled++
    if (!this.start(op)) this.wait(op)
    if (this.awake === false && op.state === IN_FLIGHT) this.wake(this)
  }

  /** `transfer` as `request` does it. */
  requestTransfer(
    op: Operation,
    geometry: Geometry,
    opc: number,
    buf: Buffer,
    tag: DmaTag,
    slba: number,
    nlb: number,
  ): void {
    this.scheduled++
    if (!this.transfer(op, geometry, opc, buf, tag, slba, nlb)) {
      op.lo = tag.lo
      op.hi = tag.hi
      this.wait(op)
    }
    if (this.awake === false && op.state === IN_FLIGHT) this.wake(this)
  }

  private wait(op: Operation): void {
    this.begin(op)
    this.retain(op)
    this.waiting.push(op)
    this.plain = false
  }

  /** Rings what was posted, takes what completed, goes on with what waits. */
  poll(): boolean {
    const { pair } = this
    if (pair.dirty) pair.ring()
    pair.step()
    this.counters.polls++
    let cid = pair.reap()
    if (cid < 0) {
      if ((++this.counters.emptyPolls & LOOK_MASK) === 0) this.look(performance.now())
      return false
    }
    do {
      this.complete(cid)
      cid = pair.reap()
    } while (cid >= 0)
    if (this.partial.length > 0 || this.waiting.length > 0) this.continue()
    return true
  }

  /** Counts what was in flight, and what was wanted to be, since the last call. */
  account(now: number): void {
    const elapsed = now - this.accountedAt
    this.accountedAt = now
    if (this.wanted === 0) return
    this.wantedTime += this.wanted * elapsed
    this.inFlightTime += Math.min(this.pair.inFlight, this.wanted) * elapsed
  }

  /** A stream at work wants `depth` commands in flight from now on, in addition; negative: no longer. */
  want(depth: number): void {
    this.account(performance.now())
    this.wanted += depth
  }

  /** Timeouts and the controller's health: now and then, while something is in flight. */
  look(now: number): void {
    this.pair.expire(now, (cid) => this.lose(cid))
    this.controller.checkHealth(now)
  }

  /** Ends everything in flight or waiting with `cause`, and everything to come until `reset`. */
  fail(cause: Error): void {
    this.failure = cause
    const waiting = [...this.partial.splice(0), ...this.waiting.splice(0)]
    for (const op of waiting) {
      op.cause ??= cause
      this.releaseMetadata(op)
      if (--op.pending === 0) this.finish(op)
    }
    this.pair.abandon((cid) => this.end(cid, cause))
    this.reconsider()
  }

  /** After the controller was reset, and the pair with it. */
  reset(): void {
    this.failure = null
    this.reconsider()
    for (const allocation of this.lost.splice(0)) {
      allocation.users--
      if (allocation.discarded) allocation.pool.reclaim(allocation)
    }
  }

  // The hot path: one command at a time, nothing allocated.

  private complete(cid: number): void {
    const op = this.ops[cid]!
    const { pair } = this
    if (op.kind === SINGLE) this.completeSingle(op)
    const field = pair.status
    if (field !== 0 && op.field === 0) this.failCommand(op, cid, field)
    if (--op.pending === 0) this.finish(op)
  }

  private finish(op: Operation): void {
    op.state = DONE
    const { allocation, onDone } = op
    if (allocation !== null) {
      allocation.users--
      if (allocation.discarded) allocation.pool.reclaim(allocation)
    }
    if (op.cause === null && op.field === 0) this.count(op)
    else this.counters.failed++
    if (onDone !== null) {
      this.scheduled--
      onDone(op)
    }
  }

  private count({ kind, opc, nlb, geometry }: Operation): void {
    const { counters } = this
    if (kind !== TRANSFER) counters.others++
    else if (opc === READ) {
      counters.reads++
      counters.bytesRead += nlb * geometry.blocksize
    } else if (opc === WRITE) {
      counters.writes++
      counters.bytesWritten += nlb * geometry.blocksize
    } else {
      counters.others++
    }
  }

  private retain(op: Operation): void {
    if (op.allocation !== null) op.allocation.users++
    if (op.kind === SINGLE && op.metadata !== null) op.metadata.users++
  }

  // What follows is not for every command.

  private completeSingle(op: Operation): void {
    op.result = this.pair.result
    this.releaseMetadata(op)
  }

  private releaseMetadata({ kind, metadata }: Operation): void {
    if (kind !== SINGLE || metadata === null) return
    metadata.users--
    if (metadata.discarded) metadata.pool.reclaim(metadata)
  }

  // Posts what is left of an operation, as far as there is room; false where nothing of it was ever posted.
  private post(op: Operation): boolean {
    if (this.metadata !== null) this.metadata.point(this.pair, op)
    if (op.kind === SINGLE) return this.postSingle(op)
    const stride = strideOf(op)
    const blockBytes = op.kind === TRANSFER ? op.geometry.blocksize : 0
    while (op.sent < op.nlb) {
      const n = Math.min(op.nlb - op.sent, stride)
      const bytes = n * blockBytes
      if (!this.postRange(op, op.slba + op.sent, n, bytes)) {
        if (op.sent === 0) return false
        this.partial.push(op)
        this.plain = false
        return true
      }
      op.pending++
      op.sent += n
      const { lo } = op
      op.lo = (lo + bytes) | 0
      if (op.lo >>> 0 < lo >>> 0) op.hi = (op.hi + 1) | 0
    }
    op.pending--
    return true
  }

  private postSingle(op: Operation): boolean {
    const { pair } = this
    const { opc, geometry, lo, hi, bytes, cdw10, cdw11, cdw12, cdw13, cdw14, cdw15 } = op
    const { nsid } = geometry
    const withMetadata = op.metadata !== null
    if (withMetadata) pair.pointMetadata(op.mptrLo, op.mptrHi)
    const cid = pair.post(opc, nsid, lo, hi, bytes, cdw10, cdw11, cdw12, cdw13, cdw14, cdw15)
    // It is this command's alone.
    if (withMetadata) pair.pointMetadata(0, 0)
    if (cid < 0) return false
    this.ops[cid] = op
    return true
  }

  private postRange(op: Operation, slba: number, nlb: number, bytes: number): boolean {
    const { opc, geometry, lo, hi } = op
    const high = high32(slba)
    const dw12 = (nlb - 1) | (bytes === 0 ? 0 : geometry.flags)
    const cid = this.pair.post(opc, geometry.nsid, lo, hi, bytes, slba | 0, high, dw12, 0, 0, 0)
    if (cid < 0) return false
    this.ops[cid] = op
    this.slba[cid] = slba
    this.nlb[cid] = nlb
    return true
  }

  private failCommand(op: Operation, cid: number, field: number): void {
    op.field = field
    op.failedSlba = this.slbaOf(op, cid)
    op.failedNlb = this.nlbOf(op, cid)
    this.stop(op)
  }

  // Of an operation that is one command nothing was noted for the command.
  private slbaOf(op: Operation, cid: number): number {
    return op.nlb <= strideOf(op) ? op.slba : this.slba[cid]!
  }

  private nlbOf(op: Operation, cid: number): number {
    return op.nlb <= strideOf(op) ? op.nlb : this.nlb[cid]!
  }

  // Nothing more of a failed operation is sent.
  private stop(op: Operation): void {
    const at = this.partial.indexOf(op)
    if (at < 0) return
    this.partial.splice(at, 1)
    op.pending--
    this.reconsider()
  }

  private continue(): void {
    while (this.partial.length > 0 && this.pair.available > 0) {
      const op = this.partial.shift()!
      this.post(op)
    }
    while (this.partial.length === 0 && this.waiting.length > 0 && this.post(this.waiting[0]!)) {
      this.waiting.shift()
    }
    this.reconsider()
    if (this.pair.dirty) this.pair.ring()
  }

  private lose(cid: number): void {
    const op = this.ops[cid]!
    const { timeout } = this.controller
    const range = op.kind === SINGLE ? '' : `, slba ${this.slbaOf(op, cid)}, nlb ${this.nlbOf(op, cid)}`
    const what = `opcode ${op.opc.toString(16)}h, qid ${this.pair.qid}, nsid ${op.geometry.nsid}${range}`
    this.end(cid, new CommandTimeoutError(`no answer within ${timeout} ms: ${what}`))
  }

  private end(cid: number, cause: Error): void {
    const op = this.ops[cid]!
    op.cause ??= cause
    this.stop(op)
    // The device may still write to the memory: one more user until the controller is reset or closed.
    if (op.allocation !== null) {
      op.allocation.users++
      this.lost.push(op.allocation)
    }
    if (op.kind === SINGLE && op.metadata !== null) this.lost.push(op.metadata)
    if (--op.pending === 0) this.finish(op)
  }

  // A caller that posts and does not poll is served at the end of its turn; one that polls never waits for it.
  private armFlush(): void {
    this.flushArmed = true
    setImmediate(this.flush)
  }

  private readonly flush = () => {
    this.flushArmed = false
    if (this.pair.dirty) this.pair.ring()
  }
}

/** Where commands of namespaces with separate metadata point: zeroes to write, and room for what is read. */
export interface Metadata {
  point(pair: QueuePair, op: Operation): void
}

/** Polls for up to `timeout` ms, until the operation is done; the queue's own polls look for lost commands. */
export function spin(queue: IoQueue, op: Operation, timeout: number): boolean {
  const end = performance.now() + timeout
  for (;;) {
    for (let i = 0; i < 100; i++) {
      queue.poll()
      if (op.state === DONE) return true
    }
    if (performance.now() >= end) return false
  }
}

function strideOf({ kind, geometry }: Operation): number {
  return kind === TRANSFER ? geometry.maxbpio : MAX_BLOCKS
}
