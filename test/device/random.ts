// Random reads and writes of any length and alignment against a model of the medium.

import fc from 'fast-check'
import type { Namespace } from '../../src/index.ts'
import { deviceTest } from '../support/device-suite.ts'
import { checkAgainstModel, operations } from '../support/model.ts'

deviceTest('random transfers match a model of the medium', async (t) => {
  let done = 0
  const shapes = [{ qsize: 2 }, { qsize: 5 }, { qsize: 64 }, { qsize: 5, maxTransferBytes: 4096 }]
  for (const options of shapes) {
    const ns: Namespace = await t.device.open(options)
    await fc.assert(
      fc.asyncProperty(operations({ blocks: 4 * ns.maxbpio, longest: 3 * ns.maxbpio }), async (ops) => {
        done += ops.length
        return checkAgainstModel(ns, ops, 4 * ns.maxbpio)
      }),
      { numRuns: t.device.randomRuns },
    )
    await ns.close()
  }
  t.true(done > 0)
  t.log(`${done} operations`)
})
