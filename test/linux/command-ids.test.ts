// Identifiers of commands: every one names one command, whatever is taken, answered, lost and reset.

import test from 'ava'
import fc from 'fast-check'
import { CommandIds } from '../../lib/nvme/host/command-ids.ts'

const TIMEOUT = 800

type Step = 'take' | 'answer' | 'wait' | 'late' | 'abandon' | 'reset'

test('CommandIds gives no identifier twice that is still known, and takes each answer once', (t) => {
  const steps = fc.array(
    fc.constantFrom<Step>('take', 'take', 'answer', 'wait', 'late', 'abandon', 'reset'),
    {
      maxLength: 300,
    },
  )
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 40 }), fc.constantFrom(16, 24), steps, (count, bits, sequence) => {
      const ids = new CommandIds(count, bits, TIMEOUT)
      const inFlight: number[] = []
      const lost: number[] = []
      let now = 0
      const lose = (index: number) => {
        const id = ids.idOf(index)
        inFlight.splice(inFlight.indexOf(id), 1)
        lost.push(id)
      }
      for (const step of sequence) {
        if (step === 'take') {
          const id = ids.take()
          if (inFlight.length + lost.length === count) t.is(id, -1)
          else {
            t.false(inFlight.includes(id) || lost.includes(id))
            t.true(id >= 0 && id < 2 ** bits)
            t.is(ids.idOf(ids.indexOf(id)), id)
            inFlight.push(id)
          }
        } else if (step === 'answer' && inFlight.length > 0) {
          const id = inFlight.shift()!
          t.true(ids.has(id))
          ids.release(id)
          t.false(ids.has(id), 'a second answer')
        } else if (step === 'wait') {
          for (let i = 0; i < 20; i++) {
            now += ids.sliceMs / 2
            ids.expire(now, lose)
          }
          t.deepEqual(inFlight, [], 'all are older than the timeout')
        } else if (step === 'late' && lost.length > 0) {
          const id = lost.shift()!
          t.false(ids.has(id))
          t.true(ids.wasLost(id))
          ids.releaseLost(id)
        } else if (step === 'abandon') ids.abandon(lose)
        else if (step === 'reset') {
          ids.reset()
          inFlight.length = lost.length = 0
        }
        t.is(ids.inFlight, inFlight.length)
        t.is(ids.lost, lost.length)
        t.is(ids.free, count - inFlight.length - lost.length)
      }
    }),
    { numRuns: 200 },
  )
})

test('CommandIds.expire loses nothing early, and refresh makes a command young again', (t) => {
  const ids = new CommandIds(4, 16, TIMEOUT)
  const gone: number[] = []
  ids.expire(0, (index) => gone.push(index))
  const first = ids.indexOf(ids.take())
  for (let now = 0; now < TIMEOUT; now += 50) ids.expire(now, (index) => gone.push(index))
  t.deepEqual(gone, [])
  ids.refresh(first)
  for (let now = TIMEOUT; now < 2 * TIMEOUT - 200; now += 50) ids.expire(now, (index) => gone.push(index))
  t.deepEqual(gone, [])
  for (let now = 2 * TIMEOUT; now < 4 * TIMEOUT; now += 50) ids.expire(now, (index) => gone.push(index))
  t.deepEqual(gone, [first])
})
