// What a queue counts, and what a device's queues have done since open: `ns.stats`.
// Plain numbers, kept by the hot path itself; what they mean is computed when asked for.

import type { Queue } from '../../lib/nvme/host/queue.ts'
import { NVM } from '../../lib/nvme/spec/opcodes.ts'
import { KIND, type Operation } from './operation.ts'

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const { TRANSFER } = KIND
const { READ, WRITE } = NVM

/** Counters of a queue; bytes and operations are those that completed without an error, except for `failed`. */
export class QueueCounters {
  reads = 0
  writes = 0
  others = 0
  failed = 0
  /** Commands that were sent again. */
  retries = 0
  bytesRead = 0
  bytesWritten = 0
  polls = 0
  emptyPolls = 0

  /** One more operation is done, without an error. */
  count({ kind, opc, nlb, geometry }: Operation): void {
    if (kind !== TRANSFER) this.others++
    else if (opc === READ) {
      this.reads++
      this.bytesRead += nlb * geometry.blocksize
    } else if (opc === WRITE) {
      this.writes++
      this.bytesWritten += nlb * geometry.blocksize
    } else {
      this.others++
    }
  }
}

/** Commands in flight against those that streams want, over time. */
export class Occupancy {
  /** Commands in flight that streams at work want now. */
  wanted = 0
  /** Commands times milliseconds: wanted, and in flight of those. */
  wantedTime = 0
  inFlightTime = 0
  private accountedAt = 0
  private readonly pair: Queue

  constructor(pair: Queue) {
    this.pair = pair
  }

  /** A stream at work wants `depth` commands in flight from now on, in addition; negative: no longer. */
  want(depth: number): void {
    this.account(performance.now())
    this.wanted += depth
  }

  /** Counts what was in flight, and what was wanted to be, since the last call. */
  account(now: number): void {
    const elapsed = now - this.accountedAt
    this.accountedAt = now
    if (this.wanted === 0) return
    this.wantedTime += this.wanted * elapsed
    this.inFlightTime += Math.min(this.pair.inFlight, this.wanted) * elapsed
  }
}

/** What is counted of a queue. */
interface CountedQueue {
  readonly counters: QueueCounters
  readonly occupancy: Occupancy
  readonly pair: Queue
}

const NO_RECOVERY = { aborts: 0, resets: 0 }

export interface Stats {
  /** NVMe commands submitted. */
  commands: number
  /** Calls that completed, by kind, and those that failed; one call may be many commands. */
  reads: number
  writes: number
  others: number
  failed: number
  /** Bytes of what completed. */
  bytesRead: number
  bytesWritten: number
  /** Both together. */
  bytes: number
  /** Doorbell stores, and looks at the completion queues. */
  doorbells: number
  polls: number
  emptyPolls: number
  /** Commands in flight now. */
  inFlight: number
  /** Identifiers out of use since their commands had no answer; answers that came after all. */
  lost: number
  late: number
  /** Completions of nothing that was in flight, as of a command's second one: the controller is at fault. */
  stray: number
  /** Commands that were sent again; Aborts sent for commands without an answer; resets that recovered the controller. */
  retries: number
  aborts: number
  resets: number
  /**
   * How full streams kept the queues: mean commands in flight over the depth that they asked for, over the
   * time in which they had more to send, from 0 to 1. 0 where nothing has been streamed.
   */
  occupancy: number
  /** Its two parts, in commands times milliseconds: their differences give the occupancy of a part of the time. */
  inFlightTime: number
  wantedTime: number
}

/** @param recovery the controller's counts, which a thread that only has queues of it does not know */
export function collectStats(
  queues: readonly CountedQueue[],
  recovery: { readonly aborts: number; readonly resets: number } = NO_RECOVERY,
): Stats {
  const sum = (pick: (queue: CountedQueue) => number) =>
    queues.reduce((total, queue) => total + pick(queue), 0)
  const bytesRead = sum(({ counters }) => counters.bytesRead)
  const bytesWritten = sum(({ counters }) => counters.bytesWritten)
  const inFlightTime = sum(({ occupancy }) => occupancy.inFlightTime)
  const wantedTime = sum(({ occupancy }) => occupancy.wantedTime)
  return {
    commands: sum(({ pair }) => pair.counters.submitted),
    reads: sum(({ counters }) => counters.reads),
    writes: sum(({ counters }) => counters.writes),
    others: sum(({ counters }) => counters.others),
    failed: sum(({ counters }) => counters.failed),
    bytesRead,
    bytesWritten,
    bytes: bytesRead + bytesWritten,
    doorbells: sum(({ pair }) => pair.counters.doorbells),
    polls: sum(({ counters }) => counters.polls),
    emptyPolls: sum(({ counters }) => counters.emptyPolls),
    inFlight: sum(({ pair }) => pair.inFlight),
    lost: sum(({ pair }) => pair.lost),
    late: sum(({ pair }) => pair.counters.late),
    stray: sum(({ pair }) => pair.counters.stray),
    retries: sum(({ counters }) => counters.retries),
    aborts: recovery.aborts,
    resets: recovery.resets,
    occupancy: wantedTime === 0 ? 0 : inFlightTime / wantedTime,
    inFlightTime,
    wantedTime,
  }
}
