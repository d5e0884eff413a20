// What an image, its map, its archive or its devices do to a copy that is not done on purpose: nothing wrong arrives
// without a word, and no other file is lost.

import { execFileSync, spawnSync } from 'node:child_process'
import fs, { readFileSync, writeFileSync } from 'node:fs'
import zlib from 'node:zlib'
import test from 'ava'
import fc from 'fast-check'
import { replaceFileAsync } from '../../lib/sys/file.ts'
import { parseBlockMap } from '../../src/copy/block-map.ts'
import { parseRescueMap } from '../../src/copy/rescue-map.ts'
import { type CopyOptions, copy, type Namespace, open, openController, wipe } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { testUnless, testWith } from '../support/left-out.ts'
import { startNbd } from '../support/nbd.ts'
import { pattern } from '../support/pattern.ts'

const file = testFolder()
const MIB = 1 << 20
const BEFORE = 0xa5
const content = pattern(2 * MIB)
writeFileSync(file('image'), content)

test('copy: bad blocks of 512 are kept or filled within the 4096 of a target, and the rest of them arrives', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(fc.nat(4095), { minLength: 1, maxLength: 6 }),
      fc.constantFrom('skip' as const, 'fill' as const),
      fc.boolean(),
      async (bad, onError, verify) => {
        const faults = bad.map((slba) => ({
          ...{ opcode: 2, slba, nlb: 1 },
          action: { kind: 'status' as const, status: 0x281 },
        }))
        await using source = await open('sim:?size=2M', { faults, retries: 0 })
        await using target = await open('sim:?size=2M&lba=4096')
        await source.promises.write(content, 0)
        await target.promises.write(Buffer.alloc(2 * MIB, BEFORE), 0)
        const result = await copy(source, target, { onError, verify })
        t.is(
          result.bad.reduce((sum, { bytes }) => sum + bytes, 0),
          bad.length * 512,
        )
        t.is(result.targets[0]!.error, undefined)
        const wanted = Buffer.from(content)
        for (const lba of bad) wanted.fill(onError === 'fill' ? 0 : BEFORE, lba * 512, lba * 512 + 512)
        t.true((await target.promises.read(Buffer.alloc(2 * MIB), 0)).equals(wanted))
      },
    ),
    { numRuns: 12 },
  )
})

test('copy: a map is written over nothing but a map', async (t) => {
  await using ns = await open('sim:?size=4M')
  const refused = { code: 'ERR_INVALID_ARG_VALUE' }
  await t.throwsAsync(copy(file('image'), ns, { map: file('image') }), refused)
  await t.throwsAsync(copy(file('image'), ns, { map: '/dev/null' }), refused)
  await t.throwsAsync(copy(file('image'), file('own'), { map: file('own') }), refused)
  // What takes the map's place is made beside it first.
  await t.throwsAsync(copy(file('image'), file('out.new'), { map: file('out') }), refused)
  writeFileSync(file('notes.new'), 'of somebody else')
  await t.throwsAsync(copy(file('image'), ns, { map: file('notes') }), refused)
  t.is(readFileSync(file('notes.new'), 'utf8'), 'of somebody else')
  t.true(readFileSync(file('image')).equals(content))
  t.false(fs.existsSync(file('own')))
  writeFileSync(file('empty.map'), '')
  await copy(file('image'), ns, { map: file('empty.map') })
  await copy(file('image'), ns, { map: file('empty.map') })
  t.regex(readFileSync(file('empty.map'), 'utf8'), /\+\n$/)
})

test('copy: a target that takes nothing keeps no report of the others, and they have maps', async (t) => {
  execFileSync('mkfifo', [file('unread')])
  const ending = new AbortController()
  const seen: number[][] = []
  const error = await t.throwsAsync(
    copy(file('image'), [file('unread'), file('beside.out')], {
      map: [undefined, file('beside.map')],
      signal: ending.signal,
      onReport: ({ bytes, targets }) => {
        seen.push([bytes, ...targets.map(({ bytes }) => bytes)])
        if (targets[1]!.bytes === content.length) ending.abort()
      },
    }),
    { name: 'AbortError' },
  )
  t.is((error as { bytesWritten?: number }).bytesWritten, 0)
  t.deepEqual(seen.at(-1), [0, 0, content.length])
  t.regex(readFileSync(file('beside.map'), 'utf8'), /0x00000000 {2}0x00200000 {2}\+\n$/)
  await t.throwsAsync(copy(file('image'), [file('a'), file('b')], { map: [file('x'), file('x')] }), {
    code: 'ERR_INVALID_ARG_VALUE',
  })
})

test('copy: the map of what was written before does not outlive the first byte of what is written now', async (t) => {
  const map = file('before.map')
  const doneIn = () => parseRescueMap(readFileSync(map, 'utf8'), map).done.bytes
  await using ns = await open('sim:?size=4M')
  await copy(file('image'), ns, { map })
  t.is(doneIn(), content.length)
  writeFileSync(file('another'), content.subarray(0, MIB))
  const seen: number[] = []
  await copy(file('another'), ns, { map, onProgress: () => seen.push(doneIn()) })
  t.is(seen[0], 0)
  t.is(doneIn(), MIB)
})

test('replaceFileAsync: what could not take the place of a file does not stay', async (t) => {
  fs.mkdirSync(file('taken'))
  await t.throwsAsync(replaceFileAsync(file('taken'), 'text'), { code: 'EISDIR' })
  t.false(fs.existsSync(file('taken.new')))
})

test('copy: a target that is too small for a stream leaves, and the others get all of it', async (t) => {
  await using small = await open('sim:?size=512K')
  writeFileSync(file('stream.gz'), zlib.gzipSync(content))
  const { targets } = await copy(file('stream.gz'), [small, file('stream.out')], { verify: true })
  t.deepEqual(
    targets.map(({ bytes, error }) => [bytes, (error as { code?: string } | undefined)?.code]),
    [
      [MIB / 2, 'ERR_UNVME_END_OF_RANGE'],
      [content.length, undefined],
    ],
  )
  t.true(readFileSync(file('stream.out')).equals(content))
  t.true((await small.promises.read(Buffer.alloc(MIB / 2), 0)).equals(content.subarray(0, MIB / 2)))
})

test('copy: of several targets each has a map, and the one that failed goes on alone', async (t) => {
  const fault = { opcode: 1, slba: 256, nlb: 1, action: { kind: 'status' as const, status: 0x280 } }
  await using bad = await open('sim:?size=4M&lba=4096', { faults: [fault], retries: 0 })
  await using good = await open('sim:?size=4M')
  const how: CopyOptions = { map: file('both.map'), chunk: 65536 }
  const both = await copy(file('image'), [good, bad], how)
  t.deepEqual(
    both.targets.map(({ error }) => error === undefined),
    [true, false],
  )
  await t.throwsAsync(copy(file('image'), good, { ...how, map: file('both.map.2'), resume: true }), {
    message: /is of another copy: its target/,
  })
  const before = both.targets[1]!.bytes
  t.true(before > 0)
  // It fails at the same place, and what was on its way behind that is done, too.
  const again = await copy(file('image'), [good, bad], { ...how, resume: true })
  t.is(again.targets[0]!.written, 0)
  const done = again.targets[1]!.bytes
  t.true(done >= before)
  const alone = await copy(file('image'), bad, { map: file('both.map.2'), resume: true, onError: 'skip' })
  t.is(alone.bad.length, 1)
  t.is(alone.targets[0]!.written, content.length - done - 4096)
  const wanted = Buffer.from(content).fill(0, 256 * 4096, 257 * 4096)
  t.true((await bad.promises.read(Buffer.alloc(2 * MIB), 0)).equals(wanted))
})

test('copy: a file that is cut meanwhile has not ended with a hole', async (t) => {
  const path = file('cut')
  writeFileSync(path, content)
  fs.truncateSync(path, 64 * MIB)
  const fd = fs.openSync(path, 'r+')
  fs.writeSync(fd, content, 0, content.length, 62 * MIB)
  fs.closeSync(fd)
  let cut = false
  const onProgress = () => {
    if (!cut) fs.truncateSync(path, 4 * MIB)
    cut = true
  }
  await t.throwsAsync(copy(path, file('cut.out'), { chunk: 4096, depth: 1, onProgress }), {
    code: 'ERR_UNVME_END_OF_SOURCE',
  })
})

test('copy: zeroes are deallocated only where deallocated blocks read as zeroes', async (t) => {
  const sent = async (ns: Namespace) => {
    const dwords: number[] = []
    const { promises } = ns
    const { cmd } = promises
    promises.cmd = ((command: { opcode: number; cdw12: number }, ...rest: []) => {
      if (command.opcode === 8) dwords.push(command.cdw12 >>> 16)
      return cmd.call(promises, command as never, ...rest)
    }) as never
    await copy(file('zeroes'), ns)
    return dwords
  }
  writeFileSync(file('zeroes'), Buffer.alloc(MIB))
  // Where the device does not say that they are holes already.
  await using ns = await open('sim:?size=2M&lbastatus=0')
  t.deepEqual(await sent(ns), [0x200])
  await using other = await open('sim:?size=2M&lbastatus=0')
  const identify = other.controller.identifyNamespace.bind(other.controller)
  const identifyNamespace = async (nsid: number) => ({ ...(await identify(nsid)), dlfeat: 8 })
  Object.defineProperty(other.controller, 'identifyNamespace', { value: identifyNamespace })
  t.deepEqual(await sent(other), [0])
})

test("copy: a software controller's image is not read where it has holes, and an export gets zeroes without their bytes", async (t) => {
  writeFileSync(file('holes'), content)
  fs.truncateSync(file('holes'), 64 * MIB)
  const ns = await open(`sim:${file('holes')}`)
  t.teardown(() => ns.close())
  t.is((await copy(ns, file('holes.out'))).read, content.length)
  t.true(readFileSync(file('holes.out')).equals(readFileSync(file('holes'))))
  const { ns: disk, uri } = await startNbd(t, 'sim:?size=64M')
  await disk.promises.write(Buffer.alloc(8 * MIB, BEFORE), 8192)
  const { written, targets } = await copy(file('holes'), uri, { verify: true })
  t.is(written, content.length)
  t.is(targets[0]!.verified, 64 * MIB)
  t.true((await disk.promises.read(Buffer.alloc(8 * MIB), 8192)).equals(Buffer.alloc(8 * MIB)))
})

/** A zip archive of these files. */
function zip(files: readonly { name: string; data: Buffer; isDeflated?: boolean }[]): Buffer {
  const bodies: Buffer[] = []
  const directory: Buffer[] = []
  let at = 0
  for (const { name, data, isDeflated = true } of files) {
    const stored = isDeflated ? zlib.deflateRawSync(data) : data
    const common = Buffer.alloc(26)
    common.writeUInt16LE(20, 0)
    common.writeUInt16LE(isDeflated ? 8 : 0, 4)
    common.writeUInt32LE(zlib.crc32(data), 10)
    common.writeUInt32LE(stored.length, 14)
    common.writeUInt32LE(data.length, 18)
    common.writeUInt16LE(name.length, 22)
    const rest = Buffer.alloc(14)
    rest.writeUInt32LE(at, 10)
    const body = Buffer.concat([Buffer.from('504b0304', 'hex'), common, Buffer.from(name), stored])
    directory.push(Buffer.from('504b01021400', 'hex'), common, rest, Buffer.from(name))
    bodies.push(body)
    at += body.length
  }
  const table = Buffer.concat(directory)
  const end = Buffer.alloc(22)
  end.write('504b0506', 'hex')
  end.writeUInt16LE(files.length, 8)
  end.writeUInt16LE(files.length, 10)
  end.writeUInt32LE(table.length, 12)
  end.writeUInt32LE(at, 16)
  return Buffer.concat([...bodies, table, end])
}

test('copy: the one file of a zip archive arrives, and of several none', async (t) => {
  for (const isDeflated of [true, false]) {
    const archive = zip([{ name: 'disk.img', data: content, isDeflated }])
    writeFileSync(file('one.zip'), archive)
    t.is((await copy(file('one.zip'), file('zip.out'), { verify: true })).bytes, content.length)
    t.true(readFileSync(file('zip.out')).equals(content))
    // Whatever is changed or cut: it arrives whole, or there is an error.
    await fc.assert(
      fc.asyncProperty(fc.nat(199), fc.boolean(), fc.nat(255), async (place, isEnd, value) => {
        const other = Buffer.from(archive)
        other[isEnd ? other.length - 1 - place : place] = value
        writeFileSync(file('other.zip'), other)
        const copied = await copy(file('other.zip'), file('other.out')).catch((error) => error.code)
        if (typeof copied === 'string') t.regex(copied, /^ERR_UNVME_(DECODE|UNSUPPORTED)$/)
        // Other first bytes are no archive's: it arrives as it is.
        else t.true([content, other].some((one) => readFileSync(file('other.out')).equals(one)))
      }),
      { numRuns: 60 },
    )
  }
  writeFileSync(file('two.zip'), zip(['a', 'b'].map((name) => ({ name, data: content }))))
  await t.throwsAsync(copy(file('two.zip'), file('two.out')), {
    code: 'ERR_UNVME_UNSUPPORTED',
    message: /is zip, .* unzip -p/,
  })
})

const zipfile = ['-m', 'zipfile'] as const
const lacksZipfile = spawnSync('python3', [...zipfile, '-h']).status !== 0 && 'no python3 with zipfile'

testUnless(
  lacksZipfile,
  'copy: the one file of an archive that another program has made arrives',
  async (t) => {
    execFileSync('python3', [...zipfile, '-c', file('made.zip'), file('image')])
    await copy(file('made.zip'), file('made.out'))
    t.true(readFileSync(file('made.out')).equals(content))
  },
)

test('copy: what begins as no disk does is refused', async (t) => {
  for (const magic of ['3aff26ed', '51454400']) {
    writeFileSync(file('other'), Buffer.concat([Buffer.from(magic, 'hex'), Buffer.alloc(600)]))
    await t.throwsAsync(copy(file('other'), file('other.out')), { code: 'ERR_UNVME_UNSUPPORTED' })
  }
})

testWith('copy: what begins with a frame to skip is zstd', { zstd: 'zstd' }, async (t) => {
  const packed = execFileSync('zstd', ['-qc', file('image')], { maxBuffer: 8 * MIB })
  writeFileSync(file('frames'), Buffer.concat([Buffer.from('502a4d1804000000aabbccdd', 'hex'), packed]))
  t.is((await copy(file('frames'), file('frames.out'))).bytes, content.length)
  t.true(readFileSync(file('frames.out')).equals(content))
})

test('parseBlockMap: a comment without an end, as often as one likes, is read once', (t) => {
  t.throws(() => parseBlockMap('<!--'.repeat(500_000), 'it'), { code: 'ERR_UNVME_DECODE' })
})

test('wipe: what ends it has the record of what was done', async (t) => {
  await using handle = await openController('sim:?size=64M')
  const ending = new AbortController()
  const error: Error & { record?: { result: string; reason?: string; method: string } } = await t.throwsAsync(
    wipe(handle, 1, {
      method: 'zeroes',
      signal: ending.signal,
      onProgress: () => ending.abort(new Error('enough')),
    }),
  )
  t.like(error.record, { result: 'failed', method: 'zeroes' })
  t.regex(error.record?.reason ?? '', /^ended before its end/)
})
