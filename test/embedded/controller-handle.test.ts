import test from 'ava'
import { ADMIN, open, openController } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'

const file = testFolder()

test('a controller alone: admin commands, its namespaces, and one of them opened', async (t) => {
  const controller = await openController('sim:?size=8M&ns=3,7')
  t.is(controller.nsid, undefined)
  t.deepEqual(await controller.namespaces(), [3, 7])
  const data = Buffer.alloc(4096)
  await controller.admin({ opcode: ADMIN.IDENTIFY, data, cdw10: 1 })
  t.is(data.toString('latin1', 24, 64).trim(), controller.identity.mn)
  t.is(controller.controller.queues.size, 0)

  const ns = await controller.openNamespace(7, { qcount: 2 })
  t.is(ns.qcount, 2)
  await ns.promises.write(Buffer.alloc(512, 7), 5)
  await controller.reset()
  t.deepEqual(await ns.promises.read(Buffer.alloc(512), 5), Buffer.alloc(512, 7))
  // It goes on while the namespace is open.
  await controller.close()
  t.true(controller.closed)
  await t.throwsAsync(controller.admin({ opcode: ADMIN.IDENTIFY }), { code: 'ERR_UNVME_CLOSED' })
  await t.throwsAsync(controller.openNamespace(3), { code: 'ERR_UNVME_CLOSED' })
  t.deepEqual(await ns.promises.read(Buffer.alloc(512), 5), Buffer.alloc(512, 7))
  await ns.close()
})

test('the address may name a namespace that does not exist', async (t) => {
  await using controller = await openController('sim:?size=8M&nsid=9')
  t.is(controller.nsid, 9)
  await t.throwsAsync(controller.openNamespace(9), { code: 'ERR_UNVME_ADDRESS' })
  await t.throwsAsync(openController('sim:?nsid=9', { nsid: 8 }), { code: 'ERR_UNVME_ADDRESS' })
})

test('one image is one controller, for namespaces and for the handle', async (t) => {
  const address = `sim:${file('shared.img')}?size=8M`
  const controller = await openController(address)
  const [a, b] = await Promise.all([open(address, { qcount: 3 }), open(address, { qcount: 2 })])
  t.is(a.controller, controller.controller)
  t.is(b.controller, controller.controller)
  t.deepEqual([a.qcount, b.qcount], [3, 3])
  await Promise.all([a.close(), controller.close(), b.close()])
  await t.notThrowsAsync(open(address).then((ns) => ns.close()))
})

test('an open that asks for too much leaves the shared controller as it was', async (t) => {
  const address = `sim:${file('greedy.img')}?size=8M&qcount=4`
  await using controller = await openController(address)
  const opened = await Promise.allSettled([open(address, { qcount: 5 }), open(address, { qcount: 2 })])
  t.deepEqual(
    opened.map(({ status }) => status),
    ['rejected', 'fulfilled'],
  )
  for (const one of opened) if (one.status === 'fulfilled') await one.value.close()
  t.is(controller.controller.failure, null)
})
