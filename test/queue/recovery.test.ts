// Faults that the driver recovers from: Abort, reset, and on with what was in flight.

import { pipeline } from 'node:stream/promises'
import test from 'ava'
import type { FaultRule } from '../../lib/sim/index.ts'
import { type Namespace, type OpenOptions, open } from '../../src/index.ts'

const READ = 2
const WRITE = 1
const COMPARE = 5

function faulty(faults: FaultRule[], options: OpenOptions = {}): Promise<Namespace> {
  return open('sim:?size=16M', { faults, timeout: 150, ...options })
}

const lose = (rule: Partial<FaultRule>): FaultRule => ({ ...rule, action: { kind: 'lose' } })

test('a read without an answer is sent again after a reset, and those beside it, too', async (t) => {
  await using ns = await faulty([lose({ opcode: READ, slba: 8, times: 1 })])
  const data = Buffer.alloc(16 * 512, 0x5a)
  await ns.promises.write(data, 0)
  const events: string[] = []
  ;(ns.controller as unknown as { onRecovery(h: (e: { kind: string }) => void): void }).onRecovery((event) =>
    events.push(event.kind),
  )
  const reads = Array.from({ length: 16 }, (_, i) => ns.promises.read(Buffer.alloc(512), i))
  for (const read of await Promise.all(reads)) t.true(read.every((byte) => byte === 0x5a))
  t.like(ns.stats, { aborts: 1, resets: 1, lost: 0, inFlight: 0 })
  t.true(ns.stats.retries >= 1)
  t.deepEqual(events, ['abort', 'reset'])
})

test('a command that its Abort ends rejects alone, and its identifier comes back', async (t) => {
  await using ns = await faulty([{ opcode: READ, slba: 8, action: { kind: 'delay', ms: 60_000 } }])
  const other = ns.promises.read(Buffer.alloc(512), 0)
  await t.throwsAsync(ns.promises.read(Buffer.alloc(512), 8), { code: 'ERR_UNVME_TIMEOUT' })
  await other
  t.like(ns.stats, { aborts: 1, resets: 0, retries: 0, lost: 0, late: 1, inFlight: 0 })
})

test('a command that is never answered is given up after its retries, and nothing else is', async (t) => {
  await using ns = await faulty([lose({ opcode: READ, slba: 8 })], { retries: 2 })
  const other = ns.promises.read(Buffer.alloc(512), 0)
  await t.throwsAsync(ns.promises.read(Buffer.alloc(512), 8), { code: 'ERR_UNVME_TIMEOUT' })
  await other
  await ns.promises.read(Buffer.alloc(512), 0)
  t.is(ns.stats.resets, 3)
})

test('recovery none: calls end by themselves, and close() has nothing to wait for', async (t) => {
  const ns = await faulty([lose({ opcode: READ, slba: 8 })], { recovery: 'none', qsize: 4 })
  for (let i = 0; i < 3; i++) {
    await t.throwsAsync(ns.promises.read(Buffer.alloc(512), 8), { code: 'ERR_UNVME_TIMEOUT' })
  }
  t.is(ns.stats.lost, 3)
  await t.throwsAsync(ns.promises.read(Buffer.alloc(512), 0), { code: 'ERR_UNVME_TIMEOUT', message: /full/ })
  const iterate = async () => {
    for await (const _ of ns.blocks({ nlb: 8 })) t.fail()
  }
  await t.throwsAsync(iterate(), { code: 'ERR_UNVME_TIMEOUT' })
  t.like(ns.stats, { aborts: 0, resets: 0 })
  await ns.reset()
  await ns.promises.read(Buffer.alloc(512), 0)
  await ns.close()
})

test('recovery abort: a command that can’t be aborted is given up, and nothing is reset', async (t) => {
  await using ns = await faulty([lose({ opcode: READ, slba: 8, times: 1 })], { recovery: 'abort' })
  await t.throwsAsync(ns.promises.read(Buffer.alloc(512), 8), { code: 'ERR_UNVME_TIMEOUT' })
  t.like(ns.stats, { aborts: 1, resets: 0, lost: 1 })
})

test('a fatal controller is reset: reads and writes go on, a compare says that its outcome is unknown', async (t) => {
  await using ns = await faulty(
    [
      { opcode: COMPARE, slba: 8, times: 1, action: { kind: 'delay', ms: 100 } },
      { opcode: READ, slba: 100, times: 1, action: { kind: 'fatal' } },
    ],
    { timeout: 5000 },
  )
  await ns.promises.write(Buffer.alloc(512, 7), 8)
  const compare = t.throwsAsync(ns.promises.compare(Buffer.alloc(512, 7), 8), {
    code: 'ERR_UNVME_OUTCOME_UNKNOWN',
  })
  await Promise.all([ns.promises.read(Buffer.alloc(512), 100), ns.promises.write(Buffer.alloc(512, 9), 9)])
  await compare
  t.is((await ns.promises.read(Buffer.alloc(512), 9))[0], 9)
  t.is(ns.stats.resets, 1)
})

test('a controller that is fatal again and again costs each command its retries at most', async (t) => {
  await using ns = await faulty([{ opcode: READ, slba: 100, times: 4, action: { kind: 'fatal' } }], {
    timeout: 5000,
  })
  await ns.promises.read(Buffer.alloc(512), 100)
  t.is(ns.stats.resets, 4)
})

test('streams and copies go on over resets, byte for byte', async (t) => {
  const faults = [
    lose({ opcode: WRITE, slba: 4000, times: 1 }),
    lose({ opcode: READ, slba: 9000, times: 1 }),
    { opcode: READ, slba: 20_000, times: 1, action: { kind: 'fatal' } } as const,
  ]
  await using ns = await faulty(faults)
  const data = Buffer.alloc(ns.blockcount * ns.blocksize)
  for (let i = 0; i < data.length; i += 4) data.writeUInt32LE(i, i)
  await pipeline(
    (async function* chunks() {
      for (let at = 0; at < data.length; at += 2 ** 18) yield data.subarray(at, at + 2 ** 18)
    })(),
    ns.createWriteStream(),
  )
  const read: Buffer[] = []
  for await (const chunk of ns.createReadStream()) read.push(chunk)
  t.true(Buffer.concat(read).equals(data))
  t.true(ns.stats.resets >= 2)
  t.like(ns.stats, { lost: 0, inFlight: 0 })
})

test('a long command in parts goes on with those that were lost', async (t) => {
  await using ns = await faulty([lose({ opcode: WRITE, slba: 600, times: 1 })], { maxTransferBytes: 4096 })
  const buf = ns.alloc(2 ** 20)
  for (let i = 0; i < buf.length; i += 4) buf.writeUInt32LE(i, i)
  const before = Buffer.from(buf)
  await ns.promises.write(buf, 0)
  buf.fill(0)
  await ns.promises.read(buf, 0)
  t.true(buf.equals(before))
})

test('a raw descriptor gets its result after a reset; one that is not let recover ends', async (t) => {
  await using ns = await faulty([lose({ opcode: READ, slba: 8, times: 1 }), lose({ opcode: READ, slba: 9 })])
  const buf = ns.alloc(512)
  const iod = ns.aread(0, buf, 8, 1)
  while (!ns.apoll(iod)) await new Promise(setImmediate)
  t.is(ns.stats.resets, 1)
  const stuck = ns.aread(0, buf, 9, 1)
  const spin = () => {
    while (!ns.apoll(stuck));
  }
  t.throws(spin, { code: 'ERR_UNVME_TIMEOUT' })
})

test('a failure that may pass is tried again, one that says Do Not Retry is not', async (t) => {
  const status = (slba: number, times: number, dnr: boolean): FaultRule => ({
    ...{ opcode: READ, slba, times },
    action: { kind: 'status', status: 0x281, dnr },
  })
  await using ns = await faulty([status(8, 2, false), status(9, 1, true), status(10, 1, false)])
  await ns.promises.read(Buffer.alloc(512), 8)
  t.is(ns.stats.retries, 2)
  await t.throwsAsync(ns.promises.read(Buffer.alloc(512), 9), { code: 'ERR_NVME_STATUS' })
  const once = ns.promises.read(Buffer.alloc(512), 10, 1, { retry: false })
  await t.throwsAsync(once, { code: 'ERR_NVME_STATUS' })
  t.is(ns.stats.retries, 2)
})

test('writes to the same block that are sent again keep their order', async (t) => {
  await using ns = await faulty([lose({ opcode: WRITE, slba: 8 })])
  const writes = Array.from({ length: 8 }, (_, i) => ns.promises.write(Buffer.alloc(512, i + 1), 8))
  // Lost each time: they are given up in the end, but the last that reached the medium is the last.
  await Promise.allSettled(writes)
  t.is((await ns.promises.read(Buffer.alloc(512), 8))[0], 8)
})

test('what was aborted before it was sent is never sent', async (t) => {
  await using ns = await open('sim:?size=16M&latency=50ms', { qsize: 2, qcount: 2 })
  const first = ns.promises.write(Buffer.alloc(512, 1), 0)
  const abort = new AbortController()
  const waiting = ns.promises.write(Buffer.alloc(512, 0xbb), 100, 1, { signal: abort.signal })
  abort.abort()
  await t.throwsAsync(waiting, { name: 'AbortError' })
  await ns.promises.write(Buffer.alloc(512, 0xcc), 100, 1, { qid: 1 })
  await first
  await new Promise((resolve) => setTimeout(resolve, 100))
  t.is((await ns.promises.read(Buffer.alloc(512), 100))[0], 0xcc)
})

test('a queue with commands that had no answer is not given to a thread', async (t) => {
  await using ns = await faulty([lose({ opcode: READ, slba: 8, times: 1 })], {
    threads: true,
    recovery: 'none',
  })
  await t.throwsAsync(ns.promises.read(Buffer.alloc(512), 8), { code: 'ERR_UNVME_TIMEOUT' })
  t.throws(() => ns.share(0), { code: 'ERR_UNVME_QUEUE_OWNER', message: /no answer/ })
  await ns.reset()
  await ns.share(0).recall()
})

test('resets one upon the other, and a queue that is to be shared meanwhile, end well', async (t) => {
  await using ns = await open('sim:?size=16M', { threads: true })
  const resets = [ns.reset(), ns.reset(), ns.reset()]
  t.throws(() => ns.share(0), { code: 'ERR_UNVME_QUEUE_OWNER', message: /reset/ })
  await Promise.all(resets)
  await ns.promises.read(Buffer.alloc(512), 0)
  await ns.share(0).recall()
  await ns.promises.read(Buffer.alloc(512), 0)
})

const fault = (action: FaultRule['action'], rule: Partial<FaultRule> = {}): FaultRule => ({
  ...{ opcode: READ, slba: 8, times: 1, ...rule },
  action,
})

test('a command that the controller swallows is ended by its Abort', async (t) => {
  await using ns = await faulty([fault({ kind: 'swallow' })])
  await t.throwsAsync(ns.promises.read(Buffer.alloc(512), 8), { code: 'ERR_UNVME_TIMEOUT' })
  await ns.promises.read(Buffer.alloc(512), 8)
  t.like(ns.stats, { aborts: 1, resets: 0, lost: 0 })
})

test('an Abort that has no answer either ends in a reset', async (t) => {
  const abort = fault({ kind: 'swallow' }, { queue: 'admin', opcode: 8 })
  const { slba: _, ...anywhere } = abort
  await using ns = await faulty([fault({ kind: 'swallow' }), anywhere])
  await ns.promises.read(Buffer.alloc(512), 8)
  t.like(ns.stats, { aborts: 1, resets: 1, retries: 1, lost: 0 })
})

test('a command that completes twice completes no other command', async (t) => {
  await using ns = await faulty([
    fault({ kind: 'twice' }, { times: 20 }),
    { opcode: READ, slba: 9, action: { kind: 'delay', ms: 20 } },
  ])
  await ns.promises.write(Buffer.alloc(512, 9), 9)
  for (let i = 0; i < 20; i++) {
    await ns.promises.read(Buffer.alloc(512), 8)
    const buf = Buffer.alloc(512)
    await ns.promises.read(buf, 9)
    t.is(buf[0], 9)
  }
  t.like(ns.stats, { stray: 20, lost: 0, inFlight: 0, resets: 0 })
})

test('a command that ends after a reset ends no other command', async (t) => {
  await using ns = await faulty([fault({ kind: 'afterReset' }, { times: 3 })])
  await ns.promises.write(Buffer.alloc(512, 9), 9)
  const events = await Promise.allSettled([
    ns.promises.read(Buffer.alloc(512), 8),
    ns.promises.read(Buffer.alloc(512), 9),
  ])
  t.is(events[1].status, 'fulfilled')
  await ns.reset()
  t.is((await ns.promises.read(Buffer.alloc(512), 9))[0], 9)
  t.is(ns.stats.lost, 0)
})

test('a controller that stops for longer than the timeout is recovered', async (t) => {
  await using ns = await faulty([fault({ kind: 'stop', ms: 2500 })])
  await Promise.all(Array.from({ length: 16 }, (_, i) => ns.promises.read(Buffer.alloc(512), i)))
  t.true(ns.stats.resets >= 1)
  t.like(ns.stats, { lost: 0, inFlight: 0 })
})

test('a controller that does not become ready is reset as a function, and given up in the end', async (t) => {
  await using ns = await faulty([fault({ kind: 'fatal', refuse: 1 })], { timeout: 5000 })
  await ns.promises.read(Buffer.alloc(512), 8)
  t.is(ns.stats.resets, 1)
  await using other = await faulty([fault({ kind: 'fatal', refuse: 5 })], { timeout: 5000 })
  await t.throwsAsync(other.promises.read(Buffer.alloc(512), 8), { code: 'ERR_UNVME_CONTROLLER_FATAL' })
  await t.throwsAsync(other.promises.read(Buffer.alloc(512), 9), { code: 'ERR_UNVME_CONTROLLER_FATAL' })
})

test('another controller behind the same address is not written to', async (t) => {
  await using ns = await faulty([fault({ kind: 'fatal', serial: 'ANOTHER' })], { timeout: 5000 })
  const write = ns.promises.write(Buffer.alloc(512), 100)
  await t.throwsAsync(ns.promises.read(Buffer.alloc(512), 8), {
    code: 'ERR_UNVME_DEVICE_REMOVED',
    message: /another controller.*ANOTHER/,
  })
  await write
  await t.throwsAsync(ns.promises.write(Buffer.alloc(512), 100), { code: 'ERR_UNVME_DEVICE_REMOVED' })
})

test('open refuses options of recovery that can’t be followed', async (t) => {
  const refused = async (options: object, code: string) =>
    t.throwsAsync(open('sim:?size=1M', options as OpenOptions), { code }, JSON.stringify(options))
  await refused({ recovery: 'abrot' }, 'ERR_INVALID_ARG_VALUE')
  await refused({ recovery: true }, 'ERR_INVALID_ARG_VALUE')
  await refused({ retries: -1 }, 'ERR_OUT_OF_RANGE')
  await refused({ retries: 1.5 }, 'ERR_OUT_OF_RANGE')
  await refused({ reconnect: -1 }, 'ERR_OUT_OF_RANGE')
  await refused({ reconnect: '5s' }, 'ERR_INVALID_ARG_TYPE')
})
