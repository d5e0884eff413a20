// What a device knows of its holes: they are not read, and not zeroed again.

import fs from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { NVM } from '../../lib/nvme/spec/opcodes.ts'
import { compare, copy, type Namespace, open, serveNvmeTcp } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { pattern } from '../support/pattern.ts'

const MIB = 2 ** 20
const SIZE = 8 * MIB
const inFolder = testFolder()

// In blocks of 512 bytes.
interface Step {
  write: boolean
  slba: number
  nlb: number
}
const step: fc.Arbitrary<Step> = fc.record({
  write: fc.boolean(),
  slba: fc.integer({ min: 0, max: SIZE / 512 - 1 }),
  nlb: fc.integer({ min: 1, max: 2500 }),
})
const steps = fc.array(step, { minLength: 0, maxLength: 8 })

/** Writes and deallocates, and returns what the blocks read as then. */
async function fill(ns: Namespace, list: readonly Step[], seed: number): Promise<Buffer> {
  await ns.promises.deallocate([{ slba: 0, nlb: ns.blockcount }])
  const content = Buffer.alloc(SIZE)
  const unit = ns.blocksize / 512
  for (const [i, { write, ...range }] of list.entries()) {
    const slba = Math.floor(range.slba / unit)
    const nlb = Math.max(1, Math.min(Math.floor(range.nlb / unit), ns.blockcount - slba))
    const data = write ? pattern(nlb * ns.blocksize, seed + i) : Buffer.alloc(nlb * ns.blocksize)
    if (write) await ns.promises.write(data, slba)
    else await ns.promises.deallocate([{ slba, nlb }])
    data.copy(content, slba * ns.blocksize)
  }
  return content
}

async function allocatedBytes(ns: Namespace): Promise<number> {
  const { descriptors } = await ns.lbaStatus()
  return descriptors.reduce((sum, { nlb }) => sum + nlb * ns.blocksize, 0)
}

/** Blocks that Write Zeroes was sent for, from now on. */
function zeroedBlocks(ns: Namespace): () => number {
  let blocks = 0
  const { promises } = ns
  const { cmd } = promises
  promises.cmd = ((command: { opcode: number; cdw12?: number }, ...rest: []) => {
    if (command.opcode === NVM.WRITE_ZEROES) blocks += (command.cdw12! & 0xffff) + 1
    return cmd.call(promises, command as never, ...rest)
  }) as never
  return () => {
    const counted = blocks
    blocks = 0
    return counted
  }
}

for (const address of ['sim:?size=8M', 'sim:?size=8M&thread=1', 'sim:FILE?size=8M&lba=4096']) {
  test(`copy and compare: any map of holes is copied, and no hole is read or zeroed again (${address})`, async (t) => {
    const name = address.replace(/\W/g, '')
    const file = inFolder(`${name}.out`)
    await using from = await open(address.replace('FILE', inFolder(`${name}-a.img`)))
    await using to = await open(address.replace('FILE', inFolder(`${name}-b.img`)))
    const zeroed = zeroedBlocks(to)
    await fc.assert(
      fc.asyncProperty(steps, steps, fc.integer({ min: 0, max: 1000 }), async (source, target, seed) => {
        const content = await fill(from, source, seed)
        const data = await allocatedBytes(from)
        const toFile = await copy(from, file)
        t.true(fs.readFileSync(file).equals(content))
        t.is(toFile.read, data)
        await fill(to, target, seed + 100)
        const had = await allocatedBytes(to)
        zeroed()
        const result = await copy(from, to)
        t.is(result.read, data)
        t.true((await to.promises.read(Buffer.alloc(SIZE), 0)).equals(content))
        // Zeroes are needed where the target has something, and the source nothing. Of short ranges it is not asked.
        t.true(zeroed() * to.blocksize <= had + data + (await shortHoles(from)))
        const before = from.stats.bytesRead + to.stats.bytesRead
        t.is((await compare(from, to)).difference, null)
        const read = from.stats.bytesRead + to.stats.bytesRead - before
        t.is(read, (await allocatedParts(from)) + (await allocatedParts(to)))
      }),
      { numRuns: 10 },
    )
  })
}

/** Bytes of holes of less than 1 MiB. */
async function shortHoles(ns: Namespace): Promise<number> {
  const { descriptors } = await ns.lbaStatus()
  let at = 0
  let bytes = 0
  for (const { dslba, nlb } of [...descriptors, { dslba: ns.blockcount, nlb: 0 }]) {
    const hole = (dslba - at) * ns.blocksize
    if (hole < MIB) bytes += hole
    at = dslba + nlb
  }
  return bytes
}

/** Bytes of the parts of 1 MiB that have data: what is read of a device that is compared. */
async function allocatedParts(ns: Namespace): Promise<number> {
  const { descriptors } = await ns.lbaStatus()
  const parts = new Set<number>()
  for (const { dslba, nlb } of descriptors) {
    const from = Math.floor((dslba * ns.blocksize) / MIB)
    for (let part = from; part * MIB < (dslba + nlb) * ns.blocksize; part++) parts.add(part)
  }
  return parts.size * MIB
}

test('copy and compare: `never` reads all, and zeroes all', async (t) => {
  await using from = await open('sim:?size=8M')
  await using to = await open('sim:?size=8M')
  t.like(await copy(from, to), { read: 0, written: 0, skipped: SIZE })
  t.like(await copy(from, to, { sparse: 'never' }), { read: SIZE, written: SIZE })
  await using other = await open('sim:?size=8M&lbastatus=0')
  t.like(await copy(other, inFolder('all')), { read: SIZE })
  const reads = async (sparse: 'auto' | 'never') => {
    const before = from.stats.bytesRead
    t.is((await compare(from, other, { sparse })).difference, null)
    return from.stats.bytesRead - before
  }
  t.is(await reads('auto'), 0)
  t.is(await reads('never'), SIZE)
  await t.throwsAsync(compare(from, other, { sparse: 'some' as never }), { code: 'ERR_INVALID_ARG_VALUE' })
})

test('copy: a part of a device, and a length that is no number of blocks', async (t) => {
  await using from = await open('sim:?size=8M&lba=4096')
  const data = pattern(MIB, 4)
  await from.promises.write(data, 512)
  const content = Buffer.alloc(SIZE)
  data.copy(content, 2 * MIB)
  for (const [slba, bytes] of [
    [500, 70_001],
    [767, 4097],
    [3, 2 * MIB + 5],
    [600, SIZE - 600 * 4096],
  ] as const) {
    const file = inFolder(`part-${slba}`)
    const result = await copy(from, file, { slba, bytes })
    t.true(fs.readFileSync(file).equals(content.subarray(slba * 4096, slba * 4096 + bytes)), `${slba}`)
    t.true(result.read <= MIB)
    t.is((await compare(from, file, { slba, bytes })).difference, null)
  }
})

test('blocks that can not be read end a copy also where holes are around them', async (t) => {
  await using from = await open('sim:?size=8M', { retries: 0 })
  await from.promises.cmd({ opcode: NVM.WRITE_UNCORRECTABLE, cdw10: 5000, cdw12: 7 })
  await t.throwsAsync(copy(from, inFolder('bad')), { code: 'ERR_NVME_STATUS', message: /Unrecovered Read/ })
})

async function serve(t: ExecutionContext, address: string): Promise<{ device: Namespace; host: Namespace }> {
  const device = await open(address)
  const server = await serveNvmeTcp([device], { nqn: 'nqn.2024-01.org.example:holes', listen: '127.0.0.1:0' })
  const host = await open(`nvme+tcp://127.0.0.1:${server.listeners[0]!.port}/${server.nqn}`)
  t.teardown(async () => {
    await host.close()
    await server.close()
    await device.close()
  })
  return { device, host }
}

test('over NVMe/TCP: a served device tells its holes, and one that knows none has only data', async (t) => {
  const { device, host } = await serve(t, 'sim:?size=8M')
  const data = pattern(MIB, 9)
  await device.promises.write(data, 4096)
  t.deepEqual(await host.lbaStatus(), await device.lbaStatus())
  t.like(await copy(host, inFolder('tcp')), { bytes: SIZE, read: MIB })
  const expected = Buffer.alloc(SIZE)
  data.copy(expected, 2 * MIB)
  t.true(fs.readFileSync(inFolder('tcp')).equals(expected))
  t.is((await compare(host, inFolder('tcp'))).difference, null)
  await t.throwsAsync(host.lbaStatus({ action: 0x11 }), { message: /Invalid Field/ })
  await t.throwsAsync(host.lbaStatus({ slba: 16_384 }), { message: /LBA Out of Range/ })

  const { host: silent } = await serve(t, 'sim:?size=1M&lbastatus=0')
  t.is(silent.controller.identity.oacs, 0)
  await t.throwsAsync(silent.lbaStatus(), { message: /Invalid Command Opcode/ })
})

test('over NVMe/TCP: of two devices of a server one tells its holes', async (t) => {
  const [knows, other] = [await open('sim:?size=4M'), await open('sim:?size=4M&lbastatus=0')]
  const server = await serveNvmeTcp([knows, other], {
    nqn: 'nqn.2024-01.org.example:two',
    listen: '127.0.0.1:0',
  })
  const first = await open(`nvme+tcp://127.0.0.1:${server.listeners[0]!.port}/${server.nqn}?nsid=1`)
  const second = await first.openNamespace(2)
  t.deepEqual((await first.lbaStatus()).descriptors, [])
  t.deepEqual(await second.lbaStatus(), {
    nlsd: 1,
    cmpc: 2,
    descriptors: [{ dslba: 0, nlb: 8192, lbars: 2 }],
  })
  t.deepEqual((await second.lbaStatus({ slba: 10, nlb: 5 })).descriptors, [{ dslba: 10, nlb: 5, lbars: 2 }])
  t.deepEqual(await second.lbaStatus({ bytes: 8 }), { nlsd: 0, cmpc: 1, descriptors: [] })
  t.like(await copy(first, inFolder('first')), { read: 0 })
  t.like(await copy(second, inFolder('second')), { read: 4 * MIB })
  for (const end of [second, first, server, knows, other]) await end.close()
})
