// What a device's queues have done since open: `ns.stats`.
// Trade-off: computed when asked for, from counters that the hot path keeps anyway.

import type { IoQueue } from './io-queue.ts'

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
  queues: readonly IoQueue[],
  recovery: { readonly aborts: number; readonly resets: number } = NO_RECOVERY,
): Stats {
  const sum = (pick: (queue: IoQueue) => number) => queues.reduce((total, queue) => total + pick(queue), 0)
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
