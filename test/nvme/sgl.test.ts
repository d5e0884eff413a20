// SGLs: which commands describe their data by one, and what a controller that takes them is sent.

import test from 'ava'
import { createController } from '../../lib/nvme/host/controller.ts'
import type { QueuePair } from '../../lib/nvme/pcie/queue-pair.ts'
import { openPcieTransport } from '../../lib/nvme/pcie/transport.ts'
import { openSim } from '../../lib/sim/index.ts'

const PAGE = 4096
const PSDT = 0xc000
const PSDT_SGL = 0x4000

for (const [what, address, sgl, expected] of [
  ['a controller that takes them', 'sim:?size=8M&sgl=1', true, true],
  ['a controller that takes them, where they are turned off', 'sim:?size=8M&sgl=1', false, false],
  ['a controller that takes none', 'sim:?size=8M', true, false],
] as const) {
  test(`post describes more than two pages by an SGL: ${what}`, async (t) => {
    const transport = await openPcieTransport(await openSim(address), { sgl })
    const controller = await createController(transport)
    await controller.queues.request(1)
    const pair = (await controller.queues.create(1, 8)) as QueuePair
    const buf = controller.pool.alloc(8 * PAGE)
    const { lo, hi } = controller.pool.tagOf(buf)
    const entries = new Uint32Array(pair.rings.sq.buffer, pair.rings.sq.byteOffset, 8 * 16)
    let slot = 0
    const read = (offset: number, bytes: number): Uint32Array => {
      const cid = pair.post(2, 1, lo + offset, hi, bytes, 0, 0, bytes / 512 - 1, 0, 0, 0)
      pair.ring()
      pair.step()
      t.is(pair.reap(), cid)
      t.is(pair.status, 0)
      const entry = entries.slice(16 * slot, 16 * slot + 16)
      slot = (slot + 1) % 8
      return entry
    }
    for (const [offset, bytes] of [
      [0, PAGE],
      [0, 2 * PAGE],
      [512, 2 * PAGE - 512],
    ] as const) {
      t.is(read(offset, bytes)[0]! & PSDT, 0, `${bytes} bytes at ${offset}`)
    }
    for (const [offset, bytes] of [
      [0, 3 * PAGE],
      [4, 2 * PAGE],
      [0, 8 * PAGE],
    ] as const) {
      const entry = read(offset, bytes)
      t.is(entry[0]! & PSDT, expected ? PSDT_SGL : 0, `${bytes} bytes at ${offset}`)
      t.deepEqual([entry[6], entry[7]], [(lo + offset) >>> 0, hi >>> 0])
      if (expected) t.deepEqual([entry[8], entry[9]], [bytes, 0])
    }
    // What the entry had is not left to a command of one page.
    for (let i = 0; i < 8; i++) t.deepEqual([...read(0, 512).slice(8, 10)], [0, 0])
    controller.pool.free(buf)
    await controller.close()
  })
}
