// Much of one thing: commands in flight, streams at a time, blocks.

import test from 'ava'
import { open, QueueFullError } from '../src/index.ts'
import { pattern } from './support/pattern.ts'

test('aread: a queue of 65 536 entries has 65 535 commands in flight, and no more', async (t) => {
  await using ns = await open('sim:?size=64M&qsize=65536', { qsize: 65_536 })
  t.is(ns.qsize, 65_536)
  const whole = pattern(ns.blocksize * 65_536, 3)
  await ns.promises.write(whole, 0)
  const buf = ns.alloc(whole.length)
  const part = (i: number) => buf.subarray(i * ns.blocksize, (i + 1) * ns.blocksize)
  const iods = Array.from({ length: 65_535 }, (_, i) => ns.aread(0, part(i), i, 1))
  t.throws(() => ns.aread(0, part(65_535), 65_535, 1), { instanceOf: QueueFullError })
  for (const iod of iods) while (!ns.apoll(iod));
  while (!ns.apoll(ns.aread(0, part(65_535), 65_535, 1)));
  t.true(buf.equals(whole))
})

test('createReadStream: a thousand streams at a time each have their own blocks', async (t) => {
  await using ns = await open('sim:?size=16M')
  const whole = pattern(ns.blockcount * ns.blocksize, 5)
  await ns.promises.write(whole, 0)
  const held = ns.pool.bytes
  const nlb = Math.floor(ns.blockcount / 1000)
  const read = async (i: number) =>
    Buffer.concat(await ns.createReadStream({ slba: i * nlb, nlb, highWaterMark: 4096 }).toArray())
  const parts = await Promise.all(Array.from({ length: 1000 }, (_, i) => read(i)))
  t.true(Buffer.concat(parts).equals(whole.subarray(0, 1000 * nlb * ns.blocksize)))
  t.is(ns.pool.bytes, held)
})

for (const lba of [512, 4096]) {
  test(`a namespace of 16 TiB with blocks of ${lba} bytes is read and written up to its last block`, async (t) => {
    await using ns = await open(`sim:?size=16T&lba=${lba}`)
    t.is(ns.blockcount, 2 ** 44 / lba)
    const last = ns.blockcount - 8
    const data = pattern(8 * lba, lba)
    await ns.promises.write(data, last)
    const found: Buffer[] = []
    for await (const { slba, data: block } of ns.blocks({ slba: last - 8, nlb: 16, chunk: 8 })) {
      t.is(slba, last - 8 + 8 * found.length)
      found.push(Buffer.from(block))
    }
    t.true(Buffer.concat(found).equals(Buffer.concat([Buffer.alloc(8 * lba), data])))
    await t.throwsAsync(ns.promises.read(ns.alloc(lba), ns.blockcount, 1), { code: 'ERR_OUT_OF_RANGE' })
  })
}
