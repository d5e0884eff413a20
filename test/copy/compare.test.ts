import { writeFileSync } from 'node:fs'
import test from 'ava'
import fc from 'fast-check'
import { compare, open } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { pattern } from '../support/pattern.ts'

const file = testFolder()

test('the first byte that differs is found wherever it is', async (t) => {
  await using ns = await open('sim:?size=4M&lba=4096')
  const content = pattern(1_500_000)
  writeFileSync(file('a'), content)
  await ns.writeBlocks([content], { slba: 5 })
  const changed = Buffer.from(content)
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat(content.length - 1), { minLength: 1, maxLength: 4 }),
      async (positions) => {
        for (const at of positions) changed[at] = content[at]! ^ 0x55
        writeFileSync(file('b'), changed)
        for (const at of positions) changed[at] = content[at]!
        const offset = Math.min(...positions)
        const { difference, bytes } = await compare(file('b'), ns, { dstSlba: 5 })
        t.is(bytes, offset)
        t.is(difference!.offset, offset)
        const { a, b } = difference!
        t.is(a.position, offset)
        t.is(a.lba, undefined)
        t.is(a.data[a.at], content[offset]! ^ 0x55)
        t.is(b.position, 5 * 4096 + offset)
        t.is(b.lba, 5 + Math.floor(offset / 4096))
        t.is(b.byte, offset % 4096)
        t.is(b.data[b.at], content[offset]!)
        const start = offset - b.at
        t.true(b.data.equals(content.subarray(start, start + b.data.length)))
      },
    ),
    { numRuns: 25 },
  )
})

test('two files of which one is shorter differ where it ends', async (t) => {
  writeFileSync(file('long'), pattern(3000))
  writeFileSync(file('short'), pattern(3000).subarray(0, 2500))
  const { difference } = await compare(file('long'), file('short'))
  t.is(difference!.offset, 2500)
  t.is(difference!.a.data[difference!.a.at], pattern(3000)[2500])
  t.is(difference!.b.data.length, difference!.b.at)
  t.is((await compare(file('long'), file('short'), { bytes: 2500 })).difference, null)
  t.is((await compare(file('long'), file('long'))).bytes, 3000)
})

test('more than one of them has is refused', async (t) => {
  await using small = await open('sim:?size=1M')
  await using large = await open('sim:?size=2M')
  await t.throwsAsync(compare(large, small), { code: 'ERR_OUT_OF_RANGE' })
  t.is((await compare(small, large)).bytes, 1 << 20)
  await t.throwsAsync(compare(small, large, { dstSlba: 3000 }), { code: 'ERR_OUT_OF_RANGE' })
  writeFileSync(file('larger'), Buffer.alloc((1 << 20) + 1))
  await t.throwsAsync(compare(file('larger'), small), { code: 'ERR_OUT_OF_RANGE' })
})

test('a block that cannot be read is an error, not a difference', async (t) => {
  await using bad = await open('sim:?size=1M&lbastatus=0&fault=read@100:status=281h')
  await using good = await open('sim:?size=1M&lbastatus=0')
  await t.throwsAsync(compare(good, bad), { code: 'ERR_NVME_STATUS' })
  await t.throwsAsync(compare(bad, good), { code: 'ERR_NVME_STATUS' })
  t.is(good.stats.inFlight, 0)
})
