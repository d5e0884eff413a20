// One I/O queue with its operations: sends them as commands, takes completions, reports their ends, and holds what
// there is no room for. What is held is posted strictly in order, so that a long operation holds up those behind it
// and none is starved.
// Trade-off: everything for a command is in arrays by command identifier, everything for an operation in a
// reused object; the price is that nothing here may be called from two threads.

import { CommandTimeoutError } from '../../lib/errors.ts'
import type { DmaAllocation, DmaTag } from '../../lib/memory/tag.ts'
import type { Controller } from '../../lib/nvme/host/controller.ts'
import type { Queue } from '../../lib/nvme/host/queue.ts'
import { high32 } from '../../lib/sys/int64.ts'
import { Fifo } from './fifo.ts'
import { type Geometry, MAX_BLOCKS } from './geometry.ts'
import { KIND, type Operation, OperationPool, releaseMemory, STATE } from './operation.ts'
import { Occupancy, QueueCounters } from './queue-counters.ts'
import type { Metadata } from './shared-metadata.ts'

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const { TRANSFER, SINGLE } = KIND
const { FREE, IN_FLIGHT, DONE } = STATE
// Every so many polls that find nothing, the clock is read and the controller's health looked at.
const LOOK_MASK = 63

/** What a queue needs of its controller, in whichever thread that is. */
export type QueueController = Pick<Controller, 'timeout' | 'checkHealth'>

export class IoQueue {
  /** As the API counts: from 0. The controller's own id, from 1, is `pair.qid`. */
  readonly qid: number
  readonly pair: Queue
  readonly operations: OperationPool
  readonly counters = new QueueCounters()
  readonly occupancy: Occupancy
  /** Operations that the scheduler polls for: those with `onDone`. */
  scheduled = 0
  /** The scheduler polls it. */
  awake = false
  /** Called when something is posted, or waits, that the scheduler must look after, unless it is awake. */
  wake: (queue: IoQueue) => void = () => {}

  private readonly controller: QueueController
  // By command identifier: its operation, and which of the operation's blocks the command has.
  private readonly ops: (Operation | null)[]
  private readonly slba: Float64Array
  private readonly nlb: Uint32Array
  private flushArmed = false
  // How many things keep an operation of one command from being posted at once and as it is: each held operation,
  // a failure, and metadata count one. The hot path looks at nothing else.
  private obstacles = 0
  private failure: Error | null = null
  private metadata: Metadata | null = null
  // What is held: the operation that is posted in part, and those behind it of which nothing is.
  private partial: Operation | null = null
  private readonly waiting = new Fifo<Operation>()
  // Memory of commands that had no answer: the device may still write to it, until the controller is reset or closed.
  private readonly lostMemory: DmaAllocation[] = []

  constructor(controller: QueueController, pair: Queue, geometry: Geometry, qid = pair.qid - 1) {
    this.qid = qid
    this.pair = pair
    this.controller = controller
    this.operations = new OperationPool(this, geometry)
    this.occupancy = new Occupancy(pair)
    this.ops = new Array(pair.entries - 1).fill(null)
    this.slba = new Float64Array(this.ops.length)
    this.nlb = new Uint32Array(this.ops.length)
  }

  /** From now on commands may need separate metadata: a namespace of the controller has it. */
  useMetadata(metadata: Metadata): void {
    if (this.metadata === null) this.obstacles++
    this.metadata = metadata
  }

  /** Operations not yet done, and not lost. */
  get busy(): boolean {
    return this.pair.inFlight > 0 || this.holding
  }

  private get holding(): boolean {
    return this.partial !== null || this.waiting.length > 0
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
    if (this.obstacles !== 0 || nlb > geometry.maxbpio) return this.startTransfer(op, lo, hi)
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
    op.begin()
    if (failure !== null) {
      op.cause = failure
      op.retain()
      this.finish(op)
      return true
    }
    // Those that came first go first.
    if (this.holding || !this.post(op)) {
      op.state = FREE
      return false
    }
    op.retain()
    if (this.flushArmed === false) this.armFlush()
    return true
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
    op.begin()
    op.retain()
    this.waiting.push(op)
    this.obstacles++
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
    if (this.obstacles !== 0 && this.holding) this.continue()
    return true
  }

  private complete(cid: number): void {
    const op = this.ops[cid]!
    const { pair } = this
    if (op.kind === SINGLE) op.result = pair.result
    const field = pair.status
    if (field !== 0 && op.field === 0) this.failCommand(op, cid, field)
    if (--op.pending === 0) this.finish(op)
  }

  private finish(op: Operation): void {
    op.state = DONE
    op.release()
    if (op.cause === null && op.field === 0) this.counters.count(op)
    else this.counters.failed++
    const { onDone } = op
    if (onDone !== null) {
      this.scheduled--
      onDone(op)
    }
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

  // What follows is not for every command.

  /**
   * Posts what is left of an operation, as far as there is room; the rest follows by `continue`.
   * @returns false where nothing of it was ever posted
   */
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
        this.partial = op
        this.obstacles++
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
    const withMetadata = op.metadata !== null
    if (withMetadata) pair.pointMetadata(op.mptrLo, op.mptrHi)
    const cid = pair.post(opc, geometry.nsid, lo, hi, bytes, cdw10, cdw11, cdw12, cdw13, cdw14, cdw15)
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

  // Posts what there is room for now.
  private continue(): void {
    while (this.partial !== null && this.pair.available > 0) {
      const op = this.partial
      this.partial = null
      this.obstacles--
      this.post(op)
    }
    while (this.partial === null && this.waiting.length > 0 && this.post(this.waiting.first!)) {
      this.waiting.shift()
      this.obstacles--
    }
    if (this.pair.dirty) this.pair.ring()
  }

  // Sends nothing more of an operation that has failed.
  private stop(op: Operation): void {
    if (this.partial !== op) return
    this.partial = null
    this.obstacles--
    op.pending--
  }

  private failCommand(op: Operation, cid: number, field: number): void {
    op.field = field
    op.failedSlba = this.slbaOf(op, cid)
    op.failedNlb = this.nlbOf(op, cid)
    this.stop(op)
  }

  // The blocks of one command of an operation: nothing is noted where that is all of them.
  private slbaOf(op: Operation, cid: number): number {
    return op.nlb <= strideOf(op) ? op.slba : this.slba[cid]!
  }

  private nlbOf(op: Operation, cid: number): number {
    return op.nlb <= strideOf(op) ? op.nlb : this.nlb[cid]!
  }

  /** Timeouts and the controller's health: now and then, while something is in flight. */
  look(now: number): void {
    this.pair.expire(now, (cid) => this.lose(cid))
    this.controller.checkHealth(now)
  }

  /** Ends everything in flight or waiting with `cause`, and everything to come until `reset`. */
  fail(cause: Error): void {
    // First: what is started from now on, by a callback too, ends at once.
    if (this.failure === null) this.obstacles++
    this.failure = cause
    for (const op of this.takeHeld()) {
      op.cause ??= cause
      if (--op.pending === 0) this.finish(op)
    }
    this.pair.abandon((cid) => this.end(cid, cause))
  }

  // Everything that is held, in order, which is no longer.
  private takeHeld(): Operation[] {
    const held = this.partial === null ? [] : [this.partial]
    for (let op = this.waiting.shift(); op !== undefined; op = this.waiting.shift()) held.push(op)
    this.partial = null
    this.obstacles -= held.length
    return held
  }

  /** After the controller was reset, and the pair with it. */
  reset(): void {
    if (this.failure !== null) this.obstacles--
    this.failure = null
    for (const allocation of this.lostMemory.splice(0)) releaseMemory(allocation)
  }

  private lose(cid: number): void {
    const op = this.ops[cid]!
    const { pair } = this
    const { timeout } = this.controller
    const range = op.kind === SINGLE ? '' : `, slba ${this.slbaOf(op, cid)}, nlb ${this.nlbOf(op, cid)}`
    const what = `opcode ${op.opc.toString(16)}h, qid ${pair.qid}, nsid ${op.geometry.nsid}${range}`
    this.end(cid, new CommandTimeoutError(`no answer within ${timeout} ms: ${what}`))
  }

  private end(cid: number, cause: Error): void {
    const op = this.ops[cid]!
    op.cause ??= cause
    this.stop(op)
    for (const allocation of op.memory()) {
      allocation.users++
      this.lostMemory.push(allocation)
    }
    if (--op.pending === 0) this.finish(op)
  }
}

function strideOf({ kind, geometry }: Operation): number {
  return kind === TRANSFER ? geometry.maxbpio : MAX_BLOCKS
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
