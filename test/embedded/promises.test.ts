// ns.promises with buffers of any kind and length, and as many calls as there may be.

import { inspect } from 'node:util'
import test from 'ava'
import { type OpenOptions, open, openController } from '../../src/index.ts'
import { pattern } from '../support/pattern.ts'

const CALLS = ['read', 'write', 'compare'] as const
const BOUNCE_BYTES = 128 * 1024
// In all of them.
const MOST_BYTES = 16 * 2 ** 20

test('read, write and compare refuse a buffer that ends within a block, unless nlb says how much is meant', async (t) => {
  await using ns = await open('sim:?size=1M')
  const before = pattern(1024, 3)
  await ns.promises.write(before, 0)
  for (const make of [
    (bytes: number) => Buffer.alloc(bytes, 7),
    (bytes: number) => ns.alloc(bytes).fill(7),
  ]) {
    for (const call of CALLS) {
      for (const bytes of [1, 511, 513, 1023]) {
        await t.throwsAsync(ns.promises[call](make(bytes), 0), {
          code: 'ERR_OUT_OF_RANGE',
          message: new RegExp(`^${call}: buf has ${bytes} bytes, .* 512`),
        })
      }
    }
    const part = make(700)
    t.is(await ns.promises.write(part, 4, 1), part)
  }
  t.deepEqual(await ns.promises.read(Buffer.alloc(1024), 0), before)
  await t.throwsAsync(ns.promises.write(Buffer.alloc(0), 0), { code: 'ERR_OUT_OF_RANGE', message: /0 bytes/ })
})

test('read, write and compare take any Uint8Array, and return it', async (t) => {
  await using ns = await open('sim:?size=4M')
  // Short, and longer than one bounce buffer.
  for (const bytes of [512, 2 ** 19 + 512]) {
    const data = new Uint8Array(pattern(bytes, bytes))
    t.is(await ns.promises.write(data, 3), data)
    t.is(await ns.promises.compare(data, 3), data)
    const back = new Uint8Array(bytes)
    t.is(await ns.promises.read(back, 3), back)
    t.deepEqual(back, data)
  }
  // A view of DMA memory is DMA memory.
  const dma = ns.alloc(1024).fill(9)
  await ns.promises.write(new Uint8Array(dma.buffer, dma.byteOffset + 512, 512), 0)
  t.deepEqual(await ns.promises.read(Buffer.alloc(512), 0), Buffer.alloc(512, 9))
})

for (const [what, bytes, calls] of [
  ['a queue and more', 4096, 600],
  ['more than there may be memory for', BOUNCE_BYTES, 300],
] as const) {
  test(`calls with plain buffers, ${what} at a time, map memory once`, async (t) => {
    await using ns = await open('sim:?size=1M')
    const before = ns.pool.bytes
    const buffers = Array.from({ length: calls }, () => Buffer.alloc(bytes))
    const all = () => Promise.all(buffers.map((buffer) => ns.promises.read(buffer, 0)))
    await all()
    const { bytes: kept } = ns.pool
    let mapped = 0
    const { pool } = ns
    const { alloc } = pool
    pool.alloc = (size) => {
      mapped++
      return alloc.call(pool, size)
    }
    await all()
    t.is(mapped, 0)
    t.is(ns.pool.bytes, kept)
    t.true(kept - before <= MOST_BYTES)
  })
}

test('calls of other lengths use the memory of those before them', async (t) => {
  await using ns = await open('sim:?size=1M')
  const before = ns.pool.bytes
  const all = (bytes: number, calls: number) =>
    Promise.all(Array.from({ length: calls }, () => ns.promises.read(Buffer.alloc(bytes), 0)))
  await all(BOUNCE_BYTES, 300)
  await all(4096, 5000)
  await all(BOUNCE_BYTES / 2, 300)
  t.true(ns.pool.bytes - before <= MOST_BYTES)
})

test('a call that waits for memory ends by its signal, and by the end of its namespace', async (t) => {
  const faults: OpenOptions['faults'] = [{ action: { kind: 'delay', ms: 300 } }]
  const ns = await open('sim:?size=1M', { faults, qsize: 512 })
  const buffer = Buffer.alloc(BOUNCE_BYTES)
  const controller = new AbortController()
  const sent = Array.from({ length: 128 }, () => ns.promises.read(buffer, 0))
  const waiting = ns.promises.read(buffer, 0, undefined, { signal: controller.signal })
  const last = ns.promises.read(buffer, 0)
  const ends = [
    t.throwsAsync(waiting, { code: 'ABORT_ERR' }),
    t.throwsAsync(last, { code: 'ERR_UNVME_CLOSED' }),
    Promise.allSettled(sent),
  ]
  controller.abort()
  await ends[0]
  await ns.close()
  await Promise.all(ends)
})

test('a buffer that is transferred while its call waits for memory ends that call, and nothing is sent', async (t) => {
  const faults: OpenOptions['faults'] = [{ action: { kind: 'delay', ms: 200 } }]
  await using ns = await open('sim:?size=1M', { faults, qsize: 512 })
  const sent = Array.from({ length: 128 }, () => ns.promises.read(Buffer.alloc(BOUNCE_BYTES), 0))
  const calls = (['read', 'write', 'compare'] as const).map((call) => {
    const buf = Buffer.from(new ArrayBuffer(4096))
    const end = ns.promises[call](buf, 0)
    structuredClone(buf.buffer, { transfer: [buf.buffer as ArrayBuffer] })
    return end
  })
  for (const call of calls) await t.throwsAsync(call, { code: 'ERR_UNVME_FREED_BUFFER' })
  await Promise.all(sent)
  t.is(ns.stats.bytesRead, 128 * BOUNCE_BYTES + 4096)
  t.is(ns.stats.bytesWritten, 0)
})

test('the memory of a call without an answer is no other call’s before its command has ended', async (t) => {
  const faults: OpenOptions['faults'] = [{ opcode: 2, slba: 0, action: { kind: 'delay', ms: 1500 } }]
  await using ns = await open('sim:?size=1M', { faults, timeout: 100, recovery: 'none' })
  for (let slba = 0; slba < 64; slba++) await ns.promises.write(pattern(512, slba), slba)
  const late = ns.promises.read(Buffer.alloc(512), 0)
  await t.throwsAsync(late, { code: 'ERR_UNVME_TIMEOUT' })
  const held = ns.pool.bytes
  let others = 0
  let most = 0
  while (ns.stats.late === 0) {
    const slba = 1 + (others++ % 63)
    t.deepEqual(await ns.promises.read(Buffer.alloc(512), slba), pattern(512, slba))
    most = Math.max(most, ns.pool.bytes)
  }
  t.true(others > 0)
  t.is(most, held + 4096, 'they had memory of their own')
  t.is(ns.pool.bytes, held, 'and then it is the pool’s again')
})

test('a long call with a plain buffer rejects with the first failure of its range', async (t) => {
  const faults: OpenOptions['faults'] = [
    { opcode: 2, slba: 700, action: { kind: 'status', status: 0x281 } },
    { opcode: 2, slba: 300, action: { kind: 'status', status: 0x281 } },
  ]
  await using ns = await open('sim:?size=1M', { faults })
  await t.throwsAsync(ns.promises.read(Buffer.alloc(2 ** 19), 0), { message: /slba 256, nlb 256/ })
  t.is(ns.stats.inFlight, 0)
})

test('messages show a value in a line, and no number that was not given', async (t) => {
  await using ns = await open('sim:?size=1M')
  const buf = ns.alloc(2 ** 20)
  const text = 'x'.repeat(2 ** 20)
  const bad = (value: unknown) => value as never
  const calls: (() => unknown)[] = [
    () => ns.read(bad(buf), bad(0), 1, bad(undefined)),
    () => ns.aread(bad(text), buf, 0, 1),
    () => ns.promises.read(buf, bad(buf)),
    () => ns.promises.read(bad(text), 0),
    () => ns.promises.flush({ qid: bad(buf) }),
    () => ns.promises.cmd(bad(text)),
    () => ns.promises.cmd({ opcode: bad(buf) }),
    () => ns.promises.cmd({ opcode: 0, buf: bad(text) }),
    () => ns.admin({ opcode: 6, cdw10: bad(text) }),
    () => ns.deallocate(0, bad(buf)),
    () => ns.openNamespace(bad(buf)),
    () => open(text),
    () => open(bad(buf)),
    () => open('sim:', { faults: [bad(buf)] }),
    () => ns.promises.read(buf, 4000),
    () => ns.createReadStream({ slba: 4000 }),
    () => ns.blocks({ slba: 4000 }),
    () => ns.promises.verify(4000, 1),
  ]
  for (const call of calls) {
    const error = await t.throwsAsync(async () => call(), undefined, `${call}`)
    t.true(error!.message.length < 250, error!.message.slice(0, 250))
    t.notRegex(error!.message, /-\d/)
  }
})

test('options that are undefined count as absent', async (t) => {
  await using ns = await open('sim:?size=1M')
  const options = { qid: undefined, signal: undefined }
  await ns.promises.read(Buffer.alloc(512), 0, undefined, options)
  await ns.promises.flush(options)
  await ns.promises.cmd({ opcode: 0, nsid: undefined, buf: undefined, cdw10: undefined }, options)
  await ns.admin({ opcode: 6, data: Buffer.alloc(4096), cdw10: 1, timeout: undefined }, { signal: undefined })
  t.is((await ns.controller.identify(0, { nsid: 1, cdw11: undefined })).length, 4096)
})

test('JSON.stringify of what is public gives what a console shows', async (t) => {
  await using ns = await open('sim:?size=1M')
  await using handle = await openController('sim:?size=1M')
  await using blocks = ns.blocks()
  await blocks.next()
  await ns.promises.read(Buffer.alloc(512), 0)
  const iod = ns.aflush(0)
  const { device, id, mn, sn, blockcount, blocksize, qcount, qsize } = ns
  const json = (object: unknown) => JSON.parse(JSON.stringify(object))
  t.deepEqual(json(ns), { device, id, mn, sn, blockcount, blocksize, qcount, qsize, closed: false })
  const { fr } = handle.identity
  t.deepEqual(json(handle), {
    address: handle.address,
    ...{ mn: handle.identity.mn, sn: handle.identity.sn, fr },
    closed: false,
  })
  t.deepEqual(json(ns.promises), { device, id })
  t.deepEqual(json(blocks), { device, id, ended: false })
  t.is(json({ ns }).ns.id, id)
  for (const object of [ns.controller, handle.controller, iod]) t.true(JSON.stringify(object).length < 400)
  while (!ns.apoll(iod, 10));
})

test('a command with a property that there is none of is not sent, and the nearest one named', async (t) => {
  await using ns = await open('sim:?size=1M')
  const invalid = (message: RegExp) => ({ code: 'ERR_INVALID_ARG_VALUE', message })
  const admin = (more: object) => ns.admin({ opcode: 6, cdw10: 1, data: Buffer.alloc(4096), ...more })
  await t.throwsAsync(
    admin({ foo: 1 }),
    invalid(/^admin: there is no property 'foo'; there are: opcode, nsid/),
  )
  await t.throwsAsync(admin({ cwd10: 1 }), invalid(/'cwd10'; did you mean 'cdw10'/))
  await t.throwsAsync(admin({ timout: 1 }), invalid(/'timout'; did you mean 'timeout'/))
  const bufr = { opcode: 0, bufr: Buffer.alloc(512) }
  await t.throwsAsync(ns.promises.cmd(bufr), invalid(/^cmd: there is no property 'bufr'; did you mean 'buf'/))
  t.throws(() => ns.acmd(0, bufr), invalid(/^acmd: there is no property 'bufr'; did you mean 'buf'/))
})

test('inspect shows what is public of an object in a few lines', async (t) => {
  await using ns = await open('sim:?size=1M')
  await using handle = await openController('sim:?size=1M')
  await using blocks = ns.blocks()
  const iod = ns.aflush(0)
  for (const [name, object] of [
    ['Namespace', ns],
    ['NamespacePromises', ns.promises],
    ['Controller', ns.controller],
    ['ControllerHandle', handle],
    ['BlockIterator', blocks],
    ['IoDescriptor', iod],
  ] as const) {
    const text = inspect(object)
    t.true(text.startsWith(`${name} {`), text)
    t.true(text.length < 400, text)
    t.true(inspect({ a: { b: { c: { object } } } }, { depth: 2 }).length < 60)
    t.regex(inspect({ a: { b: { object } } }, { depth: 2 }), new RegExp(`object: .?${name}`))
  }
  while (!ns.apoll(iod, 10));
})

test('close ends a long call with a plain buffer, and waits for the pieces in flight', async (t) => {
  const a = await open('sim:?size=16M&latency=1ms')
  await using b = await a.openNamespace(a.id)
  const writing = t.throwsAsync(a.promises.write(Buffer.alloc(16 * 2 ** 20, 1), 0), {
    code: 'ERR_UNVME_CLOSED',
  })
  while (b.stats.writes < 4) await new Promise((resolve) => setImmediate(resolve))
  await a.close()
  const { writes, inFlight } = b.stats
  t.is(inFlight, 0)
  t.true(writes < 128, `${writes} pieces`)
  await writing
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 1))
  t.is(b.stats.writes, writes)
  await t.throwsAsync(a.promises.read(Buffer.alloc(512), 0), { code: 'ERR_UNVME_CLOSED' })
})

test('read with a plain buffer that was aborted does not touch it any more, and its memory comes back', async (t) => {
  const faults: OpenOptions['faults'] = [{ opcode: 2, times: 1, action: { kind: 'delay', ms: 50 } }]
  await using ns = await open('sim:?size=1M', { faults })
  await ns.promises.write(Buffer.alloc(4096, 1), 8)
  const controller = new AbortController()
  const buffer = Buffer.alloc(4096)
  const read = ns.promises.read(buffer, 8, 8, { signal: controller.signal })
  controller.abort()
  await t.throwsAsync(read, { code: 'ABORT_ERR' })
  await t.throwsAsync(ns.promises.read(buffer, 8, 8, { signal: controller.signal }), { code: 'ABORT_ERR' })
  while (ns.stats.inFlight > 0) await ns.promises.flush()
  t.deepEqual(buffer, Buffer.alloc(4096))
  const { bytes } = ns.pool
  t.deepEqual(await ns.promises.read(buffer, 8), Buffer.alloc(4096, 1))
  t.is(ns.pool.bytes, bytes)
})
