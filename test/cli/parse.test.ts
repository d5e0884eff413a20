import test from 'ava'
import fc from 'fast-check'
import { choiceParser, decimal, duration, integer, size, suggestion } from '../../src/cli/parse.ts'

test('sizes', (t) => {
  const parse = size()
  const known: [string, number][] = [
    ['0', 0],
    ['512', 512],
    ['512B', 512],
    ['4k', 4096],
    ['4K', 4096],
    ['128KiB', 131072],
    ['128kib', 131072],
    ['128kB', 128000],
    ['1M', 2 ** 20],
    ['1.5G', 1.5 * 2 ** 30],
    ['1GB', 1e9],
    ['0.3kB', 300],
    ['2T', 2 ** 41],
    ['8P', 2 ** 53],
  ]
  for (const [word, bytes] of known.slice(0, -1)) t.is(parse(word), bytes, word)
  // 2^53 is beyond the safe integers.
  t.throws(() => parse('8P'), { code: 'ERR_OUT_OF_RANGE' })
  for (const word of ['', 'k', '4kk', '4 k', '-1', '1e3', '0x10', '4kiB3', '1,5k', '.5k']) {
    t.throws(() => parse(word), { code: 'ERR_INVALID_ARG_TYPE' }, word)
  }
  t.throws(() => parse('0.3k'), { code: 'ERR_OUT_OF_RANGE' })
  t.throws(() => size({ min: 512 })('511'), { code: 'ERR_OUT_OF_RANGE', message: /511 is not in 512 to/ })
})

test('any whole number of bytes, in any unit, is what it says', (t) => {
  const units = { '': 1, k: 1024, KiB: 1024, kB: 1000, M: 2 ** 20, MB: 1e6, GiB: 2 ** 30, GB: 1e9 }
  fc.assert(
    fc.property(fc.nat(1e6), fc.constantFrom(...Object.keys(units)), (count, unit) => {
      t.is(size()(`${count}${unit}`), count * units[unit as keyof typeof units])
    }),
  )
})

test('durations are in milliseconds, seconds without a unit', (t) => {
  const parse = duration()
  t.is(parse('15'), 15_000)
  t.is(parse('100us'), 0.1)
  t.is(parse('2ms'), 2)
  t.is(parse('1.5m'), 90_000)
  t.is(parse('2h'), 7_200_000)
  for (const word of ['', 'ms', '1 s', '-1s', '1min', '1S']) {
    t.throws(() => parse(word), { code: 'ERR_INVALID_ARG_TYPE' }, word)
  }
  t.throws(() => duration({ max: 1000 })('2s'), { code: 'ERR_OUT_OF_RANGE' })
})

test('numbers', (t) => {
  t.is(integer()('0x10'), 16)
  t.is(integer({ min: -5 })('-5'), -5)
  t.is(decimal()('2.5'), 2.5)
  for (const word of ['', '1.5', '1e3', 'ten', '0x', '12 ', '--1']) {
    t.throws(() => integer()(word), { code: 'ERR_INVALID_ARG_TYPE' }, word)
  }
  t.throws(() => integer()('-1'), { code: 'ERR_OUT_OF_RANGE' })
  t.throws(() => integer({ max: 255 })('256'), { code: 'ERR_OUT_OF_RANGE' })
  t.throws(() => integer()('9007199254740992'), { code: 'ERR_OUT_OF_RANGE' })
  t.throws(() => decimal()('1e3'), { code: 'ERR_INVALID_ARG_TYPE' })
})

test('words of a list', (t) => {
  const parse = choiceParser(['randread', 'randwrite', 'read'])
  t.is(parse('read'), 'read')
  t.throws(() => parse('randrite'), { message: /none of randread.*did you mean 'randwrite'\?$/ })
  t.throws(() => parse('zzz'), { message: /none of randread, randwrite, read$/ })
  t.is(suggestion('show', ['reset', 'show']), "; did you mean 'show'?")
})
