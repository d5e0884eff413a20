// Results of fio and of `unvme bench`: sections, jobs, sizes, doubles, and what is not known.

import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { readResults, sideBySide } from '../../src/bench/results.ts'
import { testFolder } from '../support/folder.ts'
import { testWith } from '../support/left-out.ts'

const file = testFolder()
const NONE = { total_ios: 0, iops: 0, bw_bytes: 0, clat_ns: { min: 0, max: 0, mean: 0, stddev: 0, N: 0 } }
const did = (iops: number, mean: number, more: object = {}) => ({
  total_ios: iops,
  iops,
  bw_bytes: iops * 4096,
  clat_ns: { mean, N: iops, percentile: { '99.000000': 2 * mean }, ...more },
})

let count = 0

/** A file of fio's, with its remarks before the JSON, as they come by standard output. */
function fio(jobs: object[], options: object = {}): string {
  const name = file(`fio-${count++}.json`)
  const report = { 'fio version': 'fio-3.33', 'global options': options, jobs }
  writeFileSync(
    name,
    `note: both iodepth >= 1 and synchronous I/O engine are selected\n${JSON.stringify(report, null, 2)}\n`,
  )
  return name
}

test('readResults: each section has a result, with its own options and those of all', (t) => {
  const name = fio(
    [
      {
        jobname: 'seq',
        groupid: 0,
        'job options': { rw: 'read', bs: '128k' },
        read: did(1000, 1e4),
        write: NONE,
      },
      { jobname: 'rnd', groupid: 1, 'job options': { rw: 'randwrite' }, read: NONE, write: did(100, 9e4) },
    ],
    { bs: '4k', iodepth: '32' },
  )
  const [seq, rnd] = readResults(name)
  t.like(seq, { rw: 'read', bs: 131072, iodepth: 32, numjobs: 1, iops: 1000, mean: 1e4, p99: 2e4 })
  t.like(rnd, { rw: 'randwrite', bs: 4096, iodepth: 32, numjobs: 1, iops: 100, mean: 9e4, p99: 18e4 })
  t.regex(seq!.source, /^fio-\d+\.json: seq$/)
})

test('readResults: jobs are counted, reported one by one or together', (t) => {
  const job = { jobname: 'j', groupid: 0, 'job options': { rw: 'randread', numjobs: '4' }, write: NONE }
  const each = fio([1, 2, 3, 4].map((n) => ({ ...job, read: did(1000 * n, 1e4 * n) })))
  t.like(readResults(each), { length: 1 })
  // The mean is of all I/Os; a p99 of several can't be made of theirs.
  t.like(readResults(each)[0], { numjobs: 4, iops: 10_000, mean: 3e4, p99: undefined })
  const together = fio([{ ...job, read: did(4000, 1e4) }])
  t.like(readResults(together)[0], { numjobs: 4, iops: 4000, p99: 2e4 })
  const twice = fio([...Array(8)].map(() => ({ ...job, read: did(1000, 1e4) })))
  t.deepEqual(
    readResults(twice).map(({ numjobs }) => numjobs),
    [4, 4],
  )
  const unsaid = fio(
    [1, 2, 3].map(() => ({ 'job options': {}, read: did(1000, 1e4), write: NONE })),
    { rw: 'randread' },
  )
  t.deepEqual(
    readResults(unsaid).map(({ numjobs }) => numjobs),
    [3],
  )
})

test('readResults: several jobs have a p99 together where there are bins (json+)', (t) => {
  const job = { jobname: 'j', 'job options': { rw: 'randread', numjobs: '2' }, write: NONE }
  const name = fio([
    { ...job, read: did(100, 1e3, { bins: { 1000: 99, 5000: 1 } }) },
    { ...job, read: did(100, 1e3, { bins: { 1000: 98, 7000: 2 } }) },
  ])
  t.is(readResults(name)[0]!.p99, 5000)
})

test('readResults: what is not known is undefined, and no 0', (t) => {
  const options = { rw: 'randread', bs: '4k' }
  const bare = fio([
    { 'job options': options, read: { total_ios: 50, iops: 50, bw_bytes: 4096 }, write: NONE },
  ])
  t.like(readResults(bare)[0], { iops: 50, mean: undefined, p99: undefined })
  const reduced = fio([{ 'job options': options, read: { ...NONE, total_ios: 50, iops: 50 }, write: NONE }])
  t.like(readResults(reduced)[0], { iops: 50, mean: undefined, p99: undefined })
  const nothing = fio([{ 'job options': options, error: 5 }])
  t.like(readResults(nothing)[0], { iops: undefined, bandwidth: undefined, mean: undefined, error: 5 })
})

test("readResults: sizes as fio means them, where KB is 1024 and KiB 1000; several stay fio's text", (t) => {
  for (const [bs, bytes, base] of [
    ['4k', 4096, undefined],
    ['4K', 4096, undefined],
    ['4kb', 4096, undefined],
    ['4KiB', 4000, undefined],
    ['4096', 4096, undefined],
    ['4096b', 4096, undefined],
    ['1m', 2 ** 20, undefined],
    ['4k', 4000, '1000'],
    ['4KiB', 4096, '1000'],
    ['4k,8k', '4k,8k', undefined],
    ['4k-16k', '4k-16k', undefined],
  ] as const) {
    const options = { bs, ...(base && { kb_base: base }) }
    t.is(readResults(fio([{ 'job options': options, read: did(1, 1) }]))[0]!.bs, bytes, bs)
  }
})

test('readResults: an engine that does one I/O at a time has depth 1', (t) => {
  const depth = (ioengine: string) =>
    readResults(fio([{ 'job options': { ioengine, iodepth: '8' }, read: did(1, 1) }]))[0]!.iodepth
  t.is(depth('psync'), 1)
  t.is(depth('libaio'), 8)
})

test('sideBySide: two results of a kind have a row each, beside those of the same name', (t) => {
  const job = (jobname: string, iops: number) => ({
    ...{ jobname, groupid: iops, 'job options': { rw: 'randread' }, read: did(iops, 1e4), write: NONE },
  })
  const before = readResults(fio([job('a', 1000), job('b', 2000)]))
  const after = readResults(fio([job('b', 3000), job('c', 4000)]))
  const rows = sideBySide([before, after])
  t.deepEqual(
    rows.map(({ results, several }) => [...results.map((one) => one?.iops), several]),
    [
      [1000, 4000, true],
      [2000, 3000, true],
    ],
  )
  t.false(sideBySide([before.slice(0, 1), after.slice(0, 1)])[0]!.several)
})

testWith('readResults: files of a fio that runs here', { fio: 'fio' }, (t) => {
  const folder = file('real')
  mkdirSync(folder)
  const run = (name: string, words: string[]) => {
    const common = [`--filename=${file('data')}`, '--size=1m', '--ioengine=psync', '--output-format=json']
    const { status, stdout, stderr } = spawnSync('fio', [...common, ...words], { encoding: 'utf8' })
    t.is(status, 0, stderr)
    writeFileSync(path.join(folder, name), stdout)
  }
  run('a.json', [
    '--bs=4k',
    '--iodepth=4',
    '--name=seq',
    '--rw=write',
    '--name=rnd',
    '--rw=randread',
    '--numjobs=3',
    '--stonewall',
  ])
  run('b.json', ['--name=x', '--rw=randread', '--bs=8kb', '--numjobs=2', '--group_reporting'])
  const results = readResults(folder).map(({ rw, bs, numjobs, iodepth, source }) => [
    rw,
    bs,
    numjobs,
    iodepth,
    source,
  ])
  t.deepEqual(results, [
    ['write', 4096, 1, 1, 'a.json: seq'],
    ['randread', 4096, 3, 1, 'a.json: rnd'],
    ['randread', 8192, 2, 1, 'b.json'],
  ])
  for (const { iops, mean } of readResults(folder)) t.true(iops! > 0 && mean! > 0)
})
