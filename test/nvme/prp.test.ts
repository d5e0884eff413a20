// PRPs of any start and length: what a controller that follows the specification would transfer.

import test from 'ava'
import fc from 'fast-check'
import { bytesDescribed, listPagesNeeded, pagesTouched, writePrps } from '../../lib/nvme/pcie/prp.ts'
import { PAGE_BYTES } from '../../lib/sys/units.ts'

const LIST_IOVA = 0xffff_f000 // The list's second page is above 4 GiB.

/** Follows PRP1, PRP2 and the list as section 4.3 says: the byte ranges of a transfer. */
function follow(sqe: Uint32Array, list: Uint32Array, listIova: number, bytes: number): [number, number][] {
  const at = (words: Uint32Array, word: number) => words[word]! + words[word + 1]! * 2 ** 32
  const prp1 = at(sqe, 6)
  const prp2 = at(sqe, 8)
  const first = Math.min(bytes, PAGE_BYTES - (prp1 % PAGE_BYTES))
  const ranges: [number, number][] = [[prp1, first]]
  let left = bytes - first
  if (left === 0) return ranges
  if (left <= PAGE_BYTES) return [...ranges, [prp2, left]]
  let page = prp2
  let index = (page % PAGE_BYTES) / 8
  while (left > 0) {
    let entry = at(list, (page - listIova) / 4 + index * 2)
    if (index === PAGE_BYTES / 8 - 1 && left > PAGE_BYTES) {
      page = entry
      index = 0
      entry = at(list, (page - listIova) / 4)
    }
    if (entry % PAGE_BYTES !== 0) throw new Error(`entry ${entry.toString(16)} is not a page`)
    const n = Math.min(left, PAGE_BYTES)
    ranges.push([entry, n])
    left -= n
    index++
  }
  return ranges
}

const transfer = fc.record({
  // Any dword of any page below 2^52, the 4 GiB boundaries among them.
  page: fc.oneof(
    fc.nat(2 ** 31),
    fc.integer({ min: 2 ** 20 - 600, max: 2 ** 20 + 600 }),
    fc.constant(2 ** 40 - 3),
  ),
  dword: fc.oneof(fc.constant(0), fc.nat(1023)),
  bytes: fc.oneof(fc.integer({ min: 1, max: 3 * PAGE_BYTES }), fc.integer({ min: 1, max: 5 * 2 ** 20 })),
})

test('a transfer is exactly the pages that it touches, chained lists included', (t) => {
  const property = fc.property(transfer, ({ page, dword, bytes }) => {
    const start = page * PAGE_BYTES + dword * 4
    const pages = listPagesNeeded(bytes)
    const list = new Uint32Array((pages * PAGE_BYTES) / 4 + 4).fill(0xdead_beef)
    const sqe = new Uint32Array(16)
    const lo = LIST_IOVA | 0
    writePrps(sqe, 0, start | 0, Math.floor(start / 2 ** 32) | 0, bytes, list, 0, lo, 0)
    let next = start
    for (const [at, n] of follow(sqe, list, LIST_IOVA, bytes)) {
      if (at !== next) return false
      next += n
    }
    // Nothing is written past the pages that were said to be needed.
    const untouched = list.subarray((pages * PAGE_BYTES) / 4).every((word) => word === 0xdead_beef)
    return next === start + bytes && untouched
  })
  fc.assert(property, { numRuns: 2000 })
  t.pass()
})

test('PRP2 is 0, a page or a list, by the number of pages touched', (t) => {
  const prps = (lo: number, bytes: number) => {
    const sqe = new Uint32Array(16)
    writePrps(sqe, 0, lo, 1, bytes, new Uint32Array(2048), 0, 0x7000, 2)
    return [...sqe.subarray(6, 10)]
  }
  t.deepEqual(prps(0x1000, 4096), [0x1000, 1, 0, 0])
  t.deepEqual(prps(0x1200, 4096), [0x1200, 1, 0x2000, 1])
  t.deepEqual(prps(0x1e00, 512), [0x1e00, 1, 0, 0])
  t.deepEqual(prps(0x1e00, 4096 + 512), [0x1e00, 1, 0x2000, 1])
  t.deepEqual(prps(0x1e00, 4096 + 516), [0x1e00, 1, 0x7000, 2])
  t.deepEqual(prps(0x1000, 8193), [0x1000, 1, 0x7000, 2])
})

test('list pages are counted with the last entry of a full one as a link', (t) => {
  t.is(pagesTouched(0, 4096), 1)
  t.is(pagesTouched(4092, 4096), 2)
  t.is(listPagesNeeded(512 * PAGE_BYTES), 1)
  t.is(listPagesNeeded(512 * PAGE_BYTES + 4), 1)
  t.is(listPagesNeeded(513 * PAGE_BYTES), 2)
})

test('list pages describe so many bytes wherever they start, and no more from the worst start on', (t) => {
  for (let pages = 1; pages < 6; pages++) {
    t.is(listPagesNeeded(bytesDescribed(pages)), pages)
    t.is(listPagesNeeded(bytesDescribed(pages) + 5), pages + 1)
  }
})
