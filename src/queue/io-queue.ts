// One I/O queue pair with its operations: sends them as commands, takes completions, reports their ends.
// Trade-off: everything for a command is in arrays by command identifier, everything for an operation in a
// reused object; the price is that nothing here may be called from two threads.

import { CommandTimeoutError } from '../../lib/errors.ts'
import type { DmaTag } from '../../lib/memory/tag.ts'
import type { Controller } from '../../lib/nvme/host/controller.ts'
import type { Queue } from '../../lib/nvme/host/queue.ts'
import { high32 } from '../../lib/nvme/pcie/prp.ts'
import { Backlog } from './backlog.ts'
import type { Geometry } from './geometry.ts'
import { LostMemory } from './lost-memory.ts'
import { KIND, type Operation, OperationPool, STATE } from './operation.ts'
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
  // By command identifier.
  private readonly ops: (Operation | null)[]
  private readonly backlog: Backlog
  private readonly lost = new LostMemory()
  private flushArmed = false
  private failure: Error | null = null
  // Nothing fails, waits or needs metadata: an operation of one command may be posted as it is.
  private plain = true

  constructor(controller: QueueController, pair: Queue, geometry: Geometry, qid = pair.qid - 1) {
    this.qid = qid
    this.pair = pair
    this.controller = controller
    this.operations = new OperationPool(this, geometry)
    this.occupancy = new Occupancy(pair)
    this.ops = new Array(pair.entries - 1).fill(null)
    this.backlog = new Backlog(pair, this.ops)
  }

  /** From now on commands may need separate metadata: a namespace of the controller has it. */
  useMetadata(metadata: Metadata): void {
    this.backlog.metadata = metadata
    this.reconsider()
  }

  /** Operations not yet done, and not lost. */
  get busy(): boolean {
    return this.pair.inFlight > 0 || !this.backlog.empty
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
    const { failure, backlog } = this
    op.begin()
    if (failure !== null) {
      op.cause = failure
      op.retain()
      this.finish(op)
      return true
    }
    // Those that came first go first.
    if (!backlog.empty || !backlog.post(op)) {
      op.state = FREE
      return false
    }
    if (!backlog.empty) this.plain = false
    op.retain()
    if (this.flushArmed === false) this.armFlush()
    return true
  }

  // After every change of what may keep an operation from being posted at once and as it is.
  private reconsider(): void {
    const { failure, backlog } = this
    this.plain = failure === null && backlog.metadata === null && backlog.empty
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
    this.backlog.wait(op)
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
    if (this.plain === false && !this.backlog.empty) this.continue()
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

  private continue(): void {
    this.backlog.continue()
    this.reconsider()
    if (this.pair.dirty) this.pair.ring()
  }

  private failCommand(op: Operation, cid: number, field: number): void {
    const { backlog } = this
    op.field = field
    op.failedSlba = backlog.slbaOf(op, cid)
    op.failedNlb = backlog.nlbOf(op, cid)
    backlog.stop(op)
    this.reconsider()
  }

  /** Timeouts and the controller's health: now and then, while something is in flight. */
  look(now: number): void {
    this.pair.expire(now, (cid) => this.lose(cid))
    this.controller.checkHealth(now)
  }

  /** Ends everything in flight or waiting with `cause`, and everything to come until `reset`. */
  fail(cause: Error): void {
    this.failure = cause
    // What is started from now on, by a callback too, ends at once.
    this.plain = false
    for (const op of this.backlog.takeAll()) {
      op.cause ??= cause
      if (--op.pending === 0) this.finish(op)
    }
    this.pair.abandon((cid) => this.end(cid, cause))
    this.reconsider()
  }

  /** After the controller was reset, and the pair with it. */
  reset(): void {
    this.failure = null
    this.reconsider()
    this.lost.release()
  }

  private lose(cid: number): void {
    const op = this.ops[cid]!
    const { backlog, pair } = this
    const { timeout } = this.controller
    const range = op.kind === SINGLE ? '' : `, slba ${backlog.slbaOf(op, cid)}, nlb ${backlog.nlbOf(op, cid)}`
    const what = `opcode ${op.opc.toString(16)}h, qid ${pair.qid}, nsid ${op.geometry.nsid}${range}`
    this.end(cid, new CommandTimeoutError(`no answer within ${timeout} ms: ${what}`))
  }

  private end(cid: number, cause: Error): void {
    const op = this.ops[cid]!
    op.cause ??= cause
    this.backlog.stop(op)
    this.reconsider()
    this.lost.hold(op)
    if (--op.pending === 0) this.finish(op)
  }
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
