// A namespace beside a file of the same bytes: every call of fs.FileHandle gives the same from both, errors included.

import fs from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import test from 'ava'
import fc from 'fast-check'
import { open } from 'unvme'
import { bytes, fileHandle } from 'unvme/adapters'
import { testFolder } from '../support/folder.ts'
import { pattern } from '../support/pattern.ts'

const SIZE = 2 ** 18
const file = testFolder()
let count = 0

/** A file and a namespace with the same content. */
async function pair() {
  const content = pattern(SIZE)
  const path = file(`file-${count++}`)
  await fs.writeFile(path, content)
  const ns = await open(`sim:?size=${SIZE}&lba=4096`)
  await bytes(ns).write(content, 0)
  return { ns, path, real: await fs.open(path, 'r+'), ours: fileHandle(ns) as unknown as Handle }
}

// It has the calls of FileHandle that are compared, and not all others.
type Handle = fs.FileHandle

const place = fc.option(fc.nat(SIZE - 1), { nil: null, freq: 2 })
const bytesOf = fc.oneof(fc.nat(100), fc.nat(20_000))
/** Calls of both; each gives what can be compared. */
const call = fc.oneof(
  fc
    .record({ bytes: bytesOf, offset: fc.nat(50), position: place })
    .map(({ bytes, offset, position }) => async (handle: Handle) => {
      const buffer = Buffer.alloc(bytes + offset)
      const result = await handle.read(buffer, offset, bytes, position)
      return [result.bytesRead, result.buffer === buffer, buffer]
    }),
  fc.record({ bytes: bytesOf, position: place }).map(({ bytes, position }) => async (handle: Handle) => {
    const { bytesRead, buffer } = await handle.read({ buffer: Buffer.alloc(bytes), position })
    return [bytesRead, buffer]
  }),
  fc
    .record({ parts: fc.array(fc.nat(5000), { minLength: 1, maxLength: 5 }), position: place })
    .map(({ parts, position }) => async (handle: Handle) => {
      const buffers = parts.map((length) => Buffer.alloc(length))
      const { bytesRead } = await handle.readv(buffers, position ?? undefined)
      return [bytesRead, ...buffers]
    }),
  fc
    .record({
      bytes: bytesOf,
      offset: fc.nat(50),
      seed: fc.nat(1000),
      position: fc.option(fc.nat(SIZE - 30_000), { nil: null }),
    })
    .map(({ bytes, offset, seed, position }) => async (handle: Handle) => {
      const { bytesWritten } = await handle.write(pattern(bytes + offset, seed), offset, bytes, position)
      return [bytesWritten]
    }),
  fc
    .record({ text: fc.string(), position: fc.nat(SIZE - 3000) })
    .map(({ text, position }) => async (handle: Handle) => {
      const { bytesWritten, buffer } = await handle.write(text, position, 'utf8')
      return [bytesWritten, buffer]
    }),
  fc
    .record({
      parts: fc.array(fc.nat(5000), { minLength: 1, maxLength: 5 }),
      position: fc.nat(SIZE - 30_000),
    })
    .map(({ parts, position }) => async (handle: Handle) => {
      const { bytesWritten } = await handle.writev(
        parts.map((length, i) => pattern(length, i)),
        position,
      )
      return [bytesWritten]
    }),
)

test('fileHandle: calls in any order give what those of a file give', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(call, { maxLength: 30 }), async (calls) => {
      const { ns, path, real, ours } = await pair()
      try {
        for (const one of calls) t.deepEqual(await one(ours), await one(real))
        await ours.sync()
        await ours.datasync()
        // A file grows where a namespace ends: compared up to there.
        const data = await bytes(ns).read(Buffer.alloc(SIZE), 0)
        t.true(data.equals((await fs.readFile(path)).subarray(0, SIZE)))
      } finally {
        await real.close()
        await ours.close()
        await ns.close()
      }
    }),
    { numRuns: 40 },
  )
})

test('fileHandle: reads without a position go on, also before the one before has ended', async (t) => {
  const { ns, real, ours } = await pair()
  const parts = await Promise.all(
    [100, 4096, 5000].map((length) => ours.read(Buffer.alloc(length), 0, length)),
  )
  t.true(Buffer.concat(parts.map(({ buffer }) => buffer)).equals(pattern(SIZE).subarray(0, 9196)))
  t.is((await ours.read()).bytesRead, 16_384)
  await ours.write('there', null)
  t.is((await ours.read(Buffer.alloc(5), 0, 5, 9196 + 16_384)).buffer.toString(), 'there')
  t.is((await ours.read(Buffer.alloc(9), 0, 9, BigInt(SIZE - 4) as never)).bytesRead, 4)
  t.is((await ours.read(Buffer.alloc(9), 0, 9, SIZE + 10)).bytesRead, 0)
  await real.close()
  await ns.close()
})

for (const range of [{}, { start: 777 }, { start: 4096, end: 100_000 }, { end: 5 }]) {
  test(`fileHandle: streams of ${JSON.stringify(range)} carry what those of a file carry`, async (t) => {
    const { ns, real, ours } = await pair()
    const read = async (handle: Handle) =>
      Buffer.concat(
        await handle.createReadStream({ ...range, autoClose: false, highWaterMark: 5000 }).toArray(),
      )
    const fromFile = await read(real)
    t.true((await read(ours)).equals(fromFile))
    // The position of both is where the stream has ended.
    const data = pattern(20_000, 5)
    for (const handle of [real, ours]) {
      const start = 'start' in range ? range.start : 3
      await pipeline(
        Readable.from([data.subarray(0, 33), data.subarray(33, 9000), data.subarray(9000)]),
        handle.createWriteStream({ start, autoClose: true } as { start: number }),
      )
      t.is((await t.throwsAsync<NodeJS.ErrnoException>(handle.stat())).code, 'EBADF')
    }
    const start = 'start' in range ? range.start! : 3
    t.true((await bytes(ns).read(Buffer.alloc(20_000), start)).equals(data))
    await ns.close()
  })
}

test('fileHandle: fails as fs does when it is closed, full, or asked for nonsense', async (t) => {
  const { ns, real, ours } = await pair()
  const { size, blksize } = await ours.stat()
  t.deepEqual([size, blksize, (await ours.stat()).isFile()], [SIZE, 4096, true])
  const last = await ours.write(Buffer.alloc(100, 1), 0, 100, SIZE - 40)
  t.is(last.bytesWritten, 40)
  await t.throwsAsync(ours.write(Buffer.alloc(1), 0, 1, SIZE), { code: 'ENOSPC' })
  const full = fileHandle(ns).createWriteStream({ start: SIZE - 10 })
  await t.throwsAsync(pipeline(Readable.from([Buffer.alloc(100)]), full), { code: 'ENOSPC' })
  // Both say the same of what they can't do.
  const wrong: ((handle: Handle) => Promise<unknown>)[] = [
    (handle) => handle.read(Buffer.alloc(4), 5, 1, 0),
    (handle) => handle.read(Buffer.alloc(4), 0, 5, 0),
    (handle) => handle.write(Buffer.alloc(4), 0, 5, 0),
    (handle) => handle.write(5 as never),
    (handle) => handle.readv('text' as never),
  ]
  for (const one of wrong) {
    const { code } = await t.throwsAsync<NodeJS.ErrnoException>(one(real))
    t.is((await t.throwsAsync<NodeJS.ErrnoException>(one(ours))).code, code, String(one))
  }
  const pending = ours.read(Buffer.alloc(SIZE), 0, SIZE, 0)
  await ours.close()
  await ours.close()
  t.is((await pending).bytesRead, SIZE)
  const calls = ['read', 'sync', 'datasync', 'stat'] as const
  for (const name of calls) await t.throwsAsync((ours[name] as () => Promise<unknown>)(), { code: 'EBADF' })
  t.throws(() => ours.createReadStream(), { code: 'EBADF' })
  await bytes(ns).read(Buffer.alloc(1), 0)
  await real.close()
  await ns.close()
})
