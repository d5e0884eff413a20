import test from 'ava'
import fc from 'fast-check'
import { OutOfRangeError } from '../../lib/errors.ts'
import { type IovaRange, IovaSpace } from '../../lib/memory/iova.ts'
import { PAGE_BYTES } from '../../lib/sys/units.ts'

const MiB = 2 ** 20
// What a VT-d of 39 bits reports: all of it, less the window of message-signalled interrupts.
const vtd = [
  { first: 0, last: 0xfedf_ffff },
  { first: 0xfef0_0000, last: 2 ** 39 - 1 },
]

test('addresses above 4 GiB are handed out first, then those below', (t) => {
  const space = new IovaSpace([{ first: 0, last: 2 ** 32 + MiB - 1 }])
  t.is(space.take(MiB), 2 ** 32)
  t.is(space.take(MiB), PAGE_BYTES)
  t.is(space.take(2 ** 33), -1)
})

test('address 0 is never handed out', (t) => {
  const space = new IovaSpace([{ first: 0, last: 2 * PAGE_BYTES - 1 }])
  t.is(space.take(PAGE_BYTES), PAGE_BYTES)
  t.is(space.take(PAGE_BYTES), -1)
})

test('holes are used again, and joined', (t) => {
  const space = new IovaSpace([{ first: 2 ** 32, last: 2 ** 32 + 4 * PAGE_BYTES - 1 }])
  const [a, b, c, d] = [
    space.take(PAGE_BYTES),
    space.take(PAGE_BYTES),
    space.take(PAGE_BYTES),
    space.take(PAGE_BYTES),
  ]
  t.is(space.take(PAGE_BYTES), -1)
  space.give(b)
  t.is(space.take(PAGE_BYTES), b)
  space.give(b)
  space.give(c)
  t.is(space.take(2 * PAGE_BYTES), b)
  for (const iova of [a, b, d]) space.give(iova)
  t.deepEqual(space.holes, [{ first: 2 ** 32, last: 2 ** 32 + 4 * PAGE_BYTES - 1 }])
})

test('alignment is given up only where it can not be had', (t) => {
  const space = new IovaSpace([{ first: 2 ** 32 + PAGE_BYTES, last: 2 ** 32 + 4 * MiB + PAGE_BYTES - 1 }])
  t.is(space.take(2 * MiB, 2 * MiB), 2 ** 32 + 2 * MiB)
  t.is(space.take(MiB, 2 * MiB), 2 ** 32 + 4 * MiB - MiB * 4 + PAGE_BYTES)
})

test('ranges that are no whole pages lose what sticks out; ranges that meet are one', (t) => {
  const space = new IovaSpace([
    { first: 10_000, last: 20_000 },
    { first: 40_960, last: 49_151 },
    { first: 49_152, last: 53_247 },
  ])
  t.deepEqual(space.holes, [
    { first: 12_288, last: 16_383 },
    { first: 40_960, last: 53_247 },
  ])
})

test('lengths that are no pages, and addresses that were not taken', (t) => {
  const space = new IovaSpace(vtd)
  for (const bytes of [0, -PAGE_BYTES, 100, Number.NaN, 2 ** 60]) {
    t.throws(() => space.take(bytes), { instanceOf: OutOfRangeError })
  }
  const iova = space.take(2 * PAGE_BYTES)
  t.throws(() => space.give(iova + PAGE_BYTES), { instanceOf: OutOfRangeError })
  space.give(iova)
  t.throws(() => space.give(iova), { instanceOf: OutOfRangeError })
})

test('reserved ranges are left out, whole pages of them', (t) => {
  const space = new IovaSpace(
    [{ first: 2 ** 32, last: 2 ** 32 + 10 * PAGE_BYTES - 1 }],
    [
      { first: 2 ** 32 + 3 * PAGE_BYTES + 5, last: 2 ** 32 + 4 * PAGE_BYTES },
      { first: 2 ** 32 + 8 * PAGE_BYTES, last: 2 ** 34 },
      { first: 0, last: PAGE_BYTES },
    ],
  )
  t.deepEqual(space.holes, [
    { first: 2 ** 32, last: 2 ** 32 + 3 * PAGE_BYTES - 1 },
    { first: 2 ** 32 + 5 * PAGE_BYTES, last: 2 ** 32 + 8 * PAGE_BYTES - 1 },
  ])
  t.is(space.take(4 * PAGE_BYTES), -1)
})

const ranges = fc.oneof(
  fc.constant(vtd),
  fc.array(
    fc
      .tuple(fc.integer({ min: 0, max: 2 ** 34 }), fc.integer({ min: 0, max: 2 ** 24 }))
      .map(([first, length]) => ({ first, last: first + length })),
    { maxLength: 6 },
  ),
)
const steps = fc.array(
  fc.record({
    pages: fc.integer({ min: 1, max: 2000 }),
    shift: fc.integer({ min: 12, max: 22 }),
    give: fc.integer({ min: -1, max: 20 }),
  }),
  { maxLength: 60 },
)

const inside = (allowed: IovaRange[], first: number, last: number) => {
  // The ranges may overlap or meet: walk through them.
  let at = first
  for (const range of allowed.toSorted((a, b) => a.first - b.first)) {
    if (range.first <= at && range.last >= at) at = Math.max(at, range.last + 1)
  }
  return at > last
}

test('whatever is taken lies in the ranges, apart from all else, and comes back whole', (t) => {
  fc.assert(
    fc.property(ranges, steps, (allowed, todo) => {
      const space = new IovaSpace(allowed)
      const before = space.holes
      const taken: { iova: number; bytes: number }[] = []
      for (const { pages, shift, give } of todo) {
        const bytes = pages * PAGE_BYTES
        const free = space.available
        const iova = space.take(bytes, 2 ** shift)
        if (iova >= 0) {
          t.is(iova % PAGE_BYTES, 0)
          t.true(iova > 0)
          t.true(inside(allowed, iova, iova + bytes - 1))
          t.true(taken.every((other) => iova + bytes <= other.iova || other.iova + other.bytes <= iova))
          t.is(space.available, free - bytes)
          taken.push({ iova, bytes })
        } else {
          t.true(space.holes.every((hole) => hole.last - hole.first + 1 < bytes))
        }
        if (give >= 0 && give < taken.length) space.give(taken.splice(give, 1)[0]!.iova)
      }
      for (const { iova } of taken) space.give(iova)
      t.deepEqual(space.holes, before)
    }),
  )
})
