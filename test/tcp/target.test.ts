// The target, as a host of another make sees it: byte by byte.

import test, { type ExecutionContext } from 'ava'
import { DISCOVERY_NQN, decodeDiscoveryLog, SUBTYPE, TRTYPE } from '../../lib/nvme/tcp/fabrics.ts'
import { encodeIcReq, PDU } from '../../lib/nvme/tcp/pdu.ts'
import { serveTcp } from '../../lib/nvme/tcp/target/index.ts'
import { open, openController } from '../../src/index.ts'
import {
  CONNECT,
  capsule,
  connectRaw as connect,
  connectData,
  greeted,
  statusOf,
} from '../support/raw-host.ts'
import { HOST, NQN, startTarget, type TargetLimits } from '../support/tcp-target.ts'

async function setUp(t: ExecutionContext, limits: TargetLimits = {}) {
  const target = await startTarget('sim:?size=4M', limits)
  t.teardown(() => target.close())
  return target
}

// A host that has connected and enabled the controller.
async function enabled(t: ExecutionContext, port: number) {
  const host = await greeted(t, port)
  host.send(capsule(CONNECT, connectData()))
  t.is(statusOf(await host.next()), 0)
  host.send(capsule({ 0: 0x7f, 1: 0, 11: 0x14, 12: 0x46_0001 }))
  t.is(statusOf(await host.next()), 0)
  return host
}

test('ICResp has what was agreed on, and MAXH2CDATA', async (t) => {
  const target = await setUp(t, { maxH2cData: 8192, ddgst: false })
  const host = await connect(t, target.port)
  host.send(encodeIcReq({ pfv: 0, hpda: 0, dgst: 3, maxr2t: 0 }))
  const reply = await host.next()
  t.is(reply!.length, 128)
  t.is(reply![11], 1)
  t.is(reply!.readUInt32LE(12), 8192)
})

test('a host that asks for digests which the target lacks says which', async (t) => {
  const target = await setUp(t, { ddgst: false })
  await t.throwsAsync(open(target.address('ddgst=1')), {
    code: 'ERR_UNVME_PROTOCOL',
    message: /data digests are on here and off there/,
  })
})

for (const [what, pdu, fes, fei] of [
  ['another version of PDUs', encodeIcReq({ pfv: 1, hpda: 0, dgst: 0, maxr2t: 0 }), 1, 8],
  ['an alignment that does not exist', encodeIcReq({ pfv: 0, hpda: 32, dgst: 0, maxr2t: 0 }), 1, 10],
  ['a command before ICReq', capsule(CONNECT, connectData()), 2, 0],
  ['a type that does not exist', Buffer.from('0a000800080000000000000000000000', 'hex'), 1, 0],
] as const) {
  test(`${what}: a terminate request, and the end`, async (t) => {
    const target = await setUp(t)
    const host = await connect(t, target.port)
    host.send(pdu)
    const term = await host.next()
    t.is(term![0], PDU.C2H_TERM_REQ)
    t.is(term!.readUInt16LE(8), fes)
    t.is(term!.readUInt32LE(10), fei)
    t.is(await host.next(), null)
  })
}

for (const [what, words, data, status, result] of [
  ['another record format', { ...CONNECT, 10: 1 }, connectData(), 0x180, 0],
  ['a queue of one entry', { ...CONNECT, 11: 0 }, connectData(), 0x182, 44],
  ['too large an admin queue', { ...CONNECT, 11: 1000 }, connectData(), 0x182, 44],
  ['another subsystem', CONNECT, connectData({ subnqn: 'nqn.2024-01.org.example:none' }), 0x182, 0x1_0100],
  ['no name of its own', CONNECT, connectData({ hostnqn: '' }), 0x182, 0x1_0200],
  ['a name of two words', CONNECT, connectData({ hostnqn: 'nqn.2024-01.org.example:a b' }), 0x182, 0x1_0200],
  ['a name that rings', CONNECT, connectData({ hostnqn: 'nqn.2024-01.org.example:\x07' }), 0x182, 0x1_0200],
  ['a controller of its choice', CONNECT, connectData({ cntlid: 7 }), 0x182, 0x1_0010],
  [
    'an I/O queue of no controller',
    { ...CONNECT, 10: 0x1_0000 },
    connectData({ cntlid: 7 }),
    0x182,
    0x1_0010,
  ],
  ['too little data', CONNECT, connectData().subarray(0, 512), 0x00f, 0],
  ['a property before Connect', { 0: 0x7f, 1: 4, 10: 1 }, null, 0x00c, 0],
  ['Identify before Connect', { 0: 0x06, 8: 4096, 10: 1 }, null, 0x00c, 0],
] as const) {
  test(`Connect with ${what} is refused`, async (t) => {
    const target = await setUp(t)
    const host = await greeted(t, target.port)
    host.send(capsule(words, data))
    const reply = await host.next()
    t.is(statusOf(reply), status)
    t.is(reply!.readUInt32LE(8), result)
    // It may try again.
    host.send(capsule({ ...CONNECT, 0: 0x5_007f }, connectData()))
    const again = await host.next()
    t.is(statusOf(again), 0)
    t.is(again!.readUInt16LE(20), 5)
  })
}

test('Connect takes a host whose name has no "nqn."', async (t) => {
  const target = await setUp(t)
  const host = await greeted(t, target.port)
  host.send(
    capsule(
      CONNECT,
      connectData({ hostnqn: '2014-08.org.nvmexpress:uuid:6f9619ff-8b86-d011-b42d-00cf4fc964ff' }),
    ),
  )
  t.is(statusOf(await host.next()), 0)
})

test('a subsystem has one host at a time', async (t) => {
  const target = await setUp(t)
  const ns = await open(target.address())
  const host = await greeted(t, target.port)
  host.send(capsule(CONNECT, connectData()))
  t.is(statusOf(await host.next()), 0x181)
  await ns.close()
  while (target.server.connections > 1) await new Promise(setImmediate)
  host.send(capsule(CONNECT, connectData()))
  t.is(statusOf(await host.next()), 0)
})

test('an I/O queue is its host’s, and there once', async (t) => {
  const target = await setUp(t)
  const admin = await greeted(t, target.port)
  admin.send(capsule(CONNECT, connectData()))
  const cntlid = (await admin.next())!.readUInt16LE(8)
  const io = { ...CONNECT, 10: 0x1_0000, 12: 0 }
  const queue = await greeted(t, target.port)
  const ask = async (data: Buffer, words: Readonly<Record<number, number>> = io) => {
    queue.send(capsule(words, data))
    return statusOf(await queue.next())
  }
  t.is(await ask(connectData({ cntlid })), 0x00c, 'the controller is not enabled')
  admin.send(capsule({ 0: 0x7f, 1: 0, 11: 0x14, 12: 0x46_0001 }))
  t.is(statusOf(await admin.next()), 0)
  t.is(await ask(connectData({ cntlid, host: 2 })), 0x182)
  t.is(await ask(connectData({ cntlid, hostnqn: 'nqn.2024-01.org.example:third' })), 0x182)
  t.is(await ask(connectData({ cntlid }), { ...io, 11: 1024 }), 0x182)
  t.is(await ask(connectData({ cntlid }), { ...io, 10: 99 << 16 }), 0x182, 'more than were granted')
  t.is(await ask(connectData({ cntlid })), 0)
  const second = await greeted(t, target.port)
  second.send(capsule(io, connectData({ cntlid })))
  t.is(statusOf(await second.next()), 0x00c)
})

for (const [what, words, data, status] of [
  ['SGLs of another type', { 0: 0x06, 8: 4096, 9: 0x3000_0000, 10: 1 }, null, 0x011],
  ['data that the capsule does not have', { 0: 0x0a, 8: 512, 9: 0x0100_0000, 10: 2 }, null, 0x00f],
  ['less space than the answer has', { 0: 0x06, 8: 1024, 10: 1 }, null, 0x00f],
  ['more data than MDTS', { 0: 0x02, 8: 2 ** 31, 10: 2 }, null, 0x002],
  ['queues that Connect makes', { 0: 0x05, 10: 1 }, null, 0x001],
  ['a property that does not exist', { 0: 0x7f, 1: 4, 11: 0x40 }, null, 0x002],
  ['a property of another size', { 0: 0x7f, 1: 4, 10: 1, 11: 0x14 }, null, 0x002],
  ['a property that can’t be set', { 0: 0x7f, 1: 0, 11: 0x1c }, null, 0x002],
  ['a Fabrics command that does not exist', { 0: 0x7f, 1: 0x30 }, null, 0x001],
  ['Connect for the second time', CONNECT, connectData(), 0x00c],
] as const) {
  test(`a command with ${what} is refused, and the next one is served`, async (t) => {
    const target = await setUp(t)
    const host = await enabled(t, target.port)
    host.send(capsule(words, data))
    t.is(statusOf(await host.next()), status)
    host.send(capsule({ 0: 0x18 }))
    t.is(statusOf(await host.next()), 0)
  })
}

test('a command without data may name a capsule that has none', async (t) => {
  const target = await setUp(t)
  const host = await enabled(t, target.port)
  // Set Features, Number of Queues: a descriptor of data at offset 0 in the capsule, 0 bytes of it.
  host.send(capsule({ 0: 0x09, 9: 0x0100_0000, 10: 7, 11: 0 }))
  t.is(statusOf(await host.next()), 0)
})

test('before Connect has an answer no other command is taken, so that no unnamed host has memory', async (t) => {
  const target = await setUp(t)
  const host = await greeted(t, target.port)
  // Data that is asked for by R2T, again and again.
  host.send(capsule({ ...CONNECT, 8: 1024 }))
  t.is((await host.next())![0], PDU.R2T)
  host.send(capsule({ ...CONNECT, 0: 0x1_007f, 8: 8192 }))
  t.is((await host.next())![0], PDU.C2H_TERM_REQ)
})

test('a Keep Alive Timer that is longer than any timer of Node’s does not end at once', async (t) => {
  const target = await setUp(t)
  const host = await greeted(t, target.port)
  host.send(capsule({ ...CONNECT, 12: 0xffff_ffff }, connectData()))
  t.is(statusOf(await host.next()), 0)
  for (let i = 0; i < 20; i++) {
    await new Promise((resolve) => setTimeout(resolve, 2))
    host.send(capsule({ 0: 0x7f, 1: 4, 11: 8 }))
    t.is(statusOf(await host.next()), 0)
  }
})

test('features of Keep Alive are the target’s own', async (t) => {
  const target = await setUp(t)
  const handle = await openController(target.address('kato=2050'))
  t.teardown(() => handle.close())
  t.is((await handle.admin({ opcode: 0x0a, cdw10: 0x0f })).result, 2100)
  await handle.admin({ opcode: 0x09, cdw10: 0x0f, cdw11: 0 })
  t.is((await handle.admin({ opcode: 0x0a, cdw10: 0x0f })).result, 0)
})

test('the discovery service has an entry for itself and for each subsystem', async (t) => {
  const target = await setUp(t)
  const address = `nvme+tcp://127.0.0.1:${target.port}/${DISCOVERY_NQN}?${HOST}`
  const handle = await openController(address)
  t.teardown(() => handle.close())
  const data = Buffer.alloc(3 * 1024)
  await handle.admin({ opcode: 0x02, data, cdw10: 0x70 | ((data.length / 4 - 1) << 16) })
  const { records } = decodeDiscoveryLog(data)
  t.like(records[0], { trtype: TRTYPE.TCP, subtype: SUBTYPE.CURRENT_DISCOVERY, subnqn: DISCOVERY_NQN })
  t.like(records[1], { subtype: SUBTYPE.NVM, subnqn: NQN, traddr: '127.0.0.1', trsvcid: `${target.port}` })
})

test('serveTcp refuses limits and names that can not be, and ports that are taken', async (t) => {
  const target = await setUp(t)
  for (const limits of [{ inCapsule: 100 }, { maxH2cData: 4095 }, { maxR2t: 0 }, { maxC2hData: -4 }]) {
    await t.throwsAsync(serveTcp({ ...limits, subsystems: [] }), { code: 'ERR_INVALID_ARG_VALUE' })
  }
  const controller = target.sim as never
  await t.throwsAsync(serveTcp({ subsystems: [{ nqn: 'disk', controller }] }), { message: /NQN of its own/ })
  await t.throwsAsync(serveTcp({ port: target.port, subsystems: [] }), { code: 'EADDRINUSE' })
})
