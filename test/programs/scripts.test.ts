// scripts/unvme-test and scripts/unvme-benchmark as processes: their order, what they stop at, what they leave.

import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { testFolder } from '../support/folder.ts'
import { startServer } from '../support/server.ts'

const file = testFolder()

interface Outcome {
  code: unknown
  stdout: string
  stderr: string
}

function script(name: string, words: readonly string[], env: Record<string, string> = {}): Promise<Outcome> {
  const path = fileURLToPath(new URL(`../../../scripts/${name}`, import.meta.url))
  return new Promise((resolve) => {
    const child = execFile(path, words, { env: { ...process.env, ...env } }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : error.code, stdout, stderr }),
    )
    child.stdin?.end()
  })
}

const commandsOf = ({ stdout }: Outcome) =>
  [...stdout.matchAll(/^\$ unvme-test (\S+)/gm)].map(([, name]) => name)
const EACH = ['unvme-info', 'sim-test', 'api-test', 'lat-test', 'mts-test', 'wrc', 'rw']

test.serial(
  'unvme-test runs every program on each device, prints the commands, and all devices at once',
  async (t) => {
    const outcome = await script('unvme-test', ['--quick', 'sim:?size=8M', 'sim:?size=8M&lba=4096&mdts=2'])
    t.is(outcome.stderr, '')
    t.is(outcome.code, 0)
    t.deepEqual(commandsOf(outcome), [...EACH, ...EACH, 'mcd-test'])
    t.regex(outcome.stdout, /^\$ unvme-test sim-test --yes -s 256k -q 2 'sim:\?size=8M&lba=4096&mdts=2'$/m)
    t.regex(outcome.stdout, /\nunvme-test: all passed on 2: sim:\?size=8M sim:/)
  },
)

test.serial('unvme-test stops at the first failure, with its exit code', async (t) => {
  const outcome = await script('unvme-test', [
    '--quick',
    'sim:?size=8M&fault=read@100:status=281h',
    'sim:?size=8M',
  ])
  t.is(outcome.code, 1)
  t.deepEqual(commandsOf(outcome), ['unvme-info', 'sim-test'])
  t.regex(outcome.stderr, /^sim-test: Read failed: .*\nunvme-test: failed with 1: unvme-test sim-test .*\n$/)
})

test.serial('unvme-test with a program is that program', async (t) => {
  const { code, stdout } = await script('unvme-test', ['wrc', '-w', '1', '-r', '2', 'sim:?size=1M'])
  t.is(code, 3)
  t.regex(stdout, /^2048 blocks from LBA 0 on written\nLBA 0:\n/)
})

test.serial(
  'unvme-test refuses words that it does not know, and devices that it was not told to overwrite',
  async (t) => {
    const help = await script('unvme-test', ['--help'])
    t.is(help.code, 0)
    t.regex(help.stdout, /^usage: unvme-test /)
    for (const words of [['--fast', 'sim:'], ['nowhere']]) {
      const { code, stdout, stderr } = await script('unvme-test', words)
      t.is(code, 2)
      t.is(stdout, '')
      t.regex(stderr, /^unvme-test: .*\n$/)
    }
    const { address, stop } = await startServer({ device: 'sim:?size=4M' })
    const asked = await script('unvme-test', ['--quick', address])
    t.is(asked.code, 2)
    t.is(asked.stdout, '')
    t.regex(asked.stderr, /this overwrites vfio-user:.* give --yes\n$/)
    await stop()
  },
)

const MATRIX = { NUMJOBS: '1 2', IODEPTH: '1 4', RUNTIME: '100ms', RAMPTIME: '20ms' }

test.serial('unvme-benchmark runs the matrix, and compares two folders of results', async (t) => {
  const [device, disk] = [file('device'), file('disk')]
  const first = await script('unvme-benchmark', ['sim:?size=8M'], { ...MATRIX, OUTDIR: device })
  t.is(first.stderr, '')
  t.is(first.code, 0)
  const cells = ['j1-d1', 'j1-d4', 'j2-d1', 'j2-d4']
  const names = ['randread', 'randwrite'].flatMap((rw) => cells.map((cell) => `${rw}-${cell}.json`))
  t.deepEqual(readdirSync(device).sort(), names)
  const report = JSON.parse(readFileSync(`${device}/randwrite-j2-d4.json`, 'utf8'))
  t.like(report.jobs[0]['job options'], {
    rw: 'randwrite',
    numjobs: '2',
    iodepth: '4',
    bs: '4096',
    ramp_time: '0.02',
  })

  writeFileSync(file('image'), Buffer.alloc(1 << 20))
  const env = { ...MATRIX, RW: 'randread', NUMJOBS: '2', IODEPTH: '4', OUTDIR: disk }
  t.is((await script('unvme-benchmark', [file('image')], env)).code, 0)

  const table = await script('unvme-benchmark', ['compare', disk, device])
  t.is(table.stderr, '')
  t.is(table.code, 0)
  const [targets, , ...lines] = table.stdout.split('\n').slice(1)
  t.regex(targets!, /^device: sim:\?size=8M$/)
  t.is(lines.length, 2 + 8 + 1)
  t.regex(
    lines[0]!,
    /^rw +bs +jobs +depth +disk IOPS +device IOPS +ratio +disk mean +device mean +disk p99 +device p99$/,
  )
  t.regex(table.stdout, /^randread +4 KiB +2 +4 +\S+ +\S+ +[\d.]+x /m)
  t.regex(table.stdout, /^randwrite +4 KiB +1 +4 +- +\S+ +- +- /m)
})

test.serial(
  'unvme-benchmark asks before it writes, and leaves no half results; other words are refused',
  async (t) => {
    writeFileSync(file('precious'), Buffer.alloc(1 << 20, 7))
    const asked = await script('unvme-benchmark', [file('precious')], { ...MATRIX, OUTDIR: file('none') })
    t.is(asked.code, 2)
    t.regex(asked.stderr, /Overwrite .*precious.*--yes.*\nunvme-benchmark: failed with 2\n$/)
    t.deepEqual(readdirSync(file('none')), [])
    t.true(readFileSync(file('precious')).every((byte) => byte === 7))
    for (const words of [[], ['--fast'], ['sim:', 'sim:']]) {
      t.is((await script('unvme-benchmark', words)).code, 2, words.join(' '))
    }
    mkdirSync(file('empty'))
    writeFileSync(file('empty/other.json'), '{"a": 1}')
    mkdirSync(file('broken'))
    writeFileSync(file('broken/x.json'), '{')
    for (const [words, message] of [
      [[file('none')], /two folders or files are needed, 1 given/],
      [[file('empty'), file('empty')], /empty holds no results/],
      [[file('broken'), file('broken')], /x\.json is no JSON/],
    ] as const) {
      const { code, stderr } = await script('unvme-benchmark', ['compare', ...words])
      t.is(code, 2)
      t.regex(stderr, message)
    }
  },
)

test("fio's own results are read too", async (t) => {
  const clat = (mean: number) => ({ mean, percentile: { '99.000000': 2 * mean } })
  for (const [name, iops] of [
    ['a', 100],
    ['b', 250],
  ] as const) {
    mkdirSync(file(`fio-${name}`))
    const job = {
      'job options': { iodepth: '8' },
      read: { total_ios: 10, iops, bw_bytes: 4096 * iops, clat_ns: clat(1000) },
      write: { total_ios: 0, iops: 0, bw_bytes: 0, clat_ns: { mean: 0 } },
    }
    const other = { ...job, read: { ...job.read, total_ios: 30, clat_ns: clat(3000) } }
    const report = { 'global options': { rw: 'randread', bs: '4k', numjobs: '2' }, jobs: [job, other] }
    writeFileSync(file(`fio-${name}/1.json`), JSON.stringify(report))
  }
  const { stdout } = await script('unvme-benchmark', ['compare', file('fio-a'), file('fio-b'), '-o', 'json'])
  const { rows } = JSON.parse(stdout)
  t.is(rows.length, 1)
  t.like(rows[0], { rw: 'randread', bs: 4096, numjobs: 2, iodepth: 8 })
  t.like(rows[0].results[1], { iops: 500, bandwidth: 2 * 4096 * 250, mean: 2500 })
  // Of two jobs that were reported one by one it is not known.
  t.is(rows[0].results[1].p99, undefined)
})
