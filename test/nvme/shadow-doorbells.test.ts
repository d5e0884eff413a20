// Shadow doorbells: when the real ones are rung, and a driver that uses them on a controller in this process.

import test from 'ava'
import fc from 'fast-check'
import { createController } from '../../lib/nvme/host/controller.ts'
import { passes, ShadowDoorbells } from '../../lib/nvme/pcie/shadow-doorbells.ts'
import { openPcieTransport } from '../../lib/nvme/pcie/transport.ts'
import type { PciFunction } from '../../lib/pci/function.ts'
import { openSim, type SimOptions } from '../../lib/sim/index.ts'

test('a doorbell passes the values from its old one to the one before its new one, around the end of the queue', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 40 }).chain((entries) => {
        const value = fc.integer({ min: 0, max: entries - 1 })
        return fc.tuple(fc.constant(entries), value, value, value)
      }),
      ([entries, event, from, to]) => {
        const way: number[] = []
        for (let at = from; at !== to; at = (at + 1) % entries) way.push(at)
        return passes(event, from, to, entries) === way.includes(event)
      },
    ),
    { numRuns: 5000 },
  )
  t.true(passes(0, 0, 1, 8))
  t.true(passes(7, 7, 0, 8))
  t.false(passes(1, 0, 1, 8))
  t.false(passes(7, 0, 5, 8))
})

test('no queue rings for an event that it can never reach', (t) => {
  t.false(passes(64, 3, 60, 64))
  t.false(passes(0xffff_ffff, 0, 63, 64))
})

async function bringUp(address: string, options = {}, sim: SimOptions = {}) {
  const pci = await openSim(address, sim)
  const transport = await openPcieTransport(pci, options)
  const controller = await createController(transport)
  return { pci, transport, controller }
}

test('offered, configured with two pages, and used by queue pairs from then on', async (t) => {
  const { pci, transport, controller } = await bringUp('sim:?size=8M&shadow=1')
  t.true(transport.shadowed)
  await controller.queues.request(1)
  const pair = await controller.queues.create(1, 8)
  const buf = controller.pool.alloc(512)
  const { lo, hi } = controller.pool.tagOf(buf)
  for (let i = 0; i < 30; i++) {
    const cid = pair.post(2, 1, lo, hi, 512, i, 0, 0, 0, 0, 0)
    t.true(cid >= 0)
    pair.ring()
    pair.step()
    t.is(pair.reap(), cid)
    t.is(pair.status, 0)
  }
  // The inline controller asks for a ring at every change: the real doorbell has followed.
  t.is(pci.doorbells[2], 30 % 8)
  await controller.close()
})

test('not offered, or not wanted: real doorbells', async (t) => {
  for (const [address, options] of [
    ['sim:?size=8M', {}],
    ['sim:?size=8M&shadow=1', { shadowDoorbells: false }],
  ] as const) {
    const { transport, controller } = await bringUp(address, options)
    t.false(transport.shadowed)
    await controller.close()
  }
})

test('a controller that refuses them is driven by real doorbells', async (t) => {
  const faults = [{ queue: 'admin', opcode: 0x7c, action: { kind: 'status', status: 0x006 } }] as const
  const { transport, controller } = await bringUp('sim:?size=8M&shadow=1', {}, { faults })
  t.false(transport.shadowed)
  t.true((await controller.activeNamespaces()).length > 0)
  await controller.close()
})

test('after a reset they are configured anew, and queues start from zero', async (t) => {
  const { transport, controller } = await bringUp('sim:?size=8M&shadow=1')
  await controller.queues.request(1)
  const pair = await controller.queues.create(1, 8)
  const post = () => {
    const cid = pair.post(0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    pair.ring()
    pair.step()
    return pair.reap() === cid && pair.status === 0
  }
  for (let i = 0; i < 5; i++) t.true(post())
  for (const how of ['controller', 'subsystem', 'function'] as const) {
    await controller.reset(how)
    t.true(transport.shadowed)
    for (let i = 0; i < 11; i++) t.true(post())
  }
  await controller.close()
})

// A function of plain memory, and a pool of it, for what the controller's side would do.
function fakes(words = 64) {
  const doorbells = new Uint32Array(words).fill(0xdead)
  let notified = 0
  const pci = { doorbells, notify: () => notified++ } as unknown as PciFunction
  const memory = Buffer.alloc(8192)
  const share = () => ({ address: 0x1000n, bytes: 8192, iova: 0x2000 })
  const pool = { alloc: () => memory, share } as unknown as ConstructorParameters<typeof ShadowDoorbells>[1]
  const shadow = new Uint32Array(memory.buffer, memory.byteOffset, 1024)
  const events = new Uint32Array(memory.buffer, memory.byteOffset + 4096, 1024)
  return { pci, pool, doorbells, shadow, events, notified: () => notified }
}

test('a queue pair rings only when it passes what the controller has asked for', (t) => {
  const { pci, pool, doorbells, shadow, events, notified } = fakes()
  const pair = new ShadowDoorbells(pci, pool, 4).ofQueuePair(3, 16)!
  t.true(pair.doorbells.buffer === shadow.buffer)
  const store = (index: number, value: number) => {
    pair.doorbells[index] = value
    pair.notify!()
  }
  events[6] = 15
  store(6, 4)
  t.is(shadow[6], 4)
  t.is(doorbells[6], 0xdead, 'the controller has not asked')
  events[6] = 4
  store(6, 5)
  t.is(doorbells[6], 5)
  t.is(notified(), 1)
  store(6, 9)
  t.is(doorbells[6], 5, 'passed before')
  events[7] = 0
  store(7, 2)
  t.is(doorbells[7], 2)
  t.is(notified(), 2)
})

test('the admin queue always rings, and its shadow follows', (t) => {
  const { pci, pool, doorbells, shadow, notified } = fakes()
  const admin = new ShadowDoorbells(pci, pool, 4).ofAdminQueue({ tail: 5, head: 2 })
  t.deepEqual([shadow[0], shadow[1]], [5, 2], 'where the queue stands')
  for (const tail of [6, 7, 0, 1]) {
    admin.doorbells[0] = tail
    admin.notify!()
    t.is(doorbells[0], tail)
    t.is(shadow[0], tail)
  }
  t.is(doorbells[1], 0xdead, 'the head has not changed')
  admin.doorbells[1] = 3
  admin.notify!()
  t.is(doorbells[1], 3)
  t.is(notified(), 5)
})

test('no doorbell is ever rung with a wrong value', async (t) => {
  for (const address of ['sim:?size=8M', 'sim:?size=8M&shadow=1', 'sim:?size=8M&shadow=1&thread=1']) {
    const { controller } = await bringUp(address)
    const events: number[] = []
    controller.onEvent((event) => events.push(event))
    await controller.queues.request(2)
    const pair = await controller.queues.create(1, 4)
    for (let i = 0; i < 11; i++) {
      pair.post(0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
      pair.ring()
      do pair.step()
      while (pair.reap() < 0)
      pair.acknowledge()
    }
    await controller.queues.recreate(1)
    // The controller looks at what does not belong now and then: this outlasts it.
    for (let i = 0; i < 200; i++) await controller.identify(1)
    t.deepEqual(events, [], address)
    await controller.close()
  }
})

test('a queue whose doorbells the function does not reach is refused, instead of rung in vain', async (t) => {
  const sim = await openSim('sim:?size=8M')
  const pci: PciFunction = Object.create(sim, { doorbells: { value: sim.doorbells.subarray(0, 5) } })
  const controller = await createController(await openPcieTransport(pci))
  await controller.queues.request(2)
  await t.notThrowsAsync(controller.queues.create(1, 8))
  await t.throwsAsync(controller.queues.create(2, 8), { code: 'ERR_UNVME_UNSUPPORTED', message: /queue 2/ })
  await controller.close()
})

test('queues whose doorbells lie behind the page are rung by the real ones', (t) => {
  const { pci, pool } = fakes()
  const doorbells = new ShadowDoorbells(pci, pool, 1024)
  t.not(doorbells.ofQueuePair(1, 16), null)
  t.is(doorbells.ofQueuePair(2, 16), null)
})
