// Polls the queues that streams, iterators and promises wait for: one scheduler for each thread.
// Trade-off: it spins for short budgets between turns of the event loop, for latency, and sleeps after some turns
// that found nothing, so that a slow device does not cost a processor. What chose the numbers stands in
// docs/hot-path.md ("Poll, sleep and batch").

import { logger } from '../../lib/log/index.ts'
import type { WakeUp } from '../../lib/nvme/host/transport.ts'
import { eventLoopTurn, isEventLoopDue } from '../../lib/sys/event-loop.ts'
import type { IoQueue } from './io-queue.ts'

const log = logger('scheduler')

// Even with interrupts, timeouts and the controller's health are looked at this often.
const LOOK_MS = 100
// What a stream moves between two looks at the clock, all streams of the thread together.
const CLOCK_BYTES = 64 * 1024

/** How long to poll, and when to sleep. */
interface SchedulerTuning {
  /** Milliseconds of polling between two turns of the event loop. */
  readonly budgetMs: number
  /**
   * Turns without a completion before the scheduler sleeps, where every queue has an interrupt: beyond what a fast
   * device takes. And where one has none: as long as the first nap, so that waiting is never more than doubled.
   */
  readonly emptyTurnsArmed: number
  readonly emptyTurns: number
  /** Without interrupts it sleeps by timer: milliseconds, from the first to the longest. */
  readonly firstNapMs: number
  readonly lastNapMs: number
}

interface Scheduler {
  /** From now on `queue` is polled while it has scheduled operations. */
  attach(queue: IoQueue, wakeUp: WakeUp): void
  /** The queue is not polled any more. */
  detach(queue: IoQueue): void
  /**
   * A stream that never has to wait has moved `bytes` more; true where the event loop should run before the next. The
   * clock is read once for some 64 KiB, which is cheap beside moving them; a pause comes late by the time that those take.
   */
  isTurnDue(bytes: number): boolean
}

interface Entry {
  queue: IoQueue
  wakeUp: WakeUp
  /** Polling finds what a turn of the event loop has not brought. */
  spins: boolean
}

export function createScheduler(tuning: SchedulerTuning): Scheduler {
  const active = new Map<IoQueue, Entry>()
  let running = false
  let wakeSleeper: (() => void) | null = null
  // Until the next look at the clock: one count for the thread, since a loop over short streams is a long one.
  let left = CLOCK_BYTES

  function attach(queue: IoQueue, wakeUp: WakeUp): void {
    const entry = { queue, wakeUp, spins: wakeUp.eventDriven !== true }
    queue.wake = () => {
      queue.awake = true
      active.set(queue, entry)
      const now = performance.now()
      queue.occupancy.account(now)
      if (wakeSleeper !== null) wakeSleeper()
      if (!running) start(now)
    }
  }

  function detach(queue: IoQueue): void {
    active.delete(queue)
    queue.awake = false
    queue.wake = () => {}
  }

  function start(now: number): void {
    running = true
    run(isEventLoopDue(now)).catch((error) => {
      // Only a consumer's own callback throws here: its error is the process's, and the others' work goes on.
      running = false
      if (active.size > 0) start(performance.now())
      queueMicrotask(() => {
        throw error
      })
    })
  }

  /** @param late a loop over awaited calls has gone on for long enough: the event loop has its turn first */
  async function run(late: boolean): Promise<void> {
    let emptyTurns = 0
    let nap = tuning.firstNapMs
    // What the same turn of its callers submits goes out with one doorbell.
    await (late ? eventLoopTurn() : null)
    while (active.size > 0) {
      if (await turn()) {
        emptyTurns = 0
        nap = tuning.firstNapMs
      } else {
        emptyTurns++
      }
      if (active.size === 0) break
      if (emptyTurns < patience()) {
        await new Promise(setImmediate)
      } else {
        await sleep(nap)
        nap = Math.min(2 * nap, tuning.lastNapMs)
      }
    }
    running = false
  }

  /**
   * Turns without a completion before it sleeps: fewer where interrupts wake it than where a timer does, too late, and one
   * where the event loop brings completions: it does that as well while it waits.
   */
  function patience(): number {
    let spinning = false
    for (const { wakeUp, spins } of active.values()) {
      if (!wakeUp.interrupts) return tuning.emptyTurns
      if (spins) spinning = true
    }
    return spinning ? tuning.emptyTurnsArmed : 1
  }

  /** Polls for one budget, letting consumers go on in between. True where anything completed. */
  async function turn(): Promise<boolean> {
    const { budgetMs } = tuning
    const started = performance.now()
    let found = false
    let now = started
    let spinning: boolean
    do {
      spinning = false
      for (const { queue, spins } of active.values()) {
        // Since its last poll everyone who waited has gone on: those who ask again at once find it awake.
        if (queue.scheduled === 0) {
          retire(queue)
          continue
        }
        if (spins) spinning = true
        queue.occupancy.account(now)
        if (queue.poll()) found = true
      }
      await null
      now = performance.now()
    } while (spinning && active.size > 0 && now - started < budgetMs)
    for (const { queue } of active.values()) {
      if (queue.scheduled === 0) retire(queue)
      else queue.look(now)
    }
    return found
  }

  // Nothing of it is waited for: it costs nothing until the next request.
  function retire(queue: IoQueue): void {
    active.delete(queue)
    queue.awake = false
    queue.pair.acknowledge()
  }

  /** Sleeps until an interrupt, a new request, or the end of the nap where a device has no interrupts. */
  function sleep(nap: number): Promise<void> {
    return new Promise((resolve) => {
      let timer: NodeJS.Timeout | undefined
      const armed: Entry[] = []
      const wake = () => {
        if (wakeSleeper !== wake) return
        wakeSleeper = null
        clearTimeout(timer)
        for (const { wakeUp } of armed) wakeUp.disarm()
        resolve()
      }
      wakeSleeper = wake
      let longest = LOOK_MS
      for (const entry of active.values()) {
        entry.queue.pair.acknowledge()
        // A command's age is counted once for each look.
        longest = Math.min(longest, Math.max(1, entry.queue.pair.sliceMs))
        if (entry.wakeUp.arm(wake)) armed.push(entry)
        else longest = Math.min(longest, nap)
      }
      // What completed before the interrupt was armed will not raise one: look once more, then sleep.
      for (const { queue } of active.values()) {
        if (queue.poll()) return wake()
      }
      if (log.enabled) log('sleeping up to %d ms, %d queues armed', longest, armed.length)
      timer = setTimeout(wake, longest)
    })
  }

  function isTurnDue(bytes: number): boolean {
    left -= bytes
    if (left > 0) return false
    // The caller may end before it pauses: then the next one pauses.
    const due = isEventLoopDue(performance.now())
    if (!due) left = CLOCK_BYTES
    return due
  }

  return { attach, detach, isTurnDue }
}

/** This thread's. */
export const scheduler = createScheduler({
  budgetMs: 0.05,
  emptyTurnsArmed: 10,
  emptyTurns: 20,
  firstNapMs: 1,
  lastNapMs: 4,
})
