// One I/O queue with its operations: sends them as commands, takes completions, reports their ends, and holds what
// there is no space for. What is held is posted strictly in order, so that a long operation holds up those behind it
// and none is starved; but what one namespace waits for, a path or what was sent before, holds up no other.
// Trade-off: everything for a command is in arrays by command identifier, everything for an operation in a
// reused object; the price is that nothing here may be called from two threads.

import { CommandTimeoutError, DeviceRemovedError, OutcomeUnknownError } from '../../lib/errors.ts'
import type { DmaAllocation, DmaTag } from '../../lib/memory/tag.ts'
import type { Queue } from '../../lib/nvme/host/queue.ts'
import type { ExpiredCommand, Pause, Pauses } from '../../lib/nvme/host/recovery.ts'
import { anaStateOf } from '../../lib/nvme/spec/ana.ts'
import { mayChangeData } from '../../lib/nvme/spec/opcodes.ts'
import { mayPass } from '../../lib/nvme/spec/status.ts'
import { high32 } from '../../lib/sys/int64.ts'
import { Fifo, isRepeatable, nextAttempt, type Part, Resends, type RetryTimes } from './backlog.ts'
import { type Geometry, MAX_BLOCKS } from './geometry.ts'
import {
  KIND,
  type Operation,
  OperationPool,
  type OperationQueue,
  releaseMemory,
  STATE,
} from './operation.ts'
import { Occupancy, QueueCounters } from './stats.ts'

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const { TRANSFER, SINGLE } = KIND
const { FREE, IN_FLIGHT, DONE } = STATE
// Every so many polls that find nothing, the clock is read and the controller's health looked at.
const LOOK_MASK = 63

/** What a queue needs of its controller, in whichever thread that is. */
interface QueueController extends RetryTimes {
  readonly timeout: number
  /** How often a command that failed for the time being, or met a reset, is sent again. */
  readonly retries: number
  checkHealth(now?: number): void
  /** A command had no answer. False: nothing is done about it. */
  expired(command: ExpiredCommand): boolean
  /** Why a namespace must not be written, or null: asked before the first write, where there is something to ask. */
  readonly mayWrite?: ((nsid: number) => Error | null) | undefined
  /** Ids of the namespaces that were opened. */
  namespaces(): Iterable<number>
  /** Namespaces that have no path now, where there are several: `pausesChanged` tells of each change. */
  readonly pauses?: Pauses | undefined
}

/** Where the commands of an operation point with their metadata pointer. */
export interface Metadata {
  point(pair: Pick<Queue, 'pointMetadata'>, op: Operation): void
}

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
  private readonly order: Uint32Array
  private posted = 0
  // The identifier of the command that was posted last, where that was not the commonest kind.
  private latest = 0
  private flushArmed = false
  // How many things keep an operation of one command from being posted at once and as it is: each held operation,
  // a failure, metadata, namespaces without a path, and those that may have other users count one. The hot path looks at
  // nothing else.
  private obstacles = 0
  private failure: Error | null = null
  // The controller is being recovered: nothing is posted, and nothing reaped.
  private suspension: Error | null = null
  // There are namespaces without a path: nothing of them is posted, and what is in flight goes on.
  private paused = false
  private resends: Resends | null = null
  // By command identifier: those without an answer that the controller's recovery has in hand.
  private readonly expired = new Map<number, CommandTimeoutError>()
  // When the event loop, which recovery needs, had its latest turn, or recovery its latest step.
  private turnAt = 0
  private turnAsked = false
  private metadata: Metadata | null = null
  // There are namespaces for which that has to be asked before they are written; and those for which it was.
  private guarded = false
  private readonly writable = new Set<number>()
  // What is held: the first may be posted in part, and nothing of the others is.
  private readonly waiting = new Fifo<Operation>()
  // By namespace, the same where nothing new of it may be posted: its operations are here, and none is in `waiting`.
  private readonly parked = new Map<number, Fifo<Operation>>()
  // By command identifier, memory of commands that had no answer: the device may still write to it, until one comes
  // after all, or the controller is reset or closed.
  private readonly lostMemory = new Map<number, DmaAllocation[]>()
  // What `afterLost` was given.
  private readonly afterwards: (() => void)[] = []

  constructor(controller: QueueController, pair: Queue, geometry: Geometry, qid = pair.qid - 1) {
    this.qid = qid
    this.pair = pair
    this.controller = controller
    this.operations = new OperationPool(this, geometry)
    this.occupancy = new Occupancy(pair)
    this.ops = new Array(pair.entries - 1).fill(null)
    this.slba = new Float64Array(this.ops.length)
    this.nlb = new Uint32Array(this.ops.length)
    this.order = new Uint32Array(this.ops.length)
    pair.onLate = (cid) => this.completeLate(cid)
  }

  /**
   * A namespace was opened: before it is written, the controller is asked whether it may be. Also where one of this id was
   * asked about before: it may have been taken away, and another one be there.
   */
  guardWrites(nsid: number): void {
    this.writable.delete(nsid)
    if (this.controller.mayWrite === undefined || this.guarded) return
    this.guarded = true
    this.obstacles++
  }

  /** From now on commands may need separate metadata: a namespace of the controller has it. */
  useMetadata(metadata: Metadata): void {
    if (this.metadata === null) this.obstacles++
    this.metadata = metadata
  }

  /** Operations not yet done, and not lost. */
  get busy(): boolean {
    return this.pair.inFlight > 0 || this.unsent
  }

  // What is held, and what is to be sent again.
  private get unsent(): boolean {
    const held = this.waiting.length > 0 || this.parked.size > 0 || this.suspension !== null
    return held || (this.resends?.length ?? 0) > 0
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
    this.order[cid] = this.posted++
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
   * Starts an operation, as far as there is space; the rest of a long one follows as its first commands end.
   * @returns false where there was no space at all, and nothing was sent
   */
  start(op: Operation): boolean {
    op.begin()
    const { nsid } = op.geometry
    const failure = this.failure ?? this.exhaustion() ?? this.stallOf(nsid) ?? this.refusal(op)
    if (failure !== null) {
      op.cause = failure
      op.retain()
      this.finish(op)
      return true
    }
    // Those that came first go first.
    const waits = this.suspension !== null || this.isParked(nsid)
    if (waits ? this.queueUp(op) : this.postNow(op)) return true
    op.state = FREE
    return false
  }

  private postNow(op: Operation): boolean {
    if (this.waiting.length > 0) return false
    const isAll = this.post(op)
    if (!isAll && op.sent === 0) return false
    op.retain()
    if (!isAll) this.enqueue(op)
    if (this.flushArmed === false) this.armFlush()
    return true
  }

  private refusal({ opc, geometry }: Operation): Error | null {
    const { mayWrite } = this.controller
    if (mayWrite === undefined || !mayChangeData(opc) || this.writable.has(geometry.nsid)) return null
    const refusal = mayWrite(geometry.nsid)
    if (refusal !== null) return refusal
    this.writable.add(geometry.nsid)
    if (this.guarded && [...this.controller.namespaces()].every((nsid) => this.writable.has(nsid))) {
      this.guarded = false
      this.obstacles--
    }
    return null
  }

  /** Starts an operation now, or when there is space: for the scheduler, which polls until it is done. */
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

  private pauseOf(nsid: number): Pause | undefined {
    return this.paused ? this.controller.pauses?.of(nsid) : undefined
  }

  private stallOf(nsid: number): Error | null {
    return this.pauseOf(nsid)?.stalledBy ?? null
  }

  private readonly hasPath = (nsid: number): boolean => this.pauseOf(nsid) === undefined

  // What is new of the namespace waits: for a path, or for the end of what was in flight when the controller was reset.
  private isHeldUp(nsid: number): boolean {
    return !this.hasPath(nsid) || (this.resends?.isFirst(nsid) ?? false)
  }

  private isParked(nsid: number): boolean {
    return this.parked.has(nsid) || this.isHeldUp(nsid)
  }

  // Where an operation waits.
  private lineOf({ geometry: { nsid } }: Operation): Fifo<Operation> {
    if (!this.isParked(nsid)) return this.waiting
    const line = this.parked.get(nsid) ?? new Fifo()
    this.parked.set(nsid, line)
    return line
  }

  private enqueue(op: Operation): void {
    this.lineOf(op).push(op)
    this.obstacles++
  }

  // False where as many wait already as the queue has room for.
  private queueUp(op: Operation): boolean {
    if (this.lineOf(op).length >= this.ops.length) return false
    op.retain()
    this.enqueue(op)
    return true
  }

  // Takes an operation out of those that wait; false where it does not.
  private unqueue(op: Operation): boolean {
    const { nsid } = op.geometry
    const line = this.parked.get(nsid) ?? this.waiting
    if (line.take((one) => one === op).length === 0) return false
    this.obstacles--
    if (line.length === 0) this.parked.delete(nsid)
    return true
  }

  // Those that wait for a namespace that is held up now are no concern of the others.
  private park(): void {
    for (const op of this.waiting.take(({ geometry }) => this.isHeldUp(geometry.nsid)))
      this.lineOf(op).push(op)
  }

  // And they are the first when it is not held up any more.
  private unpark(): void {
    for (const [nsid, line] of this.parked) {
      if (this.isHeldUp(nsid)) continue
      this.parked.delete(nsid)
      this.waiting.unshift(line.take(() => true))
    }
  }

  private wait(op: Operation): void {
    op.begin()
    op.retain()
    const exhaustion = this.exhaustion()
    if (exhaustion !== null) {
      this.endPart(op, exhaustion)
      return
    }
    this.enqueue(op)
  }

  /** Rings what was posted, takes what completed, goes on with what waits. */
  poll(): boolean {
    const { pair } = this
    if (this.suspension !== null) return this.pollSuspended()
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
    if (this.obstacles !== 0 && this.unsent) this.continue()
    return true
  }

  private complete(cid: number): void {
    const op = this.ops[cid]!
    const { pair } = this
    if (op.kind === SINGLE) op.result = pair.result
    const field = pair.status
    if ((field !== 0 || this.resends !== null) && this.completeOther(op, cid, field)) return
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
   * Posts what is left of an operation, as far as there is space; the rest follows by `continue`.
   * @returns whether that was all of it
   */
  private post(op: Operation): boolean {
    if (this.metadata !== null) this.metadata.point(this.pair, op)
    if (op.kind === SINGLE) return this.postSingle(op)
    const stride = strideOf(op)
    const blockBytes = op.kind === TRANSFER ? op.geometry.blocksize : 0
    while (op.sent < op.nlb) {
      const n = Math.min(op.nlb - op.sent, stride)
      const bytes = n * blockBytes
      if (!this.postRange(op, op.slba + op.sent, n, bytes, op.lo, op.hi)) return false
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
    if (withMetadata) pair.pointMetadata(op.mptrLo, op.mptrHi, geometry.separateBytes)
    const cid = pair.post(opc, geometry.nsid, lo, hi, bytes, cdw10, cdw11, cdw12, cdw13, cdw14, cdw15)
    // It is this command's alone.
    if (withMetadata) pair.pointMetadata(0, 0)
    if (cid < 0) return false
    this.ops[cid] = op
    this.order[cid] = this.posted++
    this.latest = cid
    return true
  }

  private postRange(
    op: Operation,
    slba: number,
    nlb: number,
    bytes: number,
    lo: number,
    hi: number,
  ): boolean {
    const { opc, geometry } = op
    const high = high32(slba)
    const dw12 = (nlb - 1) | (bytes === 0 ? 0 : geometry.flags)
    const cid = this.pair.post(opc, geometry.nsid, lo, hi, bytes, slba | 0, high, dw12, 0, 0, 0)
    if (cid < 0) return false
    this.ops[cid] = op
    this.order[cid] = this.posted++
    this.slba[cid] = slba
    this.nlb[cid] = nlb
    this.latest = cid
    return true
  }

  // Posts what there is space for now: first what was sent before.
  private continue(): void {
    if (this.resends !== null && this.resends.pending > 0) this.postAgain(this.resends)
    if (this.parked.size > 0) this.unpark()
    while (this.waiting.length > 0 && this.post(this.waiting.first!)) {
      this.waiting.shift()
      this.obstacles--
    }
    if (this.pair.dirty) this.pair.ring()
  }

  // Sends nothing more of an operation that has failed.
  private stop(op: Operation): void {
    if (op.sent > 0 && op.sent < op.nlb && this.unqueue(op)) op.pending--
  }

  // A command that failed, or one that was sent again. True where its operation goes on without its completion.
  private completeOther(op: Operation, cid: number, field: number): boolean {
    const before = this.resends?.ended(cid)
    if (field === 0 || op.field !== 0 || op.cause !== null) return false
    if (this.wasRefused(op, field) || (mayPass(field) && isRepeatable(op))) {
      const part = this.partOf(op, cid, before, field)
      if (part.attempt <= this.controller.retries) {
        this.sendAgain([part])
        return true
      }
    }
    op.field = field
    op.cause = this.pair.fault ?? null
    op.failedSlba = this.slbaOf(op, cid)
    op.failedNlb = this.nlbOf(op, cid)
    this.stop(op)
    return false
  }

  // By a path that has no access now: not executed, whatever it is, and another path may take it, also what this one must not
  // be sent again.
  private wasRefused(op: Operation, field: number): boolean {
    return this.pair.severalPaths === true && !op.once && anaStateOf(field) !== undefined
  }

  /** @param before what the command was, where it was sent again already */
  private partOf(op: Operation, cid: number, before: Part | undefined, field = 0): Part {
    return {
      op,
      slba: this.slbaOf(op, cid),
      nlb: this.nlbOf(op, cid),
      order: before?.order ?? this.order[cid]!,
      first: before?.first ?? false,
      ...nextAttempt(before, field, this.controller, this.pair.severalPaths === true),
    }
  }

  private sendAgain(parts: readonly Part[]): void {
    if (parts.length === 0) return
    this.counters.retries += parts.length
    if (this.resends === null) this.obstacles++
    this.resends ??= new Resends()
    this.resends.add(parts)
  }

  private postAgain(resends: Resends): void {
    const now = performance.now()
    for (let part = resends.next(now, this.hasPath); part; part = resends.next(now, this.hasPath)) {
      if (!this.postPart(part)) break
      resends.sent(part, this.latest)
    }
    if (resends.pending === 0) this.endResends()
    if (this.pair.dirty) this.pair.ring()
  }

  private endResends(): void {
    if (this.resends === null) return
    this.resends = null
    this.obstacles--
  }

  private postPart({ op, slba, nlb }: Part): boolean {
    if (this.metadata !== null) this.metadata.point(this.pair, op)
    if (op.kind === SINGLE) return this.postSingle(op)
    if (op.kind !== TRANSFER) return this.postRange(op, slba, nlb, 0, 0, 0)
    const { lo, hi } = op.allocation!.pool.tagOf(op.buf!)
    const { blocksize } = op.geometry
    const at = (lo >>> 0) + (slba - op.slba) * blocksize
    return this.postRange(op, slba, nlb, nlb * blocksize, at | 0, (hi + high32(at)) | 0)
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
    if (this.suspension === null) this.pair.expire(now, (cid) => this.lose(cid))
    if (this.resends !== null && this.resends.pending === 0) this.endResends()
    // What is held may wait for a time, or for a command that has ended otherwise than by `complete`.
    if (this.unsent && this.suspension === null) this.continue()
    if (this.expired.size > 0 || this.suspension !== null || this.paused) this.watchEventLoop(now)
    this.controller.checkHealth(now)
  }

  private pollSuspended(): boolean {
    if ((++this.counters.emptyPolls & LOOK_MASK) === 0) this.look(performance.now())
    return false
  }

  /** Ends everything in flight or waiting with `cause`, and everything to come until `reset`. */
  fail(cause: Error): void {
    // First: what is started from now on, by a callback too, ends at once.
    if (this.failure === null) this.obstacles++
    this.failure = cause
    this.endSuspension()
    this.endUnsent(() => cause)
    this.pair.abandon((cid) => this.end(cid, cause))
    for (const cid of [...this.expired.keys()]) this.giveUp(cid, cause)
  }

  // One part of an operation, in flight or still to be sent, comes to nothing: null where it has failed already.
  private endPart(op: Operation, cause: Error | null): void {
    op.cause ??= cause
    this.stop(op)
    if (--op.pending === 0) this.finish(op)
  }

  // Ends what is held, or to be sent again, of the namespaces that there is a cause for.
  private endUnsent(causeOf: (nsid: number) => Error | null): void {
    const ends = ({ geometry }: Operation) => causeOf(geometry.nsid) !== null
    const held = this.waiting.take(ends)
    for (const [nsid, line] of this.parked) {
      held.push(...line.take(ends))
      if (line.length === 0) this.parked.delete(nsid)
    }
    this.obstacles -= held.length
    const again = this.resends?.take(({ op }) => ends(op)) ?? []
    const all = [...again.map(({ op }) => op), ...held].map((op) => [op, causeOf(op.geometry.nsid)] as const)
    for (const [op, cause] of all) this.endPart(op, cause)
  }

  /** Sends nothing more of an operation whose caller has been answered; what was posted goes on. */
  cancel(op: Operation, cause: Error): void {
    op.cause ??= cause
    const resent = this.resends?.take((part) => part.op === op) ?? []
    // What is left to be sent may be all that it waits for.
    if (this.unqueue(op)) this.endPart(op, cause)
    for (const part of resent) this.endPart(part.op, cause)
  }

  /** Ends an operation of one command that was not posted yet; false where it was. */
  withdraw(op: Operation, cause: Error): boolean {
    if (!this.unqueue(op)) return false
    this.endPart(op, cause)
    return true
  }

  /** After the controller was reset, and the pair with it. */
  reset(): void {
    if (this.failure !== null) this.obstacles--
    this.failure = null
    this.endSuspension()
    // Several paths can be used again without an end of what one of them still has.
    if (this.pair.lost === 0) this.releaseLost()
  }

  private releaseLost(): void {
    for (const cid of [...this.lostMemory.keys()]) this.releaseLostOf(cid)
  }

  private releaseLostOf(cid: number): void {
    const memory = this.lostMemory.get(cid) ?? []
    this.lostMemory.delete(cid)
    for (const allocation of memory) releaseMemory(allocation)
    if (this.lostMemory.size > 0) return
    for (const act of this.afterwards.splice(0)) queueMicrotask(act)
  }

  /** Calls `act`, once and after this call, when the device writes to no memory of commands without an answer any more. */
  afterLost(act: () => void): void {
    if (this.lostMemory.size > 0) this.afterwards.push(act)
    else queueMicrotask(act)
  }

  // Recovery of the controller: see lib/nvme/host/recovery.ts.

  /** The controller is about to be reset: what is in flight is kept, to be sent again, or ends. */
  suspend(cause: Error): void {
    if (this.failure !== null || this.suspension !== null) return
    this.suspension = cause
    this.obstacles++
    this.turnAt = performance.now()
    const expired = new Map(this.expired)
    const cids: number[] = [...expired.keys()]
    this.expired.clear()
    this.pair.abandon((cid) => cids.push(cid))
    const again: Part[] = []
    const ended: [op: Operation, cause: Error | null][] = []
    for (const cid of cids) {
      const op = this.ops[cid]!
      const part = this.partOf(op, cid, this.resends?.ended(cid))
      // The device has it until it is reset, whoever ends the operation before that.
      this.hold(cid)
      if (op.cause !== null || op.field !== 0) ended.push([op, null])
      else if (!isRepeatable(op)) ended.push([op, expired.get(cid) ?? this.unknownOutcome(op, cid, cause)])
      else if (part.attempt > this.controller.retries) ended.push([op, expired.get(cid) ?? cause])
      else again.push(part)
    }
    // First: what ends may call back, and that cancel others.
    this.sendAgain(again)
    this.resends?.goFirst()
    this.park()
    for (const [op, why] of ended) {
      op.lost = true
      this.endPart(op, why)
    }
  }

  /** The controller was reset, and the pair is as new. */
  resume(): void {
    if (this.suspension === null) {
      this.reset()
      return
    }
    this.endSuspension()
    this.releaseLost()
    this.continue()
    if (this.scheduled > 0 && this.awake === false) this.wake(this)
  }

  /**
   * Nothing is posted to namespaces without a path until they have one again. What is in flight goes on, but for that of
   * those that have had none for too long: all of it ends.
   * @param ended as of QueueUser
   */
  pausesChanged(ended: boolean): void {
    const paused = (this.controller.pauses?.size ?? 0) > 0
    if (paused !== this.paused) this.obstacles += paused ? 1 : -1
    this.paused = paused
    this.turnAt = performance.now()
    this.park()
    const stallOf = (nsid: number) => this.stallOf(nsid)
    this.endUnsent(stallOf)
    const isStalled = (nsid: number) => stallOf(nsid) !== null
    this.pair.abandonOf?.(isStalled, (cid) => this.end(cid, stallOf(this.ops[cid]!.geometry.nsid)!, true))
    if (!ended || this.suspension !== null) return
    this.continue()
    if (this.scheduled > 0 && this.awake === false) this.wake(this)
  }

  private endSuspension(): void {
    if (this.suspension === null) return
    this.suspension = null
    this.obstacles--
  }

  private lose(cid: number): void {
    const { pair } = this
    const cause = new CommandTimeoutError(
      `no answer within ${this.controller.timeout} ms: ${this.describe(this.ops[cid]!, cid)}`,
    )
    const now = performance.now()
    // The event loop of a program that only polls may have stood still for long, and that was no one's concern.
    if (this.expired.size === 0) this.turnAt = now
    this.expired.set(cid, cause)
    this.askForTurn(now)
    const command: ExpiredCommand = {
      qid: pair.qid,
      id: pair.idOf(cid),
      cause,
      ended: () => {
        if (this.expired.get(cid) === cause && this.suspension === null) this.poll()
        return this.expired.get(cid) !== cause
      },
      giveUp: () => {
        if (this.expired.get(cid) === cause) this.giveUp(cid, cause)
      },
    }
    if (!this.controller.expired(command)) this.giveUp(cid, cause)
  }

  private unknownOutcome(op: Operation, cid: number, cause: Error): Error {
    const what = this.describe(op, cid)
    return new OutcomeUnknownError(`outcome unknown, since the controller was reset: ${what}`, { cause })
  }

  private describe(op: Operation, cid: number): string {
    const range = op.kind === SINGLE ? '' : `, slba ${this.slbaOf(op, cid)}, nlb ${this.nlbOf(op, cid)}`
    return `opcode ${op.opc.toString(16)}h, qid ${this.pair.qid}, nsid ${op.geometry.nsid}${range}`
  }

  // Its call ends; the identifier stays out of use, and its memory the device's.
  private giveUp(cid: number, cause: Error): void {
    this.expired.delete(cid)
    this.end(cid, cause)
    const exhaustion = this.exhaustion()
    if (exhaustion !== null) this.endUnsent(() => exhaustion)
  }

  // Why nothing can be sent any more, where every identifier is out of use and nothing is done about it.
  private exhaustion(): Error | null {
    const { pair } = this
    if (pair.lost < pair.entries - 1 || this.expired.size > 0 || this.suspension !== null) return null
    return new CommandTimeoutError(
      `queue ${this.qid} is full: its ${pair.lost} commands had no answer; reset() makes space`,
    )
  }

  // A command that was given up, or nearly, has ended after all.
  private completeLate(cid: number): void {
    const cause = this.expired.get(cid)
    if (cause === undefined) {
      this.releaseLostOf(cid)
      return
    }
    this.expired.delete(cid)
    this.resends?.ended(cid)
    this.endPart(this.ops[cid]!, cause)
  }

  // Recovery goes on in turns of the event loop. A program that polls and never returns to it is not kept for longer
  // than another timeout.
  private watchEventLoop(now: number): void {
    this.askForTurn(now)
    if (now - this.turnAt < this.controller.timeout) return
    this.endUnsent((nsid) => this.suspension ?? this.pauseOf(nsid)?.cause ?? null)
    for (const [cid, expiry] of [...this.expired]) this.giveUp(cid, expiry)
  }

  private askForTurn(now: number): void {
    if (this.turnAsked) return
    this.turnAsked = true
    this.turnAt = now
    setImmediate(() => {
      this.turnAsked = false
    })
  }

  // A device that is gone writes nothing.
  private end(cid: number, cause: Error, isLost = !(cause instanceof DeviceRemovedError)): void {
    const op = this.ops[cid]!
    this.resends?.ended(cid)
    this.hold(cid)
    op.lost = isLost
    this.endPart(op, cause)
  }

  // Its memory has one more user, which is the device.
  private hold(cid: number): void {
    const memory = this.ops[cid]!.memory()
    for (const allocation of memory) allocation.users++
    this.lostMemory.set(cid, memory)
  }
}

function strideOf({ kind, geometry }: Operation): number {
  return kind === TRANSFER ? geometry.maxbpio : MAX_BLOCKS
}

/** Polls for up to `timeout` ms, until the operation is done; the queue's own polls look for lost commands. */
export function spin(queue: OperationQueue, op: Operation, timeout: number): boolean {
  const end = performance.now() + timeout
  for (;;) {
    for (let i = 0; i < 100; i++) {
      queue.poll()
      if (op.state === DONE) return true
    }
    if (performance.now() >= end) return false
  }
}
