// Images as the engine of `copy` moves them: whatever holes, zeroes and lengths a source has, whatever the target is and
// however often it is interrupted, what is read back equals the source, and nothing else is touched.

import { execFileSync } from 'node:child_process'
import fs, { createReadStream, readFileSync, statSync, writeFileSync } from 'node:fs'
import test from 'ava'
import fc from 'fast-check'
import { createDeviceEndpoint } from '../../src/copy/device-endpoint.ts'
import { Engine, type EngineState } from '../../src/copy/engine.ts'
import { alignedExtents, RangeSet } from '../../src/copy/extents.ts'
import { formatRescueMap, parseRescueMap } from '../../src/copy/rescue-map.ts'
import { createFileWriter } from '../../src/copy/writers.ts'
import { type CopyOptions, copy, NvmeError, open } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { pattern } from '../support/pattern.ts'
import { withoutTool } from '../support/tools.ts'

const file = testFolder()
const MIB = 1 << 20
const SIZE = 4 * MIB
// What was in a target before, and must be there afterwards around what was written.
const BEFORE = 0xa5

type Part = { kind: 'data' | 'hole' | 'zero'; bytes: number }

const parts = fc.array(
  fc.record({
    kind: fc.constantFrom('data', 'hole', 'zero'),
    bytes: fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.integer({ min: 1, max: 600_000 })),
  }),
  { maxLength: 6 },
)

/** A sparse file of these parts, one after the other. */
function build(path: string, all: readonly Part[]): Buffer {
  const pieces = all.map(({ kind, bytes }, at) =>
    kind === 'data' ? pattern(bytes, at + 1) : Buffer.alloc(bytes),
  )
  const fd = fs.openSync(path, 'w')
  let position = 0
  for (const [at, piece] of pieces.entries()) {
    if (all[at]!.kind !== 'hole') fs.writeSync(fd, piece, 0, piece.length, position)
    position += piece.length
  }
  fs.ftruncateSync(fd, position)
  fs.closeSync(fd)
  return Buffer.concat(pieces)
}

const options = fc.record({
  sparse: fc.constantFrom('auto' as const, 'always' as const, 'never' as const),
  verify: fc.boolean(),
  chunk: fc.constantFrom(4096, 65536, MIB),
  depth: fc.constantFrom(1, 8, 64),
})

for (const lba of [512, 4096]) {
  test(`copy: any parts of any length arrive at devices of ${lba} and in files, by any way`, async (t) => {
    await using a = await open(`sim:?size=8M&lba=${lba}`)
    await using b = await open('sim:?size=8M&lba=4096')
    const [source, target] = [file(`source-${lba}`), file(`target-${lba}`)]
    const kinds = fc.constantFrom('file', 'stream', 'device')
    await fc.assert(
      fc.asyncProperty(parts, options, kinds, fc.nat(20), async (all, how, kind, blocks) => {
        const content = build(source, all)
        const seek = blocks * 4096
        const before = Buffer.alloc(SIZE + 8192, BEFORE)
        for (const ns of [a, b]) await ns.promises.write(before, 0)
        writeFileSync(target, before)
        const wanted = Buffer.from(before)
        content.copy(wanted, seek)
        let from: string | typeof a = source
        if (kind === 'stream') {
          // /proc/self/fd is of no use here: a FIFO is what can be read once.
          const fifo = file(`fifo-${lba}`)
          fs.rmSync(fifo, { force: true })
          execFileSync('mkfifo', [fifo])
          createReadStream(source).pipe(fs.createWriteStream(fifo))
          from = fifo
        } else if (kind === 'device') {
          await using image = await open('sim:?size=8M')
          await copy(source, image)
          const result = await copy(image, [a, target, b], { ...how, seek, bytes: content.length })
          t.is(result.bytes, content.length)
        }
        if (kind !== 'device') {
          const result = await copy(from, [a, target, b], { ...how, seek })
          t.is(result.bytes, content.length)
          t.true(result.targets.every(({ error, bytes }) => error === undefined && bytes === content.length))
          if (how.verify) t.true(result.targets.every(({ verified }) => verified === content.length))
          for (const { written } of result.targets) t.true(written <= content.length)
        }
        // From its start on, a file is written as a new one.
        t.true(readFileSync(target).equals(seek === 0 ? content : wanted))
        for (const ns of [a, b])
          t.true((await ns.promises.read(Buffer.alloc(wanted.length), 0)).equals(wanted))
      }),
      { numRuns: 25 },
    )
  })
}

test('copy: ended anywhere, as often as one likes, and resumed: equal in the end, and each byte written once', async (t) => {
  const [source, map] = [file('resumed'), file('resumed.map')]
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat(SIZE), { minLength: 1, maxLength: 4 }),
      fc.constantFrom('auto' as const, 'never' as const),
      fc.boolean(),
      async (ends, sparse, isFile) => {
        const content = build(source, [
          { kind: 'data', bytes: 900_000 },
          { kind: 'hole', bytes: 500_000 },
          { kind: 'data', bytes: 1_100_001 },
        ])
        await using ns = await open('sim:?size=4M&lba=4096')
        fs.rmSync(map, { force: true })
        fs.rmSync(file('resumed.out'), { force: true })
        const target = isFile ? file('resumed.out') : ns
        const how: CopyOptions = { sparse, map, chunk: 65536, depth: 8 }
        for (const end of ends) {
          const ending = new AbortController()
          const resume = fs.existsSync(map)
          const onProgress = (bytes: number) => {
            if (bytes > end) ending.abort()
          }
          try {
            await copy(source, target, { ...how, resume, onProgress, signal: ending.signal })
          } catch (error) {
            t.is((error as { code: string }).code, 'ABORT_ERR')
            const { done } = parseRescueMap(readFileSync(map, 'utf8'), map)
            t.is((error as { bytesWritten: number }).bytesWritten, done.prefix)
          }
        }
        const before = fs.existsSync(map) ? parseRescueMap(readFileSync(map, 'utf8'), map).done.bytes : 0
        const last = await copy(source, target, { ...how, resume: fs.existsSync(map) })
        t.true(last.written + before <= content.length + 4096)
        t.is(last.bytes, content.length)
        const found = isFile
          ? readFileSync(file('resumed.out'))
          : (await ns.promises.read(Buffer.alloc(SIZE), 0)).subarray(0, content.length)
        t.true(found.equals(content))
      },
    ),
    { numRuns: 20 },
  )
})

/** Any ranges of a length, in order. */
const ranges = fc.uniqueArray(fc.nat(2 * MIB), { minLength: 2, maxLength: 12 }).map((all) => {
  const set = new RangeSet()
  const sorted = all.toSorted((a, b) => a - b)
  for (let at = 0; at + 1 < sorted.length; at += 2) set.add(sorted[at]!, sorted[at + 1]!)
  return set
})

test('copy: any map that is true is gone on with, whatever its ranges', async (t) => {
  const content = Buffer.concat([pattern(MIB), Buffer.alloc(MIB - 77), pattern(77)])
  writeFileSync(file('true'), content)
  await using small = await open('sim:?size=4M')
  await using large = await open('sim:?size=4M&lba=4096')
  const maps = [file('true.1'), file('true.2'), file('true.3')]
  await fc.assert(
    fc.asyncProperty(ranges, ranges, ranges, options, async (...[first, second, third, how]) => {
      const before = Buffer.alloc(2 * MIB + 4096, BEFORE)
      for (const [at, done] of [first, second, third].entries()) {
        const there = Buffer.from(before)
        for (const [from, to] of done) content.copy(there, from, from, to)
        if (at === 2) writeFileSync(file('true.out'), there)
        else await [small, large][at]!.promises.write(there, 0)
        writeFileSync(maps[at]!, formatRescueMap(done, new RangeSet(), content.length, {}))
      }
      const targets = [small, large, file('true.out')]
      const result = await copy(file('true'), targets, { ...how, map: maps, resume: true })
      t.true(result.targets.every(({ bytes, error }) => error === undefined && bytes === content.length))
      content.copy(before)
      for (const ns of [small, large])
        t.true((await ns.promises.read(Buffer.alloc(before.length), 0)).equals(before))
      // Where no block of it is whole, a file is begun again.
      t.true(readFileSync(file('true.out')).subarray(0, content.length).equals(content))
    }),
    { numRuns: 20 },
  )
})

test('alignedExtents: without gaps, at boundaries, and none but data holds bytes of another kind', async (t) => {
  const kinds = fc.constantFrom('data' as const, 'hole' as const, 'zero' as const, 'unmapped' as const)
  const lengths = fc.array(fc.tuple(kinds, fc.integer({ min: 1, max: 40 })), { minLength: 1, maxLength: 12 })
  await fc.assert(
    fc.asyncProperty(lengths, fc.constantFrom(1, 4, 16), async (all, align) => {
      let end = 0
      const extents = all.map(([kind, bytes]) => {
        end += bytes
        return { kind, bytes, at: end - bytes }
      })
      let at = 0
      for await (const extent of alignedExtents(extents, align, end)) {
        t.is(extent.at, at)
        t.is(at % align, 0)
        at += extent.bytes
        for (const other of extents) {
          const isInside = other.at < at && other.at + other.bytes > extent.at
          if (isInside && extent.kind !== 'data') t.is(other.kind, extent.kind)
        }
      }
      t.is(at, end)
    }),
  )
})

test('copy: resume refuses the map of another copy, and a source that changed', async (t) => {
  await using ns = await open('sim:?size=4M')
  writeFileSync(file('other'), pattern(MIB))
  const map = file('other.map')
  await copy(file('other'), ns, { map })
  await t.throwsAsync(copy(file('other'), ns, { map, resume: true, dstSlba: 8 }), {
    code: 'ERR_INVALID_ARG_VALUE',
    message: /is of another copy: its target/,
  })
  writeFileSync(file('other'), pattern(MIB + 1))
  await t.throwsAsync(copy(file('other'), ns, { map, resume: true }), { code: 'ERR_INVALID_ARG_VALUE' })
  await t.throwsAsync(copy(file('other'), ns, { map: file('none.map'), resume: true }), {
    message: /there is no/,
  })
})

test('copy: the map of bad blocks is exact, for reads and for writes', async (t) => {
  const content = pattern(2 * MIB)
  writeFileSync(file('good'), content)
  const blocks = fc.uniqueArray(fc.nat(4095), { minLength: 1, maxLength: 5 })
  await fc.assert(
    fc.asyncProperty(
      blocks,
      fc.constantFrom('read', 'write'),
      fc.constantFrom('skip', 'fill'),
      async (bad, side, onError) => {
        const faults = bad.map((slba) => ({
          opcode: side === 'read' ? 2 : 1,
          slba,
          nlb: 1,
          action: { kind: 'status' as const, status: side === 'read' ? 0x281 : 0x280 },
        }))
        await using faulty = await open('sim:?size=2M', { faults, retries: 0 })
        const map = file('bad.map')
        const out = file('bad.out')
        if (side === 'read') {
          await faulty.promises.write(content, 0)
          writeFileSync(out, Buffer.alloc(content.length, BEFORE))
        }
        const result =
          side === 'read'
            ? await copy(faulty, out, { onError, retries: 1, map })
            : await copy(file('good'), faulty, { onError, retries: 1, map })
        const found = [...parseRescueMap(readFileSync(map, 'utf8'), map).bad].flatMap(([from, to]) =>
          Array.from({ length: (to - from) / 512 }, (_, at) => from / 512 + at),
        )
        t.deepEqual(
          found,
          bad.toSorted((x, y) => x - y),
        )
        t.is(
          result.bad.reduce((sum, { bytes }) => sum + bytes, 0),
          bad.length * 512,
        )
        t.true(result.bad.every(({ error }) => error instanceof NvmeError))
        const wanted = Buffer.from(content)
        for (const lba of bad) wanted.fill(0, lba * 512, lba * 512 + 512)
        const got = side === 'read' ? readFileSync(out) : await faulty.promises.read(Buffer.alloc(2 * MIB), 0)
        t.true(got.equals(wanted))
        // With Debian's gddrescue, whose own tool reads the map.
        if (!withoutTool('ddrescuelog', 'gddrescue')) {
          const log = execFileSync('ddrescuelog', ['--list-blocks=-', '--block-size=512', map], {
            encoding: 'utf8',
          })
          t.deepEqual(log.split('\n').filter(Boolean).map(Number), found)
        }
      },
    ),
    { numRuns: 12 },
  )
})

test('copy: several targets, one fails and the others go on', async (t) => {
  writeFileSync(file('several'), pattern(3 * MIB))
  await using good = await open('sim:?size=4M&lba=4096')
  await using bad = await open('sim:?size=4M&fault=write@2048:status=280h', { retries: 0 })
  const reports: number[] = []
  const result = await copy(file('several'), [good, bad, file('several.out')], {
    onReport: ({ targets }) => reports.push(targets.filter(({ error }) => error !== undefined).length),
  })
  t.deepEqual(
    result.targets.map(({ error }) => error?.constructor.name),
    [undefined, 'NvmeError', undefined],
  )
  t.true(readFileSync(file('several.out')).equals(pattern(3 * MIB)))
  t.true((await good.promises.read(Buffer.alloc(3 * MIB), 0)).equals(pattern(3 * MIB)))
  t.is(reports.at(-1), 1)
  await t.throwsAsync(copy(file('several'), [bad, bad]), { code: 'ERR_OUT_OF_RANGE' })
  await t.throwsAsync(copy(file('several'), []), { code: 'ERR_INVALID_ARG_VALUE' })
})

const flushFails = { opcode: 0, action: { kind: 'status' as const, status: 0x280 } }

test('copy: what a flush has failed for is not done in the map', async (t) => {
  writeFileSync(file('unflushed'), pattern(MIB))
  await using bad = await open('sim:?size=4M', { faults: [flushFails], retries: 0 })
  await using good = await open('sim:?size=4M')
  const map = [file('unflushed.map'), file('flushed.map')]
  const doneIn = (path: string) => parseRescueMap(readFileSync(path, 'utf8'), path).done.bytes
  await t.throwsAsync(copy(file('unflushed'), bad, { map: map[0]! }), { instanceOf: NvmeError })
  t.is(doneIn(map[0]!), 0)
  const { targets } = await copy(file('unflushed'), [bad, good], { map })
  t.deepEqual(
    targets.map(({ error }) => error?.constructor.name),
    ['NvmeError', undefined],
  )
  t.deepEqual(map.map(doneIn), [0, MIB])
})

test('Engine: a target whose flush fails half-way leaves, and the others go on', async (t) => {
  await using bad = await open('sim:?size=4M', { faults: [flushFails], retries: 0 })
  await using good = await open('sim:?size=4M')
  await using source = await open('sim:?size=4M')
  await source.promises.write(pattern(4 * MIB), 0)
  const [from, ...to] = [source, bad, good].map((ns) => createDeviceEndpoint(ns, ns.device, 0, false))
  const saved: EngineState[][] = [[], []]
  const engine = new Engine(from!, to, 4 * MIB, undefined, {
    ...{
      chunk: 65536,
      window: 8,
      verify: false,
      flush: true,
      pad: false,
      known: false,
      askHoles: false,
      onError: 'stop',
    },
    ...{ retries: 0, seek: 0, skip: 0, signal: undefined, zeroBytes: 0, hash: false, check: undefined },
    ...{ done: [new RangeSet(), new RangeSet()], saveMs: 0, onReport: undefined },
    save: async (target, state) => void saved[target]!.push(state),
  })
  const { targets } = await engine.run()
  t.true(targets[0]!.error instanceof NvmeError && targets[0]!.bytes < 4 * MIB)
  t.true((await good.promises.read(Buffer.alloc(4 * MIB), 0)).equals(pattern(4 * MIB)))
  t.true(saved[0]!.length > 0 && saved[0]!.every(({ done }) => done.isEmpty))
  t.is(saved[1]!.at(-1)!.done.bytes, 4 * MIB)
})

test('Writer of a file: sync makes it as long as what is done, and cuts nothing that is written meanwhile', async (t) => {
  const handle = await fs.promises.open(file('synced'), 'w+')
  const meanwhile = Object.assign(Object.create(handle) as fs.promises.FileHandle, {
    stat: async () => {
      const stats = await handle.stat()
      await writer.write(pattern(4096), 2 * MIB)
      return stats
    },
    write: handle.write.bind(handle),
    datasync: handle.datasync.bind(handle),
    truncate: handle.truncate.bind(handle),
  })
  const writer = createFileWriter(meanwhile, async () => handle, { known: true, align: 1, isFile: true })
  await writer.sync!(MIB)
  const found = readFileSync(file('synced'))
  t.true(found.equals(Buffer.concat([Buffer.alloc(2 * MIB), pattern(4096)])))
  await handle.truncate(0)
  t.is((await handle.stat()).size, 0)
  const alone = createFileWriter(handle, async () => handle, { known: true, align: 1, isFile: true })
  await alone.sync!(MIB)
  t.is(statSync(file('synced')).size, MIB)
  await handle.close()
})

test('copy: a map that can not be written is the failure of its target alone', async (t) => {
  writeFileSync(file('mapped'), pattern(MIB))
  const map = [file('no-folder/a.map'), file('b.map')]
  const { targets } = await copy(file('mapped'), [file('mapped.a'), file('mapped.b')], { map, flush: false })
  t.like(targets, [{ error: { code: 'ENOENT' } }, { bytes: MIB }])
  t.is(targets[1]!.error, undefined)
  t.is(parseRescueMap(readFileSync(map[1]!, 'utf8'), map[1]!).done.bytes, MIB)
  await t.throwsAsync(copy(file('mapped'), file('mapped.a'), { map: map[0]! }), { code: 'ENOENT' })
})

test('copy: holes are not read, zeroes are not sent, and a file becomes sparse', async (t) => {
  const content = build(file('sparse'), [
    { kind: 'data', bytes: 65536 },
    { kind: 'hole', bytes: 64 * MIB },
    { kind: 'zero', bytes: MIB },
    { kind: 'data', bytes: 65536 },
  ])
  await using ns = await open('sim:?size=128M')
  await ns.promises.write(Buffer.alloc(2 * MIB, BEFORE), 0)
  const there = await copy(file('sparse'), ns)
  t.like(there, { bytes: content.length, written: 131072, skipped: content.length - 131072 })
  t.true(there.read <= 131072 + MIB + 4096)
  const back = await copy(ns, file('sparse.back'), { bytes: content.length, hash: true })
  t.is(back.written, 131072)
  t.true(statSync(file('sparse.back')).blocks * 512 <= 2 * 131072)
  t.true(readFileSync(file('sparse.back')).equals(content))
  const sum = execFileSync('sha256sum', [file('sparse')], { encoding: 'utf8' }).slice(0, 64)
  t.is(back.sha256, sum)
  const full = await copy(file('sparse'), file('sparse.full'), { sparse: 'never' })
  t.like(full, { read: content.length, written: content.length, skipped: 0 })
})

test('copy: what reads back differently is reported with LBA and byte', async (t) => {
  // Every write but the first to block 100 is lost: its answer is a success.
  writeFileSync(file('checked'), pattern(MIB))
  await using ns = await open('sim:?size=2M')
  const { promises } = ns
  const { write } = promises
  promises.write = async (buf, slba, ...rest) => {
    const done = await write.call(promises, buf, slba, ...rest)
    await write.call(promises, Buffer.alloc(512, 1), 100)
    return done as never
  }
  const result = await copy(file('checked'), ns, { verify: true })
  const { difference } = result.targets[0]!
  t.is(difference?.b.lba, 100)
  t.is(
    difference?.b.byte,
    [...pattern(MIB).subarray(51200, 51712)].findIndex((byte) => byte !== 1),
  )
})
