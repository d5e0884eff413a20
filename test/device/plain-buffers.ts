// ns.promises with buffers that are no DMA memory, of every kind: what is beside them stays as it is, and nothing of a
// device touches one whose call has ended.

import { deviceTest } from '../support/device-suite.ts'
import { pattern } from '../support/pattern.ts'

// Node has it, its types don't.
const Resizable = ArrayBuffer as new (bytes: number, options: { maxByteLength: number }) => ArrayBuffer

// Others write beside them.
const POOLED = 'of the pool of Buffers, where it is small'

/** What a `bytes` long buffer may be, each in memory that is longer where it can be. */
const KINDS: Readonly<Record<string, (bytes: number) => Uint8Array>> = {
  'of its own': (bytes) => Buffer.alloc(bytes),
  [POOLED]: (bytes) => Buffer.allocUnsafe(bytes),
  'at an odd offset': (bytes) => Buffer.alloc(bytes + 8).subarray(3, 3 + bytes),
  'a Uint8Array at an even one': (bytes) => new Uint8Array(new ArrayBuffer(bytes + 8), 6, bytes),
  'shared with other threads': (bytes) => Buffer.from(new SharedArrayBuffer(bytes + 8), 4, bytes),
  'of a class of its own': (bytes) => new (class extends Uint8Array {})(bytes),
  resizable: (bytes) => new Uint8Array(new Resizable(bytes, { maxByteLength: 2 * bytes })),
}

const around = ({ buffer, byteOffset, length }: Uint8Array) => {
  const all = Buffer.from(buffer as ArrayBuffer)
  return Buffer.concat([all.subarray(0, byteOffset), all.subarray(byteOffset + length)])
}

deviceTest('plain buffers of every kind hold what was read, and nothing beside them changes', async (t) => {
  const ns = await t.device.open()
  const { blocksize, maxbpio } = ns
  for (const [i, nlb] of [1, 3, 8, 2 * maxbpio + 1].entries()) {
    const count = Math.min(nlb, Math.floor(2 ** 21 / blocksize) + 1)
    for (const [kind, make] of Object.entries(KINDS)) {
      const data = make(count * blocksize)
      data.set(pattern(data.length, i + 1))
      const before = around(data)
      t.is(await ns.promises.write(data, 5), data, kind)
      const back = make(data.length)
      t.is(await ns.promises.read(back, 5), back, kind)
      t.is(Buffer.compare(back, data), 0, `${kind}, ${count} blocks`)
      if (kind !== POOLED) t.true(around(data).equals(before), `${kind}, ${count} blocks: what is beside it`)
    }
  }
})

deviceTest('a plain buffer that is longer than what is read keeps its rest', async (t) => {
  const ns = await t.device.open()
  const data = pattern(4 * ns.blocksize, 9)
  await ns.promises.write(data, 0)
  const buf = Buffer.alloc(4 * ns.blocksize + 7, 0xee)
  await ns.promises.read(buf, 1, 2)
  t.true(buf.subarray(0, 2 * ns.blocksize).equals(data.subarray(ns.blocksize, 3 * ns.blocksize)))
  t.true(buf.subarray(2 * ns.blocksize).every((byte) => byte === 0xee))
  await ns.promises.write(buf, 2, 1)
  t.true((await ns.promises.read(Buffer.alloc(ns.blocksize), 3)).equals(data.subarray(3 * ns.blocksize)))
})

deviceTest(
  'as many calls as wait for space, of several lengths in one memory, are not mixed up',
  async (t) => {
    const ns = await t.device.open({ qsize: 16 })
    const { blocksize } = ns
    const lengths = Array.from({ length: 60 }, (_, i) => 1 + (i % 9))
    const all = Buffer.alloc(lengths.reduce((sum, nlb) => sum + nlb) * blocksize + 1)
    let at = 0
    const calls = lengths.map((nlb) => {
      const call = { nlb, slba: at / blocksize, buf: all.subarray(at + 1, at + 1 + nlb * blocksize) }
      at += nlb * blocksize
      return call
    })
    const data = pattern(at, 4)
    data.copy(all, 1)
    await Promise.all(calls.map(({ buf, slba }) => ns.promises.write(buf, slba)))
    all.fill(0)
    await Promise.all(calls.map(({ buf, slba }) => ns.promises.read(buf, slba)))
    t.true(all.subarray(1).equals(data))
    t.is(all[0], 0)
    // One buffer in several calls.
    const same = Buffer.alloc(blocksize)
    await Promise.all(calls.map(() => ns.promises.read(same, 7)))
    t.true(same.equals(data.subarray(7 * blocksize, 8 * blocksize)))
  },
)

deviceTest(
  'a plain buffer that is transferred with a call in flight ends that call alone, and its memory stays as it is',
  async (t) => {
    const ns = await t.device.open()
    const data = pattern(64 * ns.blocksize, 2)
    await ns.promises.write(data, 0)
    // The last is more than what is copied at a time.
    const most = (4 * 2 ** 20) / ns.blocksize
    for (const nlb of [1, 64, most]) {
      const buf = Buffer.from(new ArrayBuffer(nlb * ns.blocksize)).fill(0xee)
      const read = ns.promises.read(buf, 0)
      const other = ns.promises.read(Buffer.alloc(nlb * ns.blocksize), 0)
      const taken = Buffer.from(structuredClone(buf.buffer, { transfer: [buf.buffer as ArrayBuffer] }))
      const error = await t.throwsAsync(read, { code: 'ERR_UNVME_FREED_BUFFER' })
      t.regex(error!.message, /^Read: the buffer was taken away/)
      const length = Math.min(nlb, 64) * ns.blocksize
      t.true((await other).subarray(0, length).equals(data.subarray(0, length)))
      t.true(taken.every((byte) => byte === 0xee))
    }
    // What was in time is written, and what was not is an error: in either case nothing else is.
    const buf = Buffer.from(new ArrayBuffer(ns.blocksize)).fill(0xdd)
    const write = ns.promises.write(buf, 3)
    structuredClone(buf.buffer, { transfer: [buf.buffer as ArrayBuffer] })
    await write.catch(({ code }) => t.is(code, 'ERR_UNVME_FREED_BUFFER'))
    const long = Buffer.from(new ArrayBuffer(most * ns.blocksize)).fill(0xdd)
    const rejected = t.throwsAsync(ns.promises.write(long, 3), { code: 'ERR_UNVME_FREED_BUFFER' })
    structuredClone(long.buffer, { transfer: [long.buffer as ArrayBuffer] })
    await rejected
    t.true(
      (await ns.promises.read(Buffer.alloc(3 * ns.blocksize), 0)).equals(data.subarray(0, 3 * ns.blocksize)),
    )
  },
)

deviceTest(
  'a plain buffer that grows with a call in flight is filled with the blocks, and shows no other data',
  async (t) => {
    const ns = await t.device.open()
    const { blocksize } = ns
    const data = pattern(8 * blocksize, 6)
    // Its data stays in the memory that the next calls get.
    await ns.promises.write(data, 0)
    await ns.promises.read(Buffer.alloc(8 * blocksize), 0)
    const memory = new Resizable(blocksize, { maxByteLength: 8 * blocksize }) as ArrayBuffer & {
      resize(bytes: number): void
    }
    const buf = new Uint8Array(memory)
    const read = ns.promises.read(buf, 3)
    memory.resize(8 * blocksize)
    await read
    t.is(Buffer.compare(buf.subarray(0, blocksize), data.subarray(3 * blocksize, 4 * blocksize)), 0)
    t.true(buf.subarray(blocksize).every((byte) => byte === 0))
    // As many as wait for memory.
    const growing = Array.from({ length: 200 }, () => {
      const memory = new Resizable(blocksize, { maxByteLength: 2 * blocksize }) as ArrayBuffer & {
        resize(bytes: number): void
      }
      return { memory, buf: new Uint8Array(memory).fill(0x11) }
    })
    const fill = ns.promises.write(Buffer.alloc(4 * 2 ** 20), 8)
    const writes = growing.map(({ buf }) => ns.promises.write(buf, 7))
    for (const { memory } of growing) memory.resize(2 * blocksize)
    await Promise.all([fill, ...writes])
    t.true((await ns.promises.read(Buffer.alloc(blocksize), 7)).every((byte) => byte === 0x11))
  },
)

deviceTest('an aborted call does not touch its plain buffer any more, whenever it was aborted', async (t) => {
  const ns = await t.device.open()
  const nlb = 24
  const bytes = nlb * ns.blocksize
  const data = pattern(bytes, 3)
  for (let turns = 0; turns < 12; turns++) {
    await ns.promises.write(data, 0)
    const buf = Buffer.alloc(bytes)
    const controller = new AbortController()
    const { signal } = controller
    const read = ns.promises.read(buf, 0, nlb, { signal })
    const out = Buffer.from(data)
    const write = ns.promises.write(out, 0, nlb, { signal })
    for (let i = 0; i < turns % 4; i++) await (turns < 6 ? null : new Promise(setImmediate))
    controller.abort()
    const ends = await Promise.allSettled([read, write])
    // They are their caller's again.
    buf.fill(0xee)
    out.fill(0xee)
    while (ns.stats.inFlight > 0) await new Promise(setImmediate)
    for (const end of ends) if (end.status === 'rejected') t.is(end.reason.code, 'ABORT_ERR')
    t.true(buf.every((byte) => byte === 0xee))
    t.true((await ns.promises.read(Buffer.alloc(bytes), 0)).equals(data))
  }
})

deviceTest('nothing is written to a plain buffer after the end of its namespace', async (t) => {
  const ns = await t.device.open()
  const bytes = 16 * ns.blocksize
  const buffers = Array.from({ length: 20 }, () => Buffer.alloc(bytes))
  const reads = buffers.map((buf) =>
    ns.promises.read(buf, 0).then(
      () => null,
      (error) => {
        buf.fill(0xee)
        return error.code
      },
    ),
  )
  await ns.close()
  const codes = await Promise.all(reads)
  t.is(codes.length, buffers.length)
  for (const [i, code] of codes.entries()) {
    if (code === null) continue
    t.is(code, 'ERR_UNVME_CLOSED')
    t.true(buffers[i]!.every((byte) => byte === 0xee))
  }
})
