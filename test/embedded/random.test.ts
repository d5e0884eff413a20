// 100 000 random transfers on embedded controllers of every shape, against a model of the medium.

import test from 'ava'
import fc from 'fast-check'
import { open } from '../../src/index.ts'
import { checkAgainstModel, operations } from '../support/model.ts'

const shape = fc.record({
  lba: fc.constantFrom(512, 4096),
  // The device's limit: from two pages of 4 KiB up, the least that MDTS can say; 0 is no limit.
  mdts: fc.constantFrom('0', '1', '2', '3', '5', '8'),
  // The driver's own: a single page is only to be had by it.
  pages: fc.constantFrom(1, 1, 3, 256, 256, 256),
  qsize: fc.oneof(fc.constantFrom(2, 3), fc.integer({ min: 2, max: 64 })),
  dstrd: fc.constantFrom(0, 1, 4),
  latency: fc.constantFrom('0', '0', '0', '1us-40us'),
})

const BLOCKS = 120

test('random transfers on random shapes match a model of the medium', async (t) => {
  t.timeout(15 * 60_000)
  let done = 0
  const property = fc.asyncProperty(
    shape,
    operations({ blocks: BLOCKS, longest: 40, most: 2500 }),
    async ({ lba, mdts, pages, qsize, dstrd, latency }, ops) => {
      const address = `sim:?size=4M&lba=${lba}&mdts=${mdts}&qsize=64&dstrd=${dstrd}&latency=${latency}`
      await using ns = await open(address, { qsize, maxTransferBytes: pages * 4096 })
      done += ops.length
      return await checkAgainstModel(ns, ops, BLOCKS)
    },
  )
  // The error itself is more telling than fast-check's summary of it.
  while (done < 100_000) await fc.assert(property, { numRuns: 20, includeErrorInReport: true })
  t.log(`${done} operations`)
  t.true(done >= 100_000)
})
