// `unvme bench` as a process: fio's layout and keys, jobs on threads, verification, refusals, the HTML report.

import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import test from 'ava'
import { testFolder } from '../support/folder.ts'
import { cleanEnvironment, MAIN, unvme } from './command.ts'

const file = testFolder()
const SIM = 'sim:?size=8M'

test.serial("a report in fio's layout", async (t) => {
  const { code, stdout, stderr } = await unvme([
    'bench',
    SIM,
    '--rw',
    'randread',
    '--iodepth',
    '4',
    '--size',
    '4M',
  ])
  t.is(stderr, '')
  t.is(code, 0)
  for (const line of [
    /^bench: rw=randread, bs=4096B, ioengine=unvme, iodepth=4$/m,
    /^bench: \(groupid=0, jobs=1\): err= 0: /m,
    /^ {2}read: IOPS=[\d.]+[kM]?, BW=[\d.]+[KMG]?i?B\/s \([\d.]+[kMG]?B\/s\)\(4\.00MiB\/\d+msec\)$/m,
    /^ {4}slat \([num]sec\): min= *[\d.]+[kM]?, max= *[\d.]+[kM]?, avg= *[\d.]+, stdev= *[\d.]+$/m,
    /^ {4}clat \(/m,
    /^ {5}lat \(/m,
    /^ {4}clat percentiles \([num]sec\):$/m,
    /^ {5}\| {2}1\.00th=\[ *\d+\], {2}5\.00th=\[ *\d+\], 10\.00th=\[ *\d+\], 20\.00th=\[ *\d+\],$/m,
    /^ {5}\| 99\.99th=\[ *\d+\]$/m,
    /^ {2}cpu +: usr=[\d.]+%, sys=[\d.]+%, ctx=\d+, majf=\d+, minf=\d+$/m,
    /^ {2}IO depths {4}: 1=[\d.]+%, 2=[\d.]+%, 4=[\d.]+%, 8=0\.0%, 16=0\.0%, 32=0\.0%, >=64=0\.0%$/m,
    /^ {5}issued rwts: total=1024,0,0,0 /m,
    /^ {3}READ: bw=.*, io=4\.00MiB \(4\.19MB\), run=\d+-\d+msec$/m,
  ]) {
    t.regex(stdout, line)
  }
  t.notRegex(stdout, /write|NaN|undefined|Infinity/)
})

test.serial("JSON with fio's keys; two jobs on threads; everything written is verified", async (t) => {
  const words = ['--rw', 'randrw', '--numjobs', '2', '--iodepth', '4', '--bs', '8k', '--verify', 'crc32']
  const { code, stdout, stderr } = await unvme(['bench', SIM, ...words, '-o', 'json'])
  t.is(stderr, '')
  t.is(code, 0)
  const report = JSON.parse(stdout)
  const [job] = report.jobs
  t.is(job.read.total_ios + job.write.total_ios, 1024)
  t.is(job.read.io_bytes, job.read.total_ios * 8192)
  t.true(report.verified > 0)
  for (const key of ['slat_ns', 'clat_ns', 'lat_ns']) {
    t.is(job.write[key].N, job.write.total_ios)
    t.true(job.write[key].min <= job.write[key].mean && job.write[key].mean <= job.write[key].max)
  }
  t.is(Object.keys(job.write.clat_ns.percentile).length, 17)
  t.true(job.write.clat_ns.percentile['50.000000'] <= job.write.clat_ns.percentile['99.990000'])
  const sum = (shares: Record<string, number>) => Object.values(shares).reduce((a, b) => a + b, 0)
  t.true(Math.abs(sum(job.iodepth_level) - 100) < 0.01)
  t.true(Math.abs(sum({ ...job.latency_ns }) + sum(job.latency_us) + sum(job.latency_ms) - 100) < 0.01)
  t.like(job['job options'], { rw: 'randrw', bs: '8192', iodepth: '4', numjobs: '2' })
  t.is(job.trim.total_ios, 0)
  t.is(job.sync.total_ios, 0)
})

test.serial(
  'by time, with a ramp, at the highest rate, and a report in HTML that stands alone',
  async (t) => {
    const html = file('report.html')
    const words = [
      '--rw',
      'rw',
      '--rwmixread',
      '70',
      '--runtime',
      '600ms',
      '--ramp-time',
      '100ms',
      '--html',
      html,
    ]
    const { code, stdout, stderr } = await unvme(['bench', SIM, ...words])
    t.is(code, 0)
    t.is(stderr, `report: ${html}\n`)
    t.regex(stdout, /iops {8}: min= *\d+, max= *\d+, avg=[\d.]+, stdev=[\d.]+, samples=\d/)
    const page = readFileSync(html, 'utf8')
    t.regex(page, /^<!doctype html>/)
    t.notRegex(page, /NaN|undefined|Infinity|<script|https?:|url\(|src=|href=/)
    t.is(page.match(/<svg /g)?.length, 4)
    checkTags(t, page)
    const fast = await unvme(['bench', SIM, '--gtod-reduce', '--html', html])
    t.is(fast.code, 0)
    t.notRegex(fast.stdout, /lat \(/)
    checkTags(t, readFileSync(html, 'utf8'))
  },
)

/** Every tag that is opened is closed, in order. */
function checkTags(t: { deepEqual: (a: unknown, b: unknown) => void }, page: string): void {
  const open: string[] = []
  const wrong: string[] = []
  for (const [, end, name, self] of page.matchAll(/<(\/?)([a-z][a-z0-9]*)\b[^>]*?(\/?)>/g)) {
    if (self || ['meta'].includes(name!)) continue
    if (!end) open.push(name!)
    else if (open.pop() !== name) wrong.push(name!)
  }
  t.deepEqual([open, wrong], [[], []])
}

test.serial(
  'a file by way of fs, with more in flight than libuv has threads; it is not overwritten unasked',
  async (t) => {
    const path = file('data')
    writeFileSync(path, Buffer.alloc(1 << 20, 5))
    const read = await unvme(['bench', path, '--rw', 'randread', '--iodepth', '16', '-o', 'json'])
    t.is(read.code, 0)
    const [job] = JSON.parse(read.stdout).jobs
    t.is(job.read.total_ios, 256)
    t.regex(job['job options'].ioengine, /^node-fs/)
    const write = await unvme(['bench', path, '--rw', 'write'])
    t.is(write.code, 2)
    t.regex(
      write.stderr,
      /^unvme: Overwrite 1\.05 MB of .*data \(file, .*\)\? Not asked .* --yes \(ERR_UNVME_USAGE\)\n$/,
    )
    t.true(readFileSync(path).every((byte) => byte === 5))
    const yes = await unvme(['bench', path, '--rw', 'write', '--verify', 'crc32', '--iodepth', '4', '--yes'])
    t.is(yes.code, 0)
    t.regex(yes.stdout, /verified {2}: 256 I\/Os/)
    const again = await unvme(['bench', path, '--rw', 'randread', '--verify', 'crc32'])
    t.is(again.code, 0)
  },
)

test.serial('what was never written does not verify; faults end the run with their error', async (t) => {
  const never = await unvme(['bench', SIM, '--rw', 'read', '--verify', 'crc32'])
  t.is(never.code, 1)
  t.regex(never.stderr, /^unvme: verify: the 4096 bytes at 0 have no valid header.* \(ERR_UNVME_VERIFY\)\n$/)
  for (const jobs of ['1', '2']) {
    const failed = await unvme(['bench', `${SIM}&fault=read@100:status=281h`, '--numjobs', jobs])
    t.is(failed.code, 1)
    t.regex(failed.stderr, /^unvme: Read failed: Unrecovered Read Error .*nlb 8\) \(ERR_NVME_STATUS\)\n$/)
  }
})

test.serial('words that can not be', async (t) => {
  for (const [words, message] of [
    [[], /missing required argument 'ADDR'/],
    [[SIM, '--rw', 'randomread'], /did you mean 'randread'/],
    [[SIM, '--bs', '1000'], /--bs 1000.*blocks of 512 bytes/],
    [[SIM, '--size', '9M'], /has 8388608 bytes/],
    [[SIM, '--numjobs', '17'], /qcount 17.*grants 16/],
    [['/no/such/file'], /ENOENT/],
    [['nowhere:'], /ERR_UNVME_ADDRESS/],
  ] as const) {
    const { code, stdout, stderr } = await unvme(['bench', ...words])
    t.is(stdout, '')
    t.regex(stderr, message)
    t.is(code, /ENOENT/.test(stderr) ? 1 : 2)
  }
})

test.serial('Ctrl-C ends early, and what was measured is reported', async (t) => {
  for (const jobs of ['1', '2']) {
    const child = spawn(process.execPath, [MAIN, 'bench', SIM, '--runtime', '1h', '--numjobs', jobs], {
      env: cleanEnvironment(),
    })
    let stdout = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    setTimeout(() => child.kill('SIGINT'), 3000)
    const code = await new Promise((resolve) => child.on('close', resolve))
    t.is(code, 130)
    t.regex(stdout, /stopped before the end/)
    t.regex(stdout, /read: IOPS=/)
  }
})

test.serial('bench-compare: the results of two folders side by side; what is refused', async (t) => {
  const { stdout } = await unvme(['bench', 'sim:?size=1M', '--size', '64k', '-o', 'json'])
  for (const name of ['before', 'after']) {
    mkdirSync(file(name))
    writeFileSync(file(`${name}/read.json`), stdout)
  }
  const table = await unvme(['bench-compare', file('before'), file('after')])
  t.deepEqual([table.code, table.stderr], [0, ''])
  t.regex(table.stdout, /^before: sim:\?size=1M\nafter: sim:\?size=1M\n\n.*before.*after.*ratio/)
  const json = await unvme(['bench-compare', file('before'), file('after'), '-o', 'json'])
  t.is(JSON.parse(json.stdout).rows.length, 1)
  const one = await unvme(['bench-compare', file('before')])
  t.deepEqual([one.code, one.stdout], [2, ''])
  t.regex(one.stderr, /two folders are needed, 1 given/)
  t.is((await unvme(['bench-compare', file('before'), file('none')])).code, 1)
})
