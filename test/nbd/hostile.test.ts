// Clients that send what they should not, or do not take what they asked for. UNVME_NBD_MUTATIONS says how many mutated
// messages: 1000 where it is not set. UNVME_NBD_CLIENTS says how many clients do not read: 200.

import { randomBytes } from 'node:crypto'
import test from 'ava'
import { COMMAND, encodeOption, OPTION, u32 } from '../../lib/nbd/protocol.ts'
import { open, serveNbd } from '../../src/index.ts'
import { contextData, encodeRequest, goData, RawNbd } from '../support/nbd.ts'
import { pattern } from '../support/pattern.ts'
import { newSocketPath } from '../support/server.ts'

const RUNS = Number(process.env.UNVME_NBD_MUTATIONS ?? 1000)
const SEED = Number(process.env.UNVME_NBD_SEED ?? randomBytes(4).readUInt32LE())
const CLIENTS = Number(process.env.UNVME_NBD_CLIENTS ?? 200)
const { READ, WRITE, FLUSH, TRIM, WRITE_ZEROES, BLOCK_STATUS, CACHE } = COMMAND

/** xorshift32. */
function generator(seed: number): (below: number) => number {
  let x = seed || 1
  return (below) => {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    return (x >>> 0) % below
  }
}

type Random = ReturnType<typeof generator>

function mutate(message: Buffer, random: Random): Buffer {
  const copy = Buffer.from(message)
  const words = Math.min(8, copy.length >>> 2)
  switch (random(7)) {
    case 0:
      copy[random(Math.min(copy.length, 28))]! ^= 1 << random(8)
      return copy
    case 1:
      copy[random(copy.length)] = random(256)
      return copy
    case 2:
      if (words > 0)
        copy.writeUInt32BE(random(2) === 0 ? random(2 ** 31) * 2 : random(70_000), 4 * random(words))
      return copy
    case 3:
      return Buffer.concat([copy, message])
    case 4:
      return copy.subarray(0, random(copy.length))
    case 5:
      return Buffer.concat([copy, randomBytes(1 + random(64))])
    default:
      return randomBytes(1 + random(120))
  }
}

const OPTIONS = [
  encodeOption(OPTION.LIST),
  encodeOption(OPTION.INFO, goData('', 0, 1, 2, 3)),
  encodeOption(OPTION.STRUCTURED_REPLY),
  encodeOption(OPTION.SET_META_CONTEXT, contextData('', 'base:allocation')),
  encodeOption(OPTION.LIST_META_CONTEXT, contextData('')),
  encodeOption(OPTION.STARTTLS),
  encodeOption(OPTION.GO, goData('', 3)),
]
const REQUESTS = [
  encodeRequest(READ, { offset: 4096, bytes: 4096 }),
  encodeRequest(WRITE, { offset: 100, data: pattern(3000, 1) }),
  encodeRequest(FLUSH, {}),
  encodeRequest(TRIM, { bytes: 8192 }),
  encodeRequest(WRITE_ZEROES, { offset: 1000, bytes: 9000, flags: 2 }),
  encodeRequest(BLOCK_STATUS, { bytes: 2 ** 20 }),
  encodeRequest(CACHE, { bytes: 4096 }),
]

test(`${RUNS} mutated messages: no crash, no growth, no byte beside the export`, async (t) => {
  const random = generator(SEED)
  const first = await open('sim:?size=1M&ns=2')
  const second = await first.openNamespace(2)
  const canary = pattern(2 ** 20, 99)
  await second.promises.write(canary, 0)
  const path = newSocketPath()
  const maxBytes = 2 ** 23
  const server = await serveNbd(first, {
    path,
    maxBytes,
    stallTimeout: 200,
    negotiationTimeout: 200,
    maxClients: 200,
  })
  let raw: RawNbd | undefined
  const used: RawNbd[] = []
  for (let run = 0; run < RUNS; run++) {
    if (raw === undefined || raw.socket.destroyed || random(4) === 0) {
      raw?.socket.end()
      const early = random(4) === 0
      raw = early
        ? await RawNbd.greeted(path)
        : await RawNbd.ready(path, { structured: random(2) === 0 }).catch(() => undefined)
      if (raw === undefined) continue
      raw.socket.resume()
      used.push(raw)
      if (early) {
        raw.send(mutate(OPTIONS[random(OPTIONS.length)]!, random))
        continue
      }
    }
    raw.send(REQUESTS[random(REQUESTS.length)]!, mutate(REQUESTS[random(REQUESTS.length)]!, random))
    if (run % 16 === 0) await new Promise(setImmediate)
    if (run % 128 === 0) {
      for (const one of used.splice(0, used.length - 1)) one.close()
      t.true(server.stats.memoryBytes <= maxBytes)
    }
  }
  for (const one of used) one.close()
  const good = await RawNbd.ready(path)
  t.is((await good.simple(WRITE, { offset: 12_345, data: pattern(5000, 4) })).error, 0)
  t.deepEqual((await good.simple(READ, { offset: 12_345, bytes: 5000 })).data, pattern(5000, 4))
  good.close()
  t.true((await second.promises.read(Buffer.alloc(2 ** 20), 0)).equals(canary), `seed ${SEED}`)
  await server.close()
  t.is(server.stats.clients, 0)
  await second.close()
  await first.close()
})

test(`${CLIENTS} clients that ask and do not read have bounded memory, and are closed`, async (t) => {
  const ns = await open('sim:?size=32M')
  const path = newSocketPath()
  const maxBytes = 2 ** 24
  const server = await serveNbd(ns, { path, maxBytes, stallTimeout: 1000, maxClients: CLIENTS + 1 })
  const before = process.memoryUsage()
  const clients: RawNbd[] = []
  for (let i = 0; i < CLIENTS; i++) {
    const raw = await RawNbd.ready(path)
    raw.socket.pause()
    const requests = Array.from({ length: 64 }, (_, n) =>
      encodeRequest(READ, { offset: n << 17, bytes: 2 ** 17, cookie: n }),
    )
    raw.send(...requests)
    clients.push(raw)
  }
  t.true(server.stats.memoryBytes <= maxBytes)
  // One that reads is served once those have been closed.
  const good = await RawNbd.ready(path)
  for (let n = 0; n < 10; n++) t.is((await good.simple(READ, { bytes: 2 ** 20 })).error, 0)
  t.true(server.stats.memoryBytes <= maxBytes)
  const after = process.memoryUsage()
  // What the system's socket buffers hold is not the process's; what a client has here is its objects.
  const grown = after.heapUsed + after.external - before.heapUsed - before.external
  t.true(grown < 2 * maxBytes + CLIENTS * 128 * 1024, `${grown} bytes`)
  await Promise.all(
    clients.map((client) => {
      client.socket.resume()
      return client.closed
    }),
  )
  good.close()
  await server.close()
  await ns.close()
})

test('more clients than may come are closed at once', async (t) => {
  const ns = await open('sim:?size=1M')
  const path = newSocketPath()
  const server = await serveNbd(ns, { path, maxClients: 2 })
  const two = [await RawNbd.ready(path), await RawNbd.ready(path)]
  const third = await RawNbd.connect(path)
  third.socket.resume()
  await third.closed
  t.like(server.stats, { refused: 1, clients: 2, connections: 3 })
  two[0]!.close()
  while (server.stats.clients > 1) await new Promise(setImmediate)
  const fourth = await RawNbd.ready(path)
  t.is((await fourth.simple(READ, { bytes: 512 })).error, 0)
  for (const one of [...two, fourth]) one.close()
  await server.close()
  await ns.close()
})

test('half a request is waited for no longer than stallTimeout; an idle client is left alone', async (t) => {
  const ns = await open('sim:?size=1M')
  const path = newSocketPath()
  const server = await serveNbd(ns, { path, stallTimeout: 150 })
  const idle = await RawNbd.ready(path)
  for (const half of [Buffer.alloc(0), encodeRequest(WRITE, { data: Buffer.alloc(60_000) })]) {
    const raw = await RawNbd.ready(path)
    raw.socket.resume()
    raw.send(half.length === 0 ? u32(0x2560_9513) : half.subarray(0, 50_000))
    await raw.closed
  }
  t.is((await idle.simple(READ, { bytes: 512 })).error, 0)
  idle.close()
  await server.close()
  await ns.close()
})
