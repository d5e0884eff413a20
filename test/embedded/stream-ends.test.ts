// How streams end before their time, and what their users learn: of the end, of the bytes, and of what they have
// thrown themselves.

import { execFile } from 'node:child_process'
import { getEventListeners } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import test from 'ava'
import { AbortError, copy, type Namespace, NvmeError, open, spread } from '../../src/index.ts'
import { pattern } from '../support/pattern.ts'

const turn = () => new Promise(setImmediate)
const folder = mkdtempSync(path.join(os.tmpdir(), 'unvme-ends-'))
const file = (name: string) => path.join(folder, name)
test.after.always(() => rmSync(folder, { recursive: true }))

async function* endless() {
  for (;;) {
    yield Buffer.alloc(4096, 1)
    await turn()
  }
}

// The end of the namespace

for (const emitClose of [true, false]) {
  test(`emitClose ${emitClose}: close() and asyncDispose settle, whatever a stream is at`, async (t) => {
    const states: [string, (ns: Namespace) => { [Symbol.asyncDispose](): Promise<void> }][] = [
      ['a reader that was not begun', (ns) => ns.createReadStream({ emitClose })],
      [
        'a reader at work',
        (ns) =>
          ns
            .createReadStream({ emitClose })
            .on('error', () => {})
            .resume(),
      ],
      [
        'a reader that waits',
        (ns) => {
          const stream = ns.createReadStream({ emitClose })
          stream.read(0)
          return stream
        },
      ],
      ['a reader that was destroyed', (ns) => ns.createReadStream({ emitClose }).destroy()],
      ['a writer that was not begun', (ns) => ns.createWriteStream({ emitClose })],
      [
        'a writer at work',
        (ns) => {
          const stream = ns.createWriteStream({ emitClose, depth: 2, highWaterMark: 512 })
          stream.write(Buffer.alloc(65536))
          return stream
        },
      ],
      ['a writer that has ended', (ns) => ns.createWriteStream({ emitClose }).end(Buffer.alloc(512))],
    ]
    for (const [state, start] of states) {
      for (const dispose of [true, false]) {
        const ns = await open('sim:?size=1M&latency=1ms')
        const stream = start(ns)
        await turn()
        if (dispose) await stream[Symbol.asyncDispose]()
        await ns.close()
        await stream[Symbol.asyncDispose]()
        t.is(ns.stats.inFlight, 0, state)
      }
    }
  })
}

test('close: a reader with listeners of any kind emits the error, after its data and before its end', async (t) => {
  for (const listener of ['data', 'end', 'error', 'close', 'readable']) {
    const ns = await open('sim:?size=8M&latency=1ms')
    const stream = ns.createReadStream({ highWaterMark: 4096, depth: 2 })
    const seen: unknown[] = []
    stream.on('error', (error) => seen.push((error as NodeJS.ErrnoException).code))
    for (const name of ['end', 'close']) stream.on(name, () => seen.push(name))
    stream.on(listener, () => {})
    const begun = new Promise((resolve) => stream.once('readable', resolve))
    await begun
    await ns.close()
    t.deepEqual(seen, ['ERR_UNVME_CLOSED', 'close'], listener)
  }
})

test('close: iterators, pipelines and web streams reject with ERR_UNVME_CLOSED', async (t) => {
  const waits: [string, (ns: Namespace) => Promise<unknown>][] = [
    [
      'for await',
      async (ns) => {
        for await (const _ of ns.createReadStream({ highWaterMark: 512, depth: 1 }));
      },
    ],
    [
      'web',
      async (ns) => {
        for await (const _ of ns.readableWebStream({ highWaterMark: 512, depth: 1 }));
      },
    ],
    [
      'blocks',
      async (ns) => {
        for await (const _ of ns.blocks({ chunk: 1, depth: 1 }));
      },
    ],
    ['into', (ns) => pipeline(endless, ns.createWriteStream())],
    ['writeBlocks', (ns) => ns.writeBlocks(endless())],
    ['transferTo', (ns) => ns.transferTo(() => {}, { chunk: 1, depth: 1 })],
    ['transferFrom', (ns) => ns.transferFrom((buffer) => buffer.length, { chunk: 1, depth: 1 })],
  ]
  for (const [what, wait] of waits) {
    const ns = await open('sim:?size=8M&latency=1ms')
    const waiting = t.throwsAsync(wait(ns), { code: 'ERR_UNVME_CLOSED' }, what)
    for (let i = 0; i < 5; i++) await turn()
    await ns.close()
    await waiting
  }
})

test('close: a stream without listeners ends quietly, and so does one that has ended', async (t) => {
  const ns = await open('sim:?size=1M&latency=1ms')
  const quiet = ns.createReadStream()
  quiet.read(0)
  const ended = ns.createReadStream({ nlb: 1, autoDestroy: false })
  const errors: unknown[] = []
  ended.on('error', (error) => errors.push(error))
  await new Promise((resolve) => ended.resume().on('end', resolve))
  await ns.close()
  t.true(quiet.destroyed && ended.destroyed)
  t.is(quiet.errored, null)
  t.deepEqual(errors, [])
})

test('destroy: a write that waits for space is answered', async (t) => {
  const ns = await open('sim:?size=1M&latency=5ms')
  const sink = ns.createWriteStream({ depth: 1, highWaterMark: 512 })
  const answer = new Promise((resolve) => sink.write(Buffer.alloc(8192), resolve))
  sink.destroy()
  t.is(((await answer) as NodeJS.ErrnoException).code, 'ERR_UNVME_CLOSED')
  await ns.close()
})

// Bytes that were written

/** Chunks of 4096 from the start of the device that are not zero. */
async function prefixOf(ns: Namespace): Promise<number> {
  const data = await ns.promises.read(Buffer.alloc(2 ** 20), 0)
  let bytes = 0
  while (data[bytes] !== 0) bytes += 4096
  return bytes
}

const FAULTS = ['', '&fault=write@0:status=280h', '&fault=write@40:status=280h', '&fault=write@40:delay=30ms']

for (const fault of FAULTS) {
  test(`bytesWritten is the prefix that is on the device, after an error or destroy (${fault || 'no fault'})`, async (t) => {
    for (const [chunk, depth] of [
      [4096, 8],
      [4096, 1],
      [8192, 3],
    ] as const) {
      await using ns = await open(`sim:?size=8M&latency=1ms${fault}`)
      const sink = ns.createWriteStream({ highWaterMark: chunk, depth })
      let writing = true
      sink.on('error', () => {})
      const closed = new Promise((resolve) => sink.on('close', resolve))
      const feed = async () => {
        while (writing && !sink.destroyed && sink.bytesWritten < 30 * 4096) {
          sink.write(Buffer.alloc(4096, 1))
          await turn()
        }
        sink.destroy()
      }
      await feed()
      await closed
      writing = false
      t.is(sink.bytesWritten, await prefixOf(ns), `chunk ${chunk}, depth ${depth}`)
    }
  })
}

test('copy: AbortError and NvmeError carry the bytes that are in the target, from the start', async (t) => {
  const source = file('source')
  writeFileSync(source, Buffer.alloc(2 ** 20, 1))
  const how = { chunk: 4096, depth: 8 }
  // Into a device: by fs, from a pipe's like, and from another controller.
  for (const from of ['file', 'device']) {
    for (const end of ['fault', 'abort']) {
      await using ns = await open(
        `sim:?size=8M&latency=1ms${end === 'fault' ? '&fault=write@800:status=280h' : ''}`,
      )
      await using other = await open('sim:?size=1M')
      await other.promises.write(Buffer.alloc(2 ** 20, 1), 0)
      const abort = new AbortController()
      const onProgress = (bytes: number) => {
        if (end === 'abort' && bytes > 2 ** 18) abort.abort()
      }
      const error = (await t.throwsAsync(
        copy(from === 'file' ? source : other, ns, { ...how, signal: abort.signal, onProgress }),
      )) as AbortError | NvmeError
      t.true(end === 'abort' ? error instanceof AbortError : error instanceof NvmeError, `${error}`)
      t.is(error.bytesWritten, await prefixOf(ns), `${from}, ${end}`)
      t.true(error.bytesWritten! > 0)
    }
  }
  // Out of one.
  await using bad = await open('sim:?size=1M&fault=read@800:status=281h')
  await bad.promises.write(Buffer.alloc(2 ** 20, 1), 0)
  const failed = await t.throwsAsync(copy(bad, file('target'), how), { instanceOf: NvmeError })
  t.is(failed.bytesWritten, 800 * 512)
  t.true(
    readFileSync(file('target'))
      .subarray(0, 800 * 512)
      .every((byte) => byte === 1),
  )
  const before = await t.throwsAsync(copy(bad, file('target'), { signal: AbortSignal.abort() }), {
    instanceOf: AbortError,
  })
  t.is(before.bytesWritten, 0)
})

test('copy by threads: the bytes are counted from the start of the whole, up to the first gap', async (t) => {
  const source = file('threads')
  writeFileSync(source, Buffer.alloc(2 ** 20, 1))
  // In the second part of two: all of the first is there, where it was not ended before.
  for (const lba of [1024 + 400, 400]) {
    await using ns = await open(`sim:?size=2M&fault=write@${lba}:status=280h`, { qcount: 2, threads: true })
    const error = await t.throwsAsync(copy(source, ns, { jobs: 2, chunk: 4096 }), { instanceOf: NvmeError })
    const prefix = await prefixOf(ns)
    t.true(error.bytesWritten! <= prefix, `${error.bytesWritten} of ${prefix}`)
    if (lba === 400) t.is(error.bytesWritten, 400 * 512)
  }
})

test('writeBlocks: what fitted is written before the end of the range is reported', async (t) => {
  await using ns = await open('sim:?size=1M&latency=1ms&fault=write@8:status=280h')
  // Its own failure is the one that counts.
  const error = await t.throwsAsync(ns.writeBlocks([Buffer.alloc(32 * 512, 1)], { nlb: 16, chunk: 4 }), {
    instanceOf: NvmeError,
  })
  t.is(error.bytesWritten, 8 * 512)
})

// What users throw

const OTHER_ENDED = `other ${2048 * 512}`

const programs = {
  data: `
    const other = ns.createReadStream({ highWaterMark: 4096, nlb: 2048 })
    let bytes = 0
    other.on('data', (chunk) => { bytes += chunk.length })
    other.on('error', (error) => say('other error', error.message)).on('end', () => say('other', bytes))
    let count = 0
    ns.createReadStream({ highWaterMark: 4096, nlb: 2048 })
      .on('data', () => { if (count++ % 5 === 3) throw new Error('mine') })
      .on('error', (error) => say('error', error.message))`,
  drain: `
    let drains = 0
    const stream = ns.createWriteStream({ highWaterMark: 4096, depth: 1 })
      .on('drain', () => { if (drains++ === 1) throw new Error('mine'); stream.write(Buffer.alloc(65536)) })
      .on('error', (error) => say('error', error.message))
    stream.write(Buffer.alloc(65536))`,
  'a write': `
    ns.createWriteStream({ highWaterMark: 4096, depth: 1 })
      .on('error', (error) => say('error', error.message))
      .write(Buffer.alloc(65536), () => { throw new Error('mine') })`,
  error: `
    ns.createReadStream({ signal: AbortSignal.timeout(2) }).on('error', () => { throw new Error('mine') }).resume()`,
  destroy: `
    const stream = ns.createReadStream().resume()
    setTimeout(() => stream._destroy(null, () => { throw new Error('mine') }), 2)`,
  end: `
    ns.createWriteStream({ nlb: 1 }).on('error', () => {}).end(Buffer.alloc(1024), () => { throw new Error('mine') })`,
}

for (const [handler, body] of Object.entries(programs)) {
  // A write that is done at once is followed by no 'drain'.
  for (const latency of handler === 'drain' ? ['&latency=1ms'] : ['', '&latency=1ms']) {
    test(`streams: what a user's handler of ${handler} throws is an uncaught exception, its own (${latency})`, async (t) => {
      const program = `
        import { open } from ${JSON.stringify(new URL('../../src/index.js', import.meta.url).href)}
        const said = []
        const say = (...words) => said.push(words.join(' '))
        process.on('uncaughtException', (error, origin) => say(origin, error.message))
        const ns = await open('sim:?size=8M${latency}')
        ${body}
        const turn = () => new Promise(setImmediate)
        const wanted = ['uncaughtException mine', ${JSON.stringify(handler === 'data' ? [OTHER_ENDED] : []).slice(1, -1)}]
        while (!wanted.every((line) => said.includes(line))) await turn()
        // What would be wrong comes soon after it.
        for (let i = 0; i < 20; i++) await turn()
        console.log(JSON.stringify(said))
        process.exit()`
      const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program])
      const said: string[] = JSON.parse(stdout)
      t.deepEqual(
        [...new Set(said)].filter((line) => line !== OTHER_ENDED),
        ['uncaughtException mine'],
      )
    })
  }
}

// Depth

for (const latency of ['', '&latency=20us']) {
  test(`streams: a depth of tens of thousands neither overflows the stack nor hangs (${latency})`, async (t) => {
    await using ns = await open(`sim:?size=32M&qsize=65536${latency}`, { qsize: 65536 })
    const nlb = 40000
    const depth = 24000
    const bytes = nlb * 512
    const reader = ns.createReadStream({ nlb, depth, highWaterMark: 512 })
    await new Promise((resolve, reject) => reader.on('error', reject).on('end', resolve).resume())
    t.is(reader.bytesRead, bytes)
    const sink = ns.createWriteStream({ nlb, depth, highWaterMark: 512 })
    await new Promise<void>((resolve, reject) => sink.on('error', reject).end(Buffer.alloc(bytes), resolve))
    t.is(sink.bytesWritten, bytes)
    let blocks = 0
    for await (const { nlb: count } of ns.blocks({ nlb, depth, chunk: 1, copy: true })) blocks += count
    t.is(blocks, nlb)
    t.is(await ns.transferTo(() => {}, { nlb, depth, chunk: 1 }), bytes)
    t.is(await ns.transferFrom((buffer) => buffer.length, { nlb, depth, chunk: 1 }), bytes)
  })
}

test('streams: a controller that fails under a great depth ends them with its cause', async (t) => {
  await using ns = await open('sim:?size=32M&qsize=65536&latency=1s', { qsize: 65536 })
  const reader = ns.createReadStream({ depth: 60000, highWaterMark: 512 })
  const sink = ns.createWriteStream({ depth: 60000, highWaterMark: 512 })
  const ends = [reader.resume(), sink].map(
    (stream) => new Promise<NodeJS.ErrnoException>((resolve) => stream.on('error', resolve)),
  )
  sink.write(Buffer.alloc(20000 * 512))
  sink.end(Buffer.alloc(10000 * 512))
  await turn()
  await ns.reset()
  for (const end of ends) t.is((await end).code, 'ERR_UNVME_CONTROLLER_RESET')
})

// Signals

const SHARED: Record<string, (ns: Namespace, signal: AbortSignal) => unknown> = {
  createReadStream: (ns, signal) =>
    ns
      .createReadStream({ signal })
      .on('error', () => {})
      .resume(),
  createWriteStream: (ns, signal) =>
    ns
      .createWriteStream({ signal })
      .on('error', () => {})
      .write(Buffer.alloc(9)),
  readableWebStream: (ns, signal) => ns.readableWebStream({ signal }),
  blocks: (ns, signal) => ns.blocks({ signal }).next(),
  writeBlocks: (ns, signal) => ns.writeBlocks(endless(), { signal }),
  transferTo: (ns, signal) => ns.transferTo(() => {}, { signal }),
  transferFrom: (ns, signal) => ns.transferFrom((buffer) => buffer.length, { signal }),
  promises: (ns, signal) => ns.promises.read(Buffer.alloc(512), 0, 1, { signal }),
  admin: (ns, signal) => ns.admin({ opcode: 6, cdw10: 1, data: Buffer.alloc(4096) }, { signal }),
  copy: (ns, signal) => copy(ns, '/dev/null', { signal }),
}

for (const [call, start] of Object.entries(SHARED)) {
  test.serial(`${call}: a signal that many share warns of nothing, and ends them all`, async (t) => {
    const warnings: Error[] = []
    const note = (warning: Error) => warnings.push(warning)
    process.on('warning', note)
    const ns = await open('sim:?size=8M&latency=5ms')
    const controller = new AbortController()
    const { signal } = controller
    const results = Array.from({ length: 30 }, () => start(ns, signal))
    const settled = Promise.allSettled(results)
    await turn()
    t.true(getEventListeners(signal, 'abort').length <= 1)
    controller.abort()
    await settled
    await ns.close()
    await turn()
    process.off('warning', note)
    t.deepEqual(warnings, [])
    t.is(getEventListeners(signal, 'abort').length, 0)
  })
}

test('signals: no listener is left of a call that ends, or fails at once', async (t) => {
  await using ns = await open('sim:?size=1M', { threads: true })
  const { signal } = new AbortController()
  const throwing = (at: number) => ({
    [Symbol.iterator]: () => {
      let count = 0
      return {
        next() {
          if (count++ === at) throw new Error('at once')
          return { done: false as const, value: Buffer.alloc(512) }
        },
      }
    },
  })
  for (const at of [0, 1]) {
    await t.throwsAsync(ns.writeBlocks(throwing(at), { signal }), { message: 'at once' })
  }
  const refusing = {
    [Symbol.iterator]: () => {
      throw new Error('no iterator')
    },
  }
  await t.throwsAsync(ns.writeBlocks(refusing as never, { signal }), { message: 'no iterator' })
  const fail = () => {
    throw new Error('at once')
  }
  await t.throwsAsync(ns.transferTo(fail, { signal }), { message: 'at once' })
  await t.throwsAsync(ns.transferFrom(fail, { signal }), { message: 'at once' })
  await t.throwsAsync(pipeline(throwing(1) as never, ns.createWriteStream({ signal })), {
    message: 'at once',
  })
  await t.throwsAsync(spread(ns, new URL('file:///nowhere.js'), { signal }), { any: true })
  // Never begun.
  ns.blocks({ signal })
  await ns.promises.read(Buffer.alloc(512), 0, 1, { signal })
  await ns.admin({ opcode: 6, cdw10: 1, data: Buffer.alloc(4096) }, { signal })
  for await (const _ of ns.createReadStream({ signal }));
  for await (const _ of ns.blocks({ signal }));
  for await (const _ of ns.readableWebStream({ signal }));
  const sink = ns.createWriteStream({ signal })
  await new Promise((resolve) => sink.on('close', resolve).end(pattern(700)))
  t.deepEqual(getEventListeners(signal, 'abort'), [])
})
