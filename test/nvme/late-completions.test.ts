// Completions of commands that were given up: they take places in the completion queue like all others.

import test from 'ava'
import { createController } from '../../lib/nvme/host/controller.ts'
import { openPcieTransport } from '../../lib/nvme/pcie/transport.ts'
import { NVM } from '../../lib/nvme/spec/opcodes.ts'
import { openSim } from '../../lib/sim/index.ts'

test('late completions do not fill the completion queue up for the commands after them', async (t) => {
  const delay = (slba: number, ms: number) =>
    ({ opcode: NVM.READ, slba, action: { kind: 'delay', ms } }) as const
  const faults = [delay(1, 20), delay(2, 20), delay(3, 20), delay(6, 40)]
  const controller = await createController(
    await openPcieTransport(await openSim('sim:?size=1M', { faults })),
  )
  t.teardown(() => controller.close())
  await controller.queues.request(1)
  const pair = await controller.queues.create(1, 6)
  const { iova } = controller.pool.tagOf(controller.pool.alloc(512))
  const post = (slba: number) => {
    const cid = pair.post(NVM.READ, 1, iova | 0, Math.floor(iova / 2 ** 32), 512, slba, 0, 0, 0, 0, 0)
    pair.ring()
    return cid
  }
  const take = async (cid: number) => {
    for (;;) {
      pair.step()
      if (pair.reap() === cid) return
      await new Promise(setImmediate)
    }
  }
  for (const slba of [1, 2, 3]) post(slba)
  pair.abandon(() => {})
  t.is(pair.lost, 3)
  await take(post(4))
  await take(post(5))
  // With the three that come late, the queue of six has as many entries as it can hold when this one ends.
  await take(post(6))
  t.is(pair.counters.late, 3)
})
