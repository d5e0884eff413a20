// The numbers of the policy: how long to poll, when to sleep, how much to send at once. What chose them stands in
// docs/performance.md ("Poll, sleep and batch").
// Trade-off: changeable, so that it can be measured, but internal: a value that is right for one machine alone is
// no interface. Each is read once in a turn, or when a stream begins; never for a command.

import { pacing } from '../../lib/sys/event-loop.ts'

/** @internal */
export const tuning = {
  /** Milliseconds of polling between two turns of the event loop. */
  budgetMs: 0.05,
  /**
   * Turns without a completion before the scheduler sleeps, where every queue has an interrupt: beyond what a fast
   * device takes. And where one has none: as long as the first nap, so that waiting is never more than doubled.
   */
  emptyTurnsArmed: 10,
  emptyTurns: 20,
  /** Without interrupts it sleeps by timer: milliseconds, from the first to the longest. */
  firstNapMs: 1,
  lastNapMs: 4,
  /** Milliseconds that streams, iterators and awaited calls which never have to wait go on without a turn of the event loop. */
  get paceMs(): number {
    return pacing.ms
  },
  set paceMs(value: number) {
    pacing.ms = value
  },
  /**
   * Chunks that a stream posts before it rings; what is posted is rung at the scheduler's next turn at the latest.
   * Fewer where a chunk is large, since a doorbell then costs nothing beside its copy: at most so many bytes.
   */
  batch: 8,
  batchBytes: 256 * 1024,
  /**
   * Chunks of memory that a stream which copies has beyond its depth, in parts of that: while what arrived is copied,
   * the device goes on. Without them a device of 2 ms was kept 0.94 to 0.98 full, with half as much again 0.998.
   */
  spare: 0.5,
}
