// UNVMe's calls: alloc, free, read, write, aread, awrite, apoll and their kin.

import { formattedLba } from '../../lib/nvme/spec/identify.ts'
import { type Namespace, NvmeError } from '../../src/index.ts'
import { done, now } from '../support/calls.ts'
import { deviceTest } from '../support/device-suite.ts'
import { pattern } from '../support/pattern.ts'

deviceTest('attributes are consistent with each other', async (t) => {
  const ns = await t.device.open({ qsize: 16 })
  t.is(ns.blocksize, 2 ** ns.blockshift)
  t.is(ns.nbpp, Math.max(1, ns.pagesize / ns.blocksize))
  t.is(ns.maxiopq, ns.qsize - 1)
  t.is(ns.qcount, 1)
  t.true(ns.maxqcount >= 1)
  t.true(ns.maxbpio >= 1)
  t.is(ns.maxppio, Math.floor((ns.maxbpio * ns.blocksize) / ns.pagesize))
  t.true(ns.blockcount > 0)
  t.true(ns.mn.length > 0 && ns.sn.length > 0 && ns.fr.length > 0)
  t.is(ns.device, t.device.address)
})

deviceTest('what is written is read, at any part of a buffer and any length', async (t) => {
  const ns = await t.device.open()
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
    await now(ns).write(0, from.subarray(offset, offset + bytes), 5, nlb)
    to.fill(0)
    await now(ns).read(0, to.subarray(offset, offset + bytes), 5, nlb)
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
  const ns = await t.device.open()
  const count = Math.min(ns.maxiopq, 32)
  const buf = ns.alloc(count * ns.blocksize)
  const part = (i: number) => buf.subarray(i * ns.blocksize, (i + 1) * ns.blocksize)
  pattern(buf.length, 3).copy(buf)
  const copy = Buffer.from(buf)
  const writes = Array.from({ length: count }, (_, i) => ns.awrite(0, part(i), i, 1))
  for (const iod of writes.reverse()) await done(ns, iod)
  buf.fill(0)
  const reads = Array.from({ length: count }, (_, i) => ns.aread(0, part(i), i, 1))
  for (const iod of reads.reverse()) await done(ns, iod)
  t.true(buf.equals(copy))
  ns.free(buf)
})

deviceTest('a descriptor says what it is', async (t) => {
  const ns = await t.device.open()
  const buf = ns.alloc(2 * ns.blocksize)
  const iod = ns.aread(0, buf, 3, 2)
  t.like(iod, { slba: 3, nlb: 2, qid: 0, opc: 2 })
  t.is(iod.buf, buf)
  await done(ns, iod)
  // Descriptors are reused: nothing of the transfers before is left in one without data.
  for (let i = 0; i < 40; i++) await now(ns).read(0, buf, 3, 2)
  const flush = ns.aflush(0)
  t.like(flush, { slba: 0, nlb: 0, buf: null })
  await done(ns, flush)
  ns.free(buf)
})

/** A few blocks with a pattern, written to LBA 16 and after it, and the memory that they were written from. */
async function writePattern(ns: Namespace, nlb: number): Promise<Buffer> {
  const buf = ns.alloc(nlb * ns.blocksize)
  pattern(buf.length).copy(buf)
  await now(ns).write(0, buf, 16, nlb)
  return buf
}

deviceTest('flush after a write', async (t) => {
  const ns = await t.device.open()
  const buf = await writePattern(ns, 8)
  await now(ns).flush(0)
  t.is(ns.stats.failed, 0)
  ns.free(buf)
})

deviceTest('compare names the command that fails', { needs: ['compare'] }, async (t) => {
  const ns = await t.device.open()
  const n = 8
  const buf = await writePattern(ns, n)
  await now(ns).compare(0, buf, 16, n)
  buf[n * ns.blocksize - 1]! ^= 1
  // A transfer longer than MDTS is several commands.
  const failing = 16 + Math.floor((n - 1) / ns.maxbpio) * ns.maxbpio
  const error = await t.throwsAsync<NvmeError>(async () => now(ns).compare(0, buf, 16, n), {
    instanceOf: NvmeError,
  })
  t.like(error, { code: 'ERR_NVME_STATUS', sct: 2, sc: 0x85, opcode: 5, slba: failing })
  t.is(error.statusName, 'Compare Failure')
  ns.free(buf)
})

deviceTest('verify of blocks that were written', { needs: ['verify'] }, async (t) => {
  const ns = await t.device.open()
  const buf = await writePattern(ns, 8)
  await now(ns).verify(0, 16, 8)
  t.is(ns.stats.failed, 0)
  ns.free(buf)
})

deviceTest('write zeroes clears its range and no more', { needs: ['writeZeroes'] }, async (t) => {
  const ns = await t.device.open()
  const buf = await writePattern(ns, 8)
  await now(ns).writeZeroes(0, 17, 2)
  await now(ns).read(0, buf, 16, 8)
  t.true(buf.subarray(ns.blocksize, 3 * ns.blocksize).every((byte) => byte === 0))
  t.false(buf.subarray(3 * ns.blocksize).every((byte) => byte === 0))
  const zeroes = ns.awriteZeroes(0, 3, 1)
  t.like(zeroes, { slba: 3, nlb: 1, buf: null })
  await done(ns, zeroes)
  ns.free(buf)
})

deviceTest('deallocate of several ranges', { needs: ['deallocate'] }, async (t) => {
  const ns = await t.device.open()
  const buf = await writePattern(ns, 8)
  await now(ns).deallocate(0, [
    { slba: 16, nlb: 1 },
    { slba: 20, nlb: 2 },
  ])
  // What is read then is the device's choice: the call alone is checked.
  await now(ns).read(0, buf, 16, 8)
  t.is(ns.stats.failed, 0)
  ns.free(buf)
})

deviceTest('pass-through of an I/O and of an admin command', async (t) => {
  const ns = await t.device.open()
  const buf = ns.alloc(ns.blocksize)
  pattern(buf.length, 9).copy(buf)
  const copy = Buffer.from(buf)
  const { ms, extended } = formattedLba(await ns.controller.identifyNamespace(ns.id))
  // Where the format has a buffer of its own for it.
  const metadata = ms === 0 || extended ? undefined : ns.alloc(ms)
  if (metadata) pattern(ms, 10).copy(metadata)
  const more = metadata ? { metadata } : {}
  await now(ns).cmd(0, { opcode: 0x01, buf, cdw10: 40, ...more })
  buf.fill(0)
  metadata?.fill(0)
  await now(ns).cmd(0, { opcode: 0x02, buf, cdw10: 40, ...more })
  t.true(buf.equals(copy))
  t.true(metadata === undefined || metadata.equals(pattern(ms, 10)))
  ns.free(buf)
  const data = Buffer.alloc(4096)
  await ns.admin({ opcode: 0x06, cdw10: 1, data })
  t.is(data.readUInt16LE(0), ns.vid)
})

deviceTest('several queues work side by side', async (t) => {
  const ns = await t.device.open({ qcount: 0, qsize: 8 })
  t.is(ns.qcount, Math.min(ns.maxqcount, 64))
  const queues = Math.min(ns.qcount, 4)
  const buf = ns.alloc(queues * ns.blocksize)
  const part = (i: number) => buf.subarray(i * ns.blocksize, (i + 1) * ns.blocksize)
  for (let qid = 0; qid < queues; qid++) {
    part(qid).fill(qid + 1)
    await now(ns).write(qid, part(qid), 100 + qid, 1)
  }
  const iods = Array.from({ length: queues }, (_, qid) => ns.aread(qid, part(queues - 1 - qid), 100 + qid, 1))
  for (const iod of iods) await done(ns, iod)
  for (let qid = 0; qid < queues; qid++) t.true(part(queues - 1 - qid).every((byte) => byte === qid + 1))
  ns.free(buf)
})

deviceTest('the smallest queue, one command in flight, takes a long transfer', async (t) => {
  const ns = await t.device.open({ qsize: 2 })
  t.is(ns.maxiopq, 1)
  const buf = ns.alloc(5 * ns.maxbpio * ns.blocksize)
  pattern(buf.length, 5).copy(buf)
  const copy = Buffer.from(buf)
  const nlb = 5 * ns.maxbpio
  await now(ns).write(0, buf, 0, nlb)
  buf.fill(0)
  await now(ns).read(0, buf, 0, nlb)
  t.true(buf.equals(copy))
  ns.free(buf)
})

deviceTest('stats count commands and bytes', async (t) => {
  const ns = await t.device.open()
  const buf = ns.alloc(ns.blocksize)
  const before = ns.stats
  for (let i = 0; i < 10; i++) await now(ns).write(0, buf, i, 1)
  for (let i = 0; i < 5; i++) await now(ns).read(0, buf, i, 1)
  const after = ns.stats
  t.is(after.commands - before.commands, 15)
  t.is(after.writes - before.writes, 10)
  t.is(after.bytesRead - before.bytesRead, 5 * ns.blocksize)
  t.is(after.bytesWritten - before.bytesWritten, 10 * ns.blocksize)
  t.is(after.failed, before.failed)
  t.is(after.inFlight, 0)
  ns.free(buf)
})
