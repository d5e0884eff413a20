// Random changes of any bytes by two clients against a model of the export. What is in flight together never shares a
// byte, and often a block: nothing of a block's rest may be lost.

import test from 'ava'
import fc from 'fast-check'
import { COMMAND, COMMAND_FLAG } from '../../lib/nbd/protocol.ts'
import { encodeRequest, RawNbd, startNbd } from '../support/nbd.ts'
import { pattern } from '../support/pattern.ts'

const SIZE = 2 ** 18
const { READ, WRITE, WRITE_ZEROES, TRIM } = COMMAND
const RUNS = Number(process.env.UNVME_NBD_RUNS ?? 15)

interface Change {
  kind: 'write' | 'zeroes' | 'fua' | 'keep'
  gap: number
  bytes: number
  client: 0 | 1
}

const length = fc.oneof(
  fc.nat(40),
  fc.nat(5000),
  fc.constantFrom(0, 512, 4096, 8192, 1),
  fc.integer({ min: 30_000, max: 70_000 }),
)
const change: fc.Arbitrary<Change> = fc.record({
  kind: fc.constantFrom('write', 'write', 'zeroes', 'fua', 'keep'),
  gap: fc.oneof(fc.constant(0), length),
  bytes: length.map((bytes) => Math.max(1, bytes)),
  client: fc.constantFrom(0, 1),
})

/** Changes of one batch are made at once. */
const batches = fc.array(fc.array(change, { minLength: 1, maxLength: 40, size: 'max' }), {
  minLength: 1,
  maxLength: 8,
  size: 'max',
})

for (const { device, resets = false } of [
  { device: `sim:?size=${SIZE}&lba=512` },
  { device: `sim:?size=${SIZE}&lba=4096&latency=30us` },
  { device: `sim:?size=${SIZE}&lba=4096&mdts=1` },
  { device: `sim:?size=${SIZE}&lba=512&latency=100us-1ms`, resets: true },
  { device: `sim:?size=${SIZE}&lba=4096&latency=30us&fault=any#99*1:fatal,any#999*1:fatal,any#1999*1:fatal` },
]) {
  test(`two clients' changes of any bytes match a model (${device}${resets ? ', which is reset' : ''})`, async (t) => {
    const { path, server, ns } = await startNbd(t, device)
    const clients = [await RawNbd.ready(path), await RawNbd.ready(path)]
    const model = Buffer.alloc(SIZE)
    let seed = 1
    await fc.assert(
      fc.asyncProperty(batches, async (list) => {
        for (const batch of list) {
          const sent = [0, 0]
          let at = 0
          for (const { kind, gap, bytes, client } of batch) {
            const offset = at + gap
            if (offset + bytes > SIZE) break
            at = offset + bytes
            const writes = kind === 'write' || kind === 'fua'
            const data = writes ? pattern(bytes, seed++) : undefined
            const flags = kind === 'fua' ? COMMAND_FLAG.FUA : kind === 'keep' ? COMMAND_FLAG.NO_HOLE : 0
            if (data !== undefined) data.copy(model, offset)
            else model.fill(0, offset, offset + bytes)
            const request = data === undefined ? { offset, bytes, flags } : { offset, data, flags }
            clients[client]!.send(encodeRequest(writes ? WRITE : WRITE_ZEROES, request))
            sent[client]!++
          }
          if (resets && sent[0]! + sent[1]! > 0) {
            // Some of the requests are in flight by then.
            while (ns.stats.inFlight === 0) await new Promise(setImmediate)
            await ns.reset()
          }
          for (const i of [0, 1]) {
            for (let n = 0; n < sent[i]!; n++) {
              const reply = await clients[i]!.bytes(16)
              if (reply.readUInt32BE(4) !== 0) return false
            }
          }
          const { data } = await clients[1]!.simple(READ, { offset: 0, bytes: SIZE })
          if (!data.equals(model)) return false
          const part = await clients[0]!.simple(READ, { offset: 777, bytes: at > 777 ? at - 777 : 1 })
          if (!part.data.equals(model.subarray(777, Math.max(at, 778)))) return false
        }
        return true
      }),
      { numRuns: RUNS },
    )
    // A hint changes nothing of the bytes beside the range.
    t.is((await clients[0]!.simple(TRIM, { offset: 100, bytes: 20_000 })).error, 0)
    const { data } = await clients[1]!.simple(READ, { offset: 0, bytes: SIZE })
    t.deepEqual(data.subarray(0, 100), model.subarray(0, 100))
    t.true(data.subarray(20_100).equals(model.subarray(20_100)))
    t.true(server.stats.unaligned > 0)
    t.is(server.stats.failed, 0)
    if (device.includes('fatal')) t.true(ns.stats.resets > 0)
    for (const client of clients) client.close()
  })
}

for (const command of [WRITE, WRITE_ZEROES]) {
  test(`a whole block that is written while a part of it is changed keeps the rest (command ${command})`, async (t) => {
    const { path, server } = await startNbd(t, 'sim:?size=1M&lba=4096&latency=40ms')
    const raw = await RawNbd.ready(path)
    const part = command === WRITE ? { data: Buffer.alloc(100, 1) } : { bytes: 100 }
    raw.send(encodeRequest(command, { offset: 50, ...part }))
    // The block is being read by now.
    while (server.stats.unaligned === 0) await new Promise(setImmediate)
    raw.send(encodeRequest(WRITE, { data: Buffer.alloc(8192, 2) }))
    t.is((await raw.bytes(32)).length, 32)
    const { data } = await raw.simple(READ, { bytes: 8192 })
    // The bytes that both wrote may be either's.
    t.true(data.subarray(0, 50).every((byte) => byte === 2))
    t.true(data.subarray(150).every((byte) => byte === 2))
    raw.close()
  })
}

test('requests of every size share little memory: they wait, and none fails', async (t) => {
  const maxBytes = 2 ** 21
  const size = 2 ** 23
  const { path, server } = await startNbd(t, `sim:?size=${size}&lba=512`, { maxBytes })
  const sizes = [4096, 70_001, 2 ** 20, 512, 700_000, 131_072]
  const model = Buffer.alloc(size)
  const clients = await Promise.all([0, 1, 2].map(() => RawNbd.ready(path)))
  const sent = [0, 0, 0]
  for (let at = 0, n = 0; at + sizes[n % sizes.length]! <= size; n++) {
    const data = pattern(sizes[n % sizes.length]!, n + 1)
    data.copy(model, at)
    clients[n % 3]!.send(encodeRequest(WRITE, { offset: at, data }))
    sent[n % 3]!++
    at += data.length
  }
  for (const [i, client] of clients.entries()) {
    for (let n = 0; n < sent[i]!; n++) t.is((await client.bytes(16)).readUInt32BE(4), 0)
  }
  const reads = await Promise.all(
    clients.map(async (client, i) => {
      const parts: Buffer[] = []
      for (let at = 0; at < size; at += 2 ** 20) {
        const { data } = await client.simple(READ, { offset: at + i, bytes: 2 ** 20 - i })
        parts.push(model.subarray(at, at + i), data)
      }
      return Buffer.concat(parts)
    }),
  )
  for (const read of reads) t.true(read.equals(model))
  t.true(server.stats.memoryBytes <= maxBytes)
  t.is(server.stats.failed, 0)
  for (const client of clients) client.close()
})
