// What bad input gets: a typed error that names the call and the value, before anything is sent; and the device
// works after it.

import { type IoDescriptor, type Namespace, open } from '../../src/index.ts'
import { type DeviceContext, deviceTest } from '../support/devices.ts'

/** The call throws an error with this code, and sends nothing. */
function rejects(t: DeviceContext, ns: Namespace, code: string, call: () => unknown, message?: RegExp) {
  const { commands } = ns.stats
  t.throws(call, { code, ...(message && { message }) }, code)
  t.is(ns.stats.commands, commands, 'nothing was sent')
}

deviceTest('ranges that the namespace does not have', async (t) => {
  const ns = await t.context.device.open()
  const buf = ns.alloc(4 * ns.blocksize)
  const { blockcount } = ns
  for (const [slba, nlb] of [
    [blockcount, 1],
    [blockcount - 1, 2],
    [-1, 1],
    [0.5, 1],
    [0, 0],
    [0, -1],
    [0, 1.5],
    [Number.NaN, 1],
    [2 ** 53, 1],
    [0, 5],
  ] as const) {
    rejects(t, ns, 'ERR_OUT_OF_RANGE', () => ns.aread(0, buf, slba, nlb), /^aread: /)
    rejects(t, ns, 'ERR_OUT_OF_RANGE', () => ns.awrite(0, buf, slba, nlb), /^awrite: /)
  }
  for (const [slba, nlb] of [
    [blockcount, 1],
    [0, 0],
    [0, blockcount + 1],
  ] as const) {
    rejects(t, ns, 'ERR_OUT_OF_RANGE', () => ns.createReadStream({ slba, nlb }))
    rejects(t, ns, 'ERR_OUT_OF_RANGE', () => ns.createWriteStream({ slba, nlb }))
    rejects(t, ns, 'ERR_OUT_OF_RANGE', () => ns.blocks({ slba, nlb }))
    rejects(t, ns, 'ERR_OUT_OF_RANGE', () => ns.writeZeroes(0, slba, nlb))
    await t.throwsAsync(ns.promises.verify(slba, nlb), { code: 'ERR_OUT_OF_RANGE' })
    await t.throwsAsync(ns.writeBlocks([], { slba, nlb }), { code: 'ERR_OUT_OF_RANGE' })
  }
  await t.throwsAsync(ns.promises.read(Buffer.alloc(ns.blocksize), blockcount), { code: 'ERR_OUT_OF_RANGE' })
  await t.throwsAsync(ns.promises.read(Buffer.alloc(1), 0), { code: 'ERR_OUT_OF_RANGE' })
  rejects(t, ns, 'ERR_INVALID_ARG_TYPE', () => ns.aread(0, buf, '1' as never, 1))
  ns.read(0, buf, 0, 1)
  ns.free(buf)
})

deviceTest('buffers that are no DMA memory, misaligned, freed or too short', async (t) => {
  const ns = await t.context.device.open()
  const buf = ns.alloc(8192 + 4 * ns.blocksize)
  rejects(t, ns, 'ERR_UNVME_NOT_DMA_MEMORY', () => ns.aread(0, Buffer.alloc(ns.blocksize), 0, 1), /^aread: /)
  rejects(t, ns, 'ERR_UNVME_ALIGNMENT', () => ns.aread(0, buf.subarray(4), 0, 1), /offset 4\b/)
  rejects(t, ns, 'ERR_UNVME_ALIGNMENT', () => ns.aread(0, buf.subarray(100), 0, 1))
  rejects(t, ns, 'ERR_OUT_OF_RANGE', () => ns.aread(0, buf.subarray(0, ns.blocksize - 1), 0, 1))
  for (const value of [undefined, null, 7, 'x', {}]) {
    rejects(t, ns, 'ERR_INVALID_ARG_TYPE', () => ns.aread(0, value as never, 0, 1))
  }
  const part = buf.subarray(512, 512 + ns.blocksize)
  ns.read(0, part, 0, 1)
  ns.free(buf)
  rejects(t, ns, 'ERR_UNVME_FREED_BUFFER', () => ns.aread(0, part, 0, 1))
  rejects(t, ns, 'ERR_UNVME_FREED_BUFFER', () => ns.aread(0, buf, 0, 1))
  rejects(t, ns, 'ERR_UNVME_FREED_BUFFER', () => ns.free(buf))
  rejects(t, ns, 'ERR_UNVME_NOT_DMA_MEMORY', () => ns.free(Buffer.alloc(10)))
  for (const size of [0, -1, 1.5, Number.NaN, 2 ** 40]) {
    rejects(t, ns, 'ERR_OUT_OF_RANGE', () => ns.alloc(size))
  }
  rejects(t, ns, 'ERR_INVALID_ARG_TYPE', () => ns.alloc('4k' as never))
})

/** Writes through a view that has ended: to nobody's pages, or not at all where this Node can detach it. */
function poke(view: Uint8Array, value: number): void {
  if (view.length > 0) view.fill(value)
}

deviceTest('a view of freed memory is harmless, and another buffer is not reached through it', async (t) => {
  const ns = await t.context.device.open()
  const buf = ns.alloc(4096)
  const view = new Uint8Array(buf.buffer, buf.byteOffset, buf.length)
  view.fill(1)
  ns.free(buf)
  const other = ns.alloc(4096)
  t.true(other.every((byte) => byte === 0))
  poke(view, 2)
  t.true(other.every((byte) => byte === 0))
  ns.free(other)
})

deviceTest('queues and descriptors that do not exist', async (t) => {
  const ns = await t.context.device.open()
  const buf = ns.alloc(ns.blocksize)
  for (const qid of [1, -1, 0.5, 99, '0x', undefined]) {
    rejects(t, ns, 'ERR_UNVME_NO_SUCH_QUEUE', () => ns.aread(qid as number, buf, 0, 1))
  }
  const iod = ns.aread(0, buf, 0, 1)
  while (!ns.apoll(iod, 10));
  rejects(t, ns, 'ERR_UNVME_DESCRIPTOR', () => ns.apoll(iod))
  rejects(t, ns, 'ERR_UNVME_DESCRIPTOR', () => ns.apoll({} as IoDescriptor))
  rejects(t, ns, 'ERR_UNVME_DESCRIPTOR', () => ns.apoll(undefined as never))
  ns.free(buf)
})

deviceTest('a full queue says so, and takes commands again after a poll', async (t) => {
  const ns = await t.context.device.open({ qsize: 4 })
  const buf = ns.alloc(ns.blocksize)
  const iods = [0, 1, 2].map((slba) => ns.aread(0, buf, slba, 1))
  t.throws(() => ns.aread(0, buf, 3, 1), { code: 'ERR_UNVME_QUEUE_FULL' })
  while (!ns.apoll(iods[0]!, 10));
  const last = ns.aread(0, buf, 3, 1)
  for (const iod of [...iods.slice(1), last]) while (!ns.apoll(iod, 10));
  // The scheduler waits for room instead.
  await Promise.all(Array.from({ length: 20 }, (_, i) => ns.promises.read(Buffer.alloc(ns.blocksize), i)))
  t.is(ns.stats.inFlight, 0)
  ns.free(buf)
})

deviceTest('memory of a command in flight is not freed', async (t) => {
  const ns = await t.context.device.open()
  const buf = ns.alloc(ns.blocksize)
  const iod = ns.aread(0, buf, 0, 1)
  t.throws(() => ns.free(buf), { code: 'ERR_UNVME_BUFFER_IN_USE' })
  while (!ns.apoll(iod, 10));
  t.notThrows(() => ns.free(buf))
})

deviceTest('calls on a closed namespace', async (t) => {
  const ns = await t.context.device.open()
  const buf = ns.alloc(ns.blocksize)
  const kept = new Uint8Array(buf.buffer, buf.byteOffset, buf.length)
  await ns.close()
  await ns.close()
  t.true(ns.closed)
  for (const call of [
    () => ns.aread(0, buf, 0, 1),
    () => ns.alloc(1),
    () => ns.flush(0),
    () => ns.createReadStream(),
    () => ns.createWriteStream(),
    () => ns.blocks(),
    () => ns.admin({ opcode: 6 }),
  ]) {
    t.throws(call, { code: 'ERR_UNVME_CLOSED' })
  }
  await t.throwsAsync(ns.promises.read(Buffer.alloc(ns.blocksize), 0), { code: 'ERR_UNVME_CLOSED' })
  poke(kept, 1)
  t.pass('memory of a closed device can be touched')
})

deviceTest('options that can not be', async (t) => {
  const { address } = t.context.device
  for (const options of [
    { qcount: -1 },
    { qcount: 1.5 },
    { qsize: 1 },
    { qsize: 2 ** 20 },
    { qcount: 60000 },
    { timeout: 0 },
  ]) {
    await t.throwsAsync(open(address, options), { code: 'ERR_OUT_OF_RANGE' }, JSON.stringify(options))
  }
  await t.throwsAsync(open(address, { qcount: '2' as never }), { code: 'ERR_INVALID_ARG_TYPE' })
  await t.throwsAsync(open(address, { nsid: 77 }), {
    code: 'ERR_UNVME_ADDRESS',
    message: /active: |names namespace/,
  })
  const ns = await t.context.device.open()
  for (const options of [{ depth: 0 }, { depth: 1.5 }, { chunk: 0 }, { chunk: -1 }]) {
    rejects(t, ns, 'ERR_OUT_OF_RANGE', () => ns.blocks(options))
  }
  rejects(t, ns, 'ERR_OUT_OF_RANGE', () => ns.createReadStream({ highWaterMark: 100 }))
  rejects(t, ns, 'ERR_UNVME_NO_SUCH_QUEUE', () => ns.createReadStream({ qid: 5 }))
  rejects(t, ns, 'ERR_INVALID_ARG_TYPE', () => ns.blocks({ signal: {} as never }))
})
