// Reminds a loop that never has to wait to let the event loop run.
// Trade-off: the clock is read at every 16th step only, so a pause comes up to 16 steps late.

import { tuning } from '../tuning.ts'

const STEP_MASK = 15

export class Pace {
  private steps = 0
  private since = performance.now()

  /** One step more; true where the event loop should run before the next. */
  due(): boolean {
    return (++this.steps & STEP_MASK) === 0 && performance.now() - this.since > tuning.paceMs
  }

  /** Calls back after a turn of the event loop. */
  pause(callback: () => void): void {
    setImmediate(() => {
      this.since = performance.now()
      callback()
    })
  }
}
