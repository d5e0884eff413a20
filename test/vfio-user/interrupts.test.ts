// Interrupts from a server in another process: by eventfd, for whoever waits without polling.

import test from 'ava'
import { createController } from '../../lib/nvme/host/controller.ts'
import { openPcieTransport } from '../../lib/nvme/pcie/transport.ts'
import { openVfioUser } from '../../lib/vfio-user/index.ts'
import { open } from '../../src/index.ts'
import { atEnd } from '../support/at-end.ts'
import { startServer } from '../support/server.ts'

const READ = 2

for (const doorbells of ['mapped', 'shadow'] as const) {
  test.serial(`a completion wakes who has armed its vector, and no other (${doorbells})`, async (t) => {
    const server = await startServer({ device: 'sim:?size=16M&latency=10ms', doorbells })
    const fn = await openVfioUser(server.socket)
    atEnd(() => fn.close())
    const fired: number[] = []
    const enable = fn.enableInterrupts.bind(fn)
    fn.enableInterrupts = (count, handler) =>
      enable(count, (vector) => {
        fired.push(vector)
        handler(vector)
      })
    const transport = await openPcieTransport(fn)
    const controller = await createController(transport)
    await transport.enableWakeUps(3)
    await controller.queues.request(3)
    const buf = controller.pool.alloc(512)
    const { lo, hi } = controller.pool.tagOf(buf)
    for (const vector of [3, 1, 2]) {
      const pair = await controller.queues.create(vector, 16)
      for (let i = 0; i < 3; i++) {
        const wakeUp = transport.wakeUp(vector)
        const woken = new Promise<void>((resolve) => {
          wakeUp.arm(resolve)
        })
        pair.post(READ, 1, lo, hi, 512, 0, 0, 0, 0, 0, 0)
        pair.ring()
        t.is(pair.reap(), -1, 'not yet')
        await woken
        wakeUp.disarm()
        t.true(pair.reap() >= 0)
        pair.acknowledge()
      }
    }
    t.deepEqual(fired, [3, 3, 3, 1, 1, 1, 2, 2, 2])
    await controller.reset('function')
    t.true((await controller.activeNamespaces()).length > 0)
    await controller.close()
    await server.stop()
  })

  test.serial(`the scheduler sleeps until an interrupt, where it is asked to (${doorbells})`, async (t) => {
    const server = await startServer({ device: 'sim:?size=16M&latency=20ms', doorbells })
    await using ns = await open(server.address, { interrupts: true, qcount: 3, qsize: 16 })
    const data = Buffer.alloc(2 ** 20, 'interrupts')
    await ns.promises.write(data, 0)
    const reads = Array.from({ length: 3 }, (_, qid) =>
      ns.promises.read(Buffer.alloc(2 ** 20), 0, 2048, { qid }),
    )
    for (const read of await Promise.all(reads)) t.true(read.equals(data))
    await ns.reset()
    t.true((await ns.promises.read(Buffer.alloc(2 ** 20), 0)).equals(data))
    await ns.close()
    await server.stop()
  })
}
