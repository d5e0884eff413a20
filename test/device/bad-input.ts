// What bad input gets: a typed error that names the call and the value, before anything is sent; and the device
// works after it.

import { type IoDescriptor, type Namespace, open } from '../../src/index.ts'
import { blocks, done, now } from '../support/calls.ts'
import { type DeviceContext, deviceTest } from '../support/device-suite.ts'
import { pattern } from '../support/pattern.ts'

/** The call throws an error with this code, and sends nothing. */
function rejects(t: DeviceContext, ns: Namespace, code: string, call: () => unknown, message?: RegExp) {
  const { commands } = ns.stats
  t.throws(call, { code, ...(message && { message }) }, code)
  t.is(ns.stats.commands, commands, 'nothing was sent')
}

deviceTest('ranges that the namespace does not have', async (t) => {
  const ns = await t.device.open()
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
    rejects(t, ns, 'ERR_OUT_OF_RANGE', () => ns.awriteZeroes(0, slba, nlb))
    await t.throwsAsync(ns.promises.verify(slba, nlb), { code: 'ERR_OUT_OF_RANGE' })
    await t.throwsAsync(ns.writeBlocks([], { slba, nlb }), { code: 'ERR_OUT_OF_RANGE' })
  }
  await t.throwsAsync(ns.promises.read(Buffer.alloc(ns.blocksize), blockcount), { code: 'ERR_OUT_OF_RANGE' })
  await t.throwsAsync(ns.promises.read(Buffer.alloc(1), 0), { code: 'ERR_OUT_OF_RANGE' })
  rejects(t, ns, 'ERR_INVALID_ARG_TYPE', () => ns.aread(0, buf, '1' as never, 1))
  await now(ns).read(0, buf, 0, 1)
  ns.free(buf)
})

deviceTest('buffers that are no DMA memory, misaligned, freed or too short', async (t) => {
  const ns = await t.device.open()
  const buf = ns.alloc(8192 + 4 * ns.blocksize)
  rejects(t, ns, 'ERR_UNVME_NOT_DMA_MEMORY', () => ns.aread(0, Buffer.alloc(ns.blocksize), 0, 1), /^aread: /)
  rejects(t, ns, 'ERR_UNVME_ALIGNMENT', () => ns.aread(0, buf.subarray(4), 0, 1), /offset 4\b/)
  rejects(t, ns, 'ERR_UNVME_ALIGNMENT', () => ns.aread(0, buf.subarray(100), 0, 1))
  rejects(t, ns, 'ERR_OUT_OF_RANGE', () => ns.aread(0, buf.subarray(0, ns.blocksize - 1), 0, 1))
  const view = new Uint8Array(buf.buffer, buf.byteOffset, buf.length)
  rejects(t, ns, 'ERR_INVALID_ARG_TYPE', () => ns.aread(0, view as never, 0, 1))
  for (const value of [undefined, null, 7, 'x', {}, new ArrayBuffer(8192)]) {
    rejects(t, ns, 'ERR_INVALID_ARG_TYPE', () => ns.aread(0, value as never, 0, 1))
    await t.throwsAsync(ns.promises.read(value as never, 0), { code: 'ERR_INVALID_ARG_TYPE' })
    await t.throwsAsync(ns.promises.write(value as never, 0), { code: 'ERR_INVALID_ARG_TYPE' })
  }
  const part = buf.subarray(512, 512 + ns.blocksize)
  await now(ns).read(0, part, 0, 1)
  rejects(t, ns, 'ERR_OUT_OF_RANGE', () => ns.free(part), /^free: .* offset 512/)
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
  const ns = await t.device.open()
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
  const ns = await t.device.open()
  const buf = ns.alloc(ns.blocksize)
  for (const qid of [1, -1, 0.5, 99, '0x', undefined]) {
    rejects(t, ns, 'ERR_UNVME_NO_SUCH_QUEUE', () => ns.aread(qid as number, buf, 0, 1))
  }
  const iod = ns.aread(0, buf, 0, 1)
  await done(ns, iod)
  rejects(t, ns, 'ERR_UNVME_DESCRIPTOR', () => ns.apoll(iod))
  rejects(t, ns, 'ERR_UNVME_DESCRIPTOR', () => ns.apoll({} as IoDescriptor))
  rejects(t, ns, 'ERR_UNVME_DESCRIPTOR', () => ns.apoll(undefined as never))
  ns.free(buf)
})

deviceTest('a full queue says so, and takes commands again after a poll', async (t) => {
  const ns = await t.device.open({ qsize: 4 })
  const buf = ns.alloc(ns.blocksize)
  const iods = [0, 1, 2].map((slba) => ns.aread(0, buf, slba, 1))
  t.throws(() => ns.aread(0, buf, 3, 1), { code: 'ERR_UNVME_QUEUE_FULL' })
  await done(ns, iods[0]!)
  const last = ns.aread(0, buf, 3, 1)
  for (const iod of [...iods.slice(1), last]) await done(ns, iod)
  // The scheduler waits for room instead.
  await Promise.all(Array.from({ length: 20 }, (_, i) => ns.promises.read(Buffer.alloc(ns.blocksize), i)))
  t.is(ns.stats.inFlight, 0)
  ns.free(buf)
})

deviceTest('memory of a command in flight is not freed', async (t) => {
  const ns = await t.device.open()
  const buf = ns.alloc(ns.blocksize)
  const iod = ns.aread(0, buf, 0, 1)
  t.throws(() => ns.free(buf), { code: 'ERR_UNVME_BUFFER_IN_USE' })
  await done(ns, iod)
  ns.free(buf)
})

deviceTest('calls on a closed namespace', async (t) => {
  const ns = await t.device.open()
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
  ]) {
    t.throws(call, { code: 'ERR_UNVME_CLOSED' })
  }
  await t.throwsAsync(ns.promises.read(Buffer.alloc(ns.blocksize), 0), { code: 'ERR_UNVME_CLOSED' })
  await t.throwsAsync(ns.admin({ opcode: 6 }), { code: 'ERR_UNVME_CLOSED' })
  // Memory of a closed device can be touched.
  poke(kept, 1)
})

deviceTest('options that can not be', async (t) => {
  const { address } = t.device
  for (const options of [
    { qcount: -1 },
    { qcount: 1.5 },
    { qsize: 1 },
    { qsize: 2 ** 20 },
    { qcount: 60000 },
    { timeout: 0 },
    { maxTransferBytes: 4095 },
    { maxTransferBytes: 2 ** 20 + 1 },
  ]) {
    await t.throwsAsync(open(address, options), { code: 'ERR_OUT_OF_RANGE' }, JSON.stringify(options))
  }
  await t.throwsAsync(open(address, { qcount: '2' as never }), { code: 'ERR_INVALID_ARG_TYPE' })
  await t.throwsAsync(open(address, { nsid: 77 }), {
    code: 'ERR_UNVME_ADDRESS',
    message: /active: |names namespace/,
  })
  const ns = await t.device.open()
  for (const options of [{ depth: 0 }, { depth: 1.5 }, { chunk: 0 }, { chunk: -1 }]) {
    rejects(t, ns, 'ERR_OUT_OF_RANGE', () => ns.blocks(options))
  }
  rejects(t, ns, 'ERR_OUT_OF_RANGE', () => ns.createReadStream({ highWaterMark: 100 }))
  rejects(t, ns, 'ERR_UNVME_NO_SUCH_QUEUE', () => ns.createReadStream({ qid: 5 }))
  rejects(t, ns, 'ERR_INVALID_ARG_TYPE', () => ns.blocks({ signal: {} as never }))
})

type Arguments = readonly [buf: Buffer, slba: number, nlb: number, qid: number]
type Call = (ns: Namespace, ...given: Arguments) => unknown

type RangeCall = readonly [name: string, takesBuffer: boolean, call: Call]

/** Every call that takes a range of LBAs and a queue, by the name that its errors have: those that block first. */
const BLOCKING_CALLS: readonly RangeCall[] = [
  ['read', true, (ns, buf, slba, nlb, qid) => ns.read(qid, buf, slba, nlb)],
  ['write', true, (ns, buf, slba, nlb, qid) => ns.write(qid, buf, slba, nlb)],
  ['compare', true, (ns, buf, slba, nlb, qid) => ns.compare(qid, buf, slba, nlb)],
  ['writeZeroes', false, (ns, _, slba, nlb, qid) => ns.writeZeroes(qid, slba, nlb)],
  ['verify', false, (ns, _, slba, nlb, qid) => ns.verify(qid, slba, nlb)],
]

const RANGE_CALLS: readonly RangeCall[] = [
  ['aread', true, (ns, buf, slba, nlb, qid) => ns.aread(qid, buf, slba, nlb)],
  ['awrite', true, (ns, buf, slba, nlb, qid) => ns.awrite(qid, buf, slba, nlb)],
  ['acompare', true, (ns, buf, slba, nlb, qid) => ns.acompare(qid, buf, slba, nlb)],
  ['awriteZeroes', false, (ns, _, slba, nlb, qid) => ns.awriteZeroes(qid, slba, nlb)],
  ['averify', false, (ns, _, slba, nlb, qid) => ns.averify(qid, slba, nlb)],
  ['createReadStream', false, (ns, _, slba, nlb, qid) => ns.createReadStream({ slba, nlb, qid })],
  ['createWriteStream', false, (ns, _, slba, nlb, qid) => ns.createWriteStream({ slba, nlb, qid })],
  ['blocks', false, (ns, _, slba, nlb, qid) => ns.blocks({ slba, nlb, qid })],
  ['writeBlocks', false, (ns, _, slba, nlb, qid) => ns.writeBlocks([], { slba, nlb, qid })],
  ['read', false, (ns, buf, slba, nlb, qid) => ns.promises.read(buf, slba, nlb, { qid })],
  ['write', false, (ns, buf, slba, nlb, qid) => ns.promises.write(buf, slba, nlb, { qid })],
  ['compare', false, (ns, buf, slba, nlb, qid) => ns.promises.compare(buf, slba, nlb, { qid })],
  ['verify', false, (ns, _, slba, nlb, qid) => ns.promises.verify(slba, nlb, { qid })],
  ['writeZeroes', false, (ns, _, slba, nlb, qid) => ns.promises.writeZeroes(slba, nlb, { qid })],
]

deviceTest('every call names itself and the value that it can not take, and sends nothing', async (t) => {
  const ns = await t.device.open()
  const buf = ns.alloc(2 * ns.blocksize)
  const content = pattern(buf.length, 3)
  await ns.promises.write(content, 0)
  const last = ns.blockcount
  const freed = ns.alloc(ns.blocksize)
  ns.free(freed)
  const { commands } = ns.stats
  const calls = blocks(ns) ? [...BLOCKING_CALLS, ...RANGE_CALLS] : RANGE_CALLS
  for (const [name, takesBuffer, call] of calls) {
    const bad: readonly [code: string, value: unknown, given: Arguments][] = [
      ['ERR_OUT_OF_RANGE', last, [buf, last, 1, 0]],
      ['ERR_OUT_OF_RANGE', -1, [buf, -1, 1, 0]],
      ['ERR_OUT_OF_RANGE', 0.5, [buf, 0.5, 1, 0]],
      ['ERR_OUT_OF_RANGE', 0, [buf, 0, 0, 0]],
      ['ERR_OUT_OF_RANGE', -7, [buf, 0, -7, 0]],
      ['ERR_OUT_OF_RANGE', 1.5, [buf, 0, 1.5, 0]],
      ['ERR_INVALID_ARG_TYPE', "'2'", [buf, 0, '2' as never, 0]],
      ['ERR_UNVME_NO_SUCH_QUEUE', 9, [buf, 0, 1, 9]],
      ...(takesBuffer
        ? ([
            ['ERR_UNVME_NOT_DMA_MEMORY', ns.blocksize, [Buffer.alloc(ns.blocksize), 0, 1, 0]],
            ['ERR_UNVME_ALIGNMENT', 4, [buf.subarray(4, 4 + ns.blocksize), 0, 1, 0]],
            ['ERR_UNVME_FREED_BUFFER', 'freed', [freed, 0, 1, 0]],
            ['ERR_OUT_OF_RANGE', 2 * ns.blocksize, [buf, 0, 3, 0]],
            ['ERR_INVALID_ARG_TYPE', "'x'", ['x' as never, 0, 1, 0]],
          ] as typeof bad)
        : []),
    ]
    for (const [code, value, given] of bad) {
      const error = await rejection(() => call(ns, ...given))
      t.is(error?.code, code, `${name} ${value}`)
      t.true(error?.message.startsWith(`${name}: `), error?.message)
      t.true(error?.message.includes(String(value)), error?.message)
    }
  }
  t.is(ns.stats.commands, commands)
  t.true((await ns.promises.read(Buffer.alloc(buf.length), 0)).equals(content))
})

/** What a call throws, or its promise is rejected with. */
async function rejection(call: () => unknown): Promise<NodeJS.ErrnoException | undefined> {
  try {
    await call()
    return undefined
  } catch (error) {
    return error as NodeJS.ErrnoException
  }
}

deviceTest('arguments that are of no use at all', async (t) => {
  const ns = await t.device.open()
  const buf = ns.alloc(ns.blocksize)
  const large = ns.alloc(2 ** 21 + 1)
  const bad = (value: unknown) => value as never
  const calls: readonly [code: string, message: RegExp, call: () => unknown][] = [
    ['ERR_INVALID_ARG_TYPE', /^free: .* string/, () => ns.free(bad('x'))],
    ['ERR_INVALID_ARG_TYPE', /^free: .* undefined/, () => ns.free(bad(undefined))],
    ['ERR_INVALID_ARG_TYPE', /^acmd: a command is needed/, () => ns.acmd(0, bad(undefined))],
    ['ERR_INVALID_ARG_TYPE', /^acmd: opcode .* undefined/, () => ns.acmd(0, bad({}))],
    ['ERR_OUT_OF_RANGE', /^acmd: opcode .* 256/, () => ns.acmd(0, { opcode: 256, buf })],
    ['ERR_OUT_OF_RANGE', /^acmd: cdw12 .* 0.5/, () => ns.acmd(0, { opcode: 2, buf, cdw12: 0.5 })],
    ['ERR_OUT_OF_RANGE', /^cmd: nsid .* 4294967296/, () => ns.promises.cmd({ opcode: 2, nsid: 2 ** 32 })],
    ['ERR_INVALID_ARG_TYPE', /^cmd: cdw10 .* '0'/, () => ns.promises.cmd({ opcode: 2, cdw10: bad('0') })],
    ['ERR_INVALID_ARG_TYPE', /^acmd: buf .* 'x'/, () => ns.acmd(0, { opcode: 2, buf: bad('x') })],
    [
      'ERR_UNVME_NOT_DMA_MEMORY',
      /^acmd: .* 512 bytes/,
      () => ns.acmd(0, { opcode: 2, buf: Buffer.alloc(512) }),
    ],
    ['ERR_UNVME_ALIGNMENT', /^acmd: .* offset 2/, () => ns.acmd(0, { opcode: 2, buf: buf.subarray(2) })],
    // More than the PRP lists of one command can describe.
    ['ERR_OUT_OF_RANGE', /^acmd: buf has 2097153 bytes/, () => ns.acmd(0, { opcode: 2, buf: large })],
    ['ERR_OUT_OF_RANGE', /^admin: data has 2097153 bytes/, () => ns.admin({ opcode: 6, data: large })],
    ['ERR_INVALID_ARG_TYPE', /^acmd: metadata .* 'x'/, () => ns.acmd(0, { opcode: 2, metadata: bad('x') })],
    [
      'ERR_UNVME_NOT_DMA_MEMORY',
      /^acmd: .* 8 bytes/,
      () => ns.acmd(0, { opcode: 2, buf, metadata: Buffer.alloc(8) }),
    ],
    [
      'ERR_UNVME_ALIGNMENT',
      /^cmd: .* offset 2/,
      () => ns.promises.cmd({ opcode: 2, buf, metadata: buf.subarray(2) }),
    ],
    ['ERR_INVALID_ARG_TYPE', /^admin: a command is needed/, () => ns.admin(bad(undefined))],
    ['ERR_INVALID_ARG_TYPE', /^admin: opcode .* undefined/, () => ns.admin(bad({}))],
    ['ERR_OUT_OF_RANGE', /^admin: opcode .* 300/, () => ns.admin({ opcode: 300 })],
    ['ERR_INVALID_ARG_TYPE', /^admin: data .* 'x'/, () => ns.admin({ opcode: 6, data: bad('x') })],
    ['ERR_INVALID_ARG_TYPE', /^deallocate: ranges .* 'x'/, () => now(ns).deallocate(0, bad('x'))],
    ['ERR_INVALID_ARG_TYPE', /^deallocate: slba .* undefined/, () => now(ns).deallocate(0, [bad(null)])],
    ['ERR_OUT_OF_RANGE', /^deallocate: number of ranges .* 0/, () => ns.promises.deallocate([])],
    [
      'ERR_OUT_OF_RANGE',
      /^deallocate: .*nlb 2/,
      () => now(ns).deallocate(0, [{ slba: ns.blockcount - 1, nlb: 2 }]),
    ],
    ['ERR_INVALID_ARG_TYPE', /^createReadStream: options .* null/, () => ns.createReadStream(bad(null))],
    ['ERR_INVALID_ARG_TYPE', /^createWriteStream: options .* 7/, () => ns.createWriteStream(bad(7))],
    [
      'ERR_INVALID_ARG_TYPE',
      /^createWriteStream: flush .* 'no'/,
      () => ns.createWriteStream({ flush: bad('no') }),
    ],
    ['ERR_INVALID_ARG_TYPE', /^createWriteStream: pad .* 1/, () => ns.createWriteStream({ pad: bad(1) })],
    ['ERR_INVALID_ARG_TYPE', /^blocks: options .* null/, () => ns.blocks(bad(null))],
    ['ERR_INVALID_ARG_TYPE', /^blocks: copy .* 1/, () => ns.blocks({ copy: bad(1) })],
    ['ERR_INVALID_ARG_TYPE', /^writeBlocks: source .* number/, () => ns.writeBlocks(bad(7))],
    ['ERR_INVALID_ARG_TYPE', /^writeBlocks: source .* null/, () => ns.writeBlocks(bad(null))],
    ['ERR_INVALID_ARG_TYPE', /^writeBlocks: pad .* 1/, () => ns.writeBlocks([], { pad: bad(1) })],
  ]
  const { commands } = ns.stats
  for (const [code, message, call] of calls) {
    const error = await rejection(call)
    t.is(error?.code, code, `${message}`)
    t.regex(error?.message ?? '', message)
  }
  t.is(ns.stats.commands, commands, 'nothing was sent')
  await now(ns).read(0, buf, 0, 1)
  await ns.admin({ opcode: 6, cdw10: 1, data: Buffer.alloc(4096) })
})
