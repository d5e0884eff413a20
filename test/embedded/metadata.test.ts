// Raw commands on a namespace whose format has a buffer of its own for metadata. The embedded controller has no such
// format: here the driver believes that it has, and what it puts into the submission queue is looked at.

import test from 'ava'
import { viewOf } from '../../lib/memory/mapping.ts'
import type { QueuePair } from '../../lib/nvme/pcie/queue-pair.ts'
import { openPcieTransport } from '../../lib/nvme/pcie/transport.ts'
import { type FaultRule, openSim } from '../../lib/sim/index.ts'
import { createDevice } from '../../src/controller/device.ts'
import { Namespace } from '../../src/namespace/namespace.ts'
import type { Geometry } from '../../src/queue/geometry.ts'

const READ = 2
const WRITE = 1
const COMPARE = 5
const FLUSH = 0
const PRACT = 1 << 29

async function openWith(changes: Partial<Geometry>, faults: readonly FaultRule[] = []) {
  const device = await createDevice(await openPcieTransport(await openSim('sim:?size=1M', { faults })), {
    timeout: 80,
    recovery: 'none',
  })
  const geometry = { ...(await device.findGeometry()), ...changes }
  await device.provideQueues({ qsize: 4 }, geometry)
  const ns = new Namespace(device, geometry, 'sim:')
  await device.release()
  const { address, bytes } = (device.queues[0]!.pair as QueuePair).share().sq
  const entries = new BigUint64Array(viewOf(address, bytes))
  // Where the entries' metadata pointers are, in the order of the ring.
  const pointers = () => [0, 1, 2, 3].map((i) => Number(entries[i * 8 + 2]))
  return { ns, pointers, iovaOf: (buf: Buffer) => ns.pool.tagOf(buf).iova }
}

test('a raw command points to its metadata, and no command after it does', async (t) => {
  const { ns, pointers, iovaOf } = await openWith({ separateBytes: 8 })
  const buf = ns.alloc(4096)
  const metadata = ns.alloc(4096).subarray(16, 80)
  const before = pointers()
  ns.cmd(0, { opcode: WRITE, buf, metadata, cdw12: 7 })
  ns.read(0, buf, 0, 8)
  await ns.promises.cmd({ opcode: READ, buf, metadata, cdw12: 7 })
  await ns.promises.cmd({ opcode: FLUSH })
  t.deepEqual(before, [0, 0, 0, 0])
  t.deepEqual(pointers(), [iovaOf(metadata), 0, iovaOf(metadata), 0])
  await ns.close()
})

test('a transfer has metadata of the driver own, whatever was sent before it', async (t) => {
  const { ns, pointers, iovaOf } = await openWith({ separateBytes: 8, metadataBytes: 8 })
  const buf = ns.alloc(4096)
  ns.write(0, buf, 0, 8)
  ns.cmd(0, { opcode: READ, buf, metadata: buf, cdw12: 7 })
  ns.write(0, buf, 0, 8)
  ns.flush(0)
  const [first, second, third, fourth] = pointers()
  t.true(first! > 0)
  t.not(first, iovaOf(buf))
  t.deepEqual([second, third, fourth], [iovaOf(buf), first, 0])
  await ns.close()
})

test('without metadata, or with too little, nothing is sent', async (t) => {
  const { ns } = await openWith({ separateBytes: 8 })
  const buf = ns.alloc(4096)
  const { commands } = ns.stats
  for (const opcode of [READ, WRITE, COMPARE]) {
    t.throws(() => ns.cmd(0, { opcode, buf }), {
      code: 'ERR_INVALID_ARG_TYPE',
      message: new RegExp(
        `acmd: metadata must be a Buffer: opcode ${opcode}h has 8 bytes .* 1 blocks of .* 1`,
      ),
    })
    await t.throwsAsync(ns.promises.cmd({ opcode, buf, metadata: buf.subarray(0, 15), cdw12: 1 }), {
      code: 'ERR_OUT_OF_RANGE',
      message: /cmd: metadata has 15 bytes: .* 2 blocks/,
    })
  }
  t.is(ns.stats.commands, commands)
  ns.flush(0)
  await ns.close()
})

test('protection information that the controller makes by itself needs none, where the command says so', async (t) => {
  const { ns } = await openWith({ separateBytes: 8, flags: PRACT })
  const buf = ns.alloc(512)
  t.throws(() => ns.cmd(0, { opcode: READ, buf }), { code: 'ERR_INVALID_ARG_TYPE' })
  ns.cmd(0, { opcode: READ, buf, cdw12: PRACT })
  await ns.close()
})

test('metadata is the device own until the command is done, or for good where it has no answer', async (t) => {
  const lose: FaultRule = { opcode: READ, slba: 7, times: 1, action: { kind: 'lose' } }
  const { ns } = await openWith({ separateBytes: 8 }, [lose])
  const buf = ns.alloc(512)
  const [metadata, other] = [ns.alloc(4096), ns.alloc(4096)]
  const iod = ns.acmd(0, { opcode: READ, buf, metadata: other })
  t.throws(() => ns.free(other), { code: 'ERR_UNVME_BUFFER_IN_USE' })
  while (!ns.apoll(iod));
  ns.free(other)
  await t.throwsAsync(ns.promises.cmd({ opcode: READ, buf, metadata, cdw10: 7 }), {
    code: 'ERR_UNVME_TIMEOUT',
  })
  t.throws(() => ns.free(metadata), { code: 'ERR_UNVME_BUFFER_IN_USE' })
  await ns.reset()
  ns.free(metadata)
  await ns.close()
})
