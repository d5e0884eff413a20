// `unvme bench` as a process: fio's layout and keys, jobs on threads, verification, refusals, the HTML report.

import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { testFolder } from '../support/folder.ts'
import { cleanEnvironment, MAIN, readProc, unvme } from './command.ts'

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
    [[], /nothing to measure: ADDR is needed/],
    [[SIM, '--filename', SIM], /two targets/],
    [[SIM, '--runtime', '0'], /0 leaves no time to measure/],
    [[SIM, '--runtime=0s'], /0s leaves no time/],
    [[SIM, '--io_size=1m'], /unknown option '--io_size=1m'/],
    [[SIM, '--time_based'], /--time-based needs --runtime/],
    [[SIM, '--group_reporting=0'], /all jobs are reported together/],
    [[SIM, '--direct=0'], /has no page cache/],
    [[SIM, '--ioengine=node-fs'], /is for files .*: here it is unvme/],
    [[SIM, '--ioengine=null'], /'null' is no engine here/],
    [[SIM, '--name=a', '--name=b'], /--name is given 2 times/],
    [[SIM, '--output=json'], /'json' is a format/],
    [[SIM, '--readonly', '--rw=write'], /--readonly is given/],
    [[SIM, '--rwmixread=70', '--rwmixwrite=40'], /together they are not 100/],
    [[SIM, '--bs=4KB'], /--bs 4000/],
    [[SIM, '--percentile_list=50:101'], /101 is not in 0 to 100/],
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

test.serial('bench: 0 or 1 behind a switch is its value, and no target', async (t) => {
  for (const words of [
    ['--direct', '1', '--group_reporting', '1', '--randrepeat', '0', '--gtod-reduce', '1'],
    ['--time-based', '0', '--runtime', '5'],
    ['--randrepeat', '--gtod-reduce', '0'],
  ]) {
    const { code, stderr } = await unvme(['bench', ...words, SIM, '--size', '1M'])
    t.deepEqual([code, stderr], [0, ''], words.join(' '))
  }
  // A word that is neither is the target.
  const { code, stderr } = await unvme(['bench', '--direct', SIM, '--size', '1M'])
  t.deepEqual([code, stderr], [0, ''])
})

test.serial("fio's words and spellings are taken", async (t) => {
  const words =
    '--name=job --rw=readwrite --rwmixwrite=30 --blocksize=4k --size=1m --iodepth=4 --ramp_time=10ms --runtime=5 ' +
    '--time_based=0 --loops=2 --group_reporting --thread --direct=1 --randrepeat=0 --gtod_reduce=0 --norandommap=1 ' +
    '--percentile_list=99.999:50 --output-format=json --ioengine=libaio'
  const output = file('fio.json')
  const { code, stdout, stderr } = await unvme([
    'bench',
    ...words.split(' '),
    `--filename=${SIM}`,
    `--output=${output}`,
  ])
  t.is(stderr, "--ioengine=libaio is fio's own: this is measured by unvme\n")
  t.is(stdout, '')
  t.is(code, 0)
  const [job] = JSON.parse(readFileSync(output, 'utf8')).jobs
  t.like(job, { jobname: 'job', error: 0 })
  // Twice over the region, though there was more time; and what the ramp had in flight at its end.
  const ios = job.read.total_ios + job.write.total_ios
  t.true(ios >= 512 && ios < 516, String(ios))
  t.deepEqual(Object.keys(job.write.clat_ns.percentile), ['50.000000', '99.999000'])
  t.like(job['job options'], {
    ...{
      name: 'job',
      rw: 'rw',
      bs: '4096',
      loops: '2',
      rwmixread: '70',
      ioengine: 'unvme',
      norandommap: '1',
    },
  })
  // The same with blanks and dashes, by the argument.
  const dashed = await unvme([
    'bench',
    SIM,
    '--ramp-time',
    '10ms',
    '--runtime',
    '20ms',
    '--time-based',
    '-o',
    'json',
  ])
  t.is(dashed.code, 0)
  t.like(JSON.parse(dashed.stdout).jobs[0]['job options'], {
    ramp_time: '0.01',
    runtime: '0.02',
    time_based: '1',
  })
})

test.serial('each random block is read once in a pass, and not with --norandommap', async (t) => {
  // A block that can be read only once: the second read of it would fail.
  const once = ['bench', `${SIM}&fault=read@8#1:status=281h`, '--rw', 'randread', '--size', '32k']
  t.is((await unvme(once)).code, 0)
  t.is((await unvme([...once, '--loops', '2'])).code, 1)
  t.is((await unvme([...once, '--loops', '20', '--norandommap'])).code, 1)
})

test.serial('every write of every pass is verified: by time, and by several jobs', async (t) => {
  for (const words of [
    ['--runtime', '300ms'],
    ['--runtime', '300ms', '--numjobs', '2'],
    ['--loops', '3', '--numjobs', '2'],
  ]) {
    for (const rw of ['write', 'randwrite']) {
      const all = ['bench', SIM, '--size', '1M', '--rw', rw, '--verify', 'crc32c', '--iodepth', '4', ...words]
      const { code, stdout } = await unvme([...all, '-o', 'json'])
      t.is(code, 0)
      const { jobs, verified, unverified } = JSON.parse(stdout)
      t.is(verified, jobs[0].write.total_ios)
      t.is(unverified, 0)
    }
  }
  // From the second on, each write of block 0 fails.
  const lost = await unvme([
    'bench',
    `${SIM}&fault=write@0#1:status=280h`,
    '--size',
    '64k',
    '--rw',
    'write',
    '--loops',
    '3',
    '--verify',
    'crc32',
  ])
  t.is(lost.code, 1)
})

test.serial(
  'a report that can not be written is an error before the run, and what is there is kept',
  async (t) => {
    const fault = `${SIM}&fault=read:vanish`
    for (const option of ['--html', '--output']) {
      const nowhere = await unvme(['bench', fault, option, file('no-such-folder/report')])
      t.is(nowhere.code, 1)
      t.regex(nowhere.stderr, /^unvme: ENOENT.*no-such-folder/)
      // The run fails before there is anything to report.
      writeFileSync(file('kept'), 'kept')
      t.is((await unvme(['bench', fault, option, file('kept')])).code, 1)
      t.is(readFileSync(file('kept'), 'utf8'), 'kept')
      t.is((await unvme(['bench', fault, option, file('new')])).code, 1)
      t.false(existsSync(file('new')))
    }
    writeFileSync(file('target'), Buffer.alloc(8192, 5))
    const self = await unvme(['bench', file('target'), '--html', file('target')])
    t.regex(self.stderr, /it would be overwritten/)
    t.is(readFileSync(file('target')).length, 8192)
    const same = await unvme(['bench', SIM, '--html', file('both'), '--output', file('both')])
    t.regex(same.stderr, /it would be overwritten/)
  },
)

test.serial('what was measured is reported, whatever fails at the end', async (t) => {
  const words = ['bench', `${SIM}&size=1M`.replace('size=8M&', '')]
  for (const option of ['--html', '--output']) {
    const { code, stdout, stderr } = await unvme([...words, option, '/dev/full'])
    t.is(code, 1)
    t.regex(stdout, /read: IOPS=/)
    t.regex(stderr, /^unvme: ENOSPC/)
  }
  // Standard output is full: the other one has it.
  const { stderr } = spawnSync('sh', ['-c', '"$0" "$@" > /dev/full', process.execPath, MAIN, ...words], {
    encoding: 'utf8',
    env: cleanEnvironment(),
  })
  t.regex(stderr, /read: IOPS=/)
  // An I/O that fails, and blocks that do not verify.
  const failed = await unvme(['bench', `${SIM}&fault=read@8000:status=281h`, '-o', 'json', '--numjobs', '2'])
  t.is(failed.code, 1)
  t.regex(failed.stderr, /^unvme: Read failed/)
  const report = JSON.parse(failed.stdout)
  t.is(report.jobs[0].error, 5)
  t.is(report.failure.code, 'ERR_NVME_STATUS')
  t.true(report.jobs[0].read.total_ios > 900)
  const wrong = await unvme([
    'bench',
    `${SIM}&fault=write@64:status=280h`,
    '--rw',
    'write',
    '--size',
    '1M',
    '--verify',
    'crc32',
  ])
  t.is(wrong.code, 1)
})

test.serial('a file is measured through the page cache with --direct=0', async (t) => {
  writeFileSync(file('cached'), Buffer.alloc(8192))
  const { code, stdout } = await unvme(['bench', file('cached'), '--direct=0'])
  t.is(code, 0)
  t.regex(stdout, /ioengine=node-fs \(buffered\)/)
})

// More than a start of Node reads: then the benchmark is at work, in a child of the process.
const AT_WORK_BYTES = 64 * 2 ** 20

async function measuring(pid: number): Promise<void> {
  for (;;) {
    const [child] = readProc(pid, `task/${pid}/children`).split(' ').map(Number)
    const read = child ? Number(/^rchar: (\d+)$/m.exec(readProc(child, 'io'))?.[1]) : 0
    if (read > AT_WORK_BYTES) return
    await sleep(20)
  }
}

test.serial(
  'a signal to the process alone, or to its whole group, ends a file early with its results',
  async (t) => {
    writeFileSync(file('long'), Buffer.alloc(1 << 20))
    for (const [name, code] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const) {
      for (const group of [false, true]) {
        // With more in flight than libuv's threads a child of it does the work.
        const words = [MAIN, 'bench', file('long'), '--rw', 'randread', '--iodepth', '16', '--runtime', '1h']
        const child = spawn(process.execPath, words, { env: cleanEnvironment(), detached: true })
        let stdout = ''
        child.stdout.setEncoding('utf8').on('data', (text: string) => {
          stdout += text
        })
        const ended = new Promise((resolve) => child.on('close', resolve))
        await measuring(child.pid!)
        process.kill(group ? -child.pid! : child.pid!, name)
        t.is(await ended, code)
        t.regex(stdout, /stopped before the end/)
        t.regex(stdout, /read: IOPS=/)
      }
    }
  },
)

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
  t.regex(one.stderr, /two folders or files are needed, 1 given/)
  // One of two results of a kind is not dropped: both are named.
  writeFileSync(file('after/again.json'), stdout)
  const twice = await unvme(['bench-compare', file('before'), file('after/read.json'), file('after')])
  t.is(twice.code, 0)
  t.is(twice.stderr, 'after has 2 results of read, 4 KiB, 1 job, depth 1: again.json, read.json\n')
  t.regex(twice.stdout, /^read .* again\.json .*\nread .* read\.json /m)
  t.is((await unvme(['bench-compare', file('before'), file('none')])).code, 1)
})

test('bench --calibrate shows what measuring costs, without a target', async (t) => {
  const { code, stdout } = await unvme(['bench', '--calibrate', '--iodepth', '4', '-o', 'json'])
  t.is(code, 0)
  const { iodepth, ...costs } = JSON.parse(stdout)
  t.is(iodepth, 4)
  t.deepEqual(Object.keys(costs), ['io', 'ioWithoutLatencies', 'clock', 'record'])
  for (const cost of Object.values(costs)) t.true((cost as number) > 0)
})
