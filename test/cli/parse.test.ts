import test from 'ava'
import { choiceParser, decimal, duration, integer, size, suggestion } from '../../src/cli/parse.ts'

test('a size and a duration are within their range', (t) => {
  t.is(size({ min: 512 })('4k'), 4096)
  t.is(size({ min: 512 })('0x200'), 512)
  t.throws(() => size({ min: 512 })('0x1ff'), { code: 'ERR_OUT_OF_RANGE' })
  t.throws(() => size()('0x2k'), { code: 'ERR_INVALID_ARG_TYPE' })
  t.throws(() => size({ min: 512 })('511'), { code: 'ERR_OUT_OF_RANGE', message: /511 is not in 512 to/ })
  t.is(duration({ max: 1000 })('1s'), 1000)
  t.throws(() => duration({ max: 1000 })('2s'), { code: 'ERR_OUT_OF_RANGE', message: /0 to 1000 ms/ })
  t.throws(() => duration({ min: 1 })('0'), { code: 'ERR_OUT_OF_RANGE', message: /^0 is less than 1 ms$/ })
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
