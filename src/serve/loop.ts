// When a served controller works: as long as there is something to do, and some time after.
// Trade-off: a driver's store to shared memory wakes nobody, so doorbells must be looked at. It spins for a
// millisecond of idleness, since the next command mostly comes by then, after that looks every 1 to 4 ms, and after a
// second every 16 ms: less than a per cent of a processor. Where doorbells come as messages (shadow doorbells) it
// sleeps instead, and costs nothing.

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

/** Milliseconds between two turns of the event loop, where messages wait: without work, and with. */
const BUDGET_MS = { EMPTY: 0.05, BUSY: 0.5 } as const
const STEPS_PER_LOOK = 16
/** Turns without work before it naps, or sleeps. */
const EMPTY_TURNS = 20
/** Milliseconds: naps double from the first to the last; the last of all is for clients that do nothing at all. */
const NAP_MS = { FIRST: 1, LAST: 4, IDLE: 16 } as const
const IDLE_AFTER_MS = 1000

export function createLoop(work: Work): Loop {
  let immediate: NodeJS.Immediate | undefined
  let timer: NodeJS.Timeout | undefined
  let emptyTurns = 0
  let nap: number = NAP_MS.FIRST
  let workedAt = 0
  let attended = false

  const turn = () => {
    immediate = undefined
    if (!attended) {
      attended = true
      work.attend(true)
    }
    if (spin(work)) freshen()
    else emptyTurns++
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
    nap = Math.min(2 * nap, performance.now() - workedAt < IDLE_AFTER_MS ? NAP_MS.LAST : NAP_MS.IDLE)
    if (wait < Number.POSITIVE_INFINITY) timer = setTimeout(look, wait)
  }
  // After a nap one look is enough to know; spinning begins anew where it found something.
  const look = () => {
    timer = undefined
    if (work.step() > 0) wake()
    else rest()
  }
  const freshen = () => {
    emptyTurns = 0
    nap = NAP_MS.FIRST
    workedAt = performance.now()
  }
  const wake = () => {
    freshen()
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

/** Steps for one budget, which is the longer as there is something to do. True where anything was done. */
function spin(work: Work): boolean {
  const started = performance.now()
  let until = started + BUDGET_MS.EMPTY
  let any = false
  let now = started
  do {
    let done = 0
    for (let i = 0; i < STEPS_PER_LOOK; i++) done += work.step()
    now = performance.now()
    if (done > 0) {
      any = true
      until = Math.min(now + BUDGET_MS.EMPTY, started + BUDGET_MS.BUSY)
    }
  } while (now < until)
  return any
}
