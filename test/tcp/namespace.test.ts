// What a namespace over TCP refuses, and how it lives in a process.

import test, { type ExecutionContext } from 'ava'
import { open } from '../../src/index.ts'
import { run } from '../support/run.ts'
import { startProxy } from '../support/tcp-proxy.ts'
import { HOST, NQN, startTarget } from '../support/tcp-target.ts'
import { forkTarget } from '../support/tcp-target-child.ts'

async function setUp(t: ExecutionContext, host = '127.0.0.1') {
  const target = await startTarget('sim:?size=4M', { host })
  t.teardown(() => target.close())
  return target
}

test('calls that would keep out the event loop are refused, and nothing is sent', async (t) => {
  const target = await setUp(t)
  const ns = await open(target.address())
  t.teardown(() => ns.close())
  const buf = ns.alloc(4096)
  const { commands } = ns.stats
  for (const [name, call] of [
    ['read', () => ns.read(0, buf, 0, 1)],
    ['write', () => ns.write(0, buf, 0, 1)],
    ['compare', () => ns.compare(0, buf, 0, 1)],
    ['writeZeroes', () => ns.writeZeroes(0, 0, 1)],
    ['verify', () => ns.verify(0, 0, 1)],
    ['flush', () => ns.flush(0)],
    ['deallocate', () => ns.deallocate(0, [{ slba: 0, nlb: 1 }])],
    ['cmd', () => ns.cmd(0, { opcode: 0 })],
  ] as const) {
    t.throws(call, {
      code: 'ERR_UNVME_UNSUPPORTED',
      message: new RegExp(`^${name}: .* ns.promises.${name}, or a${name}`),
    })
  }
  t.is(ns.stats.commands, commands)
  t.is(ns.stats.inFlight, 0)
  const iod = ns.aread(0, buf, 0, 1)
  t.throws(() => ns.apoll(iod, 10), { code: 'ERR_UNVME_UNSUPPORTED', message: /^apoll: a timeout/ })
  while (!ns.apoll(iod)) await new Promise(setImmediate)
  const metadata = ns.alloc(8)
  const command = { opcode: 2, buf: buf.subarray(0, 512), metadata }
  t.throws(() => ns.acmd(0, command), { code: 'ERR_UNVME_UNSUPPORTED', message: /^acmd: .* metadata/ })
  await t.throwsAsync(ns.promises.cmd(command), {
    code: 'ERR_UNVME_UNSUPPORTED',
    message: /^cmd: .* metadata/,
  })
  ns.free(metadata)
  ns.free(buf)
})

test('a namespace whose format has a buffer of its own for metadata is refused', async (t) => {
  const target = await setUp(t)
  const proxy = await startProxy(target.port)
  t.teardown(() => proxy.close())
  proxy.toHost = (pdu, { index }) => {
    // Identify Namespace: its first LBA format gets 8 bytes of metadata.
    if (index === 0 && pdu[0] === 7 && pdu.readBigUInt64LE(24) === 8192n) pdu.writeUInt16LE(8, 24 + 128)
    return [pdu]
  }
  await t.throwsAsync(open(target.address('', proxy.port)), {
    code: 'ERR_UNVME_UNSUPPORTED',
    message: /\/1: its format has a buffer of its own for metadata/,
  })
})

test('another address of the same controller is the same device, unless it asks for something else', async (t) => {
  const target = await setUp(t)
  const ns = await open(target.address('queues=3'))
  t.is(ns.qcount, 3)
  const same = await open(`nvme+tcp://127.0.0.1:${target.port}/${encodeURIComponent(NQN)}`)
  t.is(same.controller, ns.controller)
  await t.throwsAsync(open(target.address('ddgst=1')), {
    code: 'ERR_UNVME_IN_USE',
    message: /differs in ddgst$/,
  })
  await same.close()
  await ns.close()
})

test('IPv6 addresses stand in brackets', async (t) => {
  const target = await setUp(t, '::1')
  const ns = await open(`nvme+tcp://[::1]:${target.port}/${NQN}?${HOST}`)
  t.is((await ns.promises.read(Buffer.alloc(512), 0)).length, 512)
  await ns.close()
})

test('an address where no one listens, and a name that does not exist', async (t) => {
  await t.throwsAsync(open(`nvme+tcp://127.0.0.1:1/${NQN}?${HOST}`), {
    code: 'ERR_UNVME_SETUP',
    message: /no connection: connect ECONNREFUSED/,
  })
  await t.throwsAsync(open(`nvme+tcp://no.such.host.invalid/${NQN}?${HOST}`), {
    code: 'ERR_UNVME_SETUP',
    message: /no connection: getaddrinfo/,
  })
})

test('opening ends by its signal, whatever it waits for', async (t) => {
  const server = (await import('node:net')).createServer(() => {})
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => void server.close())
  const { port } = server.address() as { port: number }
  const controller = new AbortController()
  const opening = open(`nvme+tcp://127.0.0.1:${port}/${NQN}?${HOST}`, { signal: controller.signal })
  setImmediate(() => controller.abort())
  await t.throwsAsync(opening, { code: 'ABORT_ERR' })
  await t.throwsAsync(open(`nvme+tcp://127.0.0.1:${port}/${NQN}?${HOST}`, { timeout: 50 }), {
    code: 'ERR_UNVME_PROTOCOL',
    message: /no ICResp within 50 ms/,
  })
})

test('an open device keeps no process alive, and what waits for it does', async (t) => {
  const child = await forkTarget('sim:?size=1M&latency=100ms')
  t.teardown(() => child.kill())
  const program = new URL('./tcp-idle.js', import.meta.url).pathname
  const address = `nvme+tcp://127.0.0.1:${child.port}/${NQN}?${HOST}`
  t.is((await run(program, [address])).stdout, 'open\n')
  // The target may not have seen yet that the first has gone: it says that it is busy then.
  let stdout = ''
  while (stdout === '') stdout = (await run(program, [address, 'read'])).stdout
  t.is(stdout, 'open\nread\n')
})
