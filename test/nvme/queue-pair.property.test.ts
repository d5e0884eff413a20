// Every dword of a submission queue entry, whatever commands its slot held before, and every PRP list, whatever its
// identifier had: a queue pair does not write again what it knows to stand there.

import test from 'ava'
import fc from 'fast-check'
import type { DmaPool } from '../../lib/memory/pool.ts'
import { QueuePair } from '../../lib/nvme/pcie/queue-pair.ts'
import type { PciFunction } from '../../lib/pci/function.ts'
import { PAGE_BYTES } from '../../lib/sys/units.ts'

const ENTRIES = 8

/** A queue pair on ordinary memory, whose controller completes what it is told of when `complete` is called. */
function createPair(entries = ENTRIES) {
  const memory = Buffer.from(new ArrayBuffer(2 ** 20))
  let used = 0
  const pool = {
    alloc(bytes: number) {
      const part = memory.subarray(used, used + bytes)
      used += Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES
      return part
    },
    tagOf: (buffer: Buffer) => ({ iova: buffer.byteOffset }),
  }
  const doorbells = new Uint32Array(16)
  const pci = { doorbells, notify: null, step: null }
  const options = { qid: 1, entries, dstrd: 4, maxBytes: 16 * PAGE_BYTES, timeout: 30_000 }
  const pair = new QueuePair(pci as unknown as PciFunction, pool as unknown as DmaPool, options)
  const sq = new Uint32Array(memory.buffer, pair.sqIova, entries * 16)
  const cq = new Uint32Array(memory.buffer, pair.cqIova, entries * 4)
  // As after other commands.
  sq.fill(0xdead_beef)
  let head = 0
  let tail = 0
  let phase = 1
  const complete = () => {
    pair.ring()
    for (; head !== pair.rung.tail; head = (head + 1) % entries) {
      cq[tail * 4 + 3] = (sq[head * 16]! >>> 16) | (phase << 16)
      tail = (tail + 1) % entries
      if (tail === 0) phase ^= 1
    }
    while (pair.reap() >= 0);
  }
  /** The entry at `at` is completed before those in front of it. */
  const completeOne = (at: number) => {
    pair.ring()
    head = pair.rung.tail
    cq[tail * 4 + 3] = (sq[at * 16]! >>> 16) | (phase << 16)
    tail = (tail + 1) % entries
    if (tail === 0) phase ^= 1
    return pair.reap()
  }
  const reset = () => {
    pair.reset()
    head = tail = 0
    phase = 1
  }
  return { pair, sq, memory, complete, completeOne, reset }
}

const word = fc.integer({ min: 1, max: 0x7fff_ffff })
const rarely = <T>(arbitrary: fc.Arbitrary<T>, otherwise: T) =>
  fc.oneof({ arbitrary: fc.constant(otherwise), weight: 40 }, { arbitrary, weight: 1 })
const command = fc.record({
  kind: fc.constant('command' as const),
  nsid: rarely(fc.constantFrom(0, 6, 0xffff_ffff), 5),
  pages: rarely(fc.integer({ min: 0, max: 16 }), 1),
  high: rarely(fc.constantFrom(0, 3, -1, 0xffff_ffff), 2),
  offset: rarely(fc.constant(8), 0),
  metadata: rarely(word, 0),
  cdw10: word,
  cdw11: rarely(fc.constantFrom(7, 0xffff_ffff), 0),
  cdw12: word,
  cdw13: rarely(word, 0),
  cdw14: rarely(word, 0),
  cdw15: rarely(word, 0),
})
const other = fc.oneof(
  { arbitrary: fc.constant({ kind: 'complete' as const }), weight: 8 },
  { arbitrary: fc.constantFrom({ kind: 'abandon' as const }, { kind: 'reset' as const }), weight: 1 },
)

test('an entry holds its own command, and nothing of those before it', (t) => {
  const steps = fc.array(fc.oneof({ arbitrary: command, weight: 8 }, { arbitrary: other, weight: 2 }), {
    minLength: 20,
    maxLength: 80,
  })
  fc.assert(
    fc.property(steps, (sequence) => {
      const { pair, sq, complete, reset } = createPair()
      let slot = 0
      for (const step of sequence) {
        if (step.kind === 'abandon') {
          pair.abandon(() => {})
          slot = pair.rung.tail
          continue
        }
        if (step.kind === 'reset') {
          reset()
          slot = 0
          continue
        }
        if (step.kind === 'complete') {
          complete()
          continue
        }
        if (pair.available === 0) complete()
        // All that are left are lost.
        if (pair.available === 0) break
        const { nsid, pages, high, metadata, cdw10, cdw11, cdw12, cdw13, cdw14, cdw15 } = step
        const offset = pages === 0 ? 0 : step.offset
        const lo = 16 * PAGE_BYTES + offset
        const bytes = pages * PAGE_BYTES - offset
        if (metadata !== 0) pair.pointMetadata(metadata, 3)
        const cid = pair.post(1, nsid, lo, high, bytes, cdw10, cdw11, cdw12, cdw13, cdw14, cdw15)
        if (metadata !== 0) pair.pointMetadata(0, 0)
        const entry = [...sq.subarray(slot * 16, slot * 16 + 16)]
        slot = (slot + 1) % ENTRIES
        const hi = high >>> 0
        const first = pages === 0 ? [0, 0] : [lo, hi]
        const second = pages < 2 ? [0, 0] : pages === 2 ? [17 * PAGE_BYTES, hi] : entry.slice(8, 10)
        t.deepEqual(entry.slice(0, 2), [(1 | (pair.idOf(cid) << 16)) >>> 0, nsid])
        t.deepEqual(entry.slice(4), [
          ...[metadata, metadata === 0 ? 0 : 3, ...first, ...second],
          ...[cdw10, cdw11, cdw12, cdw13, cdw14, cdw15],
        ])
      }
    }),
    { numRuns: 3000 },
  )
})

// Few of each, so that the same data comes again, in turn and in any order.
const transfer = fc.record({
  kind: fc.constant('post' as const),
  page: fc.constantFrom(0, 0x20, 0x40, 0x60, 0xf_fffd),
  high: fc.constantFrom(0, 1, -1),
  offset: fc.constantFrom(0, 0, 0, 8),
  pages: fc.constantFrom(1, 2, 3, 16, 16, 16),
})
const ending = fc.record({ kind: fc.constant('end' as const), which: fc.nat() })
const ends = fc.oneof(
  { arbitrary: ending, weight: 30 },
  { arbitrary: fc.constant({ kind: 'reset' as const }), weight: 1 },
)

test('a list has the pages of its command for as long as that is in flight, and identifiers are one each', (t) => {
  const steps = fc.array(fc.oneof({ arbitrary: transfer, weight: 1 }, { arbitrary: ends, weight: 1 }), {
    minLength: 20,
    maxLength: 200,
  })
  fc.assert(
    fc.property(steps, (sequence) => {
      const { pair, sq, memory, completeOne, reset } = createPair()
      const words = new Uint32Array(memory.buffer)
      const inFlight: { slot: number; cid: number; entry: number[]; pages: string[]; list: number }[] = []
      let slot = 0
      for (const step of sequence) {
        if (step.kind === 'reset') {
          pair.abandon(() => {})
          reset()
          inFlight.length = slot = 0
        } else if (step.kind === 'end' && inFlight.length > 0) {
          const [one] = inFlight.splice(step.which % inFlight.length, 1)
          t.is(completeOne(one!.slot), one!.cid)
        } else if (step.kind === 'post' && pair.available > 0 && inFlight.every((one) => one.slot !== slot)) {
          const { page, high, offset, pages } = step
          const lo = (page * PAGE_BYTES + offset) | 0
          const cid = pair.post(1, 5, lo, high, pages * PAGE_BYTES - offset, 0, 0, 0, 0, 0, 0)
          t.true(cid >= 0 && inFlight.every((one) => one.cid !== cid))
          const entry = [...sq.subarray(slot * 16, slot * 16 + 10)]
          t.is(entry[0]! >>> 16, pair.idOf(cid))
          const at = (n: number) => {
            const low = page + n
            return `${(high + (low > 0xf_ffff ? 1 : 0)) >>> 0}:${(low & 0xf_ffff) * PAGE_BYTES}`
          }
          const expected = Array.from({ length: pages - 1 }, (_, n) => at(n + 1))
          const list = entry[8]! / 4
          inFlight.push({ slot, cid, entry, pages: pages < 3 ? [] : expected, list })
          slot = (slot + 1) % ENTRIES
        }
        for (const { pages, list } of inFlight) {
          const listed = pages.map((_, n) => `${words[list + 2 * n + 1]}:${words[list + 2 * n]}`)
          t.deepEqual(listed, pages)
        }
      }
      t.is(pair.available, ENTRIES - 1 - inFlight.length)
    }),
    { numRuns: 500 },
  )
})

test('data that is sent again and again keeps its list, in whatever order and however few at a time', (t) => {
  const entries = 64
  const count = 24
  const { pair, sq, complete } = createPair(entries)
  const lists = new Map<number, number>()
  let slot = 0
  for (let round = 0; round < 100; round++) {
    for (let n = 0; n < count; n++) {
      const page = 16 * ((n * [1, 5, 7, 11][round % 4]! + round) % count)
      pair.post(1, 5, page * PAGE_BYTES, 1, 16 * PAGE_BYTES, 0, 0, 0, 0, 0, 0)
      const list = sq[slot * 16 + 8]!
      // In the first rounds one may take another's.
      if (round > 8) t.is(lists.get(page), list, `${round}`)
      lists.set(page, list)
      slot = (slot + 1) % entries
      if (n % (1 + (round % 8)) === 0) complete()
    }
    complete()
  }
})
