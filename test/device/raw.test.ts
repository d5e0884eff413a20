// UNVMe's calls: alloc, free, read, write, aread, awrite, apoll and their kin.

import { formattedLba } from '../../lib/nvme/spec/identify.ts'
import { NvmeError } from '../../src/index.ts'
import { deviceTest, pattern } from '../support/devices.ts'

deviceTest('attributes are consistent with each other', async (t) => {
  const ns = await t.context.device.open({ qsize: 16 })
  t.is(ns.blocksize, 2 ** ns.blockshift)
  t.is(ns.nbpp, Math.max(1, ns.pagesize / ns.blocksize))
  t.is(ns.maxiopq, ns.qsize - 1)
  t.is(ns.qcount, 1)
  t.true(ns.maxqcount >= 1)
  t.true(ns.maxbpio >= 1)
  t.is(ns.maxppio, Math.floor((ns.maxbpio * ns.blocksize) / ns.pagesize))
  t.true(ns.blockcount > 0)
  t.true(ns.mn.length > 0 && ns.sn.length > 0 && ns.fr.length > 0)
  t.is(ns.device, t.context.device.address)
})

deviceTest('what is written is read, at any part of a buffer and any length', async (t) => {
  const ns = await t.context.device.open()
  const { blocksize } = ns
  const size = 4 * ns.maxbpio * blocksize + 8192
  const from = ns.alloc(size)
  const to = ns.alloc(size)
  pattern(size, 7).copy(from)
  for (const [offset, nlb] of [
    [0, 1],
    [512, 1],
    [3584, 2],
    [512, ns.maxbpio],
    [1024, 3 * ns.maxbpio + 1],
  ] as const) {
    const bytes = nlb * blocksize
    ns.write(0, from.subarray(offset, offset + bytes), 5, nlb)
    to.fill(0)
    ns.read(0, to.subarray(offset, offset + bytes), 5, nlb)
    t.true(
      to.subarray(offset, offset + bytes).equals(from.subarray(offset, offset + bytes)),
      `${offset} ${nlb}`,
    )
    t.true(to.subarray(0, offset).every((byte) => byte === 0))
    t.true(to.subarray(offset + bytes).every((byte) => byte === 0))
  }
  ns.free(from)
  ns.free(to)
})

deviceTest('many descriptors in flight, polled in reverse', async (t) => {
  const ns = await t.context.device.open()
  const count = Math.min(ns.maxiopq, 32)
  const buf = ns.alloc(count * ns.blocksize)
  const part = (i: number) => buf.subarray(i * ns.blocksize, (i + 1) * ns.blocksize)
  pattern(buf.length, 3).copy(buf)
  const copy = Buffer.from(buf)
  const writes = Array.from({ length: count }, (_, i) => ns.awrite(0, part(i), i, 1))
  for (const iod of writes.reverse()) while (!ns.apoll(iod, 10));
  buf.fill(0)
  const reads = Array.from({ length: count }, (_, i) => ns.aread(0, part(i), i, 1))
  for (const iod of reads.reverse()) while (!ns.apoll(iod, 10));
  t.true(buf.equals(copy))
  ns.free(buf)
})

deviceTest('a descriptor says what it is', async (t) => {
  const ns = await t.context.device.open()
  const buf = ns.alloc(2 * ns.blocksize)
  const iod = ns.aread(0, buf, 3, 2)
  t.like(iod, { slba: 3, nlb: 2, qid: 0, opc: 2 })
  t.is(iod.buf, buf)
  while (!ns.apoll(iod, 10));
  // Descriptors are reused: nothing of the transfers before is left in one without data.
  for (let i = 0; i < 40; i++) ns.read(0, buf, 3, 2)
  const flush = ns.aflush(0)
  t.like(flush, { slba: 0, nlb: 0, buf: null })
  while (!ns.apoll(flush, 1000));
  if (ns.controller.identity.oncs & 8) {
    const zeroes = ns.awriteZeroes(0, 3, 1)
    t.like(zeroes, { slba: 3, nlb: 1, buf: null })
    while (!ns.apoll(zeroes, 1000));
  }
  ns.free(buf)
})

deviceTest('flush, write zeroes, compare, verify and deallocate', async (t) => {
  const ns = await t.context.device.open()
  const { oncs } = ns.controller.identity
  const n = 8
  const buf = ns.alloc(n * ns.blocksize)
  pattern(buf.length).copy(buf)
  ns.write(0, buf, 16, n)
  ns.flush(0)
  if (oncs & 1) {
    ns.compare(0, buf, 16, n)
    buf[n * ns.blocksize - 1]! ^= 1
    // A transfer longer than MDTS is several commands: the one that fails is named.
    const failing = 16 + Math.floor((n - 1) / ns.maxbpio) * ns.maxbpio
    const error = t.throws<NvmeError>(() => ns.compare(0, buf, 16, n), { instanceOf: NvmeError })
    t.like(error, { code: 'ERR_NVME_STATUS', sct: 2, sc: 0x85, opcode: 5, slba: failing })
    t.is(error.statusName, 'Compare Failure')
  }
  if (oncs & 0x80) ns.verify(0, 16, n)
  if (oncs & 8) {
    ns.writeZeroes(0, 17, 2)
    ns.read(0, buf, 16, n)
    t.true(buf.subarray(ns.blocksize, 3 * ns.blocksize).every((byte) => byte === 0))
    t.false(buf.subarray(3 * ns.blocksize).every((byte) => byte === 0))
  }
  if (oncs & 4) {
    ns.deallocate(0, [
      { slba: 16, nlb: 1 },
      { slba: 20, nlb: 2 },
    ])
    // What is read then is the device's choice: the call alone is checked.
    ns.read(0, buf, 16, n)
  }
  ns.free(buf)
})

deviceTest('pass-through of an I/O and of an admin command', async (t) => {
  const ns = await t.context.device.open()
  const buf = ns.alloc(ns.blocksize)
  pattern(buf.length, 9).copy(buf)
  const copy = Buffer.from(buf)
  const { ms, extended } = formattedLba(await ns.controller.identifyNamespace(ns.id))
  // Where the format has a buffer of its own for it.
  const metadata = ms === 0 || extended ? undefined : ns.alloc(ms)
  if (metadata) pattern(ms, 10).copy(metadata)
  const more = metadata ? { metadata } : {}
  ns.cmd(0, { opcode: 0x01, buf, cdw10: 40, ...more })
  buf.fill(0)
  metadata?.fill(0)
  ns.cmd(0, { opcode: 0x02, buf, cdw10: 40, ...more })
  t.true(buf.equals(copy))
  t.true(metadata === undefined || metadata.equals(pattern(ms, 10)))
  ns.free(buf)
  const data = Buffer.alloc(4096)
  await ns.admin({ opcode: 0x06, cdw10: 1, data })
  t.is(data.readUInt16LE(0), ns.vid)
})

deviceTest('several queues work side by side', async (t) => {
  const ns = await t.context.device.open({ qcount: 0, qsize: 8 })
  t.is(ns.qcount, Math.min(ns.maxqcount, 64))
  const queues = Math.min(ns.qcount, 4)
  const buf = ns.alloc(queues * ns.blocksize)
  const part = (i: number) => buf.subarray(i * ns.blocksize, (i + 1) * ns.blocksize)
  for (let qid = 0; qid < queues; qid++) {
    part(qid).fill(qid + 1)
    ns.write(qid, part(qid), 100 + qid, 1)
  }
  const iods = Array.from({ length: queues }, (_, qid) => ns.aread(qid, part(queues - 1 - qid), 100 + qid, 1))
  for (const iod of iods) while (!ns.apoll(iod, 10));
  for (let qid = 0; qid < queues; qid++) t.true(part(queues - 1 - qid).every((byte) => byte === qid + 1))
  ns.free(buf)
})

deviceTest('the smallest queue, one command in flight, takes a long transfer', async (t) => {
  const ns = await t.context.device.open({ qsize: 2 })
  t.is(ns.maxiopq, 1)
  const buf = ns.alloc(5 * ns.maxbpio * ns.blocksize)
  pattern(buf.length, 5).copy(buf)
  const copy = Buffer.from(buf)
  const nlb = 5 * ns.maxbpio
  ns.write(0, buf, 0, nlb)
  buf.fill(0)
  ns.read(0, buf, 0, nlb)
  t.true(buf.equals(copy))
  ns.free(buf)
})

deviceTest('stats count commands and bytes', async (t) => {
  const ns = await t.context.device.open()
  const buf = ns.alloc(ns.blocksize)
  const before = ns.stats
  for (let i = 0; i < 10; i++) ns.write(0, buf, i, 1)
  for (let i = 0; i < 5; i++) ns.read(0, buf, i, 1)
  const after = ns.stats
  t.is(after.commands - before.commands, 15)
  t.is(after.writes - before.writes, 10)
  t.is(after.bytesRead - before.bytesRead, 5 * ns.blocksize)
  t.is(after.bytesWritten - before.bytesWritten, 10 * ns.blocksize)
  t.is(after.failed, before.failed)
  t.is(after.inFlight, 0)
  ns.free(buf)
})
