// A connection that is polled: calls that block, what becomes of them when the target goes, and data that leaves in parts.

import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { open } from '../../src/index.ts'
import { pattern } from '../support/pattern.ts'
import { run } from '../support/run.ts'
import { HOST, NQN, startTarget, type TargetLimits } from '../support/tcp-target.ts'
import { forkTarget } from '../support/tcp-target-child.ts'

const addressOf = (port: number, query = '', host = '127.0.0.1') =>
  `nvme+tcp://${host}:${port}/${NQN}?${HOST}&link=raw${query}`

async function setUp(t: { teardown(end: () => Promise<void>): void }, limits: TargetLimits = {}) {
  const child = await forkTarget('sim:?size=16M', 0, limits)
  t.teardown(() => child.kill())
  return child
}

test('calls that block return when done, without a turn of the event loop', async (t) => {
  const { port } = await setUp(t)
  const ns = await open(addressOf(port))
  t.teardown(() => ns.close())
  t.falsy(ns.controller.transport.eventDriven)
  let turned = false
  setImmediate(() => {
    turned = true
  })
  const buf = ns.alloc(1 << 20)
  const data = pattern(buf.length, 1)
  data.copy(buf)
  ns.write(0, buf, 3, buf.length / 512)
  buf.fill(0)
  ns.read(0, buf, 3, buf.length / 512)
  t.true(buf.equals(data))
  ns.compare(0, buf, 3, 8)
  ns.writeZeroes(0, 3, 8)
  ns.flush(0)
  const iod = ns.aread(0, buf, 3, 8)
  while (!ns.apoll(iod, 10));
  t.true(buf.subarray(0, 4096).equals(Buffer.alloc(4096)))
  t.throws(() => ns.compare(0, buf.subarray(8192), 3, 8), { message: /Compare Failure/ })
  t.false(turned)
})

for (const [name, limits, query] of [
  ['in parts of 4 KiB', { inCapsule: 0, maxH2cData: 4096 }, ''],
  ['as large as they come', { inCapsule: 0, maxH2cData: 1 << 20, maxR2t: 1 << 20 }, '&hdgst=1&ddgst=1'],
] as const) {
  test(`what the system does not take at once is sent when it can, ${name}`, async (t) => {
    const child = await setUp(t, limits)
    const ns = await open(addressOf(child.port, query), { qsize: 17 })
    t.teardown(() => ns.close())
    const bufs = Array.from({ length: 12 }, (_, i) => pattern(1 << 20, i))
    const writes = bufs.map((data, i) => ns.promises.write(data, i * 2048))
    // Its socket's buffers are full some time after the target has asked for data.
    for (let i = 0; i < 5; i++) {
      await delay(5)
      child.signal('SIGSTOP')
      await delay(20)
      child.signal('SIGCONT')
    }
    await Promise.all(writes)
    const back = await ns.promises.read(Buffer.alloc(12 << 20), 0)
    t.true(back.equals(Buffer.concat(bufs)))
    t.like(ns.stats, { resets: 0, failed: 0 })
  })
}

test('a target that goes ends a call that blocks: with recovery when the event loop has had its turn', async (t) => {
  const child = await setUp(t)
  const { port } = child
  const ns = await open(addressOf(port), { recovery: 'none' })
  t.teardown(() => ns.close())
  const buf = ns.alloc(512)
  ns.read(0, buf, 0, 1)
  await child.kill()
  t.throws(
    () => {
      for (;;) ns.read(0, buf, 0, 1)
    },
    { code: 'ERR_UNVME_DEVICE_REMOVED', message: /closed the connection|connection failed/ },
  )
  const again = await forkTarget('sim:?size=16M', port)
  t.teardown(() => again.kill())
  const other = await open(addressOf(port, '&kato=0'), { reconnectDelay: 10, timeout: 2000 })
  t.teardown(() => other.close())
  await again.kill()
  const third = await forkTarget('sim:?size=16M', port)
  t.teardown(() => third.kill())
  await other.promises.read(Buffer.alloc(512), 0)
  const after = other.alloc(512)
  other.read(0, after, 0, 1)
  t.true(other.stats.resets >= 1)
})

test('an IPv6 address, and a name', async (t) => {
  const target = await startTarget('sim:?size=4M', { host: '::1' })
  t.teardown(() => target.close())
  const ns = await open(addressOf(target.port, '', '[::1]'))
  t.is((await ns.promises.read(Buffer.alloc(512), 0)).length, 512)
  await ns.close()
  const { port } = await setUp(t)
  const named = await open(addressOf(port, '', 'localhost'))
  named.flush(0)
  await named.close()
})

test.serial('elsewhere than on Linux it is refused, as is a kind that does not exist', async (t) => {
  const { port } = await setUp(t)
  const { value, ...rest } = Object.getOwnPropertyDescriptor(process, 'platform')!
  Object.defineProperty(process, 'platform', { ...rest, value: 'darwin' })
  try {
    await t.throwsAsync(open(addressOf(port)), { code: 'ERR_UNVME_UNSUPPORTED', message: /Linux.* darwin/ })
  } finally {
    Object.defineProperty(process, 'platform', { ...rest, value })
  }
  await t.throwsAsync(open(`nvme+tcp://127.0.0.1:${port}/${NQN}?link=other`), { code: 'ERR_UNVME_ADDRESS' })
})

test('an open device keeps no process alive, and what waits for it does', async (t) => {
  const child = await forkTarget('sim:?size=1M&latency=100ms')
  t.teardown(() => child.kill())
  const program = new URL('./tcp-idle.js', import.meta.url).pathname
  const address = addressOf(child.port)
  t.is((await run(program, [address])).stdout, 'open\n')
  let stdout = ''
  while (stdout === '') stdout = (await run(program, [address, 'read'])).stdout
  t.is(stdout, 'open\nread\n')
})
