// What a queue counts: operations by kind, and how full streams kept it.
// Trade-off: plain numbers, kept by the hot path itself; what they mean is worked out when asked for.

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
