// Reminds a loop that never has to wait to let the event loop run.
// Trade-off: the clock is read once for some 64 KiB, which is cheap beside moving them; a pause comes late by the time
// that those take.

import { tuning } from '../tuning.ts'

const CLOCK_BYTES = 64 * 1024
const MOST_STEPS = 16

export class Pace {
  // Steps from one reading of the clock to the next, and those that are left.
  private readonly stride: number
  private left: number
  private since = performance.now()

  /** @param bytes what a step moves, more or less */
  constructor(bytes: number) {
    this.stride = Math.max(1, Math.min(MOST_STEPS, Math.floor(CLOCK_BYTES / bytes)))
    this.left = this.stride
  }

  /** One step more; true where the event loop should run before the next. */
  due(): boolean {
    if (--this.left > 0) return false
    this.left = this.stride
    return performance.now() - this.since > tuning.paceMs
  }

  /** Calls back after a turn of the event loop. */
  pause(callback: () => void): void {
    setImmediate(() => {
      this.since = performance.now()
      callback()
    })
  }
}
