// Listening to an AbortSignal: those who wait for one signal have nothing to do with each other.

import test from 'ava'
import { onAbort } from '../../lib/sys/abort.ts'

test.serial(
  'onAbort calls everyone, whatever one of them throws, which is an uncaught exception',
  async (t) => {
    const controller = new AbortController()
    const called: string[] = []
    const thrown = new Error('of the first one')
    onAbort(controller.signal, () => {
      called.push('first')
      throw thrown
    })
    onAbort(controller.signal, () => called.push('second'))
    const taken = onAbort(controller.signal, () => called.push('third'))
    onAbort(controller.signal, () => {
      called.push('fourth')
      taken()
    })
    onAbort(controller.signal, () => called.push('fifth'))
    const others = process.listeners('uncaughtException')
    process.removeAllListeners('uncaughtException')
    const uncaught = new Promise((resolve) => process.once('uncaughtException', resolve))
    try {
      controller.abort()
      t.deepEqual(called, ['first', 'second', 'third', 'fourth', 'fifth'])
      t.is(await uncaught, thrown)
    } finally {
      for (const listener of others) process.on('uncaughtException', listener)
    }
  },
)
