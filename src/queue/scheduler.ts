// Polls the queues that streams, iterators and promises wait for: one scheduler for each thread.
// Trade-off: it spins for short budgets between turns of the event loop, for latency, and sleeps after some turns
// that found nothing, so that a slow device does not cost a processor. What chose the numbers stands in
// docs/performance.md ("Poll, sleep and batch").

import { logger } from '../../lib/log/index.ts'
import type { WakeUp } from '../../lib/nvme/host/transport.ts'
import { eventLoopTurn, isEventLoopDue, pacing } from '../../lib/sys/event-loop.ts'
import type { IoQueue } from './io-queue.ts'

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

const log = logger('scheduler')

interface Entry {
  queue: IoQueue
  wakeUp: WakeUp
}

const active = new Map<IoQueue, Entry>()
let running = false
let wakeSleeper: (() => void) | null = null

/** From now on `queue` is polled while it has scheduled operations. */
export function attach(queue: IoQueue, wakeUp: WakeUp): void {
  const entry = { queue, wakeUp }
  queue.wake = () => {
    queue.awake = true
    active.set(queue, entry)
    const now = performance.now()
    queue.occupancy.account(now)
    if (wakeSleeper !== null) wakeSleeper()
    if (!running) start(now)
  }
}

/** The queue is not polled any more. */
export function detach(queue: IoQueue): void {
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
  let nap: number = tuning.firstNapMs
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

/** Turns without a completion before it sleeps: fewer where interrupts wake it than where a timer does, too late. */
function patience(): number {
  for (const { wakeUp } of active.values()) if (!wakeUp.interrupts) return tuning.emptyTurns
  return tuning.emptyTurnsArmed
}

/** Polls for one budget, letting consumers go on in between. True where anything completed. */
async function turn(): Promise<boolean> {
  const { budgetMs } = tuning
  const started = performance.now()
  let found = false
  let now = started
  do {
    for (const { queue } of active.values()) {
      queue.occupancy.account(now)
      if (queue.poll()) found = true
      if (queue.scheduled === 0) retire(queue)
    }
    await null
    now = performance.now()
  } while (active.size > 0 && now - started < budgetMs)
  for (const { queue } of active.values()) queue.look(now)
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

// Even with interrupts, timeouts and the controller's health are looked at this often.
const LOOK_MS = 100
