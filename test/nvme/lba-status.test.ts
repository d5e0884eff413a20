import test from 'ava'
import fc from 'fast-check'
import { DecodeError, NvmeError, OutOfRangeError } from '../../lib/errors.ts'
import {
  ADMIN,
  type AdminCommand,
  AOCS,
  blockExtents,
  CNS,
  decodeGetLbaStatus,
  decodeLbaStatusList,
  encodeCommandSetController,
  encodeGetLbaStatus,
  encodeIdentifyNamespace,
  encodeLbaStatusList,
  getLbaStatus,
  LBA_STATUS_END,
  type LbaStatus,
  nvmeError,
  OACS,
  STATUS,
  tellsHoles,
} from '../../lib/nvme/index.ts'

const refused = (opcode: number, status: number = STATUS.INVALID_FIELD) =>
  nvmeError({ opcode, qid: 0, nsid: 1 }, status << 1)

/** A controller that answers with lists alone. */
const lister = (answer: (request: ReturnType<typeof decodeGetLbaStatus>, data: Buffer) => void) => ({
  async admin(command: AdminCommand) {
    const { cdw10 = 0, cdw11 = 0, cdw12 = 0, cdw13 = 0, data } = command
    answer(decodeGetLbaStatus({ cdw10, cdw11, cdw12, cdw13 }), data as Buffer)
    return { result: 0, resultHigh: 0 } as never
  },
})

async function extentsOf(sender: Parameters<typeof blockExtents>[0], slba: number, nlb: number) {
  const all: [number, boolean][] = []
  for await (const { nlb: count, data } of blockExtents(sender, 1, slba, nlb)) all.push([count, data])
  return all
}

test('Get LBA Status: dwords and lists are what the specification says', (t) => {
  const request = { slba: 2 ** 40 + 5, bytes: 4096, rl: 0xffff, atype: 2 }
  const dwords = encodeGetLbaStatus(request)
  t.deepEqual(dwords, { cdw10: 5, cdw11: 256, cdw12: 1023, cdw13: 0x0200_ffff })
  t.deepEqual(decodeGetLbaStatus(dwords), request)
  for (const wrong of [{ bytes: 6 }, { bytes: 4 }, { rl: 0x1_0000 }, { slba: -1 }, { atype: 256 }]) {
    t.throws(() => encodeGetLbaStatus({ ...request, ...wrong }), { instanceOf: OutOfRangeError })
  }
  const descriptors = [{ dslba: 7, nlb: 2 ** 32, lbars: 2 }]
  const bytes = encodeLbaStatusList({ cmpc: 2, descriptors })
  t.is(Buffer.from(bytes).toString('hex'), `0100000002000000${'0700000000000000ffffffff00020000'}`)
  t.deepEqual(decodeLbaStatusList(bytes), { nlsd: 1, cmpc: 2, descriptors })
  // Descriptors that did not fit are counted, and are not there.
  t.deepEqual(decodeLbaStatusList(bytes.subarray(0, 20)), { nlsd: 1, cmpc: 2, descriptors: [] })
  t.throws(() => decodeLbaStatusList(bytes.subarray(0, 7)), { instanceOf: DecodeError })
})

test('tellsHoles asks no more than it has to, and takes no for an answer', async (t) => {
  let asked: number[] = []
  const sender = ({
    oacs = OACS.GET_LBA_STATUS,
    aocs = AOCS.ALLOCATED_LBAS,
    dlfeat = 9,
    refuses = false,
  }) => ({
    identity: { oacs },
    async admin({ cdw10, data }: AdminCommand) {
      asked.push(cdw10!)
      if (refuses) throw refused(ADMIN.IDENTIFY)
      const structure =
        cdw10 === CNS.COMMAND_SET_CONTROLLER
          ? encodeCommandSetController({ aocs })
          : encodeIdentifyNamespace({ dlfeat, lbafs: [{ ms: 0, lbads: 9, rp: 0 }] })
      data!.set(structure)
      return {} as never
    },
  })
  t.true(await tellsHoles(sender({}), 1))
  t.deepEqual(asked, [CNS.COMMAND_SET_CONTROLLER, CNS.NAMESPACE])
  for (const dlfeat of [8, 0x0a]) t.false(await tellsHoles(sender({ dlfeat }), 1), `${dlfeat}`)
  t.false(await tellsHoles(sender({ aocs: 0 }), 1))
  t.false(await tellsHoles(sender({ refuses: true }), 1))
  asked = []
  t.false(await tellsHoles(sender({ oacs: 0 }), 1))
  t.deepEqual(asked, [])
})

test('blockExtents gives what a controller knows, however short its lists are', async (t) => {
  // Blocks by turns of some data and some holes.
  const runs = fc.array(fc.integer({ min: 1, max: 90_000 }), { minLength: 1, maxLength: 40 })
  await fc.assert(
    fc.asyncProperty(
      runs,
      fc.boolean(),
      fc.integer({ min: 1, max: 5 }),
      fc.nat(),
      async (lengths, first, most, seed) => {
        const total = lengths.reduce((sum, length) => sum + length, 0)
        const ranges: [from: number, to: number][] = []
        let at = 0
        for (const [i, length] of lengths.entries()) {
          if ((i % 2 === 0) === first) ranges.push([at, at + length])
          at += length
        }
        const sender = lister(({ slba, rl }, data) => {
          const end = rl === 0 ? total : slba + rl
          const all = ranges
            .map(([from, to]) => [Math.max(from, slba), Math.min(to, end)] as const)
            .filter(([from, to]) => from < to)
          const descriptors = all
            .slice(0, most)
            .map(([from, to]) => ({ dslba: from, nlb: to - from, lbars: 2 }))
          const cmpc = all.length > most ? LBA_STATUS_END.INCOMPLETE : LBA_STATUS_END.COMPLETE
          encodeLbaStatusList({ cmpc, descriptors }, data)
        })
        const slba = seed % total
        const expected = lengths
          .map((_, i) => lengths.slice(0, i).reduce((sum, length) => sum + length, 0))
          .map((from, i) => [Math.max(from, slba), from + lengths[i]!, (i % 2 === 0) === first] as const)
          .filter(([from, to]) => from < to)
          .map(([from, to, data]) => [to - from, data])
        t.deepEqual(joined(await extentsOf(sender, slba, total - slba)), expected as [number, boolean][])
      },
    ),
    { numRuns: 150 },
  )
})

/** The same, those of one kind that touch as one. */
function joined(extents: readonly [number, boolean][]): [number, boolean][] {
  const all: [number, boolean][] = []
  for (const [nlb, data] of extents) {
    const last = all.at(-1)
    if (last?.[1] === data) last[0] += nlb
    else all.push([nlb, data])
  }
  return all
}

test('blockExtents takes no block for a hole that a list of any bytes names, or is silent about', async (t) => {
  const nlb = 5000
  const lists = fc.array(
    fc.record({
      nlsd: fc.integer({ min: 0, max: 6 }),
      cmpc: fc.constantFrom(0, 1, 2, 3, 255),
      descriptors: fc.array(
        fc.record({
          dslba: fc.oneof(fc.integer({ min: 0, max: 6000 }), fc.constant(2 ** 53 - 2)),
          nlb: fc.oneof(fc.integer({ min: 1, max: 3000 }), fc.constant(2 ** 32)),
          lbars: fc.integer({ min: 0, max: 7 }),
        }),
        { maxLength: 6 },
      ),
    }),
    { minLength: 1, maxLength: 5 },
  )
  await fc.assert(
    fc.asyncProperty(lists, async (answers) => {
      const lists: { slba: number; named: LbaStatus[] }[] = []
      const sender = lister(({ slba }, data) => {
        const { nlsd, cmpc, descriptors } = answers[lists.length % answers.length]!
        encodeLbaStatusList({ cmpc, descriptors }, data)
        data.writeUInt32LE(nlsd, 0)
        lists.push({ slba, named: descriptors.slice(0, nlsd) })
      })
      let at = 100
      for (const [count, data] of await extentsOf(sender, at, nlb)) {
        // It is of the last list that was asked for there or before.
        const { named } = lists.findLast(({ slba }) => slba <= at)!
        const hits = named.some(({ dslba, nlb: length }) => dslba < at + count && at < dslba + length)
        if (!data) t.false(hits, JSON.stringify({ answers, at, count }))
        at += count
      }
      t.is(at, 100 + nlb)
      // It asks only while it gets on.
      t.is(new Set(lists.map(({ slba }) => slba)).size, lists.length)
    }),
    { numRuns: 400 },
  )
})

test('blockExtents: what is refused, or ends without a word, is data', async (t) => {
  const failing = { admin: () => Promise.reject(refused(ADMIN.GET_LBA_STATUS)) }
  t.deepEqual(await extentsOf(failing, 0, 10), [[10, true]])
  await t.throwsAsync(getLbaStatus(failing, 1), { instanceOf: NvmeError })
  const silent = lister((_request, data) => void encodeLbaStatusList({ cmpc: 0, descriptors: [] }, data))
  t.deepEqual(await extentsOf(silent, 0, 10), [[10, true]])
  // Behind the last descriptor, where nothing says that all was looked at.
  let asked = 0
  const vague = lister((_request, data) => {
    const descriptors = asked++ === 0 ? [{ dslba: 3, nlb: 2, lbars: 2 }] : []
    encodeLbaStatusList({ cmpc: 0, descriptors }, data)
  })
  t.deepEqual(joined(await extentsOf(vague, 0, 10)), [
    [3, false],
    [7, true],
  ])
  await t.throwsAsync(extentsOf({ admin: () => Promise.reject(new Error('other')) }, 0, 10), {
    message: 'other',
  })
})
