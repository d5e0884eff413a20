import test from 'ava'
import fc from 'fast-check'
import { Random, RandomMap } from '../../src/bench/random.ts'

test('RandomMap: each place once, for any size, in another order after shuffle', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5000 }), fc.nat(), (size, seed) => {
      const map = new RandomMap(size, new Random(seed))
      const orders = [0, 1].map(() => {
        const places = Array.from({ length: size }, (_, i) => map.at(i))
        map.shuffle()
        return places
      })
      for (const places of orders) {
        t.deepEqual(
          places.toSorted((a, b) => a - b),
          [...Array(size).keys()],
        )
      }
      if (size > 20) t.notDeepEqual(orders[0], orders[1])
    }),
    { numRuns: 50 },
  )
})

test('RandomMap: the largest regions, within them and all over them', (t) => {
  for (const size of [2 ** 31 + 1, 2 ** 44, 2 ** 53 - 1]) {
    const map = new RandomMap(size, new Random(3))
    const tenths = new Set<number>()
    const seen = new Set<number>()
    for (let i = 0; i < 1000; i++) {
      const place = map.at(i)
      t.true(Number.isSafeInteger(place) && place >= 0 && place < size)
      seen.add(place)
      tenths.add(Math.floor((place / size) * 10))
    }
    t.is(seen.size, 1000)
    t.is(tenths.size, 10)
    t.true(map.at(size - 1) < size)
  }
})

test('RandomMap: neighbours in order are no neighbours in place', (t) => {
  const size = 100_000
  const map = new RandomMap(size, new Random(1))
  let near = 0
  for (let i = 1; i < size; i++) if (Math.abs(map.at(i) - map.at(i - 1)) < 1000) near++
  // 2 % by chance.
  t.true(near > 1500 && near < 2500, String(near))
})
