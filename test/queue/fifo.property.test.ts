// The ring of waiting operations, held against an array.

import test from 'ava'
import fc from 'fast-check'
import { Fifo } from '../../src/queue/backlog.ts'

test('Fifo gives in the order in which it took, however many wait', (t) => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.nat(40), fc.constant(null)), { maxLength: 400 }), (steps) => {
      const fifo = new Fifo<number>()
      const model: number[] = []
      for (const step of steps) {
        if (step === null) {
          if (fifo.shift() !== model.shift()) return false
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
