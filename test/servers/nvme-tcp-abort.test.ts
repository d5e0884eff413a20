// Abort at the NVMe/TCP server: what the device does not have ends at once, what it has ends as it will.

import test from 'ava'
import { open, serveNvmeTcp } from '../../src/index.ts'
import { SERVED_NQN } from '../support/nvme-tcp-server.ts'
import { CONNECT, capsule, connectData, greeted, statusOf } from '../support/raw-host.ts'

const ABORT_REQUESTED = 0x007
const KIB_256 = 2 ** 18
const cidOf = (pdu: Buffer | null) => pdu!.readUInt16LE(20)
const resultOf = (pdu: Buffer | null) => pdu!.readUInt32LE(8)

test('Abort ends what waits for memory and Asynchronous Event Requests, and no command that a device has', async (t) => {
  const namespace = await open('sim:?size=8M&latency=300ms')
  const server = await serveNvmeTcp([namespace], { nqn: SERVED_NQN, listen: '127.0.0.1:0', memory: 2 ** 20 })
  t.teardown(async () => {
    await server.close()
    await namespace.close()
  })
  const { port } = server.listeners[0]!
  const admin = await greeted(t, port)
  const data = { subnqn: SERVED_NQN }
  const ask = async (words: Readonly<Record<number, number>>) => {
    admin.send(capsule(words))
    return admin.next()
  }
  admin.send(capsule(CONNECT, connectData(data)))
  const cntlid = resultOf(await admin.next()) & 0xffff
  t.is(statusOf(await ask({ 0: 0x7f, 1: 0, 11: 0x14, 12: 0x46_0001 })), 0)
  t.is(statusOf(await ask({ 0: 0x09, 10: 0x07, 11: 0 })), 0)
  admin.send(capsule({ 0: 0x0c | (5 << 16) }))
  const abort = (qid: number, cid: number) => ask({ 0: 0x08 | (6 << 16), 10: (cid << 16) | qid })
  const event = await abort(0, 5)
  t.deepEqual([cidOf(event), statusOf(event)], [5, ABORT_REQUESTED])
  const aborted = await admin.next()
  t.deepEqual([cidOf(aborted), statusOf(aborted), resultOf(aborted)], [6, 0, 0])
  t.is(resultOf(await abort(0, 5)), 1)

  const queue = await greeted(t, port)
  queue.send(capsule({ ...CONNECT, 10: 1 << 16 }, connectData({ ...data, cntlid })))
  t.is(statusOf(await queue.next()), 0)
  // One has all that a host may have; the others wait. They come together.
  const reads = [1, 2, 3].map((cid) =>
    capsule({ 0: 0x02 | (cid << 16), 1: 1, 8: KIB_256, 12: KIB_256 / 512 - 1 }),
  )
  queue.send(Buffer.concat(reads))
  while (server.stats.inFlight === 0) await new Promise(setImmediate)
  t.is(resultOf(await abort(1, 2)), 0)
  const ended = await queue.next()
  t.deepEqual([cidOf(ended), statusOf(ended)], [2, ABORT_REQUESTED])
  t.is(resultOf(await abort(1, 1)), 1)
  const cids = []
  while (cids.length < 2) {
    const pdu = await queue.next()
    if (pdu![0] === 5) cids.push(cidOf(pdu))
  }
  t.deepEqual(cids, [1, 3])
  t.is(server.stats.memoryInUse, 0)
})
