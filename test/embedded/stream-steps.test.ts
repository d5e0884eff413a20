// A read stream under `for await`, which takes chunks by a way of its own: what a user sees is what Node's own way shows.

import { once } from 'node:events'
import { Readable } from 'node:stream'
import test from 'ava'
import { AbortError, ClosedError, type Namespace, NvmeError, open } from '../../src/index.ts'
import type { ReadStream } from '../../src/streams/node-streams.ts'
import { pattern } from '../support/pattern.ts'

const BLOCK = 512
const CHUNK = 8 * BLOCK
const CHUNKS = 24
const DATA = pattern(CHUNKS * CHUNK, 5)
const RANGE = { nlb: DATA.length / BLOCK, highWaterMark: CHUNK, depth: 4 }

async function openWith(t: { teardown(f: () => Promise<void>): void }, options = ''): Promise<Namespace> {
  const ns = await open(`sim:?size=1M${options}`)
  t.teardown(() => ns.close())
  await ns.promises.write(DATA, 0)
  return ns
}

/** Node's own iteration over the same stream. */
const byNode = (stream: ReadStream) => Readable.prototype[Symbol.asyncIterator].call(stream)
const byItself = (stream: ReadStream) => stream[Symbol.asyncIterator]()

for (const options of ['', '&latency=1ms', '&thread=1']) {
  test(`for await: every chunk once and in order, then 'end' and 'close'${options}`, async (t) => {
    const ns = await openWith(t, options)
    const stream = ns.createReadStream(RANGE)
    const events: string[] = []
    for (const name of ['end', 'close', 'error']) stream.on(name, () => events.push(name))
    const chunks: Buffer[] = []
    for await (const chunk of stream) {
      chunks.push(chunk)
      t.is(stream.bytesRead, chunks.length * CHUNK)
    }
    t.deepEqual(
      chunks.map(({ length }) => length),
      new Array(CHUNKS).fill(CHUNK),
    )
    t.true(Buffer.concat(chunks).equals(DATA))
    t.deepEqual(events, ['end', 'close'])
    t.true(stream.readableEnded)
    t.true(stream.destroyed)
  })

  test(`for await: a loop that is left destroys the stream, by break and by throw${options}`, async (t) => {
    const ns = await openWith(t, options)
    for (const leave of ['break', 'throw']) {
      const stream = ns.createReadStream(RANGE)
      const loop = async () => {
        for await (const _ of stream) {
          if (leave === 'break') break
          throw new Error('mine')
        }
      }
      if (leave === 'break') await loop()
      else await t.throwsAsync(loop, { message: 'mine' })
      t.true(stream.destroyed)
      await stream[Symbol.asyncDispose]()
      t.is(ns.stats.inFlight, 0)
    }
  })

  test(`for await: whatever else is asked of the stream, at any step, no chunk is lost or doubled${options}`, async (t) => {
    const ns = await openWith(t, options)
    const actions: Record<string, (stream: ReadStream, seen: Buffer[]) => void> = {
      read: (stream, seen) => {
        const chunk = stream.read()
        if (chunk !== null) seen.push(chunk)
      },
      peek: (stream) => {
        const chunk = stream.read()
        if (chunk !== null) stream.unshift(chunk)
      },
      pause: (stream) => stream.pause(),
      'readable and off': (stream) => {
        const listener = () => {}
        stream.on('readable', listener)
        stream.off('readable', listener)
      },
    }
    for (const [name, action] of Object.entries(actions)) {
      for (const at of [0, 1, 5, CHUNKS - 1]) {
        const stream = ns.createReadStream(RANGE)
        const seen: Buffer[] = []
        let step = 0
        if (at === 0) action(stream, seen)
        for await (const chunk of stream) {
          seen.push(chunk)
          if (++step === at) action(stream, seen)
        }
        t.true(Buffer.concat(seen).equals(DATA), `${name} at ${at}`)
      }
    }
  })
}

/** Keeps the thread until what is due by then has to arrive at the next poll. */
function spin(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end; );
}

test('for await: a chunk that a poll of read() finds is for the step that waits for it', async (t) => {
  // The seventh chunk is a little late: it arrives when Node's own request, of after read(), looks for it, before the
  // stream yields to the event loop, which is after 1 ms.
  const ns = await openWith(t, '&fault=read@48:delay=300us')
  for (let round = 0; round < 20; round++) {
    const stream = ns.createReadStream(RANGE)
    let chunks = 0
    for await (const _ of stream) {
      if (++chunks !== 5) continue
      process.nextTick(spin, 0.4)
      if (stream.read() !== null) chunks++
    }
    t.is(chunks, CHUNKS)
  }
})

test('for await: a read() that found nothing does not keep the end out', async (t) => {
  const ns = await openWith(t, `&fault=read@${(CHUNKS - 1) * 8}:delay=20ms`)
  const stream = ns.createReadStream(RANGE)
  let chunks = 0
  for await (const _ of stream) {
    if (++chunks !== CHUNKS - 1) continue
    t.is(stream.read(), null)
    spin(30)
  }
  t.is(chunks, CHUNKS)
})

test('for await: steps that are asked for at once come in order', async (t) => {
  for (const options of ['', '&latency=1ms']) {
    const ns = await openWith(t, options)
    const steps = ns.createReadStream(RANGE)[Symbol.asyncIterator]()
    const results = await Promise.all(Array.from({ length: CHUNKS + 2 }, () => steps.next()))
    t.deepEqual(
      results.map(({ done }) => done),
      [...new Array(CHUNKS).fill(false), true, true],
    )
    t.true(Buffer.concat(results.slice(0, CHUNKS).map(({ value }) => value!)).equals(DATA))
  }
})

test('for await: an encoding gives strings', async (t) => {
  const ns = await openWith(t)
  let text = ''
  for await (const part of ns.createReadStream({ ...RANGE, encoding: 'hex' })) text += part
  t.is(text, DATA.toString('hex'))
})

test("for await: errors are those of Node's own iteration", async (t) => {
  const cases: [string, string, (stream: ReadStream, ns: Namespace) => void, object][] = [
    ['a failed read', '&fault=read@64:status=281h', () => {}, { instanceOf: NvmeError }],
    ['destroy', '&latency=20ms', (stream) => stream.destroy(), { code: 'ERR_STREAM_PREMATURE_CLOSE' }],
    ['an error', '&latency=20ms', (stream) => stream.destroy(new Error('mine')), { message: 'mine' }],
    ['close', '&latency=20ms', (_, ns) => void ns.close(), { instanceOf: ClosedError }],
  ]
  for (const [name, options, action, expected] of cases) {
    for (const iterate of [byItself, byNode]) {
      const ns = await openWith(t, options)
      const stream = ns.createReadStream(RANGE)
      setTimeout(action, 5, stream, ns)
      await t.throwsAsync(
        async () => {
          for await (const _ of { [Symbol.asyncIterator]: () => iterate(stream) });
        },
        expected,
        name,
      )
      t.true(stream.destroyed)
    }
  }
  const ns = await openWith(t)
  const controller = new AbortController()
  await t.throwsAsync(
    async () => {
      for await (const _ of ns.createReadStream({ ...RANGE, signal: controller.signal })) controller.abort()
    },
    { instanceOf: AbortError },
  )
})

test('for await: return() ends a step that waits, and the stream', async (t) => {
  const ns = await openWith(t, '&latency=20ms')
  const stream = ns.createReadStream(RANGE)
  const steps = stream[Symbol.asyncIterator]()
  const waiting = steps.next()
  const closed = once(stream, 'close')
  t.deepEqual(await steps.return!(), { done: true, value: undefined })
  t.true((await waiting).done)
  await closed
  t.deepEqual(await steps.next(), { done: true, value: undefined })
})
