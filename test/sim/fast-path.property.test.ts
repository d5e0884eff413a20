// The short way of reads and writes does what the general way does: two controllers get the same commands in the
// same batches, one of which has a rule for faults, which no command meets, and so takes each command the general way.

import test from 'ava'
import fc from 'fast-check'
import { bringUp, type Command, PAGE, READ, type Rig, range, WRITE } from './ring.ts'

const SIZE = 64 * 1024
const BLOCKS = SIZE / 512
const ENTRIES = 8
const DATA_PAGES = 4
const RULE = { opcode: 0x7f, action: { kind: 'delay', ms: 1 } } as const

interface Sent {
  readonly command: Omit<Command, 'prp1' | 'prp2'>
  /** Where its data is, in bytes from the start of the memory for data. */
  readonly data: number
  readonly list: number | null
}

// The commonest commands, and each of them with something unusual now and then.
const sent: fc.Arbitrary<Sent> = fc
  .record({
    opcode: fc.oneof({ weight: 10, arbitrary: fc.constantFrom(READ, WRITE) }, fc.constantFrom(0, 5, 9, 0x7e)),
    flags: fc.oneof({ weight: 10, arbitrary: fc.constant(0) }, fc.constantFrom(1, 2, 0x40, 0xc0)),
    nsid: fc.oneof({ weight: 10, arbitrary: fc.constant(1) }, fc.constantFrom(0, 2, 0xffff_ffff)),
    slba: fc.oneof(
      { weight: 10, arbitrary: fc.nat(BLOCKS - 1) },
      fc.constantFrom(BLOCKS - 1, BLOCKS, 0x8000_0000, 0xffff_ffff, 2 ** 32),
    ),
    nlb: fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 1, max: 8 }) }, fc.integer({ min: 9, max: 20 })),
    control: fc.oneof({ weight: 6, arbitrary: fc.constant(0) }, fc.constantFrom(0x4000, 0x8000)),
    page: fc.nat(DATA_PAGES - 2),
    offset: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.constantFrom(4, 512, 3584, 2, 1)),
    list: fc.option(fc.nat(DATA_PAGES - 1)),
  })
  .map(({ opcode, flags, nsid, slba, nlb, control, page, offset, list }) => ({
    command: { opcode, flags, nsid, dw: range(slba, nlb, control) },
    data: page * PAGE + offset,
    list: list === null ? null : list * PAGE,
  }))

interface Side {
  readonly rig: Rig
  readonly data: number
}

async function createSide(options: Parameters<typeof bringUp>[1]): Promise<Side> {
  const rig = await bringUp(`sim:?size=${SIZE}`, options)
  await rig.createPair(1, ENTRIES)
  const data = rig.alloc(DATA_PAGES)
  rig.at(data, DATA_PAGES * PAGE).forEach((_, i, bytes) => {
    bytes[i] = i >> 4
  })
  return { rig, data }
}

/** Sends a batch with one doorbell, and takes every completion. */
function run({ rig, data }: Side, batch: readonly Sent[]) {
  batch.forEach(({ command, data: at, list }, cid) => {
    rig.post(1, { ...command, cid, prp1: data + at, prp2: list === null ? 0 : data + list })
  })
  rig.ringTail(1)
  const completions = batch.map(() => rig.take(1))
  rig.ringHead(1)
  // As text, which is quicker to compare than bytes.
  return { completions, memory: Buffer.from(rig.at(data, DATA_PAGES * PAGE)).toString('latin1') }
}

/** The whole medium, a page at a time. */
function medium(side: Side): string {
  const blocks = PAGE / 512
  const reads = Array.from({ length: BLOCKS / blocks }, (_, i) => ({
    command: { opcode: READ, nsid: 1, dw: range(i * blocks, blocks) },
    data: 0,
    list: null,
  }))
  return reads.map((read) => run(side, [read]).memory.slice(0, PAGE)).join('')
}

/** Counters of commands and of what they moved. */
async function smartLog({ rig, data }: Side): Promise<Buffer> {
  await rig.admin({ opcode: 2, nsid: 0xffff_ffff, prp1: data, dw: [2 | (127 << 16)] })
  return Buffer.from(rig.at(data, 512).subarray(32, 96))
}

test('the short way and the general way end alike, in status, order, memory and medium', async (t) => {
  let succeeded = 0
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(sent, { minLength: 1, maxLength: ENTRIES - 1 }), { minLength: 1, maxLength: 8 }),
      async (batches) => {
        const short = await createSide({})
        const general = await createSide({ faults: [RULE] })
        for (const batch of batches) {
          const result = run(short, batch)
          t.deepEqual(result, run(general, batch))
          for (const completion of result.completions) if (completion?.status === 0) succeeded++
        }
        t.true(medium(short) === medium(general))
        t.deepEqual(await smartLog(short), await smartLog(general))
        await short.rig.sim.close()
        await general.rig.sim.close()
      },
    ),
    { numRuns: 100 },
  )
  t.true(succeeded > 100)
})
