// Plain buffers over TCP, which are filled where they are: what becomes of one whose command is late, lost, or sent
// again. test/device/plain-buffers.ts has what they are on every device.

import { setTimeout as delay } from 'node:timers/promises'
import type { ExecutionContext } from 'ava'
import type { OpenOptions } from '../../src/index.ts'
import { pattern } from '../support/pattern.ts'
import { type LinkContext, onEachLink, openByProxy } from '../support/tcp-links.ts'
import type { ProxiedConnection } from '../support/tcp-proxy.ts'

const BLOCK = 512
const TYPE = { H2C_DATA: 6, C2H_DATA: 7, R2T: 9 } as const

async function setUp(t: ExecutionContext<LinkContext>, options?: OpenOptions) {
  const { proxy, ns } = await openByProxy(t, 'sim:?size=32M', options)
  const check = async (data: Buffer, slba: number) =>
    t.true((await ns.promises.read(Buffer.alloc(data.length), slba)).equals(data), `from ${slba} on`)
  return { proxy, ns, check }
}

type Proxy = Awaited<ReturnType<typeof setUp>>['proxy']

/** From now on PDUs of a type for the host's I/O queue stay here, but for their first `let` bytes, until `release`. */
function hold(proxy: Proxy, type: number, letBytes = 0) {
  const held: { pdu: Buffer; connection: ProxiedConnection }[] = []
  let onHeld = () => {}
  const first = new Promise<void>((resolve) => {
    onHeld = resolve
  })
  proxy.toHost = (pdu, connection) => {
    const isHeld = connection.index > 0 && (pdu[0] === type || held.length > 0)
    if (!isHeld) return [pdu]
    const through = held.length === 0 ? letBytes : 0
    held.push({ pdu: pdu.subarray(through), connection })
    onHeld()
    return through === 0 ? [] : [pdu.subarray(0, through)]
  }
  const release = () => {
    proxy.toHost = (pdu) => [pdu]
    for (const { pdu, connection } of held.splice(0)) connection.toHost.write(pdu)
  }
  return { first, release }
}

onEachLink('reads into plain buffers take no memory of the pool', async (t) => {
  const { ns, check } = await setUp(t)
  const data = pattern(2 ** 20, 1)
  await ns.promises.write(data, 1)
  const { bytes } = ns.pool
  await check(data, 1)
  await Promise.all(
    Array.from({ length: 500 }, (_, i) => check(data.subarray(i * BLOCK, (i + 1) * BLOCK), i + 1)),
  )
  t.is(ns.pool.bytes, bytes)
})

for (const [what, letBytes] of [
  ['all of it', 0],
  ['the rest of what has begun to come', 24 + 1000],
] as const) {
  onEachLink(`a read without an answer in time leaves its buffer alone: late comes ${what}`, async (t) => {
    const { ns, proxy, check } = await setUp(t, { timeout: 100, recovery: 'none' })
    const data = pattern(64 * 1024, 2)
    await ns.promises.write(data, 0)
    const { first, release } = hold(proxy, TYPE.C2H_DATA, letBytes)
    const buf = Buffer.alloc(data.length)
    const read = ns.promises.read(buf, 0)
    await first
    await t.throwsAsync(read, { code: 'ERR_UNVME_TIMEOUT' })
    buf.fill(0xee)
    release()
    await check(data, 0)
    t.is(ns.stats.late, 1)
    t.true(buf.every((byte) => byte === 0xee))
  })

  onEachLink(`an aborted read leaves its buffer alone: late comes ${what}`, async (t) => {
    const { ns, proxy, check } = await setUp(t)
    const data = pattern(64 * 1024, 3)
    await ns.promises.write(data, 0)
    const { first, release } = hold(proxy, TYPE.C2H_DATA, letBytes)
    const buf = Buffer.alloc(data.length)
    const controller = new AbortController()
    const read = ns.promises.read(buf, 0, undefined, { signal: controller.signal })
    await first
    await delay(5)
    controller.abort()
    await t.throwsAsync(read, { code: 'ABORT_ERR' })
    buf.fill(0xee)
    release()
    while (ns.stats.inFlight > 0) await delay(1)
    t.true(buf.every((byte) => byte === 0xee))
    await check(data, 0)
  })
}

onEachLink(
  'a write without an answer in time sends what it was given, also when it is asked for later',
  async (t) => {
    const { ns, proxy, check } = await setUp(t, { timeout: 100, recovery: 'none' })
    const { first, release } = hold(proxy, TYPE.R2T)
    const data = pattern(64 * 1024, 4)
    const buf = Buffer.from(data)
    const write = ns.promises.write(buf, 9)
    await first
    await t.throwsAsync(write, { code: 'ERR_UNVME_TIMEOUT' })
    buf.fill(0xee)
    release()
    while (ns.stats.late === 0) await ns.promises.read(Buffer.alloc(BLOCK), 0)
    await check(data, 9)
  },
)

onEachLink(
  'a connection that is lost again and again: long calls go on with their own buffers',
  async (t) => {
    const { ns, proxy } = await setUp(t, { retries: 1000 })
    const nlb = 600
    let over = false
    const work = async (first: number) => {
      // At odd addresses.
      const data = Buffer.alloc(nlb * BLOCK + 1).subarray(1)
      const back = Buffer.alloc(nlb * BLOCK + 3).subarray(3)
      let rounds = 0
      for (; !over; rounds++) {
        pattern(data.length, first + rounds).copy(data)
        await ns.promises.write(data, first)
        await ns.promises.read(back, first)
        if (!back.equals(data)) throw new Error(`round ${rounds} at ${first} came back as something else`)
      }
      return rounds
    }
    const workers = Array.from({ length: 6 }, (_, i) => work(i * 1000))
    const failed = Promise.all(workers).then(() => {})
    for (let i = 1; i <= 3; i++) {
      await Promise.race([failed, delay(30)])
      proxy.endAll()
      while (ns.stats.resets < i) await Promise.race([failed, delay(5)])
    }
    over = true
    t.true((await Promise.all(workers)).every((rounds) => rounds > 0))
    t.is(ns.stats.failed, 0)
  },
)

onEachLink('a write whose buffer is transferred before its data is asked for has taken it', async (t) => {
  const { ns, proxy, check } = await setUp(t)
  const { first, release } = hold(proxy, TYPE.R2T)
  const buf = Buffer.from(new ArrayBuffer(128 * BLOCK)).fill(0xdd)
  const write = ns.promises.write(buf, 1)
  await first
  structuredClone(buf.buffer, { transfer: [buf.buffer as ArrayBuffer] })
  release()
  await write
  await check(Buffer.alloc(128 * BLOCK, 0xdd), 1)
})

onEachLink(
  'a device that is closed rejects a read whose buffer was transferred, and others beside it',
  async (t) => {
    const { ns, proxy } = await setUp(t)
    const { first } = hold(proxy, TYPE.C2H_DATA)
    const buffers = Array.from({ length: 3 }, () => Buffer.from(new ArrayBuffer(128 * BLOCK)))
    const reads = buffers.map((buf, i) => ns.promises.read(buf, i * 128))
    const ends = Promise.allSettled(reads)
    await first
    const { buffer } = buffers[1]!
    structuredClone(buffer, { transfer: [buffer as ArrayBuffer] })
    await ns.close()
    t.true((await ends).every(({ status }) => status === 'rejected'))
  },
)
