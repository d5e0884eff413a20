// Any bytes of a namespace against a model: by several users at once, whose ranges share blocks and never bytes, and of which
// some come by another way to the same engine.

import test from 'ava'
import fc from 'fast-check'
import { open, serveNbd } from 'unvme'
import { bytes } from 'unvme/adapters'
import { COMMAND } from '../../lib/nbd/protocol.ts'
import { testFolder } from '../support/folder.ts'
import { encodeRequest, RawNbd } from '../support/nbd.ts'
import { pattern } from '../support/pattern.ts'

const SIZE = 2 ** 22
const RUNS = Number(process.env.UNVME_BYTES_RUNS ?? 25)
const file = testFolder()

const length = fc.oneof(
  fc.nat(40),
  fc.nat(5000),
  fc.constantFrom(0, 512, 4096, 8192, 1),
  fc.integer({ min: 30_000, max: 70_000 }),
  fc.integer({ min: 900_000, max: 2_200_000 }),
)
const change = fc.record({
  kind: fc.constantFrom('write', 'write', 'zeroes', 'read'),
  gap: fc.oneof(fc.constant(0), length),
  length,
  user: fc.constantFrom(0, 1),
})
/** Changes of one batch are made at once. */
const batches = fc.array(fc.array(change, { minLength: 1, maxLength: 40, size: 'max' }), {
  minLength: 1,
  maxLength: 6,
})

for (const device of [
  `sim:?size=${SIZE}&lba=512`,
  `sim:?size=${SIZE}&lba=4096&latency=30us`,
  `sim:?size=${SIZE}&lba=4096&mdts=1`,
]) {
  test(`bytes: changes at any position by two users match a model (${device})`, async (t) => {
    await using ns = await open(device)
    // Another namespace object of the same blocks has an engine of its own.
    await using again = await ns.openNamespace(ns.id)
    const users = [bytes(ns), bytes(again)]
    t.not(users[0], users[1])
    t.is(users[0]!.size, SIZE)
    const model = Buffer.alloc(SIZE)
    let seed = 1
    await fc.assert(
      fc.asyncProperty(batches, async (list) => {
        for (const batch of list) {
          const work: Promise<unknown>[] = []
          const reads: { at: number; data: Buffer }[] = []
          let end = 0
          for (const { kind, gap, length, user } of batch) {
            const at = end + gap
            if (at + length > SIZE) break
            end = at + length
            const access = users[user]!
            if (kind === 'write') {
              const data = pattern(length, seed++)
              data.copy(model, at)
              work.push(access.write(data, at))
            } else if (kind === 'zeroes') {
              model.fill(0, at, end)
              work.push(access.zeroes(at, length))
            } else {
              const data = Buffer.alloc(length)
              reads.push({ at, data })
              work.push(access.read(data, at))
            }
          }
          await Promise.all(work)
          for (const { at, data } of reads) {
            if (!data.equals(model.subarray(at, at + data.length))) return false
          }
          if (!(await users[1]!.read(Buffer.alloc(SIZE), 0)).equals(model)) return false
        }
        return true
      }),
      { numRuns: RUNS },
    )
    await users[0]!.discard(100, 20_000)
    const data = await users[0]!.read(Buffer.alloc(SIZE), 0)
    t.deepEqual(data.subarray(0, 100), model.subarray(0, 100))
    t.true(data.subarray(20_100).equals(model.subarray(20_100)))
  })
}

test('bytes: writes of the same bytes at once leave one of both, and all beside them', async (t) => {
  await using ns = await open('sim:?size=1M&lba=4096&latency=30us')
  await using again = await ns.openNamespace(ns.id)
  const range = fc.record({ at: fc.nat(30_000), length: fc.integer({ min: 1, max: 20_000 }) })
  const property = fc.asyncProperty(fc.array(range, { minLength: 2, maxLength: 30 }), async (ranges) => {
    await bytes(ns).zeroes(0, 65_536)
    const users = [bytes(ns), bytes(again)]
    await Promise.all(ranges.map(({ at, length }, i) => users[i % 2]!.write(Buffer.alloc(length, i + 1), at)))
    const data = await bytes(ns).read(Buffer.alloc(65_536), 0)
    return data.every((value, at) => {
      const writers = ranges.flatMap((one, i) => (one.at <= at && at < one.at + one.length ? [i + 1] : []))
      return writers.length === 0 ? value === 0 : writers.includes(value)
    })
  })
  await t.notThrowsAsync(fc.assert(property, { numRuns: RUNS }) as Promise<void>)
})

test('bytes: an NBD client and a program that share a block lose nothing of each other', async (t) => {
  await using ns = await open('sim:?size=1M&lba=4096&latency=1ms')
  const path = file('nbd.sock')
  const server = await serveNbd(ns, { path })
  const raw = await RawNbd.ready(path)
  const ours: Promise<void>[] = []
  for (let i = 0; i < 40; i++) {
    const at = i * 100
    if (i % 2 === 0) ours.push(bytes(ns).write(Buffer.alloc(100, i + 1), at))
    else raw.send(encodeRequest(COMMAND.WRITE, { offset: at, data: Buffer.alloc(100, i + 1) }))
    if (i % 8 === 7) await new Promise(setImmediate)
  }
  await Promise.all(ours)
  await raw.bytes(20 * 16)
  const data = await bytes(ns).read(Buffer.alloc(4000), 0)
  t.deepEqual(
    Array.from({ length: 40 }, (_, i) =>
      data.subarray(i * 100, i * 100 + 100).every((byte) => byte === i + 1),
    ),
    Array(40).fill(true),
  )
  raw.close()
  await server.close()
})

test('bytes: what is written survives flush and close, and close waits for it', async (t) => {
  const image = file('disk.img')
  {
    await using ns = await open(`sim:${image}?size=8M&lba=4096`)
    const access = bytes(ns)
    t.is(bytes(ns), access)
    await access.write(Buffer.from('precious'), 4093)
    await access.flush()
    void access.write(pattern(3_000_001), 1_000_003)
  }
  await using ns = await open(`sim:${image}?lba=4096`)
  t.is((await bytes(ns).read(Buffer.alloc(8), 4093)).toString(), 'precious')
  t.true((await bytes(ns).read(Buffer.alloc(3_000_001), 1_000_003)).equals(pattern(3_000_001)))
})

test('bytes: takes any view, answers empty ranges, and refuses what it must', async (t) => {
  const ns = await open('sim:?size=1M&lba=512')
  const access = bytes(ns)
  const dma = ns.alloc(4096).fill(7)
  await access.write(dma.subarray(1, 1000), 3)
  const view = new Uint8Array(new ArrayBuffer(2000), 500, 999)
  t.is(await access.read(view, 3), view)
  t.true(view.every((value) => value === 7))
  await access.write(Buffer.alloc(0), 2 ** 20)
  await access.read(Buffer.alloc(0), 0)
  await access.zeroes(5, 0)
  await access.discard(5, 0)
  const range = { code: 'ERR_OUT_OF_RANGE' }
  await t.throwsAsync(access.read(Buffer.alloc(2), 2 ** 20 - 1), range)
  await t.throwsAsync(access.write(Buffer.alloc(1), -1), range)
  await t.throwsAsync(access.zeroes(2 ** 20 + 1, 0), range)
  await t.throwsAsync(access.read('text' as never, 0), { code: 'ERR_INVALID_ARG_TYPE' })
  t.throws(() => bytes({} as never), { code: 'ERR_INVALID_ARG_TYPE' })
  await ns.close()
  await t.throwsAsync(access.read(Buffer.alloc(1), 0), { code: 'ERR_UNVME_CLOSED' })
  t.throws(() => bytes(ns), { code: 'ERR_UNVME_CLOSED' })
})

test('bytes: a failed edge is an error of that call alone', async (t) => {
  await using ns = await open('sim:?size=8M&lba=4096&fault=read@3*1:status=281h', { retries: 0 })
  const access = bytes(ns)
  const error = await t.throwsAsync(access.write(Buffer.alloc(100), 3 * 4096 + 5))
  t.regex(error.message, /Read failed: Unrecovered Read Error/)
  await access.write(Buffer.alloc(100, 1), 4 * 4096 + 5)
  t.is((await access.read(Buffer.alloc(1), 4 * 4096 + 5))[0], 1)
})

test('bytes: close throws the failure of its last flush, and gives the device back', async (t) => {
  const address = `sim:${file('failing.img')}?size=8M`
  const ns = await open(`${address}&fault=flush*1:status=281h`, { retries: 0 })
  await bytes(ns).write(Buffer.alloc(10, 1), 5)
  await t.throwsAsync(ns.close(), { message: /Flush failed/ })
  // It could not be opened while it is held.
  await using again = await open(address)
  t.is((await bytes(again).read(Buffer.alloc(1), 14))[0], 1)
})
