// Clients that end in the middle of something, flood, or dribble; and devices that are reset, removed or closed under load.

import type net from 'node:net'
import tls from 'node:tls'
import test from 'ava'
import { ClosedError } from '../../lib/errors.ts'
import type { DmaPool } from '../../lib/memory/pool.ts'
import { COMMAND, COMMAND_FLAG, encodeOption, NBD_ERROR, OPTION } from '../../lib/nbd/protocol.ts'
import { readExactly } from '../../lib/nbd/read-exactly.ts'
import { open, serveNbd } from '../../src/index.ts'
import { BlockRequest, BlockServer, TASK } from '../../src/servers/block-server.ts'
import { clearLimits } from '../../src/servers/clear-limits.ts'
import { type PartHolder, ServerMemory } from '../../src/servers/memory.ts'
import { testFolder } from '../support/folder.ts'
import { encodeRequest, goData, RawNbd, startNbd } from '../support/nbd.ts'
import { pattern } from '../support/pattern.ts'

const file = testFolder()
const { READ, WRITE, FLUSH, BLOCK_STATUS, WRITE_ZEROES, TRIM } = COMMAND
const MIB = 2 ** 20
const key = Buffer.alloc(32, 7)
const turn = () => new Promise(setImmediate)

/** A client with TLS, after the handshake. */
async function secureClient(path: string): Promise<tls.TLSSocket> {
  const raw = await RawNbd.greeted(path)
  await raw.option(OPTION.STARTTLS)
  const secure = tls.connect({
    socket: raw.socket,
    ...{ minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2', ciphers: 'PSK', checkServerIdentity: () => undefined },
    pskCallback: () => ({ psk: key, identity: 'alice' }),
  })
  secure.on('error', () => {})
  await new Promise((resolve, reject) => secure.once('secureConnect', resolve).once('close', reject))
  return secure
}

test('a whole session in one piece that half-closes is answered, then closed', async (t) => {
  const { path, server } = await startNbd(t)
  const raw = await RawNbd.connect(path)
  const data = pattern(100_000, 1)
  raw.socket.end(
    Buffer.concat([
      Buffer.from([0, 0, 0, 3]),
      encodeOption(OPTION.GO, goData()),
      encodeRequest(WRITE, { offset: 512, data }),
      encodeRequest(FLUSH, {}),
    ]),
  )
  const said: Buffer[] = []
  for await (const chunk of raw.socket) said.push(chunk)
  t.true(Buffer.concat(said).length > 18 + 2 * 16)
  t.like(server.stats, { writes: 1, flushes: 1, clients: 0 })
})

test('a client that half-closes within a write that waits for memory is closed, and its memory comes back', async (t) => {
  const { path, server } = await startNbd(t, 'sim:?size=32M', { maxBytes: 2 * MIB, stallTimeout: 60_000 })
  const holder = [await RawNbd.ready(path), await RawNbd.ready(path)]
  for (const raw of holder) raw.send(encodeRequest(WRITE, { bytes: MIB }), Buffer.alloc(100))
  while (server.stats.memoryBytes < 2 * MIB) await turn()
  const waiting = await RawNbd.ready(path)
  waiting.send(encodeRequest(WRITE, { bytes: MIB }))
  for (let i = 0; i < 20; i++) await turn()
  waiting.socket.end()
  waiting.socket.resume()
  for (let i = 0; i < 500; i++) await turn()
  for (const raw of holder) raw.close()
  await waiting.closed
  const good = await RawNbd.ready(path)
  t.is((await good.simple(READ, { bytes: MIB })).error, 0)
  t.is(server.stats.writes, 0)
  good.close()
})

test('plain text behind STARTTLS is no option of the session that follows', async (t) => {
  const ns = await open('sim:?size=1M')
  const server = await serveNbd(ns, { path: file('inject'), tls: { psk: { alice: key } } })
  const raw = await RawNbd.greeted(file('inject'))
  raw.send(encodeOption(OPTION.STARTTLS), encodeOption(OPTION.LIST))
  await raw.bytes(20)
  const secure = tls.connect({
    socket: raw.socket,
    ...{ minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2', ciphers: 'PSK', checkServerIdentity: () => undefined },
    pskCallback: () => ({ psk: key, identity: 'alice' }),
  })
  secure.on('error', () => {})
  await new Promise((resolve) => secure.once('close', resolve).once('secureConnect', resolve))
  t.true(secure.destroyed)
  // In TLS, garbage before an export is chosen ends the connection, and nothing else.
  const next = await secureClient(file('inject'))
  next.resume()
  next.write(Buffer.alloc(100, 1))
  await new Promise((resolve) => next.once('close', resolve))
  const torn = await secureClient(file('inject'))
  ;(torn as unknown as { _parent: net.Socket })._parent?.write(Buffer.alloc(100, 1))
  torn.resume()
  await new Promise((resolve) => torn.once('close', resolve))
  while (server.stats.refused < 3) await turn()
  await server.close()
  await ns.close()
})

test('a client of TLS that floods is read no further than it may', async (t) => {
  const ns = await open('sim:?size=32M&latency=50ms')
  const server = await serveNbd(ns, { path: file('flood'), maxRequests: 2, tls: { psk: { alice: key } } })
  const secure = await secureClient(file('flood'))
  const one = encodeRequest(WRITE, { data: Buffer.alloc(60_000) })
  secure.write(Buffer.concat([encodeOption(OPTION.GO, goData()), ...Array.from({ length: 300 }, () => one)]))
  let answered = 0
  secure.on('data', (data) => {
    answered += data.length
  })
  while (answered < 60 + 20 * 16) await turn()
  // What was sent is 18 MB: all but what is in flight has to be in the sockets still.
  t.true(secure.writableLength > 10 * MIB, `${secure.writableLength} bytes are still here`)
  secure.destroy()
  await server.close()
  await ns.close()
})

test('a client that sends one byte now and then does not keep memory for ever', async (t) => {
  const { path } = await startNbd(t, 'sim:?size=32M', { stallTimeout: 100 })
  const raw = await RawNbd.ready(path)
  raw.socket.resume()
  raw.send(encodeRequest(WRITE, { bytes: MIB }), Buffer.alloc(100))
  const timer = setInterval(() => raw.send(Buffer.alloc(1)), 20)
  await raw.closed
  clearInterval(timer)
  t.pass()
})

test('DF is refused where structured replies were not agreed on', async (t) => {
  const { path } = await startNbd(t, 'sim:?size=1M')
  const raw = await RawNbd.ready(path)
  t.is((await raw.simple(READ, { bytes: 512, flags: COMMAND_FLAG.DF })).error, NBD_ERROR.EINVAL)
  raw.close()
  const structured = await RawNbd.ready(path, { structured: true })
  t.is((await structured.chunk(READ, { bytes: 512, flags: COMMAND_FLAG.DF })).type, 1)
  structured.close()
})

test('block status: extents follow one another to the end of a request of 4 GiB - 1', async (t) => {
  const size = 6 * 2 ** 30
  const { path, ns } = await startNbd(t, `sim:${file('large.img')}?size=${size}`)
  // The hole ends 2048 bytes before the request does.
  const data = 2 ** 32
  await ns.promises.write(pattern(8192, 1), data / ns.blocksize)
  const raw = await RawNbd.ready(path, { structured: true })
  const offset = 4096 - 2048
  for (const flags of [0, COMMAND_FLAG.REQ_ONE]) {
    const { payload } = await raw.chunk(BLOCK_STATUS, { offset, bytes: 2 ** 32 - 1, flags })
    let at = offset
    for (let i = 4; i < payload.length; i += 8) {
      const end = at + payload.readUInt32BE(i)
      const isHole = payload.readUInt32BE(i + 4) === 3
      if (isHole) t.true(end <= data, `a hole up to ${end}`)
      else t.true(at >= data, `data from ${at}`)
      at = end
    }
  }
  for (const command of [TRIM, WRITE_ZEROES]) {
    const { type } = await raw.chunk(command, { offset: 513, bytes: 2 ** 32 - 1 })
    t.is(type, 0)
  }
  const last = await raw.chunk(READ, { offset: size - 512, bytes: 512 })
  t.is(last.payload.length, 8 + 512)
  t.is(Number(last.payload.readBigUInt64BE()), size - 512)
  raw.close()
})

test('block status of a fragmented image ends with as many extents as a reply has', async (t) => {
  const { path, ns } = await startNbd(t, `sim:${file('pieces.img')}?size=64M`)
  const block = ns.alloc(512)
  for (let i = 0; i < 2000; i++) ns.write(0, block, i * 16, 1)
  const raw = await RawNbd.ready(path, { structured: true })
  const { payload } = await raw.chunk(BLOCK_STATUS, { bytes: 64 * MIB })
  t.is(payload.length, 4 + 2048 * 8)
  let end = 0
  for (let i = 4; i < payload.length; i += 8) {
    t.is(payload.readUInt32BE(i + 4), end % 8192 === 0 ? 0 : 3)
    end += payload.readUInt32BE(i)
  }
  t.is(end, 1024 * 8192)
  raw.close()
})

test('a device that vanishes under load: requests fail with EIO, and the connection goes on', async (t) => {
  const ns = await open('sim:?size=32M&fault=any#60:vanish')
  const server = await serveNbd(ns, { path: file('gone') })
  const clients = [await RawNbd.ready(file('gone')), await RawNbd.ready(file('gone'))]
  const errors = new Map<number, number>()
  await Promise.all(
    clients.map(async (raw) => {
      for (let i = 0; i < 60; i++)
        raw.send(encodeRequest(WRITE, { offset: 100 + i * 9000, data: pattern(9000, i + 1) }))
      for (let i = 0; i < 60; i++) {
        const head = await readExactly(raw.socket, 16)
        const error = head === null ? -1 : head.readUInt32BE(4)
        errors.set(error, (errors.get(error) ?? 0) + 1)
        if (head === null) break
      }
    }),
  )
  // What was done before has succeeded, and everything is answered.
  t.true((errors.get(NBD_ERROR.EIO) ?? 0) > 0, JSON.stringify([...errors]))
  for (const raw of clients) raw.close()
  await server.close().catch(({ code }) => t.is(code, 'ERR_UNVME_DEVICE_REMOVED'))
  t.is(server.stats.clients, 0)
  await ns.close()
})

test('requests in flight while the device is reset are done, on every queue, as if nothing were', async (t) => {
  const ns = await open('sim:?size=32M&lba=4096&latency=2ms', { qcount: 3 })
  const server = await serveNbd(ns, { path: file('reset') })
  const clients = await Promise.all([0, 1, 2].map(() => RawNbd.ready(file('reset'))))
  for (const [n, raw] of clients.entries()) {
    for (let i = 0; i < 40; i++) {
      raw.send(encodeRequest(WRITE, { offset: (3 * i + n) * 7000, data: pattern(7000, 3 * i + n + 1) }))
    }
  }
  while (server.stats.writes === 0) await turn()
  await ns.reset()
  for (const raw of clients) {
    for (let i = 0; i < 40; i++) t.is((await raw.bytes(16)).readUInt32BE(4), 0)
  }
  // A Flush on one connection is for all.
  t.is((await clients[0]!.simple(FLUSH, {})).error, 0)
  for (let i = 0; i < 120; i++) {
    const { data } = await clients[i % 3]!.simple(READ, { offset: i * 7000, bytes: 7000 })
    t.true(data.equals(pattern(7000, i + 1)))
  }
  for (const qid of [0, 1, 2])
    t.true(
      ns.queue(qid, 'test').pair.counters.submitted > 10,
      `queue ${qid}: ${ns.queue(qid, 'test').pair.counters.submitted}`,
    )
  for (const raw of clients) raw.close()
  await server.close()
  await ns.close()
})

test('a device’s limits of Write Zeroes and of ranges are kept to', async (t) => {
  const limits = clearLimits({ wzsl: 3, dmrsl: 100 }, 512)
  t.deepEqual(limits, { zeroesBlocks: 64, deallocateBlocks: 100 })
  t.deepEqual(clearLimits({ wzsl: 0, dmrsl: 0 }, 512), {})
  const ns = await open('sim:?size=1M')
  const can = { writeZeroes: true, zeroesDeallocate: true, deallocate: true, ...limits }
  const server = new BlockServer(ns, can, 2 * MIB)
  await ns.promises.write(pattern(MIB, 1), 0)
  const run = async (task: number, offset: number, count: number) => {
    const before = ns.stats.commands
    await new Promise<void>((resolve) => {
      const owner = { onMemory: () => {}, onDone: () => resolve() }
      server.start(Object.assign(new BlockRequest(owner, server), { task, offset, bytes: count }))
    })
    return ns.stats.commands - before
  }
  t.is(await run(TASK.ZEROES, 0, 200 * 512), 4)
  t.is(await run(TASK.DEALLOCATE, 1000 * 512, 201 * 512), 3)
  const left = await ns.promises.read(Buffer.alloc(MIB), 0)
  t.true(left.subarray(0, 200 * 512).every((byte) => byte === 0))
  t.true(left.subarray(200 * 512, 1000 * 512).equals(pattern(MIB, 1).subarray(200 * 512, 1000 * 512)))
  await server.close()
  await ns.close()
})

test('a device without Write Zeroes has one buffer of zeroes, however many ranges are cleared at once', async (t) => {
  const ns = await open('sim:?size=1M')
  await ns.promises.write(pattern(MIB, 1), 0)
  const held = ns.pool.bytes
  const server = new BlockServer(ns, { writeZeroes: false, zeroesDeallocate: false, deallocate: false }, MIB)
  const clear = (offset: number) =>
    new Promise<void>((resolve) => {
      const owner = { onMemory: () => {}, onDone: () => resolve() }
      server.start(
        Object.assign(new BlockRequest(owner, server), { task: TASK.ZEROES, offset, bytes: MIB / 4 }),
      )
    })
  await Promise.all([clear(0), clear(MIB / 4), clear(MIB / 2), clear((MIB / 4) * 3)])
  t.true((await ns.promises.read(Buffer.alloc(MIB), 0)).every((byte) => byte === 0))
  await server.close()
  t.is(ns.pool.bytes, held)
  await ns.close()
})

test('ServerMemory gives a holder all that it asks for or nothing, also where the device’s pool fails', async (t) => {
  const ns = await open('sim:?size=1M')
  let allowed = 1
  const failing = Object.assign(Object.create(ns.pool), {
    ready: () => null,
    alloc: (bytes: number) => {
      if (allowed-- === 0) throw new ClosedError('alloc: the device is closed')
      return ns.pool.alloc(bytes)
    },
    tagAt: ns.pool.tagAt.bind(ns.pool),
    discard: ns.pool.discard.bind(ns.pool),
  }) as DmaPool
  const pool = new ServerMemory(failing, 4 * MIB)
  const failed = await new Promise<{ failure: Error | null; parts: number }>((resolve) => {
    const holder: PartHolder = {
      parts: [],
      onParts: (failure) => resolve({ failure, parts: holder.parts.length }),
    }
    t.false(pool.reserve(holder, 2 * MIB))
  })
  t.true(failed.failure instanceof ClosedError)
  t.is(failed.parts, 0)
  const next: PartHolder = { parts: [], onParts: () => {} }
  t.true(pool.reserve(next, MIB))
  pool.release(next)
  pool.close()
  await ns.close()
})

test('memory of a command without an answer is given to no other request, and what else is beside it stays', async (t) => {
  const faults = [{ opcode: 2, slba: 8, times: 1, action: { kind: 'lose' } }] as const
  const ns = await open('sim:?size=1M', { recovery: 'none', timeout: 50, faults })
  await ns.promises.write(pattern(MIB, 1), 0)
  const server = new BlockServer(ns, { writeZeroes: true, zeroesDeallocate: true, deallocate: true }, MIB)
  const read = async (offset: number) => {
    let done = () => {}
    const ended = new Promise<void>((resolve) => {
      done = resolve
    })
    const request = new BlockRequest({ onMemory: () => t.fail(), onDone: () => done() }, server)
    Object.assign(request, { task: TASK.READ, offset, bytes: 4096 })
    t.true(server.reserve(request))
    server.start(request)
    await ended
    return request
  }
  const beside = await read(0)
  const lost = await read(4096)
  t.is((lost.error as NodeJS.ErrnoException).code, 'ERR_UNVME_TIMEOUT')
  const { tag } = lost.parts[0]!
  server.release(lost)
  const next = await read(8192)
  t.is(next.error, null)
  t.not(next.parts[0]!.tag.iova, tag.iova)
  t.true(beside.parts[0]!.bytes.equals(pattern(MIB, 1).subarray(0, 4096)))
  server.release(beside)
  server.release(next)
  // The device has it as long as the command may come: a reset ends that.
  t.is(server.memory.inUse, 4096)
  await ns.reset()
  await null
  t.is(server.memory.inUse, 0)
  await server.close()
  await ns.close()
})

test('requests go on when somebody resets the controller', async (t) => {
  const ns = await open('sim:?size=1M&latency=20ms')
  const server = new BlockServer(ns, { writeZeroes: true, zeroesDeallocate: true, deallocate: true }, MIB)
  const run = (task: number, offset: number, bytes: number) =>
    new Promise<Error | null>((resolve) => {
      const owner = { onMemory: () => t.fail(), onDone: ({ error }: BlockRequest) => resolve(error) }
      const request = Object.assign(new BlockRequest(owner, server), { task, offset, bytes })
      if (task <= TASK.WRITE) t.true(server.reserve(request))
      for (const part of request.parts) part.bytes.fill(7)
      server.start(request)
    })
  const requests = [run(TASK.WRITE, 0, 65_536), run(TASK.WRITE, 70_000, 100), run(TASK.ZEROES, 131_072, 4096)]
  await ns.reset()
  t.deepEqual(await Promise.all(requests), [null, null, null])
  t.true((await ns.promises.read(Buffer.alloc(65_536), 0)).every((byte) => byte === 7))
  await server.close()
  await ns.close()
})
