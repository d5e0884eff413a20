import test from 'ava'
import { binary, decimal, short, timeText, timeTick } from '../../lib/sys/units.ts'
import { describe, timeUnit } from '../../src/bench/report-text.ts'

test('rates as fio writes them', (t) => {
  for (const [value, text] of [
    [0, '0'],
    [9.6, '10'],
    [999, '999'],
    [4523.4, '4523'],
    [12_345, '12.3k'],
    [182_345, '182k'],
    [1_234_567, '1.23M'],
    [12_345_678, '12.3M'],
    [999_999, '1.00M'],
  ] as const) {
    t.is(short(value), text)
  }
})

test('sizes in powers of 1024 and of 1000', (t) => {
  t.is(binary(736_887_808), '703MiB')
  t.is(decimal(736_887_808), '737MB')
  t.is(binary(4096), '4096B')
  t.is(binary(7_378_000_000), '6.87GiB')
  t.is(decimal(0), '0B')
})

test('times', (t) => {
  t.deepEqual([812, 12_340, 4_560_000, 1.2e9].map(timeText), ['812 ns', '12.3 us', '4.56 ms', '1.20 s'])
  t.deepEqual([100, 30_000, 1e6].map(timeTick), ['100 ns', '30 us', '1 ms'])
  t.is(timeUnit(100, 1e9).name, 'nsec')
  t.is(timeUnit(3000, 1e6).name, 'usec')
  t.is(timeUnit(3e6, 1e9).name, 'msec')
})

test('describe', (t) => {
  t.deepEqual(describe([]), { min: 0, max: 0, mean: 0, stddev: 0 })
  t.deepEqual(describe([4]), { min: 4, max: 4, mean: 4, stddev: 0 })
  t.deepEqual(describe([2, 4, 6]), { min: 2, max: 6, mean: 4, stddev: 2 })
})
