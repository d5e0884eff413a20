// Reminds a loop that never has to wait to let the event loop run.
// Trade-off: the clock is read once for some 64 KiB that all streams of the thread have moved, or for 16 steps, which is
// cheap beside moving them; a pause comes late by the time that those take.

import { isEventLoopDue } from '../../lib/sys/event-loop.ts'

const CLOCK_BYTES = 64 * 1024
const MOST_STEPS = 16

// Until the next reading of the clock: one count for the thread, since a loop over short streams is a long one.
let left = CLOCK_BYTES

export class Pace {
  private readonly bytes: number

  /** @param bytes what a step moves, more or less */
  constructor(bytes: number) {
    this.bytes = Math.max(bytes, CLOCK_BYTES / MOST_STEPS)
  }

  /** One step more; true where the event loop should run before the next. */
  due(): boolean {
    left -= this.bytes
    if (left > 0) return false
    // The caller may end before it pauses: then the next one pauses.
    const due = isEventLoopDue(performance.now())
    if (!due) left = CLOCK_BYTES
    return due
  }

  /** Calls back after a turn of the event loop. */
  pause(callback: () => void): void {
    setImmediate(callback)
  }
}
