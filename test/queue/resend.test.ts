// Commands that are sent again, where something else comes into it: a second failure, an abort, a reset, a share.

import test from 'ava'
import type { Controller } from '../../lib/nvme/host/controller.ts'
import type { FaultRule } from '../../lib/sim/index.ts'
import { type Namespace, type OpenOptions, open } from '../../src/index.ts'

const WRITE = 1
const READ = 2

const block = (byte = 0) => Buffer.alloc(512, byte)

const faulty = (faults: FaultRule[], options: OpenOptions = {}): Promise<Namespace> =>
  open('sim:?size=16M', { faults, timeout: 150, ...options })

const passing = (slba: number): FaultRule => ({
  ...{ opcode: READ, slba, times: 1 },
  action: { kind: 'status', status: 0x281, dnr: false },
})

for (const recovery of ['none', 'abort'] as const) {
  test(`recovery ${recovery}: one that is sent again and lost then does not keep the others`, async (t) => {
    await using ns = await faulty(
      [passing(8), { opcode: READ, slba: 8, skip: 1, times: 1, action: { kind: 'lose' } }],
      { recovery },
    )
    await t.throwsAsync(ns.promises.read(block(), 8), { code: 'ERR_UNVME_TIMEOUT' })
    t.is(ns.stats.retries, 1)
    await ns.promises.read(block(), 0)
    await ns.promises.read(block(), 8)
  })
}

test('a reset that is asked for while a command is sent again leaves the queue as new', async (t) => {
  await using ns = await faulty(
    [passing(8), { opcode: READ, slba: 8, skip: 1, times: 1, action: { kind: 'delay', ms: 1000 } }],
    {
      timeout: 5000,
    },
  )
  const read = t.throwsAsync(ns.promises.read(block(), 8), { code: 'ERR_UNVME_CONTROLLER_RESET' })
  while (ns.stats.retries === 0) await new Promise(setImmediate)
  await ns.reset()
  await read
  await ns.promises.read(block(), 0)
})

test('each command has its own retries: a long call may have more of them in flight', async (t) => {
  await using ns = await faulty([{ opcode: READ, slba: 100, times: 1, action: { kind: 'fatal' } }], {
    ...{ maxTransferBytes: 4096, timeout: 5000, retries: 2 },
  })
  const data = Buffer.alloc(2 ** 17)
  for (let i = 0; i < data.length; i += 4) data.writeUInt32LE(i, i)
  await ns.promises.write(data, 0)
  const read = await ns.promises.read(Buffer.alloc(data.length), 0)
  t.true(read.equals(data))
  t.is(ns.stats.resets, 1)
})

test('writes to the same block keep their order where the first is lost twice', async (t) => {
  await using ns = await faulty([{ opcode: WRITE, slba: 8, times: 5, action: { kind: 'lose' } }])
  await Promise.all([1, 2, 3, 4].map((byte) => ns.promises.write(block(byte), 8)))
  t.is((await ns.promises.read(block(), 8))[0], 4)
})

test('a long call that is aborted while nothing of it is in flight ends', async (t) => {
  await using ns = await faulty([{ opcode: READ, slba: 0, times: 1, action: { kind: 'delay', ms: 300 } }], {
    ...{ maxTransferBytes: 4096, qsize: 3, timeout: 5000 },
  })
  const { recovery } = ns.controller as Controller
  const buf = ns.alloc(16 * 4096)
  const abort = new AbortController()
  const long = ns.promises.read(buf, 0, 128, { signal: abort.signal })
  await new Promise(setImmediate)
  t.true(recovery.begin(new Error('on purpose')))
  t.is(ns.stats.inFlight, 0)
  abort.abort()
  await t.throwsAsync(long, { name: 'AbortError' })
  await recovery.running
  t.notThrows(() => ns.free(buf))
})

test('memory is the device’s until the reset, also where its call is aborted before that', async (t) => {
  await using ns = await faulty(
    [{ opcode: READ, slba: 8, times: 1, action: { kind: 'delay', ms: 10_000 } }],
    {
      timeout: 5000,
    },
  )
  const { recovery } = ns.controller as Controller
  const buf = ns.alloc(512)
  const abort = new AbortController()
  const read = ns.promises.read(buf, 8, 1, { signal: abort.signal })
  await new Promise((resolve) => setTimeout(resolve, 20))
  t.true(recovery.begin(new Error('on purpose')))
  t.not(recovery.running, null)
  abort.abort()
  t.throws(() => ns.free(buf), { code: 'ERR_UNVME_BUFFER_IN_USE' })
  await t.throwsAsync(read, { name: 'AbortError' })
  await recovery.running
  t.notThrows(() => ns.free(buf))
  await ns.promises.read(block(), 9)
})

test('a share that nobody has attached does not keep a fatal controller from its reset', async (t) => {
  await using ns = await faulty([{ opcode: READ, slba: 8, times: 1, action: { kind: 'fatal' } }], {
    ...{ threads: true, qcount: 2, timeout: 5000 },
  })
  const share = ns.share(1)
  const started = performance.now()
  await ns.promises.read(block(), 8)
  t.true(performance.now() - started < 4000)
  await share.returned
  await ns.promises.read(block(), 8, 1, { qid: 1 })
  t.like(ns.stats, { resets: 1, lost: 0, inFlight: 0 })
})

for (const [which, skip] of [
  ['Identify Controller', 3],
  ['Identify Namespace', 4],
] as const) {
  test(`a controller that is fatal once more while it is brought back (${which}) is reset again`, async (t) => {
    await using ns = await faulty(
      [
        { opcode: READ, slba: 8, times: 1, action: { kind: 'fatal' } },
        { queue: 'admin', opcode: 6, skip, times: 1, action: { kind: 'fatal' } },
      ],
      { timeout: 5000 },
    )
    const started = performance.now()
    await ns.promises.read(block(), 8)
    t.true(performance.now() - started < 4000)
    t.is(ns.stats.resets, 1)
  })
}

test('what waits for a command goes on where that is ended by its Abort', async (t) => {
  await using ns = await faulty(
    [{ opcode: READ, slba: 8, times: 1, action: { kind: 'delay', ms: 60_000 } }],
    { qsize: 2 },
  )
  const aborted = t.throwsAsync(ns.promises.read(block(), 8), { code: 'ERR_UNVME_TIMEOUT' })
  const waiting = [0, 1, 2].map((slba) => ns.promises.read(block(), slba))
  await aborted
  await Promise.all(waiting)
  t.like(ns.stats, { aborts: 1, resets: 0, late: 1, lost: 0, inFlight: 0 })
})
