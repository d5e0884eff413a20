// Keep Alive: it is sent while nothing else goes on, a target that misses it ends the association, and a host that has no
// answer begins again.

import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { open } from '../../src/index.ts'
import { pattern } from '../support/pattern.ts'
import { startProxy } from '../support/tcp-proxy.ts'
import { HOST, NQN, startTarget } from '../support/tcp-target.ts'
import { forkTarget } from '../support/tcp-target-child.ts'

const KEEP_ALIVE = 0x18
const KATO = 500

async function setUp(t: { teardown(end: () => Promise<void>): void }, query = `kato=${KATO}`) {
  const target = await startTarget('sim:?size=4M')
  const proxy = await startProxy(target.port)
  const ns = await open(target.address(query, proxy.port), { reconnectDelay: 10 })
  t.teardown(async () => {
    await ns.close()
    await proxy.close()
    await target.close()
  })
  return { target, proxy, ns }
}

const isKeepAlive = (pdu: Buffer) => pdu[0] === 4 && pdu[8] === KEEP_ALIVE

test.serial('Keep Alive is sent while nothing else goes on, and keeps the association', async (t) => {
  const { proxy, ns } = await setUp(t)
  let sent = 0
  proxy.toTarget = (pdu) => {
    if (isKeepAlive(pdu)) sent++
    return [pdu]
  }
  while (sent < 5) await delay(10)
  await ns.promises.read(Buffer.alloc(512), 0)
  t.is(ns.stats.resets, 0)
  t.is(proxy.connections.length, 2)
})

test.serial('kato=0 sends none', async (t) => {
  const { proxy } = await setUp(t, 'kato=0')
  let sent = 0
  proxy.toTarget = (pdu) => {
    if (isKeepAlive(pdu)) sent++
    return [pdu]
  }
  await delay(2 * KATO)
  t.is(sent, 0)
})

test.serial('a target that misses Keep Alive ends the association, and the host begins again', async (t) => {
  const { proxy, ns, target } = await setUp(t)
  const data = pattern(4096, 2)
  await ns.promises.write(data, 0)
  proxy.toTarget = (pdu, { index }) => (isKeepAlive(pdu) && index === 0 ? [] : [pdu])
  while (proxy.connections.length < 4) await delay(10)
  t.true((await ns.promises.read(Buffer.alloc(4096), 0)).equals(data))
  t.is(ns.stats.resets, 1)
  // What is over is closed by both.
  while (target.server.connections !== 2) await delay(5)
  t.pass()
})

test.serial('a host that has no answer to Keep Alive begins again', async (t) => {
  const { proxy, ns } = await setUp(t)
  const causes: string[] = []
  const controller = ns.controller as unknown as {
    onRecovery(handler: (event: { cause: Error }) => void): void
  }
  controller.onRecovery(({ cause }) => causes.push(cause.message))
  let swallow = -1
  proxy.toTarget = (pdu) => {
    if (isKeepAlive(pdu) && swallow < 0) swallow = pdu.readUInt16LE(10)
    return [pdu]
  }
  proxy.toHost = (pdu, { index }) =>
    index === 0 && pdu[0] === 5 && pdu.readUInt16LE(20) === swallow ? [] : [pdu]
  while (proxy.connections.length < 4) await delay(10)
  await ns.promises.read(Buffer.alloc(512), 0)
  t.is(ns.stats.resets, 1)
  t.regex(causes[0]!, /has not answered Keep Alive within 500 ms/)
})

test.serial('a status other than success to Keep Alive is a loss, too', async (t) => {
  const { proxy, ns } = await setUp(t)
  let failed = -1
  proxy.toTarget = (pdu, { index }) => {
    if (isKeepAlive(pdu) && index === 0) failed = pdu.readUInt16LE(10)
    return [pdu]
  }
  proxy.toHost = (pdu, { index }) => {
    if (index === 0 && pdu[0] === 5 && pdu.readUInt16LE(20) === failed) pdu.writeUInt16LE(1 << 1, 22)
    return [pdu]
  }
  while (proxy.connections.length < 4) await delay(10)
  await ns.promises.read(Buffer.alloc(512), 0)
  t.is(ns.stats.resets, 1)
})

test.serial(
  'a cable that was pulled: nothing is sent again before the target has had to end what it had',
  async (t) => {
    const { proxy, ns } = await setUp(t)
    const data = pattern(4096, 3)
    await ns.promises.write(data, 0)
    proxy.pulled = true
    const before = proxy.connections.length
    const written = ns.promises.write(pattern(4096, 4), 0)
    // A new connection is made when the Keep Alive Timer of the target must have run out: it finds the controller free.
    proxy.onConnection = () => {
      proxy.pulled = false
    }
    await written
    t.true((await ns.promises.read(Buffer.alloc(4096), 0)).equals(pattern(4096, 4)))
    t.is(ns.stats.resets, 1)
    t.is(proxy.connections.length, before + 2)
  },
)

test.serial(
  'an event loop that stands still for longer than KATO loses the association, and goes on',
  async (t) => {
    const child = await forkTarget('sim:?size=4M')
    t.teardown(() => child.kill())
    const address = `nvme+tcp://127.0.0.1:${child.port}/${NQN}?${HOST}&kato=${KATO}`
    const ns = await open(address, { reconnectDelay: 10 })
    t.teardown(() => ns.close())
    await ns.promises.write(pattern(4096, 5), 0)
    const until = performance.now() + 4 * KATO
    while (performance.now() < until);
    t.true((await ns.promises.read(Buffer.alloc(4096), 0)).equals(pattern(4096, 5)))
    while (ns.stats.resets === 0) await delay(5)
    t.true((await ns.promises.read(Buffer.alloc(4096), 0)).equals(pattern(4096, 5)))
  },
)
