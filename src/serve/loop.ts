// When a served controller works: as long as there is something to do, and some time after.
// Trade-off: a driver's store to shared memory wakes nobody, so doorbells must be looked at. It spins for a
// millisecond of idleness, since the next command mostly comes by then, and after that looks every 1 to 4 ms: some
// per cent of a processor. Where doorbells come as messages (shadow doorbells) it sleeps instead, and costs nothing.

/** What the loop drives. */
export interface Work {
  /** Does what there is to do now; returns how much that was. */
  step(): number
  /** Milliseconds until something is due by itself; Infinity where nothing is. */
  dueIn(): number
  /** True where doorbells can be written that no message tells of. */
  mustLook(): boolean
  /** Whether doorbells are looked at all the time; after `false` one more step follows before the loop sleeps. */
  attend(always: boolean): void
}

export interface Loop {
  /** Something may have to be done: a message came. */
  wake(): void
  /** Nothing is done any more until the next `wake`. */
  stop(): void
}

/** Milliseconds of work between two turns of the event loop. */
const BUDGET_MS = 0.05
const STEPS_PER_LOOK = 16
/** Turns without work before it naps, or sleeps. */
const EMPTY_TURNS = 20
const NAP_MS = { FIRST: 1, LAST: 4 } as const

export function createLoop(work: Work): Loop {
  let immediate: NodeJS.Immediate | undefined
  let timer: NodeJS.Timeout | undefined
  let emptyTurns = 0
  let nap: number = NAP_MS.FIRST
  let attended = false

  const turn = () => {
    immediate = undefined
    if (!attended) {
      attended = true
      work.attend(true)
    }
    if (spin(work)) {
      emptyTurns = 0
      nap = NAP_MS.FIRST
    } else {
      emptyTurns++
    }
    if (emptyTurns < EMPTY_TURNS || work.dueIn() < 1) immediate = setImmediate(turn)
    else rest()
  }
  const rest = () => {
    const mustLook = work.mustLook()
    if (!mustLook) {
      attended = false
      work.attend(false)
      // What came before the driver was asked to ring has rung nobody.
      if (work.step() > 0) {
        immediate = setImmediate(turn)
        return
      }
    }
    const due = Math.floor(work.dueIn())
    const wait = mustLook ? Math.min(nap, due) : due
    nap = Math.min(2 * nap, NAP_MS.LAST)
    if (wait < Number.POSITIVE_INFINITY) timer = setTimeout(look, wait)
  }
  // After a nap one look is enough to know; spinning begins anew where it found something.
  const look = () => {
    timer = undefined
    if (work.step() > 0) wake()
    else rest()
  }
  const wake = () => {
    emptyTurns = 0
    nap = NAP_MS.FIRST
    clearTimeout(timer)
    timer = undefined
    immediate ??= setImmediate(turn)
  }
  return {
    wake,
    stop() {
      clearImmediate(immediate)
      clearTimeout(timer)
      immediate = timer = undefined
      attended = false
    },
  }
}

/** Steps for one budget. True where anything was done. */
function spin(work: Work): boolean {
  const until = performance.now() + BUDGET_MS
  let any = false
  do {
    for (let i = 0; i < STEPS_PER_LOOK; i++) if (work.step() > 0) any = true
  } while (performance.now() < until)
  return any
}
