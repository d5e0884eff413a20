// What an NBD client has flushed, or written with FUA, is there after a power cut of the device; what it has not may be lost.

import fs from 'node:fs'
import test from 'ava'
import fc from 'fast-check'
import { COMMAND, COMMAND_FLAG, NBD_ERROR } from '../../lib/nbd/protocol.ts'
import { open, serveNbd } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { RawNbd } from '../support/nbd.ts'
import { pattern } from '../support/pattern.ts'

const file = testFolder()
const SIZE = 2 ** 16
const { WRITE, WRITE_ZEROES, FLUSH } = COMMAND

interface Step {
  kind: 'write' | 'zeroes' | 'flush'
  fua: boolean
  offset: number
  bytes: number
  client: 0 | 1
}

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom('write', 'write', 'write', 'zeroes', 'flush'),
  fua: fc.boolean(),
  offset: fc.oneof(
    fc.nat(SIZE / 4096 - 5).map((block) => block * 4096),
    fc.nat(SIZE - 20_000),
  ),
  bytes: fc.oneof(fc.constantFrom(4096, 8192), fc.integer({ min: 1, max: 12_000 })),
  client: fc.constantFrom(0, 1),
})

for (const [lba, cut] of [
  [512, 'cut'],
  [4096, 'cut=40%'],
] as const) {
  test(`what clients flushed survives a power cut (${lba} bytes, ${cut})`, async (t) => {
    const image = file(`${lba}.img`)
    let lost = 0
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 15 }), async (steps) => {
        fs.rmSync(image, { force: true })
        const address = `sim:${image}?size=${SIZE}&lba=${lba}`
        const last = SIZE / lba - 1
        const ns = await open(`${address}&fault=write@${last}:${cut}`)
        const path = file(`${lba}.sock`)
        const server = await serveNbd(ns, { path })
        const clients = [await RawNbd.ready(path), await RawNbd.ready(path)]
        // What the export holds after each step, and for each byte the step that made it durable.
        const versions = [Buffer.alloc(SIZE)]
        const durable = Buffer.alloc(SIZE)
        for (const [i, { kind, fua, offset, bytes, client }] of steps.entries()) {
          const flags = fua ? COMMAND_FLAG.FUA : 0
          const data = kind === 'write' ? pattern(bytes, i + 1) : Buffer.alloc(bytes)
          const raw = clients[client]!
          const { error } =
            kind === 'flush'
              ? await raw.simple(FLUSH, {})
              : kind === 'write'
                ? await raw.simple(WRITE, { offset, data, flags })
                : await raw.simple(WRITE_ZEROES, { offset, bytes, flags })
          t.is(error, 0)
          const latest = Buffer.from(versions[i]!)
          if (kind === 'flush') durable.fill(i + 1)
          else {
            data.copy(latest, offset)
            if (fua) durable.fill(i + 1, offset, offset + bytes)
          }
          versions.push(latest)
        }
        const { error } = await clients[0]!.simple(WRITE, { offset: SIZE - lba, data: Buffer.alloc(lba, 1) })
        t.is(error, NBD_ERROR.EIO)
        for (const client of clients) client.close()
        await server.close().catch(() => {})
        await ns.close().catch(() => {})
        await using again = await open(address)
        const found = await again.promises.read(Buffer.alloc(SIZE), 0)
        for (let at = 0; at < SIZE; at++) {
          if (found[at] === versions.at(-1)![at]) continue
          lost++
          if (!versions.slice(durable[at]).some((version) => version[at] === found[at])) t.fail(`byte ${at}`)
        }
      }),
      { numRuns: 40 },
    )
    t.true(lost > 0)
  })
}
