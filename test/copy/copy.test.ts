import { execFileSync } from 'node:child_process'
import { createReadStream, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import test from 'ava'
import fc from 'fast-check'
import { compare, copy, EndOfSourceError, NvmeError, OutOfRangeError, open } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { pattern } from '../support/pattern.ts'

const file = testFolder()
const MIB = 1 << 20

test.serial('copy: one signal for many copies at a time makes no warning of a leak', async (t) => {
  const warnings: Error[] = []
  const note = (warning: Error) => warnings.push(warning)
  process.on('warning', note)
  const { signal } = new AbortController()
  await using ns = await open('sim:?size=1M')
  const fifo = file('fifo')
  execFileSync('mkfifo', [fifo])
  const reader = createReadStream(fifo).resume()
  await Promise.all(Array.from({ length: 15 }, () => copy(ns, fifo, { signal })))
  await turn()
  reader.destroy()
  process.off('warning', note)
  t.deepEqual(warnings, [])
})

test('any length of a file arrives at any LBA, and the rest of the last block stays', async (t) => {
  await using ns = await open('sim:?size=8M&lba=4096')
  const path = file('any-length')
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 3 * MIB }),
      fc.nat(500),
      fc.constantFrom(4096, 65536, 524288),
      fc.constantFrom(1, 4, 32),
      async (bytes, dstSlba, chunk, depth) => {
        const content = pattern(bytes, bytes + 1)
        writeFileSync(path, content)
        const blocks = Math.ceil(bytes / ns.blocksize) + 1
        const before = pattern(blocks * ns.blocksize, 7)
        await ns.promises.write(before, dstSlba)
        const result = await copy(path, ns, { dstSlba, chunk, depth })
        t.is(result.bytes, bytes)
        const after = await ns.promises.read(Buffer.alloc(before.length), dstSlba)
        t.true(after.equals(Buffer.concat([content, before.subarray(bytes)])))
        t.is((await compare(path, ns, { dstSlba })).difference, null)
      },
    ),
    { numRuns: 25 },
  )
})

test('pad fills the last block with zeroes', async (t) => {
  await using ns = await open('sim:?size=1M')
  await ns.promises.write(Buffer.alloc(1024, 0xff), 0)
  writeFileSync(file('pad'), 'short')
  await copy(file('pad'), ns, { pad: true })
  const block = await ns.promises.read(Buffer.alloc(1024), 0)
  t.is(block.toString('latin1', 0, 5), 'short')
  t.true(block.subarray(5, 512).every((byte) => byte === 0))
  t.true(block.subarray(512).every((byte) => byte === 0xff))
})

test('any part of a device arrives in a file, to the byte', async (t) => {
  await using ns = await open('sim:?size=4M')
  const content = pattern(4 * MIB)
  await ns.promises.write(content, 0)
  await fc.assert(
    fc.asyncProperty(fc.nat(8191), fc.nat(), async (slba, length) => {
      const bytes = 1 + (length % ((8192 - slba) * 512))
      await copy(ns, file('part'), { slba, bytes, flush: false })
      t.true(readFileSync(file('part')).equals(content.subarray(slba * 512, slba * 512 + bytes)))
    }),
    { numRuns: 25 },
  )
})

test('devices with other block sizes', async (t) => {
  await using small = await open('sim:?size=2M&lba=512')
  await using large = await open('sim:?size=2M&lba=4096')
  const content = pattern(MIB)
  await small.promises.write(content, 3)
  const result = await copy(small, large, { slba: 3, dstSlba: 1, bytes: MIB })
  t.is(result.bytes, MIB)
  t.true((await large.promises.read(Buffer.alloc(MIB), 1)).equals(content))
  t.is((await compare(small, large, { slba: 3, dstSlba: 1, bytes: MIB })).difference, null)
})

test('a copy within a device, beside and over itself', async (t) => {
  await using ns = await open('sim:?size=1M')
  await ns.promises.write(pattern(4096), 0)
  await copy(ns, ns, { bytes: 4096, dstSlba: 8 })
  t.is((await compare(ns, ns, { bytes: 4096, dstSlba: 8 })).difference, null)
  await t.throwsAsync(copy(ns, ns, { bytes: 4096, dstSlba: 7 }), { instanceOf: OutOfRangeError })
})

test('what does not fit is refused before anything is written', async (t) => {
  await using ns = await open('sim:?size=1M')
  writeFileSync(file('large'), pattern(MIB + 1))
  const error = await t.throwsAsync(copy(file('large'), ns), { instanceOf: OutOfRangeError })
  t.regex(error.message, /1048577 bytes .* space for 1048576/)
  await t.throwsAsync(copy(file('large'), ns, { bytes: MIB, dstSlba: 1 }), { code: 'ERR_OUT_OF_RANGE' })
  await t.throwsAsync(copy(ns, file('never'), { bytes: MIB + 1 }), { code: 'ERR_OUT_OF_RANGE' })
  await t.throwsAsync(copy(ns, file('never'), { slba: 2048 }), { code: 'ERR_OUT_OF_RANGE' })
  await t.throwsAsync(copy(ns, file('never'), { chunk: 1000 }), { code: 'ERR_OUT_OF_RANGE' })
  await t.throwsAsync(copy(ns, file('never'), { depth: 0 }), { code: 'ERR_OUT_OF_RANGE' })
  await t.throwsAsync(copy(ns, file('never'), { bytes: -1 }), { code: 'ERR_OUT_OF_RANGE' })
  await t.throwsAsync(copy(ns, file('never'), { bytes: 1.5 }), { code: 'ERR_OUT_OF_RANGE' })
  await t.throwsAsync(copy(ns, file('never'), { signal: AbortSignal.abort() }), { code: 'ABORT_ERR' })
  t.false(existsSync(file('never')))
  await t.throwsAsync(copy(file('large'), ns, { slba: 1, bytes: 1 }), { code: 'ERR_OUT_OF_RANGE' })
  t.is(ns.stats.writes, 0)
})

test('a file is not copied over itself, nor over its own controller', async (t) => {
  const image = file('self.img')
  writeFileSync(image, pattern(MIB))
  await t.throwsAsync(copy(image, image), { code: 'ERR_OUT_OF_RANGE' })
  await t.throwsAsync(copy(`sim:${image}`, image), { code: 'ERR_OUT_OF_RANGE' })
  await t.throwsAsync(copy(image, `sim:${image}`), { code: 'ERR_OUT_OF_RANGE' })
  await t.throwsAsync(copy(`sim:${image}`, `sim:${image}`), { code: 'ERR_OUT_OF_RANGE' })
  t.true(readFileSync(image).equals(pattern(MIB)))
})

test('a place that is none', async (t) => {
  await using ns = await open('sim:?size=1M')
  await t.throwsAsync(copy(file('missing'), ns), { code: 'ENOENT' })
  await t.throwsAsync(copy('zim:', ns), { code: 'ERR_UNVME_ADDRESS' })
  await t.throwsAsync(copy(file('.'), ns), { code: 'ERR_INVALID_ARG_TYPE' })
  await t.throwsAsync(copy(ns, file('.')), { code: 'ERR_INVALID_ARG_TYPE' })
  await t.throwsAsync(copy(ns, file('no/such/folder')), { code: 'ENOENT' })
  t.is(ns.stats.inFlight, 0)
})

test('a source that ends early: what came is written, and the error says how much', async (t) => {
  await using ns = await open('sim:?size=1M')
  // A file of /proc has no size, and more than none to read.
  const error = await t.throwsAsync(copy('/dev/null', ns, { bytes: 1000 }), { instanceOf: EndOfSourceError })
  t.is(error.bytesWritten, 0)
})

test('a failed command ends the copy with its own error, and the device goes on', async (t) => {
  await using ns = await open('sim:?size=8M&fault=write@4096*1:status=280h', { retries: 0 })
  writeFileSync(file('fails'), pattern(4 * MIB))
  const error = await t.throwsAsync(copy(file('fails'), ns), { instanceOf: NvmeError })
  t.true(error.slba! <= 4096 && 4096 < error.slba! + error.nlb!)
  t.is(error.opcodeName, 'Write')
  t.is((await copy(file('fails'), ns)).bytes, 4 * MIB)
  t.is((await compare(file('fails'), ns)).difference, null)

  await using bad = await open('sim:?size=8M&lbastatus=0&fault=read@4096:status=281h')
  const failed = await t.throwsAsync(copy(bad, file('part-of-bad')), { instanceOf: NvmeError })
  t.is(failed.statusName, 'Unrecovered Read Error')
  // What was read before it is in the file.
  t.true(statSync(file('part-of-bad')).size <= 4096 * 512)
})

test('an abort half-way', async (t) => {
  await using ns = await open('sim:?size=64M&latency=1ms')
  const reason = new Error('enough')
  for (const [from, to] of [
    [ns, '/dev/null'],
    ['/dev/zero', ns],
  ] as const) {
    const ending = new AbortController()
    const onProgress = (bytes: number) => {
      if (bytes > 2 * MIB) ending.abort(reason)
    }
    const error = await t.throwsAsync(copy(from, to, { signal: ending.signal, onProgress }), {
      code: 'ABORT_ERR',
    })
    t.is(error.cause, reason)
    t.is(ns.stats.inFlight, 0)
  }
  const block = pattern(512)
  await ns.promises.write(block, 0)
  t.true((await ns.promises.read(Buffer.alloc(512), 0)).equals(block))
})

test('progress goes up to the whole', async (t) => {
  await using ns = await open('sim:?size=4M')
  const seen: [number, number | undefined][] = []
  await copy(ns, file('progress'), { onProgress: (bytes, total) => seen.push([bytes, total]) })
  t.deepEqual(seen.at(-1), [4 * MIB, 4 * MIB])
  t.true(seen.every(([bytes], i) => i === 0 || bytes > seen[i - 1]![0]))
})

test('copy and compare: a file that says 0 bytes has those that can be read', async (t) => {
  await using ns = await open('sim:?size=1M')
  const content = readFileSync('/proc/version')
  t.is((await copy('/proc/version', ns)).bytes, content.length)
  t.true((await ns.promises.read(Buffer.alloc(512), 0)).subarray(0, content.length).equals(content))
  t.is((await copy('/proc/version', file('version'))).bytes, content.length)
  t.true(readFileSync(file('version')).equals(content))
  t.like(await compare('/proc/version', ns), { bytes: content.length, difference: null })
  t.like(await compare(ns, '/proc/version', { jobs: 1 }), { bytes: content.length, difference: null })
  await t.throwsAsync(copy('/proc/version', ns, { bytes: content.length + 1 }), {
    instanceOf: EndOfSourceError,
  })
})
