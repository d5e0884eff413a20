// Sizes and durations: dd's rule, exact, and the same at every place that takes one.

import test from 'ava'
import fc from 'fast-check'
import { parseSimAddress } from '../../lib/sim/address.ts'
import { bytesText, parseDuration, parseSize, roomText, sizeText } from '../../lib/sys/units.ts'
import { machineOptions } from '../../scripts/vm/options.ts'
import { size } from '../../src/cli/parse.ts'

const KNOWN: readonly (readonly [string, number])[] = [
  ['512', 512],
  ['512B', 512],
  ['4k', 4096],
  ['4K', 4096],
  ['128KiB', 131072],
  ['128kib', 131072],
  ['128kB', 128000],
  ['128KB', 128000],
  ['1M', 2 ** 20],
  ['1MB', 1e6],
  ['1.5G', 1.5 * 2 ** 30],
  ['1GB', 1e9],
  ['0.3kB', 300],
  ['1.005kB', 1005],
  ['2T', 2 ** 41],
  ['2TB', 2e12],
  ['1P', 2 ** 50],
  ['1PB', 1e15],
]

test('parseSize: a letter counts in 1024s, with B in 1000s', (t) => {
  for (const [word, bytes] of [...KNOWN, ['0', 0], ['0.001EB', 1e15]] as const) {
    t.is(parseSize(word), bytes, word)
  }
})

test('parseSize: what is no size, or none that can be trusted, is an error that says why', (t) => {
  const wrong = [
    '',
    'k',
    '4kk',
    '4 k',
    '-1',
    '1e3',
    '0x10',
    '4kiB3',
    '1,5k',
    '.5k',
    '1.',
    '512i',
    '1Mi',
    '1iB',
  ]
  for (const word of wrong) t.throws(() => parseSize(word), { code: 'ERR_INVALID_ARG_TYPE' }, word)
  // A block of 512 bytes for dd, one byte for qemu-img and fio.
  t.throws(() => parseSize('512b'), { code: 'ERR_INVALID_ARG_TYPE', message: /write 512 for bytes/ })
  t.throws(() => parseSize('0.3k'), { code: 'ERR_OUT_OF_RANGE', message: /no whole number/ })
  for (const word of ['8P', '1E', '1EB', '9007199254740992', '9'.repeat(30)]) {
    t.throws(() => parseSize(word), { code: 'ERR_OUT_OF_RANGE', message: /is more than/ }, word)
  }
  t.is(parseSize('9007199254740991'), Number.MAX_SAFE_INTEGER)
})

test('parseSize: any whole number of bytes, in any unit, is what it says', (t) => {
  const units = { '': 1, k: 1024, KiB: 1024, kB: 1000, M: 2 ** 20, MB: 1e6, GiB: 2 ** 30, GB: 1e9 }
  fc.assert(
    fc.property(fc.nat(1e6), fc.constantFrom(...Object.keys(units)), (count, unit) => {
      t.is(parseSize(`${count}${unit}`), count * units[unit as keyof typeof units])
    }),
  )
})

test('a size is the same in an option, in an address and for the virtual machine', (t) => {
  for (const [word, bytes] of KNOWN) {
    t.is(size()(word), bytes, word)
    // Whole blocks, and what an address takes: at most 16 TiB.
    if (bytes % 512 === 0 && bytes <= 2 ** 44) t.is(parseSimAddress(`sim:?size=${word}`).size, bytes, word)
    if (bytes % 2 ** 20 === 0) t.is(machineOptions({ memory: word }).memory, bytes / 2 ** 20, word)
  }
  for (const word of ['512i', '512b', '1Mi', '1e3', '0.3k']) {
    t.throws(() => size()(word), undefined, word)
    t.throws(() => parseSimAddress(`sim:?size=${word}`), { code: 'ERR_UNVME_ADDRESS' }, word)
    t.throws(() => machineOptions({ memory: word }), undefined, word)
  }
  // MiB without a unit, as for QEMU.
  t.is(machineOptions({ memory: '1024' }).memory, 1024)
})

test('parseDuration: milliseconds, seconds without a unit; the same in an address, where a unit is needed', (t) => {
  for (const [word, ms] of [
    ['15', 15_000],
    ['100us', 0.1],
    ['100µs', 0.1],
    ['2ms', 2],
    ['1.5m', 90_000],
    ['2h', 7_200_000],
    ['1d', 86_400_000],
  ] as const) {
    t.is(parseDuration(word), ms)
    if (/\D$/.test(word) && ms <= 3_600_000)
      t.deepEqual(parseSimAddress(`sim:?latency=${word}`).latency, { min: ms, max: ms })
    else t.throws(() => parseSimAddress(`sim:?latency=${word}`), { code: 'ERR_UNVME_ADDRESS' })
  }
  for (const word of ['', 'ms', '1 s', '-1s', '1min', '1S', '1e3s']) {
    t.throws(() => parseDuration(word), { code: 'ERR_INVALID_ARG_TYPE' }, word)
  }
  t.is(machineOptions({ 'time-limit': '2m' }).timeLimit, 120)
  t.is(machineOptions({ 'time-limit': '300' }).timeLimit, 300)
  // Longer than a timer can be.
  for (const word of ['0', '30d', 'soon'])
    t.throws(() => machineOptions({ 'time-limit': word }), undefined, word)
})

test('sizes as text', (t) => {
  t.deepEqual([0, 1073741824, 2n ** 64n].map(bytesText), ['0 B', '1.07 GB', '18446.74 PB'])
  t.deepEqual([0, 512, 4096, 1 << 20, 1536 * 1024, 2 ** 41].map(sizeText), [
    '0 bytes',
    '512 bytes',
    '4 KiB',
    '1 MiB',
    '1536 KiB',
    '2 TiB',
  ])
  t.deepEqual([1, 65536, 2 ** 20 + 1].map(roomText), ['1 KiB', '64 KiB', '2 MiB'])
})
