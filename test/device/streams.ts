// Streams, iterators and promises over ranges of LBAs.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Namespace } from '../../src/index.ts'
import { deviceTest } from '../support/device-suite.ts'
import { pattern } from '../support/pattern.ts'

async function readAll(ns: Namespace, slba: number, bytes: number): Promise<Buffer> {
  const data = Buffer.alloc(Math.ceil(bytes / ns.blocksize) * ns.blocksize)
  await ns.promises.read(data, slba)
  return data.subarray(0, bytes)
}

async function collect(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const part of stream) parts.push(part)
  return Buffer.concat(parts)
}

function temporaryFile(t: { teardown(f: () => void): void }, data: Buffer): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-'))
  t.teardown(() => fs.rmSync(folder, { recursive: true }))
  const file = path.join(folder, 'data')
  fs.writeFileSync(file, data)
  return file
}

deviceTest('a file goes to the device and back through pipeline', async (t) => {
  const ns = await t.device.open()
  const data = pattern(1_500_000)
  const file = temporaryFile(t, data)
  const sink = ns.createWriteStream({ slba: 8 })
  await pipeline(fs.createReadStream(file), sink)
  t.is(sink.bytesWritten, data.length)
  const nlb = Math.ceil(data.length / ns.blocksize)
  await pipeline(ns.createReadStream({ slba: 8, nlb }), fs.createWriteStream(`${file}.copy`))
  const copy = fs.readFileSync(`${file}.copy`)
  t.is(copy.length, nlb * ns.blocksize)
  t.true(copy.subarray(0, data.length).equals(data))
})

deviceTest('a file that ends inside a block arrives exactly, the rest of the block unchanged', async (t) => {
  const ns = await t.device.open()
  const before = pattern(3 * ns.blocksize, 21)
  await ns.promises.write(before, 4)
  for (const bytes of [1, ns.blocksize - 1, ns.blocksize + 1, 2 * ns.blocksize + 7]) {
    const data = pattern(bytes, bytes)
    const sink = ns.createWriteStream({ slba: 4 })
    await pipeline(Readable.from([data]), sink)
    t.is(sink.bytesWritten, bytes)
    const after = await readAll(ns, 4, before.length)
    t.true(after.subarray(0, bytes).equals(data), `${bytes}`)
    t.true(after.subarray(bytes).equals(before.subarray(bytes)), `${bytes}`)
    await ns.promises.write(before, 4)
  }
  await pipeline(Readable.from([Buffer.from('x')]), ns.createWriteStream({ slba: 4, pad: true }))
  const padded = await readAll(ns, 4, ns.blocksize)
  t.is(padded[0], 0x78)
  t.true(padded.subarray(1).every((byte) => byte === 0))
})

deviceTest('a read stream gives chunks of its highWaterMark, in order', async (t) => {
  const ns = await t.device.open()
  const nlb = 100
  const data = pattern(nlb * ns.blocksize, 2)
  await ns.promises.write(data, 0)
  const highWaterMark = 8 * ns.blocksize
  const stream = ns.createReadStream({ nlb, highWaterMark, depth: 4 })
  const lengths: number[] = []
  stream.on('data', (chunk: Buffer) => lengths.push(chunk.length))
  await new Promise((resolve) => stream.once('end', resolve))
  t.deepEqual(lengths, [...Array(12).fill(highWaterMark), 4 * ns.blocksize])
  t.is(stream.bytesRead, data.length)
  for (const depth of [1, 2, 5, 100]) {
    t.true((await collect(ns.createReadStream({ nlb, highWaterMark, depth }))).equals(data), `${depth}`)
  }
})

deviceTest('writes of any size are gathered', async (t) => {
  const ns = await t.device.open()
  const data = pattern(64 * ns.blocksize, 4)
  for (const size of [1000, 4096, 100_000, data.length]) {
    await ns.promises.writeZeroes(0, 64)
    const sink = ns.createWriteStream({ highWaterMark: 16 * ns.blocksize, depth: 3, nlb: 64 })
    for (let at = 0; at < data.length; at += size) {
      if (!sink.write(data.subarray(at, at + size)))
        await new Promise((resolve) => sink.once('drain', resolve))
    }
    await new Promise<void>((resolve) => sink.end(resolve))
    t.true((await readAll(ns, 0, data.length)).equals(data), `${size}`)
  }
})

deviceTest('a web stream fills the buffers of a reader that brings its own', async (t) => {
  const ns = await t.device.open()
  const nlb = 57
  const data = pattern(nlb * ns.blocksize, 3)
  await ns.promises.write(data, 2)
  const highWaterMark = 8 * ns.blocksize
  // Shorter than a chunk, as long, longer, and of no whole blocks.
  for (const bytes of [ns.blocksize - 3, highWaterMark, 3 * highWaterMark + 1, 2 * data.length]) {
    const stream = ns.readableWebStream({ slba: 2, nlb, highWaterMark, depth: 4 })
    const reader = stream.getReader({ mode: 'byob' })
    const parts: Buffer[] = []
    let view: Uint8Array<ArrayBuffer> = new Uint8Array(bytes)
    for (;;) {
      const { done, value } = await reader.read(view)
      if (done) break
      t.true(value.length > 0)
      parts.push(Buffer.from(value))
      // The same memory each time: the stream gives back what it was given.
      view = new Uint8Array(value.buffer)
      t.is(view.length, bytes)
    }
    t.true(Buffer.concat(parts).equals(data), `${bytes}`)
    await reader.closed
  }
  // Several reads that wait at a time, elements of two bytes, and an end that some of them only learn of.
  const reader = ns.readableWebStream({ slba: 2, nlb, highWaterMark }).getReader({ mode: 'byob' })
  const reads = Array.from({ length: 6 }, () => reader.read(new Uint16Array(data.length / 8)))
  const answers = await Promise.all(reads)
  const together = answers.map(({ value }) =>
    Buffer.from(value!.buffer, value!.byteOffset, value!.byteLength),
  )
  t.true(Buffer.concat(together).equals(data.subarray(0, Buffer.concat(together).length)))
  for (let more = answers.at(-1)!.done; !more; ) {
    const { done, value } = await reader.read(new Uint8Array(ns.blocksize))
    more = done
    together.push(Buffer.from(value!))
  }
  t.true(Buffer.concat(together).equals(data))
})

deviceTest(
  'a web stream gives chunks to a reader without buffers, and works with what takes one',
  async (t) => {
    const ns = await t.device.open()
    const nlb = 20
    const data = pattern(nlb * ns.blocksize, 4)
    await ns.promises.write(data, 0)
    const lengths: number[] = []
    const parts: Uint8Array[] = []
    for await (const chunk of ns.readableWebStream({ nlb, highWaterMark: 8 * ns.blocksize })) {
      lengths.push(chunk.length)
      parts.push(chunk)
    }
    t.deepEqual(lengths, [8 * ns.blocksize, 8 * ns.blocksize, 4 * ns.blocksize])
    t.true(Buffer.concat(parts).equals(data))
    const response = new Response(ns.readableWebStream({ nlb }) as never)
    t.true(Buffer.from(await response.arrayBuffer()).equals(data))
  },
)

deviceTest('a web stream tells every read that waits of its end, whatever it brought', async (t) => {
  const ns = await t.device.open()
  const data = pattern(3 * ns.blocksize, 9)
  await ns.promises.write(data, 0)
  const byob = ns.readableWebStream({ nlb: 3 }).getReader({ mode: 'byob' })
  const views = [
    new Uint8Array(ns.blocksize + 1),
    new Uint16Array(ns.blocksize),
    new DataView(new ArrayBuffer(data.length)),
    new Uint8Array(1),
    new Float64Array(1),
  ]
  const parts: Buffer[] = []
  const ends: boolean[] = []
  for (const read of views.map((view) => byob.read(view as Uint8Array<ArrayBuffer>))) {
    const { done, value } = await read
    ends.push(done)
    parts.push(Buffer.from(value!.buffer, value!.byteOffset, value!.byteLength))
  }
  // The odd byte that no element of two holds is the third's.
  t.deepEqual(ends, [false, false, false, true, true])
  t.true(Buffer.concat(parts).equals(data))
  const reader = ns.readableWebStream({ nlb: 1 }).getReader()
  const reads = await Promise.all([reader.read(), reader.read(), reader.read()])
  t.deepEqual(
    reads.map(({ done }) => done),
    [false, true, true],
  )
})

deviceTest('a web stream ends at a cancel, an abort and the end of its namespace', async (t) => {
  const ns = await t.device.open()
  const bytes = ns.pool.bytes
  const cancelled = ns.readableWebStream({ highWaterMark: ns.blocksize }).getReader()
  await cancelled.read()
  await cancelled.cancel('enough')
  t.true((await cancelled.read()).done)
  const reason = new Error('enough')
  const controller = new AbortController()
  const aborted = ns.readableWebStream({ highWaterMark: ns.blocksize, signal: controller.signal }).getReader()
  await aborted.read()
  controller.abort(reason)
  const error = await t.throwsAsync(aborted.read(), { code: 'ABORT_ERR' })
  t.is(error?.cause, reason)
  const late = ns.readableWebStream({ signal: AbortSignal.abort() }).getReader()
  await t.throwsAsync(late.read(), { code: 'ABORT_ERR' })
  while (ns.stats.inFlight > 0) await new Promise(setImmediate)
  t.true(ns.pool.bytes - bytes <= 2 ** 20, 'their memory is given back')
  t.throws(() => ns.readableWebStream({ slba: ns.blockcount }), { code: 'ERR_OUT_OF_RANGE' })
  const cut = ns.readableWebStream({ highWaterMark: ns.blocksize }).getReader()
  await cut.read()
  await ns.close()
  await t.throwsAsync(cut.read(), {
    code: 'ERR_UNVME_CLOSED',
    message: /^readableWebStream: .* before the end/,
  })
  t.throws(() => ns.readableWebStream(), { code: 'ERR_UNVME_CLOSED' })
})

deviceTest('blocks() releases each step with the next, and reads ahead', async (t) => {
  const ns = await t.device.open()
  const data = pattern(40 * ns.blocksize, 6)
  await ns.promises.write(data, 3)
  for (const options of [
    { chunk: 1 },
    { chunk: 7, depth: 2 },
    { chunk: 40 },
    { chunk: 1000 },
    { chunk: 3, copy: true },
  ]) {
    let next = 3
    const kept: Buffer[] = []
    for await (const block of ns.blocks({ slba: 3, nlb: 40, ...options })) {
      t.is(block.slba, next)
      t.is(block.data.length, block.nlb * ns.blocksize)
      kept.push(options.copy ? block.data : Buffer.from(block.data))
      next += block.nlb
    }
    t.is(next, 43)
    t.true(Buffer.concat(kept).equals(data), JSON.stringify(options))
  }
})

deviceTest('blocks() asked for several steps at once gives them in order', async (t) => {
  const ns = await t.device.open()
  const iterator = ns.blocks({ nlb: 10, chunk: 2, copy: true })
  const steps = await Promise.all(Array.from({ length: 7 }, () => iterator.next()))
  t.deepEqual(
    steps.map((step) => (step.done ? 'done' : step.value.slba)),
    [0, 2, 4, 6, 8, 'done', 'done'],
  )
})

deviceTest('breaking out of for await leaves nothing behind', async (t) => {
  const ns = await t.device.open()
  const { bytes } = ns.pool
  for (let i = 0; i < 5; i++) {
    for await (const block of ns.blocks({ chunk: 4, depth: 16 })) {
      if (block.slba >= 8 * i) break
    }
    const stream = ns.createReadStream({ highWaterMark: 4 * ns.blocksize })
    for await (const chunk of stream) {
      // What has come since the last look comes as one.
      t.is(chunk.length % (4 * ns.blocksize), 0)
      break
    }
    // It has been destroyed, and is closed when its commands have ended.
    if (!stream.closed) await new Promise((resolve) => stream.once('close', resolve))
  }
  t.is(ns.stats.inFlight, 0)
  t.is(ns.pool.bytes, bytes)
})

deviceTest('writeBlocks() takes what a generator makes', async (t) => {
  const ns = await t.device.open()
  const data = pattern(50 * ns.blocksize, 8)
  async function* producer() {
    const buffer = Buffer.alloc(3000)
    for (let at = 0; at < data.length; at += 3000) {
      // The same buffer each time: it is copied before the next step.
      yield buffer.subarray(0, data.copy(buffer, 0, at))
    }
  }
  t.is(await ns.writeBlocks(producer(), { slba: 9, chunk: 4, depth: 3 }), data.length)
  t.true((await readAll(ns, 9, data.length)).equals(data))
  // What comes with its LBA goes there: a copy in reverse order.
  const placed = Array.from({ length: 10 }, (_, i) => ({
    slba: 109 - i,
    data: data.subarray((9 - i) * ns.blocksize, (10 - i) * ns.blocksize),
  }))
  t.is(await ns.writeBlocks(placed), 10 * ns.blocksize)
  t.true((await readAll(ns, 100, 10 * ns.blocksize)).equals(data.subarray(0, 10 * ns.blocksize)))
  await t.throwsAsync(ns.writeBlocks(['text' as never]), { code: 'ERR_INVALID_ARG_TYPE' })
  await t.throwsAsync(ns.writeBlocks([{ slba: 0, data: Buffer.alloc(3) }]), { code: 'ERR_OUT_OF_RANGE' })
})

deviceTest('more than the range holds: what fitted is written, and the error says how much', async (t) => {
  const ns = await t.device.open()
  const data = pattern(10 * ns.blocksize, 10)
  await ns.promises.writeZeroes(0, 16)
  const sink = ns.createWriteStream({ slba: 2, nlb: 6 })
  await t.throwsAsync(pipeline(Readable.from([data]), sink), {
    code: 'ERR_UNVME_END_OF_RANGE',
    message: new RegExp(`${6 * ns.blocksize} bytes`),
  })
  const after = await readAll(ns, 0, 16 * ns.blocksize)
  t.true(after.subarray(2 * ns.blocksize, 8 * ns.blocksize).equals(data.subarray(0, 6 * ns.blocksize)))
  t.true(after.subarray(8 * ns.blocksize).every((byte) => byte === 0))
  t.is(sink.bytesWritten, 6 * ns.blocksize)
  await t.throwsAsync(ns.writeBlocks([data], { nlb: 6 }), { code: 'ERR_UNVME_END_OF_RANGE' })
  t.is(ns.stats.inFlight, 0)
})

deviceTest('a source that fails, a chunk that is no Buffer, an abort half-way', async (t) => {
  const ns = await t.device.open()
  const { bytes } = ns.pool
  const failing = async function* () {
    yield Buffer.alloc(5 * ns.blocksize)
    throw new Error('source failed')
  }
  await t.throwsAsync(pipeline(failing, ns.createWriteStream({ highWaterMark: ns.blocksize })), {
    message: 'source failed',
  })
  await t.throwsAsync(ns.writeBlocks(failing(), { chunk: 1 }), { message: 'source failed' })
  await t.throwsAsync(
    async () => {
      const sink = ns.createWriteStream()
      const closed = new Promise((resolve) => sink.once('close', resolve))
      try {
        sink.write(7 as never)
      } finally {
        sink.destroy()
        await closed
      }
    },
    { code: 'ERR_INVALID_ARG_TYPE' },
  )
  const reason = new Error('enough')
  const whole = { nlb: ns.blockcount }
  const aborts: [string, (signal: AbortSignal) => Promise<unknown>][] = [
    ['read stream', (signal) => pipeline(ns.createReadStream({ ...whole, signal }), new Sink())],
    [
      'blocks',
      async (signal) => {
        for await (const _ of ns.blocks({ ...whole, chunk: 1, signal }));
      },
    ],
    ['write stream', (signal) => pipeline(endless, ns.createWriteStream({ signal }))],
    ['writeBlocks', (signal) => ns.writeBlocks(endless(), { signal })],
    ['writeBlocks of a source that hangs', (signal) => ns.writeBlocks(hanging(), { signal })],
    ['read', (signal) => ns.promises.read(Buffer.alloc(4 * 2 ** 20), 0, undefined, { signal })],
  ]
  async function* endless() {
    for (;;) {
      yield Buffer.alloc(1024)
      await new Promise(setImmediate)
    }
  }
  async function* hanging() {
    yield Buffer.alloc(1024)
    await new Promise(() => {})
  }
  for (const [what, start] of aborts) {
    const controller = new AbortController()
    setTimeout(() => controller.abort(reason), 2)
    const error = await start(controller.signal).then(
      () => undefined,
      (e: Error) => e,
    )
    // A quick device may have finished before the abort came, where the work has an end.
    if (error === undefined && (what === 'read' || what === 'read stream' || what === 'blocks')) continue
    t.is((error as NodeJS.ErrnoException).code, 'ABORT_ERR', what)
    t.is((error as Error).cause, reason, what)
    await t.throwsAsync(start(AbortSignal.abort(reason)), { code: 'ABORT_ERR' }, what)
  }
  while (ns.stats.inFlight > 0) await new Promise(setImmediate)
  await ns.promises.read(Buffer.alloc(ns.blocksize), 0)
  // As many as one call has at a time, and one of a page.
  t.true(ns.pool.bytes - bytes <= 17 * 128 * 1024, 'only bounce buffers are kept')
})

deviceTest('closing the namespace ends its streams and iterators', async (t) => {
  const ns = await t.device.open()
  const iterator = ns.blocks({ chunk: 1 })
  await iterator.next()
  const whole = ns.blocks({ nlb: 1 })
  await whole.next()
  await whole.next()
  const stream = ns.createReadStream({ highWaterMark: ns.blocksize })
  await new Promise((resolve) => stream.once('readable', resolve))
  const sink = ns.createWriteStream({ highWaterMark: ns.blocksize })
  sink.write(Buffer.alloc(ns.blocksize * 3))
  await ns.close()
  t.true(stream.destroyed && sink.destroyed)
  await t.throwsAsync(iterator.next(), { code: 'ERR_UNVME_CLOSED', message: /^blocks: .* before the end/ })
  t.true((await iterator.next()).done)
  t.true((await whole.next()).done)
})

deviceTest('promises take any buffer, DMA memory as it is', async (t) => {
  const ns = await t.device.open()
  for (const nlb of [1, 3, 2 * ns.maxbpio + 1, 400]) {
    const data = pattern(nlb * ns.blocksize, nlb)
    // A view into a larger buffer that starts anywhere.
    const odd = Buffer.alloc(data.length + 13).subarray(13)
    data.copy(odd)
    t.is(await ns.promises.write(odd, 11), odd)
    const back = Buffer.alloc(data.length + 5)
    await ns.promises.read(back, 11, nlb)
    t.true(back.subarray(0, data.length).equals(data))
    t.true(back.subarray(data.length).every((byte) => byte === 0))
    const dma = ns.alloc(data.length)
    await ns.promises.read(dma, 11)
    t.true(dma.equals(data))
    ns.free(dma)
  }
  const frozen = Buffer.from(pattern(ns.blocksize, 5))
  await Promise.all([
    ns.promises.write(frozen, 0),
    ns.promises.flush(),
    ns.promises.read(Buffer.alloc(ns.blocksize), 1),
  ])
  await t.throwsAsync(ns.promises.read('x' as never, 0), { code: 'ERR_INVALID_ARG_TYPE' })
  await t.throwsAsync(ns.promises.read(frozen, 0, 1, { qid: 9 }), { code: 'ERR_UNVME_NO_SUCH_QUEUE' })
})

deviceTest('promises.compare takes any buffer', { needs: ['compare'] }, async (t) => {
  const ns = await t.device.open()
  for (const nlb of [1, 3, 2 * ns.maxbpio + 1, 400]) {
    const odd = Buffer.alloc(nlb * ns.blocksize + 13).subarray(13)
    pattern(odd.length, nlb).copy(odd)
    await ns.promises.write(odd, 11)
    await ns.promises.compare(odd, 11, nlb)
    odd[odd.length - 1]! ^= 1
    await t.throwsAsync(ns.promises.compare(odd, 11, nlb), { code: 'ERR_NVME_STATUS' })
  }
})

class Sink extends Writable {
  override _write(_chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    setImmediate(callback)
  }
}
