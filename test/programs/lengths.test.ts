// The random parts of the test programs: lengths that fit, and words of a pattern.

import test from 'ava'
import fc from 'fast-check'
import { drawLengths } from '../../examples/unvme/support/lengths.ts'
import { fillWords } from '../../examples/unvme/support/words.ts'
import { Random } from '../../src/bench/random.ts'

test('lengths are at least one block, at most the longest, and fit together', (t) => {
  const shape = fc
    .tuple(fc.integer({ min: 1, max: 300 }), fc.nat(100_000), fc.integer({ min: 1, max: 5000 }), fc.nat())
    .map(([count, more, longest, seed]) => ({ count, total: count + more, longest, seed }))
  fc.assert(
    fc.property(shape, ({ seed, ...limits }) => {
      const lengths = drawLengths(new Random(seed), limits)
      t.is(lengths.length, limits.count)
      t.true(lengths.every((n) => Number.isInteger(n) && n >= 1 && n <= limits.longest))
      t.true(lengths.reduce((sum, n) => sum + n, 0) <= limits.total)
    }),
  )
})

test('a word is the pattern plus the increment times its place, modulo 2^64', (t) => {
  const word = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
  fc.assert(
    fc.property(
      word,
      word,
      fc.nat(2 ** 30),
      fc.integer({ min: 1, max: 40 }),
      (first, increment, at, words) => {
        const buffer = fillWords(Buffer.alloc(8 * words), { first, increment }, 8 * at)
        for (let i = 0; i < words; i++) {
          t.is(buffer.readBigUInt64LE(8 * i), BigInt.asUintN(64, first + increment * BigInt(at + i)))
        }
      },
    ),
  )
})
