// Whose memory a copy moves data through: DMA memory that fs reads and writes itself, several pieces at a time, each
// of them untouched until fs is done with it.

import { readFileSync, writeFileSync } from 'node:fs'
import { type FileHandle, open as openFile } from 'node:fs/promises'
import test, { type ExecutionContext } from 'ava'
import { formatNvm } from '../../lib/nvme/host/admin-commands.ts'
import { compare, copy, type Namespace, NvmeError, open } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { pattern } from '../support/pattern.ts'

const file = testFolder()
const MIB = 1 << 20
// More than twice a window's.
const BYTES = 17 * MIB + 700
const content = pattern(BYTES, 3)

type Io = (buffer: Uint8Array, offset: number, length: number, position: number) => Promise<unknown>

/** Puts something around every read and write of file handles, until the test ends. */
async function aroundFiles(t: ExecutionContext, around: (io: Io, ...call: Parameters<Io>) => unknown) {
  const handle = await openFile(process.execPath)
  const files = Object.getPrototypeOf(handle) as FileHandle
  await handle.close()
  const originals = { read: files.read, write: files.write }
  t.teardown(() => Object.assign(files, originals))
  const wrapped = (original: Io) =>
    function (this: FileHandle, ...call: Parameters<Io>) {
      return around(original.bind(this), ...call)
    }
  Object.assign(files, {
    read: wrapped(originals.read as Io),
    write: wrapped(originals.write as Io),
  })
}

const turn = () => new Promise(setImmediate)

/** Ends calls in another order than they began, and sees to it that no other writer changes what is written. */
class Held {
  inFlight = 0
  most = 0
  changed = 0
  #calls = 0

  async hold(buffer: Uint8Array): Promise<void> {
    const before = Buffer.from(buffer)
    this.most = Math.max(this.most, ++this.inFlight)
    for (let turns = (this.#calls++ * 7) % 12; turns > 0; turns--) await turn()
    if (!before.equals(buffer)) this.changed++
    this.inFlight--
  }
}

async function filled(address = 'sim:?size=20M'): Promise<Namespace> {
  const ns = await open(address)
  await ns.promises.write(content.subarray(0, BYTES - (BYTES % 512)), 0)
  return ns
}

test.serial('fs reads and writes DMA memory itself, four pieces at a time', async (t) => {
  await using ns = await filled()
  writeFileSync(file('source'), content)
  const held = new Held()
  let own = 0
  await aroundFiles(t, async (io, buffer, offset, length, position) => {
    own += ns.pool.owns(buffer as Buffer) ? length : 0
    await held.hold(buffer)
    return io(buffer, offset, length, position)
  })
  t.is((await copy(file('source'), ns)).bytes, BYTES)
  t.is(own, BYTES)
  own = 0
  t.is((await copy(ns, file('target'), { bytes: BYTES })).bytes, BYTES)
  t.is(own, BYTES)
  t.true(readFileSync(file('target')).equals(content))
  t.is(held.most, 4)
  t.is(held.changed, 0)
})

test.serial('reads and writes that fall short go on where they stopped', async (t) => {
  await using ns = await open('sim:?size=20M')
  writeFileSync(file('source'), content)
  await aroundFiles(t, (io, buffer, offset, length, position) =>
    io(buffer, offset, Math.ceil(length / 2), position),
  )
  await copy(file('source'), ns, { chunk: 8 * MIB })
  await copy(ns, file('target'), { bytes: BYTES, chunk: 8 * MIB })
  t.true(readFileSync(file('target')).equals(content))
})

for (const failing of ['write', 'read'] as const) {
  test.serial(`a ${failing} of a file that fails ends the copy when the others have ended`, async (t) => {
    await using ns = await filled()
    const { bytes } = ns.pool
    writeFileSync(file('source'), content)
    const held = new Held()
    await aroundFiles(t, async (io, buffer, offset, length, position) => {
      await held.hold(buffer)
      if (position === 5 * MIB) throw Object.assign(new Error('no space'), { code: 'ENOSPC' })
      return io(buffer, offset, length, position)
    })
    const [from, to] = failing === 'write' ? [ns, file('failed')] : [file('source'), ns]
    await t.throwsAsync(copy(from, to), { code: 'ENOSPC' })
    t.is(held.inFlight, 0)
    t.is(held.changed, 0)
    t.is(ns.stats.inFlight, 0)
    t.is(ns.pool.bytes, bytes)
  })
}

test.serial('an abort with pieces in flight waits for them', async (t) => {
  await using ns = await filled()
  const { bytes } = ns.pool
  writeFileSync(file('source'), content)
  const held = new Held()
  let ending = new AbortController()
  await aroundFiles(t, async (io, buffer, offset, length, position) => {
    const done = held.hold(buffer)
    if (position >= 6 * MIB) ending.abort()
    await done
    return io(buffer, offset, length, position)
  })
  for (const [from, to] of [
    [ns, file('aborted')],
    [file('source'), ns],
  ] as const) {
    ending = new AbortController()
    held.most = 0
    await t.throwsAsync(copy(from, to, { signal: ending.signal }), { code: 'ABORT_ERR' })
    t.true(held.most > 1)
    t.is(held.inFlight, 0)
    t.is(held.changed, 0)
    t.is(ns.stats.inFlight, 0)
    t.is(ns.pool.bytes, bytes)
  }
})

/** Bytes that this thread copies from array to array while it works. */
async function copiedBytes(work: () => Promise<unknown>): Promise<number> {
  const bytes = Uint8Array.prototype
  const buffers = Buffer.prototype
  const { copy: copyTo } = buffers
  const { set } = bytes
  let sum = 0
  bytes.set = function (source, offset) {
    sum += source.length
    set.call(this, source, offset)
  }
  buffers.copy = function (...call: Parameters<Buffer['copy']>) {
    const count = copyTo.apply(this, call)
    sum += count
    return count
  }
  try {
    await work()
  } finally {
    // Inherited, as it was before.
    delete (bytes as Partial<Uint8Array>).set
    buffers.copy = copyTo
  }
  return sum
}

test.serial('what is copied in JavaScript: nothing with files and within a controller', async (t) => {
  // Whose medium is in another thread, so that what that copies does not count; nor do answers of admin commands.
  await using ns = await filled('sim:?size=40M&thread=1&lbastatus=0')
  await using other = await open('sim:?size=20M&thread=1&lbastatus=0')
  writeFileSync(file('source'), content)
  const within = { bytes: BYTES, dstSlba: 20 * 2048 }
  // The part of the last block goes into a block of its own.
  t.is(await copiedBytes(() => copy(file('source'), ns, { pad: true })), BYTES % 512)
  t.is(await copiedBytes(() => copy(ns, file('target'), { bytes: BYTES })), 0)
  t.true(readFileSync(file('target')).equals(content))
  t.is(await copiedBytes(() => copy(ns, ns, within)), BYTES % 512)
  t.is(await copiedBytes(() => copy(ns, other, { bytes: 16 * MIB })), 16 * MIB)
  for (const [place, slba] of [
    [ns, within.dstSlba],
    [other, 0],
  ] as const) {
    const back = await place.promises.read(Buffer.alloc(16 * MIB), slba)
    t.true(back.equals(content.subarray(0, 16 * MIB)))
  }
})

test.serial('any length is copied within a controller, and the rest of the last block stays', async (t) => {
  await using ns = await filled()
  const before = pattern(2 * MIB, 9)
  for (const bytes of [1, 511, 512, 513, 128 * 1024 + 3, MIB - 1, MIB]) {
    for (const options of [{}, { chunk: 4096, depth: 3 }, { depth: 1 }]) {
      await ns.promises.write(before, 18 * 2048)
      const result = await copy(ns, ns, { bytes, slba: 5, dstSlba: 18 * 2048, ...options })
      t.is(result.bytes, bytes)
      const after = await ns.promises.read(Buffer.alloc(before.length), 18 * 2048)
      t.true(after.subarray(0, bytes).equals(content.subarray(5 * 512, 5 * 512 + bytes)), `${bytes}`)
      t.true(after.subarray(bytes).equals(before.subarray(bytes)), `${bytes}`)
    }
  }
})

test.serial('namespaces of one controller, with blocks of other sizes', async (t) => {
  await using small = await open('sim:?size=4M&ns=2')
  await formatNvm(small.controller, 2, { lbaf: 1 })
  await using large = await small.openNamespace(2)
  t.is(large.blocksize, 4096)
  const data = content.subarray(0, MIB)
  for (const bytes of [1, 4096, 200_000, MIB]) {
    await small.promises.write(data, 7)
    await large.promises.write(Buffer.alloc(MIB + 4096, 1), 3)
    await copy(small, large, { slba: 7, dstSlba: 3, bytes })
    t.is((await compare(small, large, { slba: 7, dstSlba: 3, bytes })).difference, null)
    await small.promises.write(Buffer.alloc(MIB, 2), 7)
    await copy(large, small, { slba: 3, dstSlba: 7, bytes })
    const back = await small.promises.read(Buffer.alloc(MIB), 7)
    t.true(back.subarray(0, bytes).equals(data.subarray(0, bytes)), `${bytes}`)
    t.true(back.subarray(bytes).every((byte) => byte === 2))
  }
})

test.serial('a block that can not be read ends a copy within a controller with its own error', async (t) => {
  await using ns = await open('sim:?size=20M&lbastatus=0&fault=read@4096*1:status=281h', { retries: 0 })
  const { bytes } = ns.pool
  const error = await t.throwsAsync(copy(ns, ns, { bytes: 8 * MIB, dstSlba: 10 * 2048 }), {
    instanceOf: NvmeError,
  })
  t.is(error.opcodeName, 'Read')
  t.is(error.slba, 4096)
  t.is(ns.stats.inFlight, 0)
  t.is(ns.pool.bytes, bytes)
})
