// The ring of waiting operations, held against an array.

import test from 'ava'
import fc from 'fast-check'
import { Fifo } from '../../src/queue/backlog.ts'

const step = fc.oneof(
  fc.nat(40),
  fc.constant(null),
  fc.record({ first: fc.array(fc.nat(40), { maxLength: 20 }) }),
  fc.record({ out: fc.integer({ min: 1, max: 7 }) }),
)

test('Fifo gives in the order in which it took, whatever is put first or taken out', (t) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
      const fifo = new Fifo<number>()
      const model: number[] = []
      for (const step of steps) {
        if (step === null) {
          if (fifo.shift() !== model.shift()) return false
        } else if (typeof step === 'object') {
          if ('first' in step) {
            fifo.unshift(step.first)
            model.unshift(...step.first)
          } else {
            const which = (item: number) => item % step.out === 0
            if (fifo.take(which).join() !== model.filter(which).join()) return false
            model.splice(0, model.length, ...model.filter((item) => !which(item)))
          }
        } else {
          // Several at a time, so that it grows while its head is anywhere.
          for (let i = 0; i < step; i++) {
            fifo.push(i)
            model.push(i)
          }
        }
        if (fifo.length !== model.length || fifo.first !== model[0]) return false
      }
      return true
    }),
  )
  t.pass()
})
