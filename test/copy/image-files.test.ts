// Images as people have them: compressed, with a block map and a checksum beside them, and compressed on the way; read and
// written by the programs that others use.

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import fs, { readFileSync, writeFileSync } from 'node:fs'
import test from 'ava'
import fc from 'fast-check'
import { BlockMapMaker, mapExtents, parseBlockMap } from '../../src/copy/block-map.ts'
import { RangeSet } from '../../src/copy/extents.ts'
import { formatRescueMap, parseRescueMap } from '../../src/copy/rescue-map.ts'
import { compare, copy, open } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { testWith } from '../support/left-out.ts'
import { pattern } from '../support/pattern.ts'
import { withoutTool } from '../support/tools.ts'

const file = testFolder()
const MIB = 1 << 20
const content = Buffer.concat([pattern(300_001), Buffer.alloc(MIB), pattern(700_000, 2)])
writeFileSync(file('plain'), content)

// By program: the Debian package that has it.
const COMPRESSORS = { gzip: 'gzip', zstd: 'zstd', xz: 'xz-utils', bzip2: 'bzip2' }

for (const [program, from] of Object.entries(COMPRESSORS)) {
  const title = `copy: what ${program} has compressed arrives as what it was, whatever its name`
  testWith(title, { [program]: from }, async (t) => {
    const packed = execFileSync(program, ['-c', file('plain')], { maxBuffer: 64 * MIB })
    // Two in one file are one after the other.
    const [one, two] = [file(`${program}.one`), file(`${program}.two`)]
    writeFileSync(one, packed)
    writeFileSync(two, Buffer.concat([packed, packed]))
    await using ns = await open('sim:?size=8M&lba=4096')
    const result = await copy(one, ns, { verify: true })
    t.is(result.bytes, content.length)
    t.is(result.targets[0]!.verified, content.length)
    const found = await ns.promises.read(Buffer.alloc(2 * MIB), 0)
    t.true(found.subarray(0, content.length).equals(content))
    t.is((await compare(one, ns)).difference, null)
    t.is((await copy(two, file(`${program}.out`))).bytes, 2 * content.length)
    t.true(readFileSync(file(`${program}.out`)).equals(Buffer.concat([content, content])))
    await copy(one, file(`${program}.raw`), { raw: true })
    t.true(readFileSync(file(`${program}.raw`)).equals(packed))
    writeFileSync(one, packed.subarray(0, packed.length >> 1))
    await t.throwsAsync(copy(one, ns), { code: 'ERR_UNVME_DECODE', message: /is no whole/ })
  })
}

test.serial('copy: a program that is missing is named', async (t) => {
  const { PATH } = process.env
  writeFileSync(file('no-xz'), Buffer.from('fd377a585a000000', 'hex'))
  process.env.PATH = file('.')
  try {
    await t.throwsAsync(copy(file('no-xz'), file('never')), {
      code: 'ERR_UNVME_UNSUPPORTED',
      message: /is xz: there is no program xz/,
    })
  } finally {
    process.env.PATH = PATH
  }
})

test('copy: an image format of its own is refused, with what to do', async (t) => {
  for (const [magic, message] of [
    ['QFI\xfb', /is qcow2, .* qemu-nbd/],
    ['KDMV', /is VMDK/],
    ['vhdxfile', /is VHDX/],
    ['7z\xbc\xaf\x27\x1c', /is 7z, .* 7z x -so/],
  ] as const) {
    writeFileSync(file('foreign'), Buffer.from(magic.padEnd(1024, '\0'), 'latin1'))
    await t.throwsAsync(copy(file('foreign'), file('never')), { code: 'ERR_UNVME_UNSUPPORTED', message })
    t.false(fs.existsSync(file('never')))
  }
  t.is((await copy(file('foreign'), file('foreign.raw'), { raw: true })).bytes, 1024)
})

test('copy: compressed on the way, and read back by itself and by others', async (t) => {
  await using ns = await open('sim:?size=8M')
  await copy(file('plain'), ns)
  for (const compress of ['gzip', 'zstd'] as const) {
    if (withoutTool(compress, COMPRESSORS[compress])) continue
    const out = file(`packed.${compress}`)
    await copy(ns, out, { bytes: content.length, compress })
    t.true(fs.statSync(out).size < content.length - MIB / 2)
    t.true(
      execFileSync(compress, ['-dc', '-q'], { input: readFileSync(out), maxBuffer: 8 * MIB }).equals(content),
    )
    t.is((await compare(out, ns)).difference, null)
  }
  await t.throwsAsync(copy(file('plain'), ns, { compress: 'gzip' }), { code: 'ERR_INVALID_ARG_VALUE' })
  await t.throwsAsync(copy(ns, file('p'), { compress: 'gzip', verify: true }), {
    code: 'ERR_INVALID_ARG_VALUE',
  })
})

test('copy: a checksum beside the source is heeded, in each of its forms', async (t) => {
  const sum = createHash('sha256').update(content).digest('hex')
  for (const text of [
    `${sum}  plain\n`,
    `${sum} *x/plain\n`,
    sum,
    `SHA256 (plain) = ${sum.toUpperCase()}\n`,
  ]) {
    writeFileSync(file('plain.sha256'), text)
    t.is((await copy(file('plain'), file('summed'))).sha256, sum)
  }
  writeFileSync(file('plain.sha256'), `${'0'.repeat(64)}  plain\n`)
  await t.throwsAsync(copy(file('plain'), file('summed')), {
    code: 'ERR_UNVME_VERIFY',
    message: /is damaged/,
  })
  t.is((await copy(file('plain'), file('summed'), { beside: false })).bytes, content.length)
  writeFileSync(file('plain.sha256'), `${'0'.repeat(64)}  other\n`)
  t.is((await copy(file('plain'), file('summed'))).bytes, content.length)
  fs.rmSync(file('plain.sha256'))
  await t.throwsAsync(copy(file('plain'), file('summed'), { sha256: '1'.repeat(64) }), {
    code: 'ERR_UNVME_VERIFY',
  })
  // Of what is compressed it is the file's.
  const packed = execFileSync('gzip', ['-c', file('plain')])
  writeFileSync(file('sum.gz'), packed)
  const sha256 = createHash('sha256').update(packed).digest('hex')
  t.is((await copy(file('sum.gz'), file('summed'), { sha256 })).bytes, content.length)
})

testWith(
  'copy: a block map of bmaptool is found, heeded and verified; ours is read by bmaptool',
  { bmaptool: 'bmap-tools', xz: 'xz-utils' },
  async (t) => {
    const image = file('mapped.img')
    fs.writeFileSync(image, '')
    fs.truncateSync(image, 8 * MIB - 1000)
    const fd = fs.openSync(image, 'r+')
    fs.writeSync(fd, pattern(200_000), 0, 200_000, MIB)
    fs.writeSync(fd, pattern(5000, 3), 0, 5000, 8 * MIB - 6000)
    fs.closeSync(fd)
    execFileSync('bmaptool', ['-q', 'create', '-o', `${image}.bmap`, image])
    await using ns = await open('sim:?size=8M')
    await ns.promises.write(Buffer.alloc(8 * MIB, 1), 0)
    const result = await copy(image, ns)
    t.true(result.written < 220_000)
    t.is((await compare(image, ns)).difference, null)
    // What is not mapped stays.
    await ns.promises.write(Buffer.alloc(8 * MIB, 1), 0)
    await copy(image, ns, { holes: 'keep' })
    const kept = await ns.promises.read(Buffer.alloc(512), 0)
    t.true(kept.every((byte) => byte === 1))
    execFileSync('xz', ['-k', image])
    await copy(`${image}.xz`, ns)
    t.is((await compare(image, ns)).difference, null)

    const maker = new BlockMapMaker()
    const whole = readFileSync(image)
    const map = parseBlockMap(readFileSync(`${image}.bmap`, 'utf8'), 'theirs')
    for (const { at, bytes, kind } of mapExtents(map, 'zero')) {
      for (let done = 0; kind === 'data' && done < bytes; done += 65536) {
        maker.add(whole.subarray(at + done, at + Math.min(bytes, done + 65536)), at + done)
      }
    }
    const ours = maker.end(whole.length)
    t.deepEqual(parseBlockMap(ours, 'ours'), map)
    writeFileSync(file('ours.bmap'), ours)
    execFileSync('bmaptool', ['-q', 'copy', '--bmap', file('ours.bmap'), image, file('by-bmaptool')])
    t.true(readFileSync(file('by-bmaptool')).equals(whole))

    fs.writeSync(fs.openSync(image, 'r+'), Buffer.from([1]), 0, 1, MIB + 77)
    await t.throwsAsync(copy(image, ns), {
      code: 'ERR_UNVME_VERIFY',
      message: /blocks 256 to \d+ .*not what its block map says/,
    })
    fs.truncateSync(image, MIB)
    await t.throwsAsync(copy(image, ns), {
      code: 'ERR_OUT_OF_RANGE',
      message: /is the block map of an image/,
    })
  },
)

test('parseBlockMap: versions, and what is none', (t) => {
  const text = (version: string, more: string, range = '<Range> 0 </Range>') =>
    `<bmap version="${version}"><ImageSize> 5000 </ImageSize><BlockSize> 4096 </BlockSize><BlocksCount> 2 </BlocksCount>` +
    `<MappedBlocksCount> 1 </MappedBlocksCount>${more}<BlockMap>${range}</BlockMap></bmap>`
  t.is(parseBlockMap(text('1.2', ''), 'old').hash, undefined)
  t.like(parseBlockMap(text('1.3', '', '<Range sha1="ab"> 1-1 </Range>'), 'sha1'), {
    hash: 'sha1',
    ranges: [{ first: 1, last: 1, checksum: 'ab' }],
  })
  t.throws(() => parseBlockMap(text('3.0', ''), 'new'), { code: 'ERR_UNVME_UNSUPPORTED' })
  t.throws(() => parseBlockMap(text('2.0', '<ChecksumType> crc9 </ChecksumType>'), 'x'), {
    code: 'ERR_UNVME_UNSUPPORTED',
  })
  t.throws(() => parseBlockMap(text('2.0', '', '<Range> 2 </Range>'), 'x'), { code: 'ERR_UNVME_DECODE' })
  t.throws(() => parseBlockMap(text('2.0', '', ''), 'x'), { code: 'ERR_UNVME_DECODE', message: /0 blocks/ })
  const damaged = '<ChecksumType> sha256 </ChecksumType><BmapFileChecksum> ab12 </BmapFileChecksum>'
  t.throws(() => parseBlockMap(text('2.0', damaged), 'x'), { code: 'ERR_UNVME_VERIFY' })
})

test('parseBlockMap, parseRescueMap: any text gives a map or an error of ours', (t) => {
  const words = fc.constantFrom(
    '<bmap version="2.0">',
    '<ImageSize>',
    '9',
    '</ImageSize>',
    '<Range',
    '>',
    '0x1 0x2 +',
    '\n',
    '0 ?',
  )
  fc.assert(
    fc.property(fc.array(fc.oneof(words, fc.string()), { maxLength: 20 }), (all) => {
      for (const parse of [parseBlockMap, parseRescueMap]) {
        try {
          parse(all.join(' '), 'any')
        } catch (error) {
          t.true(String((error as { code: string }).code).startsWith('ERR_UNVME_'))
        }
      }
    }),
  )
  t.pass()
})

test('a map of done and bad ranges is what was written down', (t) => {
  const ranges = fc.array(fc.tuple(fc.nat(1000), fc.integer({ min: 1, max: 100 })), { maxLength: 10 })
  fc.assert(
    fc.property(ranges, ranges, (good, poor) => {
      const [done, bad] = [new RangeSet(), new RangeSet()]
      for (const [from, bytes] of good) done.add(from, from + bytes)
      for (const [from, bytes] of poor) bad.add(from, from + bytes)
      const read = parseRescueMap(formatRescueMap(done, bad, 2000, { source: 'a' }), 'map')
      t.deepEqual([...read.bad], [...bad])
      for (let at = 0; at < 1100; at++) {
        const [inDone, inBad, found] = [done, bad, read.done].map(
          (set) => [...set.split(at, at + 1)][0]!.inside,
        )
        t.is(found, inDone! && !inBad)
      }
      t.is(read.bytes, 2000)
      t.deepEqual(read.identity, { source: 'a' })
    }),
    { numRuns: 50 },
  )
})
