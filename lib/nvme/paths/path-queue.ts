// One queue over several paths to the same namespaces: each command goes out on the queue of one of them, and comes back as
// if there were one. What was in flight on a path that is lost comes back with Command Aborted By Host (371h), so that
// whoever posted it sends it again, as after every other status of a path; a command that may have changed data does so
// only when the path's association is known to be over, since the old one could land after a newer one otherwise.
// Trade-off: a second table of command identifiers, some 20 ns a command. A device with one path has no such queue.

import { CommandTimeoutError, OutcomeUnknownError } from '../../errors.ts'
import type { Queue, QueueCounters, QueueOptions } from '../host/queue.ts'
import type { ExpiredCommand } from '../host/recovery.ts'
import type { WakeUp } from '../host/transport.ts'
import { anaStateOf, isPathStatus } from '../spec/ana.ts'
import { mayChangeData } from '../spec/opcodes.ts'
import { STATUS } from '../spec/status.ts'

/** How a command's path is chosen among those that are equally good: each in turn, or the one with the fewest in flight. */
export type PathPolicy = 'round-robin' | 'queue-depth'

/** As a rank: the path must not be used. */
export const UNUSABLE = 255

/** What a queue needs of a path. */
export interface QueuePath {
  readonly address: string
  /** How good the path to a namespace is now, 0 the best; UNUSABLE where it has none. */
  rank(nsid: number): number
  /** A command was answered with a status of the path: it says what it knows of the namespace's state there. */
  refused(nsid: number, field: number): void
  /** A command had no answer. False: nothing is done about it. */
  expired(command: ExpiredCommand): boolean
}

/** A queue of one path's controller. */
export interface PathLegQueue extends Queue {
  /** Ends its connection: nothing is read into memory from then on. */
  disconnect?(cause: Error): void
}

/** Keeps those whose rank is the best. */
export function bestOf<T>(all: readonly T[], rankOf: (one: T) => number): T[] {
  const best = Math.min(UNUSABLE, ...all.map(rankOf))
  return best === UNUSABLE ? [] : all.filter((one) => rankOf(one) === best)
}

/** One path's part of a queue. */
export class PathLeg {
  readonly path: QueuePath
  readonly queue: PathLegQueue
  readonly index: number
  /** By command identifier of its own queue, that of the queue over all paths. */
  readonly cids: Int32Array
  readonly wakeUp: WakeUp
  /** Commands that go to others first, since one has failed here. */
  penalty = 0
  /** Commands that have come back for another path to do them. */
  retries = 0

  constructor(path: QueuePath, queue: PathLegQueue, index: number, wakeUp: WakeUp) {
    this.path = path
    this.queue = queue
    this.index = index
    this.wakeUp = wakeUp
    this.cids = new Int32Array(queue.entries).fill(-1)
  }
}

// What is known of an identifier.
const FREE = 0
const IN_FLIGHT = 1
/** No answer in time: its path's recovery has it in hand. */
const EXPIRED = 2
/** Its path is lost, and may still execute it. */
const ORPHANED = 3
/** Ended, and not yet reaped. */
const DONE = 4
/** Given up by whoever posted it. */
const LOST = 5
/** The same, while its path goes on with it as if it were in flight: its identifier comes back. */
const ABANDONED = 6

const MAY_BE_EXECUTED: readonly number[] = [IN_FLIGHT, EXPIRED, ORPHANED, LOST, ABANDONED]

const ABORTED_BY_HOST = STATUS.ABORTED_BY_HOST << 1
const ABORTED = STATUS.ABORT_REQUESTED << 1
const DNR = 0x8000
const PENALTY = 16
const MOST_PENALTY = 128

export class PathQueue implements Queue {
  readonly qid: number
  readonly entries: number
  readonly maxBytes: number
  readonly sliceMs: number
  readonly takesMetadata = false
  readonly severalPaths = true
  lost = 0
  onLate: ((cid: number) => void) | null = null
  status = 0
  result = 0
  resultHigh = 0
  fault: Error | null = null
  dirty = false

  private readonly policy: PathPolicy
  private readonly timeout: number
  private readonly legs: PathLeg[] = []
  // By namespace, the legs of the paths that are the best for it now.
  private readonly best = new Map<number, readonly PathLeg[]>()
  private latestNsid = 0
  private latest: readonly PathLeg[] = []
  private next = 0
  private reapNext = 0
  private readonly freeIds: Uint16Array
  private freeCount: number
  // By command identifier.
  private readonly states: Uint8Array
  private readonly legOf: (PathLeg | null)[]
  private readonly inner: Uint16Array
  private readonly opcodes: Uint8Array
  private readonly nsids: Uint32Array
  // Those that ended otherwise than by their leg's reap, in order, with how they did.
  private readonly done: number[] = []
  private readonly answers = new Map<number, Answer>()
  private waker: (() => void) | null = null
  private late = 0

  constructor({ qid, entries, maxBytes, timeout }: QueueOptions, policy: PathPolicy) {
    this.qid = qid
    this.entries = entries
    this.maxBytes = maxBytes
    this.timeout = timeout
    this.sliceMs = timeout / 8
    this.policy = policy
    const size = entries - 1
    this.freeIds = Uint16Array.from({ length: size }, (_, i) => size - 1 - i)
    this.freeCount = size
    this.states = new Uint8Array(size)
    this.legOf = new Array(size).fill(null)
    this.inner = new Uint16Array(size)
    this.opcodes = new Uint8Array(size)
    this.nsids = new Uint32Array(size)
  }

  // Paths

  /** One more path, whose queue has as many entries. It is used once `ranksChanged` says that it can be. */
  addLeg(path: QueuePath, queue: PathLegQueue, wakeUp: WakeUp): PathLeg {
    const leg = new PathLeg(path, queue, this.legs.length, wakeUp)
    queue.onLate = (inner) => this.completeLate(leg, inner)
    this.legs.push(leg)
    if (this.waker !== null) wakeUp.arm(this.wake)
    return leg
  }

  /** Ranks of paths are others than before. */
  ranksChanged(): void {
    for (const nsid of this.best.keys()) this.best.set(nsid, this.rate(nsid))
    this.latest = this.best.get(this.latestNsid) ?? []
  }

  private rate(nsid: number): readonly PathLeg[] {
    return bestOf(this.legs, ({ path }) => path.rank(nsid))
  }

  /** Commands in flight on a leg. */
  loadOf(leg: PathLeg): number {
    return this.legOf.filter((one, cid) => one === leg && this.states[cid] !== FREE).length
  }

  private find(nsid: number): readonly PathLeg[] {
    let legs = this.best.get(nsid)
    if (legs === undefined) {
      legs = this.rate(nsid)
      this.best.set(nsid, legs)
    }
    this.latestNsid = nsid
    this.latest = legs
    return legs
  }

  // The leg of the next command, or null where all that can be used are full.
  private choose(nsid: number): PathLeg | null {
    const legs = nsid === this.latestNsid ? this.latest : this.find(nsid)
    const byDepth = this.policy === 'queue-depth'
    let best: PathLeg | null = null
    let least = 0x7fff_ffff
    let at = this.next
    for (let i = 0; i < legs.length; i++) {
      if (at >= legs.length) at = 0
      const leg = legs[at++]!
      const { penalty } = leg
      if (penalty > 0) leg.penalty = penalty - 1
      if (leg.queue.available === 0) continue
      const load = (byDepth ? leg.queue.inFlight : 0) + penalty
      if (load >= least) continue
      best = leg
      least = load
      this.next = at
      if (load === 0) break
    }
    return best
  }

  /**
   * The path is lost, or about to be reset: nothing more goes there. What may not have changed data comes back at once, the
   * rest when `over` says that it has ended.
   */
  lose(leg: PathLeg, cause: Error): void {
    // What has its answer already has ended well.
    for (let inner = leg.queue.reap(); inner >= 0; inner = leg.queue.reap()) {
      const { status, result, resultHigh } = leg.queue
      const cid = leg.cids[inner]!
      if (this.states[cid] === IN_FLIGHT) this.end(cid, { status, result, resultHigh, fault: null })
    }
    leg.queue.abandon(() => {})
    leg.queue.disconnect?.(cause)
    for (let cid = 0; cid < this.entries - 1; cid++) {
      const state = this.states[cid]!
      if (this.legOf[cid] !== leg || (state !== IN_FLIGHT && state !== EXPIRED)) continue
      if (mayChangeData(this.opcodes[cid]!)) this.states[cid] = ORPHANED
      else this.abort(cid, cause, 0)
    }
  }

  /**
   * Nothing that was in flight on the lost path will be executed any more.
   * @param final it is not known whether it will: so it is not to be sent again
   */
  over(leg: PathLeg, cause: Error, final = false): void {
    for (let cid = 0; cid < this.entries - 1; cid++) {
      if (this.legOf[cid] !== leg) continue
      if (this.states[cid] === ORPHANED) this.abort(cid, cause, final ? DNR : 0)
      else if (this.states[cid] === ABANDONED && final) this.markLost(cid)
      else if (this.states[cid] === ABANDONED) this.releaseAbandoned(cid)
      else if (this.states[cid] === LOST && !final) this.releaseLost(cid)
    }
    if (!final) leg.cids.fill(-1)
  }

  /** Something that was in flight when the leg was lost may still be executed. */
  isWaitedFor(leg: PathLeg): boolean {
    return this.legOf.some((one, cid) => one === leg && MAY_BE_EXECUTED.includes(this.states[cid]!))
  }

  private abort(cid: number, cause: Error, dnr: number): void {
    const what = `opcode ${this.opcodes[cid]!.toString(16)}h, qid ${this.qid}, nsid ${this.nsids[cid]}`
    if (dnr === 0) this.legOf[cid]!.retries++
    const fault = new OutcomeUnknownError(
      `outcome unknown, since the path ${this.legOf[cid]!.path.address} was lost: ${what}`,
      { cause },
    )
    this.end(cid, { status: ABORTED_BY_HOST | dnr, result: 0, resultHigh: 0, fault })
  }

  private end(cid: number, answer: Answer): void {
    this.states[cid] = DONE
    this.done.push(cid)
    this.answers.set(cid, answer)
    this.wake()
  }

  // Commands

  get inFlight(): number {
    return this.entries - 1 - this.freeCount - this.lost
  }

  /** What a namespace can have of it is for its paths to say. */
  get available(): number {
    return this.legs.some(({ queue }) => queue.available > 0) ? this.freeCount : 0
  }

  get counters(): QueueCounters {
    const sum = (pick: (counters: QueueCounters) => number) =>
      this.legs.reduce((total, { queue }) => total + pick(queue.counters), 0)
    return {
      submitted: sum(({ submitted }) => submitted),
      doorbells: sum(({ doorbells }) => doorbells),
      late: this.late + sum(({ late }) => late),
      stray: sum(({ stray }) => stray),
    }
  }

  post(
    opcode: number,
    nsid: number,
    lo: number,
    hi: number,
    bytes: number,
    cdw10: number,
    cdw11: number,
    cdw12: number,
    cdw13: number,
    cdw14: number,
    cdw15: number,
  ): number {
    if (this.freeCount === 0) return -1
    const leg = this.choose(nsid)
    if (leg === null) return -1
    const inner = leg.queue.post(opcode, nsid, lo, hi, bytes, cdw10, cdw11, cdw12, cdw13, cdw14, cdw15)
    if (inner < 0) return -1
    const cid = this.freeIds[--this.freeCount]!
    leg.cids[inner] = cid
    this.states[cid] = IN_FLIGHT
    this.legOf[cid] = leg
    this.inner[cid] = inner
    this.opcodes[cid] = opcode
    this.nsids[cid] = nsid
    this.dirty = true
    return cid
  }

  pointMetadata(lo: number, hi: number): void {
    for (const { queue } of this.legs) queue.pointMetadata(lo, hi)
  }

  ring(): void {
    this.dirty = false
    for (let i = 0; i < this.legs.length; i++) {
      const { queue } = this.legs[i]!
      if (queue.dirty) queue.ring()
    }
  }

  acknowledge(): void {
    for (const { queue } of this.legs) queue.acknowledge()
  }

  step(): void {
    for (let i = 0; i < this.legs.length; i++) this.legs[i]!.queue.step()
  }

  reap(): number {
    if (this.done.length > 0) return this.reapEnded()
    const { legs } = this
    for (let i = 0; i < legs.length; i++) {
      if (this.reapNext >= legs.length) this.reapNext = 0
      const leg = legs[this.reapNext]!
      const { queue } = leg
      const inner = queue.reap()
      // Only an empty one gives way to the next.
      if (inner < 0) {
        this.reapNext++
        continue
      }
      const cid = leg.cids[inner]!
      leg.cids[inner] = -1
      if (queue.status !== 0) this.noteStatus(leg, cid, queue.status)
      this.status = queue.status
      this.result = queue.result
      this.resultHigh = queue.resultHigh
      this.fault = null
      if (this.states[cid] === ABANDONED) {
        this.late++
        this.releaseAbandoned(cid)
        i--
        continue
      }
      this.release(cid)
      return cid
    }
    return -1
  }

  private reapEnded(): number {
    const cid = this.done.shift()!
    const answer = this.answers.get(cid)!
    this.answers.delete(cid)
    this.status = answer.status
    this.result = answer.result
    this.resultHigh = answer.resultHigh
    this.fault = answer.fault
    this.release(cid)
    return cid
  }

  // One that fails all that it gets, at once, would look like the least busy of all.
  private noteStatus(leg: PathLeg, cid: number, status: number): void {
    if (!isPathStatus(status)) return
    leg.retries++
    if (anaStateOf(status) === undefined) leg.penalty = Math.min(leg.penalty + PENALTY, MOST_PENALTY)
    leg.path.refused(this.nsids[cid]!, status)
  }

  private release(cid: number): void {
    this.states[cid] = FREE
    this.legOf[cid] = null
    this.freeIds[this.freeCount++] = cid
  }

  // Time

  expire(now: number, give: (cid: number) => void): void {
    for (const leg of this.legs) leg.queue.expire(now, (inner) => this.lateOn(leg, inner, give))
  }

  // Its path's controller is asked first: Abort, and a reset of that path alone.
  private lateOn(leg: PathLeg, inner: number, give: (cid: number) => void): void {
    const cid = leg.cids[inner]!
    if (cid < 0 || (this.states[cid] !== IN_FLIGHT && this.states[cid] !== ABANDONED)) return
    if (this.states[cid] === IN_FLIGHT) this.states[cid] = EXPIRED
    const what = `opcode ${this.opcodes[cid]!.toString(16)}h, qid ${this.qid}, nsid ${this.nsids[cid]}`
    const cause = new CommandTimeoutError(
      `no answer within ${this.timeout} ms: ${what}, path ${leg.path.address}`,
    )
    this.answers.set(cid, { status: ABORTED | DNR, result: 0, resultHigh: 0, fault: cause })
    const waits = () => {
      const state = this.states[cid]
      return (state === EXPIRED || state === ABANDONED) && this.answers.get(cid)?.fault === cause
    }
    const giveUp = () => {
      if (!waits()) return
      const isAbandoned = this.states[cid] === ABANDONED
      this.answers.delete(cid)
      this.markLost(cid)
      if (!isAbandoned) give(cid)
    }
    const ended = () => {
      leg.queue.step()
      this.collect(leg)
      return !waits()
    }
    const id = leg.queue.idOf(inner)
    if (!leg.path.expired({ qid: this.qid, id, cause, ended, giveUp })) giveUp()
  }

  // What has come, for `reap`: late ones are reported on the way.
  private collect(leg: PathLeg): void {
    for (let inner = leg.queue.reap(); inner >= 0; inner = leg.queue.reap()) {
      const { status, result, resultHigh } = leg.queue
      const cid = leg.cids[inner]!
      leg.cids[inner] = -1
      if (status !== 0) this.noteStatus(leg, cid, status)
      if (this.states[cid] !== ABANDONED) this.end(cid, { status, result, resultHigh, fault: null })
      else {
        this.late++
        this.releaseAbandoned(cid)
      }
    }
  }

  // A command that had no answer in time has one now.
  private completeLate(leg: PathLeg, inner: number): void {
    const cid = leg.cids[inner]!
    leg.cids[inner] = -1
    if (cid < 0) return
    if (this.states[cid] === EXPIRED) this.end(cid, this.answers.get(cid)!)
    else if (this.states[cid] === ABANDONED) this.releaseAbandoned(cid)
    else if (this.states[cid] === LOST) this.releaseLost(cid)
  }

  private markLost(cid: number): void {
    this.states[cid] = LOST
    this.lost++
  }

  private releaseLost(cid: number): void {
    this.lost--
    this.release(cid)
    this.onLate?.(cid)
  }

  private releaseAbandoned(cid: number): void {
    this.answers.delete(cid)
    this.release(cid)
    this.onLate?.(cid)
  }

  refresh(cid: number): void {
    this.legOf[cid]?.queue.refresh(this.inner[cid]!)
  }

  idOf(cid: number): number {
    return this.legOf[cid]?.queue.idOf(this.inner[cid]!) ?? 0
  }

  abandon(give: (cid: number) => void): void {
    this.done.length = 0
    this.answers.clear()
    for (const { queue } of this.legs) queue.abandon(() => {})
    for (let cid = 0; cid < this.entries - 1; cid++) {
      const state = this.states[cid]!
      if (state === FREE || state === LOST) continue
      this.markLost(cid)
      if (state !== ABANDONED) give(cid)
      // No answer is to come of what has ended already.
      if (state === DONE) this.releaseLost(cid)
    }
  }

  abandonOf(which: (nsid: number) => boolean, give: (cid: number) => void): void {
    for (let cid = 0; cid < this.entries - 1; cid++) {
      const state = this.states[cid]!
      if (state === FREE || state === LOST || state === ABANDONED || !which(this.nsids[cid]!)) continue
      this.states[cid] = ABANDONED
      give(cid)
      if (state !== DONE) continue
      this.done.splice(this.done.indexOf(cid), 1)
      this.releaseAbandoned(cid)
    }
  }

  reset(): void {
    this.done.length = 0
    this.answers.clear()
    for (const { cids } of this.legs) cids.fill(-1)
    for (let cid = 0; cid < this.entries - 1; cid++) if (this.states[cid] !== FREE) this.release(cid)
    this.lost = 0
  }

  /** Its legs are their controllers'. */
  free(): void {}

  // Waking up

  /** Calls `wake` once: when a path's queue has completions, or a command has come back from one that is lost. */
  arm(wake: () => void): void {
    this.waker = wake
    for (const { wakeUp } of this.legs) wakeUp.arm(this.wake)
  }

  disarm(): void {
    this.waker = null
    for (const { wakeUp } of this.legs) wakeUp.disarm()
  }

  private readonly wake = (): void => {
    const { waker } = this
    if (waker === null) return
    this.waker = null
    waker()
  }
}

interface Answer {
  readonly status: number
  readonly result: number
  readonly resultHigh: number
  readonly fault: Error | null
}
