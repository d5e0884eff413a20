// Signals that end an opening or an admin command: at once, with nothing left open, and no other call the worse for it.

import fs from 'node:fs'
import test from 'ava'
import { createController } from '../../lib/nvme/host/controller.ts'
import { openPcieTransport, type PcieTransport } from '../../lib/nvme/pcie/transport.ts'
import type { PciFunction } from '../../lib/pci/function.ts'
import { openSim } from '../../lib/sim/index.ts'
import { ADMIN, type OpenOptions, open, openController } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'

const file = testFolder()
const ABORTED = { code: 'ABORT_ERR', message: 'The operation was aborted' }
const CSTS = 0x1c
// Shutdown complete, and not ready.
const SHUT_DOWN = 8
type Faults = NonNullable<OpenOptions['faults']>

/** The answer to this admin command is lost, the `skip` first ones excepted. */
const lose = (opcode: number, skip = 0): Faults => [
  { queue: 'admin', opcode, skip, times: 1, action: { kind: 'lose' } },
]
const delay = (opcode: number, ms: number): Faults => [
  { queue: 'admin', opcode, times: 1, action: { kind: 'delay', ms } },
]
const soon = () => {
  const controller = new AbortController()
  setTimeout(() => controller.abort(new Error('enough')), 20)
  return controller.signal
}
/** Aborts a call as soon as it has returned its promise. */
function endAfter<T>(call: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  const promise = call(controller.signal)
  controller.abort()
  return promise
}
const descriptors = () => fs.readdirSync('/proc/self/fd').length

test('a signal that is aborted before, or is none: nothing is opened', async (t) => {
  const address = `sim:${file('before.img')}?size=1M`
  const signal = AbortSignal.abort(new Error('too late'))
  for (const call of [open, openController]) {
    const error = await t.throwsAsync(call(address, { signal }), ABORTED)
    t.is((error!.cause as Error).message, 'too late')
    await t.throwsAsync(call(address, { signal: 'now' as never }), {
      code: 'ERR_INVALID_ARG_TYPE',
      message: /signal must be an AbortSignal, received 'now'/,
    })
  }
  t.false(fs.existsSync(file('before.img')))
})

for (const [what, faults] of [
  ['Identify Controller', lose(ADMIN.IDENTIFY)],
  ['the list of namespaces', lose(ADMIN.IDENTIFY, 1)],
  ['Identify Namespace', lose(ADMIN.IDENTIFY, 2)],
] as const) {
  test.serial(`an abort while ${what} has no answer: closed, and can be opened again`, async (t) => {
    const address = `sim:${file('hangs.img')}?size=1M`
    const before = descriptors()
    const error = await t.throwsAsync(open(address, { faults, signal: soon() }), ABORTED)
    t.is((error!.cause as Error).message, 'enough')
    t.is(descriptors(), before)
    await using ns = await open(address, { signal: AbortSignal.timeout(600_000) })
    await ns.promises.read(Buffer.alloc(512), 0)
  })
}

test('an abort between the queues takes back those that were made', async (t) => {
  await using handle = await openController('sim:?size=1M')
  const ending = new AbortController()
  const { signal } = ending
  const { queues } = handle.controller
  const create = queues.create
  queues.create = (...args) => create.apply(queues, args).finally(() => ending.abort())
  await t.throwsAsync(handle.openNamespace(1, { qcount: 4, signal }), ABORTED)
  t.is(queues.size, 0)
  await using ns = await handle.openNamespace(1, { qcount: 4 })
  t.is(ns.qcount, 4)
  await t.throwsAsync(ns.openNamespace(1, { signal }), ABORTED)
})

test('a controller that does not become ready is not waited for', async (t) => {
  const sim = await openSim('sim:?size=1M')
  let closed = false
  const pci: PciFunction = Object.create(sim, {
    readRegister: { value: (offset: number) => (offset === CSTS ? SHUT_DOWN : sim.readRegister(offset)) },
    close: {
      value: async () => {
        closed = true
        await sim.close()
      },
    },
  })
  await t.throwsAsync(createController(await openPcieTransport(pci), { signal: soon() }), ABORTED)
  t.true(closed)
})

test('who opens the same device at the same time shares it', async (t) => {
  const address = `sim:${file('together.img')}?size=1M&ns=2`
  const [a, b] = await Promise.all([open(address, { nsid: 1 }), open(address, { nsid: 2 })])
  t.is(a.controller, b.controller)
  await Promise.all([a.close(), b.close()])
})

test("an abort ends its own call's opening alone", async (t) => {
  const address = `sim:${file('shared.img')}?size=1M`
  const first = open(address, { faults: lose(ADMIN.IDENTIFY), signal: soon() })
  const second = open(address)
  await t.throwsAsync(first, ABORTED)
  await using ns = await second
  await ns.promises.read(Buffer.alloc(512), 0)
})

test("an abort ends the waiting for another call's opening, and not that", async (t) => {
  const address = `sim:${file('waits.img')}?size=1M`
  const first = open(address)
  await t.throwsAsync(
    endAfter((signal) => open(address, { signal })),
    ABORTED,
  )
  await using ns = await first
  await ns.promises.read(Buffer.alloc(512), 0)
})

test('an admin command that is aborted rejects at once, and owns its memory until it is done', async (t) => {
  await using ns = await open('sim:?size=1M', { faults: delay(ADMIN.GET_LOG_PAGE, 100) })
  const page = { opcode: ADMIN.GET_LOG_PAGE, nsid: 0xffff_ffff, cdw10: (127 << 16) | 2 }
  const dma = ns.alloc(512)
  const ended = endAfter((signal) => ns.admin({ ...page, data: dma }, { signal }))
  await t.throwsAsync(ended, ABORTED)
  t.throws(() => ns.free(dma), { code: 'ERR_UNVME_BUFFER_IN_USE' })
  for (let used = true; used; used = ns.pool.tagOf(dma).allocation.users > 0) {
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  t.true(
    dma.some((byte) => byte !== 0),
    'it went on',
  )
  ns.free(dma)
})

test('what an aborted admin command read does not reach a buffer that its caller has back', async (t) => {
  await using handle = await openController('sim:?size=1M', { faults: delay(ADMIN.GET_LOG_PAGE, 50) })
  const page = { opcode: ADMIN.GET_LOG_PAGE, nsid: 0xffff_ffff, cdw10: (127 << 16) | 2 }
  const [first, second] = [Buffer.alloc(512), Buffer.alloc(512)]
  const { bytes } = handle.controller.pool
  const ended = endAfter((signal) => handle.admin({ ...page, data: first }, { signal }))
  await t.throwsAsync(ended, ABORTED)
  while (handle.controller.pool.bytes > bytes) await new Promise((resolve) => setTimeout(resolve, 1))
  await handle.admin({ ...page, data: second }, { signal: AbortSignal.timeout(600_000) })
  t.true(first.every((byte) => byte === 0))
  t.true(second.some((byte) => byte !== 0))
})

test('an admin command that waits for space is taken back, and one that is aborted before is not sent', async (t) => {
  await using ns = await open('sim:?size=1M')
  const { controls } = (ns.controller.transport as PcieTransport).pci as Awaited<ReturnType<typeof openSim>>
  const identify = { opcode: ADMIN.IDENTIFY, cdw10: 1 }
  const id = controls.addFault({ queue: 'admin', opcode: ADMIN.IDENTIFY, action: { kind: 'delay', ms: 100 } })
  const controller = new AbortController()
  const { signal } = controller
  const memory = ns.alloc(4096)
  // The queue has 64 entries: 63 are in flight, the others wait.
  const sent = Array.from({ length: 63 }, () => ns.admin({ ...identify, data: Buffer.alloc(4096) }))
  const waiting = [
    ns.admin({ ...identify, data: memory }, { signal }),
    ns.admin({ ...identify, data: Buffer.alloc(4096) }),
  ]
  controller.abort()
  await t.throwsAsync(waiting[0]!, ABORTED)
  ns.free(memory)
  await t.throwsAsync(ns.admin(identify, { signal }), ABORTED)
  await t.throwsAsync(ns.admin(identify, { signal: 1 as never }), { code: 'ERR_INVALID_ARG_TYPE' })
  controls.removeFault(id)
  await Promise.all([...sent, waiting[1]])
})
