// The scheduler by itself, on a stand-in for a queue.

import test from 'ava'
import type { IoQueue } from '../../src/queue/io-queue.ts'
import { createScheduler } from '../../src/queue/scheduler.ts'

const TUNING = { budgetMs: 0, emptyTurnsArmed: 3, emptyTurns: 3, firstNapMs: 1, lastNapMs: 1 }

/** A queue whose operation is done when `complete` is called; it counts its polls. */
function fakeQueue() {
  let done = false
  const queue = {
    polls: 0,
    scheduled: 1,
    awake: false,
    wake(_queue: unknown) {},
    occupancy: { account() {} },
    pair: { acknowledge() {}, sliceMs: 1000 },
    look() {},
    poll() {
      queue.polls++
      if (!done) return false
      queue.scheduled = 0
      return true
    },
  }
  const complete = () => {
    done = true
  }
  return { queue, complete }
}

test('createScheduler: polls for as many turns as its tuning says, sleeps until the interrupt, and retires the queue', async (t) => {
  const { queue, complete } = fakeQueue()
  const scheduler = createScheduler(TUNING)
  const armed = new Promise<() => void>((resolve) => {
    const wakeUp = {
      interrupts: true,
      arm(wake: () => void) {
        resolve(wake)
        return true
      },
      disarm() {},
    }
    scheduler.attach(queue as unknown as IoQueue, wakeUp)
  })
  queue.wake(queue)
  const wake = await armed
  // One for each turn, and one more after the interrupt was armed.
  await null
  t.is(queue.polls, TUNING.emptyTurnsArmed + 1)
  t.true(queue.awake)
  complete()
  wake()
  while (queue.awake) await new Promise(setImmediate)
  t.is(queue.scheduled, 0)
  scheduler.detach(queue as unknown as IoQueue)
  queue.wake(queue)
  t.false(queue.awake)
})

test('createScheduler: a queue whose completions come by the event loop is polled once between two turns of it', async (t) => {
  const { queue, complete } = fakeQueue()
  const scheduler = createScheduler({ ...TUNING, budgetMs: 1000 })
  const wakeUp = { interrupts: true, eventDriven: true, arm: () => true, disarm() {} }
  scheduler.attach(queue as unknown as IoQueue, wakeUp)
  queue.wake(queue)
  await new Promise(setImmediate)
  t.true(queue.polls <= 2, `${queue.polls} polls`)
  complete()
  while (queue.awake) await new Promise(setImmediate)
  t.is(queue.scheduled, 0)
})
