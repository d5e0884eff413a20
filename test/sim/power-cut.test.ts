// A power cut: what was flushed, or written with FUA, is on the image, and what was not may be lost.

import fs from 'node:fs'
import test from 'ava'
import fc from 'fast-check'
import { NVM, open } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { pattern } from '../support/pattern.ts'

const file = testFolder()
const BLOCKS = 16
const FUA = 1 << 30

type Step =
  | { kind: 'write' | 'fua' | 'zeroes' | 'zeroes-fua' | 'deallocate'; slba: number; nlb: number }
  | { kind: 'flush' }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 1, arbitrary: fc.constant<Step>({ kind: 'flush' }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom('write', 'write', 'fua', 'zeroes', 'zeroes-fua', 'deallocate' as const),
      slba: fc.nat(BLOCKS - 4),
      nlb: fc.integer({ min: 1, max: 4 }),
    }) as fc.Arbitrary<Step>,
  },
)

for (const [lba, cut, share] of [
  [512, 'cut', 0],
  [4096, 'cut', 0],
  [512, 'cut=50%', 50],
  [4096, 'cut=100%', 100],
] as const) {
  test(`a power cut loses nothing but what was not flushed (${lba} bytes, ${cut})`, async (t) => {
    const path = file(`cut-${lba}-${share}.img`)
    let lost = 0
    let kept = 0
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 20 }), async (steps) => {
        fs.rmSync(path, { force: true })
        const address = `sim:${path}?size=1M&lba=${lba}`
        const ns = await open(`${address}&fault=compare:${cut}`)
        const durable = Buffer.alloc(BLOCKS * lba)
        const latest = Buffer.alloc(BLOCKS * lba)
        const buf = ns.alloc(4 * lba)
        for (const [i, step] of steps.entries()) {
          if (step.kind === 'flush') {
            await ns.promises.flush()
            latest.copy(durable)
            continue
          }
          const { kind, slba, nlb } = step
          const writes = kind === 'write' || kind === 'fua'
          const data = writes ? pattern(nlb * lba, i + 1) : Buffer.alloc(nlb * lba)
          if (kind === 'deallocate') await ns.promises.deallocate([{ slba, nlb }])
          else {
            const cdw12 = (nlb - 1) | (kind.endsWith('fua') ? FUA : 0)
            data.copy(buf)
            await ns.promises.cmd({
              ...{ opcode: writes ? NVM.WRITE : NVM.WRITE_ZEROES, cdw10: slba, cdw11: 0, cdw12 },
              ...(writes && { buf: buf.subarray(0, nlb * lba) }),
            })
          }
          data.copy(latest, slba * lba)
          if (kind.endsWith('fua')) data.copy(durable, slba * lba)
        }
        const compare = { opcode: NVM.COMPARE, cdw10: 0, cdw11: 0, cdw12: 0, buf: buf.subarray(0, lba) }
        await t.throwsAsync(ns.promises.cmd(compare), { code: 'ERR_UNVME_DEVICE_REMOVED' })
        await ns.close()
        await using again = await open(address)
        const found = await again.promises.read(Buffer.alloc(BLOCKS * lba), 0)
        for (let at = 0; at < found.length; at += lba) {
          const [now, before, after] = [found, durable, latest].map((all) => all.subarray(at, at + lba))
          if (before!.equals(after!)) t.true(now!.equals(after!))
          else if (now!.equals(before!)) lost++
          else if (now!.equals(after!)) kept++
          else t.fail(`block ${at / lba} is neither`)
        }
      }),
      { numRuns: 30 },
    )
    t.is(lost > 0, share < 100)
    t.is(kept > 0, share > 0)
  })
}

test('a cut that no command meets loses nothing, and one that can not be is refused', async (t) => {
  const path = file('rule.img')
  const ns = await open(`sim:${path}?size=1M`, { faults: [{ opcode: NVM.VERIFY, action: { kind: 'cut' } }] })
  const data = Buffer.alloc(512, 1)
  await ns.promises.write(data, 0)
  await ns.close()
  t.true(fs.readFileSync(path).subarray(0, 512).equals(data))
  for (const kept of [-1, 101, Number.NaN]) {
    await t.throwsAsync(open(`sim:${path}`, { faults: [{ action: { kind: 'cut', kept } }] }), {
      code: 'ERR_OUT_OF_RANGE',
    })
  }
  for (const text of ['cut=101%', 'cut=5', 'cut=-1%']) {
    await t.throwsAsync(open(`sim:${path}?fault=any:${text}`), { code: 'ERR_UNVME_ADDRESS' })
  }
})
