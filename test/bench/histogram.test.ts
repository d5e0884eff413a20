import test from 'ava'
import fc from 'fast-check'
import { Histogram, lowestOf } from '../../src/bench/histogram.ts'

const HOUR = 3.6e12
const BUCKETS = 2432
const latency = fc.oneof(
  fc.integer({ min: 0, max: 300 }),
  fc.integer({ min: 0, max: 10_000_000 }),
  fc.integer({ min: 0, max: HOUR }),
  fc.double({ min: 0, max: 1e6, noNaN: true }),
)
// Some come several times at once.
const latencies = (minLength: number, maxLength: number) =>
  fc
    .array(fc.tuple(latency, fc.integer({ min: 1, max: 3 })), { minLength, maxLength })
    .map((runs) => runs.flatMap(([ns, times]) => new Array<number>(times).fill(ns)))

function of(values: readonly number[]): Histogram {
  const histogram = new Histogram()
  for (const value of values) histogram.record(value)
  return histogram
}

test('Histogram without a record says 0 everywhere', (t) => {
  const histogram = new Histogram()
  t.like(histogram, { n: 0, min: 0, max: 0, mean: 0, stddev: 0 })
  t.is(histogram.percentile(50), 0)
  t.is(histogram.countBetween(0, 1e9), 0)
})

test('Histogram has minimum, maximum, mean and deviation of the values, and percentiles within a bucket', (t) => {
  fc.assert(
    fc.property(latencies(1, 200), fc.double({ min: 0, max: 100, noNaN: true }), (values, percent) => {
      const histogram = of(values)
      const sorted = [...values].sort((a, b) => a - b)
      const mean = values.reduce((a, b) => a + b, 0) / values.length
      t.is(histogram.n, values.length)
      t.is(histogram.min, sorted[0]!)
      t.is(histogram.max, sorted.at(-1)!)
      t.true(Math.abs(histogram.mean - mean) <= 1e-6 * (1 + mean))
      const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0)
      const stddev = values.length < 2 ? 0 : Math.sqrt(squares / (values.length - 1))
      t.true(Math.abs(histogram.stddev - stddev) <= 1e-6 * (1 + stddev + mean))
      const exact = sorted[Math.max(0, Math.ceil((percent / 100) * values.length) - 1)]!
      const found = histogram.percentile(percent)
      t.true(
        found >= Math.floor(exact) && found <= exact * (1 + 1 / 64) + 1,
        `${percent}: ${found} for ${exact}`,
      )
    }),
  )
})

test('record puts the lowest and the highest value of each bucket into it, beyond 32 bits, too', (t) => {
  for (let i = 0; i < BUCKETS; i++) {
    const low = lowestOf(i)
    const next = lowestOf(i + 1)
    const { counts } = of([low, (low + next) / 2, next - 1])
    t.is(counts[i], 3, `bucket ${i}: ${low} to ${next - 1}`)
  }
  const beyond = [lowestOf(BUCKETS), 2 ** 60, Number.POSITIVE_INFINITY]
  t.is(of(beyond).counts[BUCKETS - 1], beyond.length)
  t.is(of([-1, -(2 ** 40), 0.9]).counts[0], 3)
})

test('Histogram.add makes two histograms the one of all values', (t) => {
  const values = latencies(0, 100)
  fc.assert(
    fc.property(values, values, (a, b) => {
      const both = of(a)
      // As it comes from another thread.
      both.add(structuredClone(of(b).data))
      const all = of([...a, ...b])
      t.is(both.n, all.n)
      t.is(both.min, all.min)
      t.is(both.max, all.max)
      t.deepEqual(both.counts, all.counts)
      t.true(Math.abs(both.mean - all.mean) <= 1e-6 * (1 + all.mean))
      t.true(Math.abs(both.stddev - all.stddev) <= 1e-5 * (1 + all.stddev + all.mean))
    }),
  )
})

test('countBetween adds up over buckets that ascend without gaps', (t) => {
  let before = -1
  for (let i = 0; i < BUCKETS; i++) {
    const low = lowestOf(i)
    t.true(low > before)
    before = low
  }
  const bounds = [0, 1, 2, 60, 100, 1000, 4000, 1e5, 250_000, 1e6, 1e9, Number.POSITIVE_INFINITY]
  fc.assert(
    fc.property(latencies(0, 20), (values) => {
      const all = of(values)
      const counts = bounds.slice(1).map((to, i) => all.countBetween(bounds[i]!, to))
      t.is(
        counts.reduce((a, b) => a + b),
        values.length,
      )
    }),
  )
  const histogram = of([0, 5, 63, 64, 127, 128, 130, 1000, 1e6, 1e9])
  t.is(histogram.countBetween(0, 64), 3)
  t.is(histogram.countBetween(64, 128), 2)
  t.is(histogram.countBetween(128, 2 ** 40), 5)
  histogram.clear()
  t.like(histogram, { n: 0, min: 0, max: 0 })
})
