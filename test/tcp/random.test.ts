// Random operations against a model over TCP, with limits and digests that change: UNVME_TCP_OPERATIONS says how many, a few
// thousand where it is not set.

import test from 'ava'
import fc from 'fast-check'
import { open } from '../../src/index.ts'
import { checkAgainstModel, operations } from '../support/model.ts'
import { HOST, NQN, type TargetLimits } from '../support/tcp-target.ts'
import { forkTarget } from '../support/tcp-target-child.ts'

const OPERATIONS = Number(process.env.UNVME_TCP_OPERATIONS ?? 2000)

const LIMITS: readonly [limits: TargetLimits, query: string][] = [
  [{}, ''],
  [{ inCapsule: 0, maxR2t: 4096, maxH2cData: 4096, maxC2hData: 512 }, 'hdgst=1'],
  [{ inCapsule: 4096, success: true, maxR2t: 10_240, maxC2hData: 3072 }, 'ddgst=1'],
  [{ inCapsule: 8192, success: true, maxH2cData: 5120 }, 'hdgst=1&ddgst=1'],
  [{ inCapsule: 16_384, maxR2t: 65_536 }, 'queues=2'],
]

/** On each kind of connection; the target is in another process, which a call that blocks does not keep from answering. */
const SHAPES = LIMITS.flatMap(([limits, query]) =>
  ['socket', 'raw'].map((link) => [limits, `link=${link}&${query}`] as const),
)

for (const [limits, query] of SHAPES) {
  test.serial(`random operations, ${JSON.stringify(limits)} ${query}`, async (t) => {
    const target = await forkTarget('sim:?size=8M', 0, limits)
    t.teardown(() => target.kill())
    const ns = await open(`nvme+tcp://127.0.0.1:${target.port}/${NQN}?${HOST}&${query}`, {
      qsize: 9,
      maxTransferBytes: 65_536,
    })
    t.teardown(() => ns.close())
    let done = 0
    const most = Math.ceil(OPERATIONS / SHAPES.length)
    const blocks = 4 * ns.maxbpio
    while (done < most) {
      await fc.assert(
        fc.asyncProperty(operations({ blocks, longest: 3 * ns.maxbpio }), async (ops) => {
          done += ops.length
          return checkAgainstModel(ns, ops, blocks)
        }),
        { numRuns: 5, endOnFailure: true },
      )
    }
    t.is(ns.stats.failed, 0)
    t.is(ns.stats.resets, 0)
    t.log(`${done} operations`)
  })
}
