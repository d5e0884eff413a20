// What the software controller says of its blocks, by its driver: of memory, near and far, and of images.

import fs from 'node:fs'
import test from 'ava'
import fc from 'fast-check'
import { CNS, decodeCommandSetNamespace } from '../../lib/nvme/spec/identify.ts'
import { LBA_RANGE_STATUS, LBA_STATUS_END } from '../../lib/nvme/spec/lba-status.ts'
import { ADMIN, type Namespace, open } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'

const MIB = 2 ** 20
const GIB = 2 ** 30
const inFolder = testFolder()

async function allocated(ns: Namespace, options: Parameters<Namespace['lbaStatus']>[0] = {}) {
  const { descriptors, cmpc } = await ns.lbaStatus(options)
  return { cmpc, ranges: descriptors.map(({ dslba, nlb }) => [dslba, nlb]) }
}

const { COMPLETE, INCOMPLETE } = LBA_STATUS_END
const refusal = (status: string) => ({ code: 'ERR_NVME_STATUS', message: new RegExp(status) })

for (const host of ['', '&thread=1']) {
  test(`memory: what was written, in granules of 64 KiB, until it is deallocated (sim:?${host})`, async (t) => {
    await using ns = await open(`sim:?size=8M${host}`)
    const { promises } = ns
    t.deepEqual(await allocated(ns), { cmpc: COMPLETE, ranges: [] })
    // Reading and writing zeroes takes no block.
    await promises.read(Buffer.alloc(MIB), 0)
    await promises.writeZeroes(0, 2048)
    t.deepEqual((await allocated(ns)).ranges, [])
    // The short way of the controller, and the long one, over the boundary of two granules.
    await promises.write(Buffer.alloc(512, 1), 300)
    await promises.write(Buffer.alloc(200_192, 2), 1000)
    await promises.write(Buffer.alloc(4096, 3), 4096 - 4)
    const written = [
      [256, 128],
      [896, 512],
      [3968, 256],
    ]
    t.deepEqual(await allocated(ns), { cmpc: COMPLETE, ranges: written })
    t.deepEqual((await allocated(ns, { slba: 260, nlb: 1000 })).ranges, [
      [260, 124],
      [896, 364],
    ])
    const full = await ns.lbaStatus({ bytes: 8 + 16 })
    t.is(full.cmpc, INCOMPLETE)
    t.deepEqual(full.descriptors, [{ dslba: 256, nlb: 128, lbars: LBA_RANGE_STATUS.ALLOCATED }])
    t.deepEqual(await ns.lbaStatus({ bytes: 8 }), { nlsd: 0, cmpc: INCOMPLETE, descriptors: [] })
    // A part of a granule stays; whole ones go.
    await promises.deallocate([{ slba: 896, nlb: 100 }])
    t.deepEqual((await allocated(ns)).ranges, written)
    await promises.deallocate([{ slba: 890, nlb: 300 }])
    t.deepEqual((await allocated(ns)).ranges, [written[0], [1152, 256], written[2]])
    const bytes = await ns.controller.identify(CNS.COMMAND_SET_NAMESPACE, { nsid: 1 })
    t.is(decodeCommandSetNamespace(bytes).tlbaag, 128)
    await promises.writeZeroes(0, 16384)
    t.deepEqual((await allocated(ns)).ranges, [])
  })
}

test('memory beyond the first view: random ranges, as a map of granules has them', async (t) => {
  await using ns = await open('sim:?size=4G&lba=4096')
  const nlb = (4 * GIB) / 4096
  const block = Buffer.alloc(3 * 4096, 1)
  const granules = new Set<number>()
  // Around the end of the first view (2 GiB less 2 MiB, and less the window), and each GiB behind it.
  const near = 2 * GIB - 2 * MIB - GIB / 2
  const places = [0, near, near + GIB, near + 2 * GIB, 4 * GIB].map((at) => at / 4096)
  const place = fc.tuple(fc.constantFrom(...places), fc.integer({ min: -64, max: 64 }))
  const step = fc.record({ write: fc.boolean(), place, blocks: fc.integer({ min: 1, max: 40 }) })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 30 }), async (steps) => {
      for (const {
        write,
        place: [base, offset],
        blocks,
      } of steps) {
        const slba = Math.min(nlb - 40, Math.max(0, base + offset))
        if (write) {
          await ns.promises.write(block, slba)
          for (let lba = slba; lba < slba + 3; lba++) granules.add(lba >>> 4)
        } else {
          await ns.promises.deallocate([{ slba, nlb: blocks }])
          for (let lba = slba; lba + 16 <= slba + blocks; lba++)
            if (lba % 16 === 0) granules.delete(lba >>> 4)
        }
      }
      const expected: number[][] = []
      for (const granule of [...granules].sort((a, b) => a - b)) {
        const last = expected.at(-1)
        if (last !== undefined && last[0]! + last[1]! === granule * 16) last[1]! += 16
        else expected.push([granule * 16, 16])
      }
      t.deepEqual((await allocated(ns)).ranges, expected)
    }),
    { numRuns: 60 },
  )
})

test('images: what their file system stores, and blocks that can not be read', async (t) => {
  const path = inFolder('sparse.img')
  fs.writeFileSync(path, '')
  fs.truncateSync(path, 16 * MIB)
  const fd = fs.openSync(path, 'r+')
  fs.writeSync(fd, Buffer.alloc(8192, 1), 0, 8192, 4 * MIB)
  fs.closeSync(fd)
  await using ns = await open(`sim:${path}?ns=2`)
  t.deepEqual((await allocated(ns)).ranges, [[8192, 16]])
  await using second = await ns.openNamespace(2)
  t.deepEqual((await allocated(second)).ranges, [])
  // They are no holes: a reader has to meet them.
  const mark = (slba: number, count: number) => ns.promises.cmd({ opcode: 4, cdw10: slba, cdw12: count - 1 })
  await mark(100, 8)
  await mark(8200, 16)
  t.deepEqual((await allocated(ns)).ranges, [
    [100, 8],
    [8192, 24],
  ])
  t.deepEqual((await allocated(ns, { slba: 104, nlb: 2 })).ranges, [[104, 2]])
  await ns.promises.deallocate([{ slba: 0, nlb: 16384 }])
  t.deepEqual((await allocated(ns)).ranges, [])
})

test('Get LBA Status: what is not there is refused', async (t) => {
  await using ns = await open('sim:?size=1M')
  await t.throwsAsync(ns.lbaStatus({ slba: 2048 }), refusal('LBA Out of Range'))
  await t.throwsAsync(ns.lbaStatus({ slba: 2000, nlb: 49 }), refusal('LBA Out of Range'))
  for (const action of [0, 3, 0x10, 0x11]) {
    await t.throwsAsync(ns.lbaStatus({ action }), refusal('Invalid Field'), `${action}`)
  }
  const other = { opcode: ADMIN.GET_LBA_STATUS, nsid: 9, data: Buffer.alloc(8), cdw12: 1, cdw13: 2 << 24 }
  await t.throwsAsync(ns.admin(other), refusal('Invalid Namespace'))
  await t.throwsAsync(ns.lbaStatus({ nlb: 65536 }), { code: 'ERR_OUT_OF_RANGE' })
  await using off = await open('sim:?size=1M&lbastatus=0')
  await t.throwsAsync(off.lbaStatus(), refusal('Invalid Command Opcode'))
  t.is(off.controller.identity.oacs & 0x200, 0)
  await t.throwsAsync(off.controller.identify(CNS.COMMAND_SET_CONTROLLER), refusal('Invalid Field'))
})
