// `unvme bench`: rates and latencies of a device, in fio's words.
// Trade-off: a file or a kernel block device can be named as well, by Node's own fs, so that both ways can be
// compared with one command and one report.

import { writeFileSync } from 'node:fs'
import { UsageError } from '../../../lib/errors.ts'
import { type BenchOptions, planJobs, RW, VERIFY, writes } from '../../bench/plan.ts'
import {
  argument,
  choice,
  defineCommand,
  flag,
  forceOption,
  outputOption,
  value,
  valueOr,
  yesOption,
} from '../define.ts'
import { bytesText, confirm, note, print, printJson } from '../output.ts'
import { duration, integer, size, text } from '../parse.ts'
import { version } from '../program.ts'
import { namespaceOption } from '../transfer.ts'

// libuv takes no more threads.
const MAX_POOL = 1024

export const bench = defineCommand({
  name: 'bench',
  group: 'Tests and benchmarks',
  summary: 'Measure rates and latencies, in the words of fio',
  details: `Each job has a thread and a queue of its own. Jobs at random share the region given by --offset and \
--size; jobs in order, or with --verify, have a part of it each. Without --runtime a job goes over its part once; \
with it, as often as the time allows. Ctrl-C ends early, and what was measured is reported.

A file or a kernel block device (a word without a colon, as /dev/nvme0n1) is measured through Node's fs with as \
many reads or writes in flight, past the page cache where that can be had.

What is written is random and destroys what was there: anything but a software controller asks first.`,
  arguments: { target: argument('ADDR', text, 'address of the device, or path of a file or block device') },
  options: {
    rw: choice(RW, 'what to do'),
    bs: valueOr('SIZE', size({ min: 512, max: 2 ** 30 }), 4096, 'bytes of one I/O', { fallbackText: '4k' }),
    iodepth: valueOr('N', integer({ min: 1, max: 65535 }), 1, 'I/Os in flight of each job'),
    numjobs: valueOr('N', integer({ min: 1, max: 1024 }), 1, 'jobs'),
    runtime: value('TIME', duration({ min: 1 }), 'how long to measure, as 10s or 2m'),
    rampTime: valueOr('TIME', duration(), 0, 'how long to run before that'),
    size: value('SIZE', size({ min: 512 }), 'bytes of the region; default: to the end'),
    offset: valueOr('SIZE', size(), 0, 'where the region begins'),
    rwmixread: valueOr('PERCENT', integer({ max: 100 }), 50, 'share of reads with rw and randrw'),
    verify: choice(VERIFY, 'write blocks with a checksum, and check what is read'),
    gtodReduce: flag('measure no latencies, for the highest rate'),
    html: value('FILE', text, 'write a report with charts to one HTML file'),
    output: outputOption(),
    namespaceId: namespaceOption(),
    yes: yesOption(),
    force: forceOption(),
  },
  examples: [
    ['bench sim: --rw randread --iodepth 32 --runtime 5', 'random reads on a software controller'],
    [
      'bench 0a:00.0 --rw randread --iodepth 32 --numjobs 4 --runtime 30 --ramp-time 5',
      'four queues of a device',
    ],
    [
      "bench 'sim:?size=64M' --rw randwrite --size 16M --iodepth 8 --verify crc32",
      'write, read back and check',
    ],
    ['bench 0a:00.0 --runtime 10 --html report.html', 'a report to look at'],
  ],
  async run({ args, options, signal }) {
    const { runtime, html, namespaceId: nsid, yes, force, output, ...rest } = options
    const plan: BenchOptions = { ...rest, runtime, size: options.size }
    const { isAddress } = await import('../../copy/place.ts')
    if (!isAddress(args.target) && (await runWithThreads(plan))) return process.exitCode as number
    const { openBenchTarget } = await import('../../bench/target.ts')
    const { runBench } = await import('../../bench/run.ts')
    const target = await openBenchTarget(args.target, { ...plan, nsid, force })
    try {
      planJobs(plan, target)
      if (writes(plan.rw) && target.precious) {
        const region = bytesText(plan.size ?? target.bytes - plan.offset)
        await confirm(`Overwrite ${region} of ${target.name} (${target.description})?`, yes)
      }
      const { startLive } = await import('../../bench/live.ts')
      const live = startLive(plan)
      const result = await runBench(target, plan, { signal, onSample: live.show }).finally(live.stop)
      if (html !== undefined) {
        const { reportHtml } = await import('../../bench/report-html.ts')
        writeFileSync(html, reportHtml(result, version()))
        note(`report: ${html}`)
      }
      const { reportText } = await import('../../bench/report-text.ts')
      const { reportJson } = await import('../../bench/report-json.ts')
      if (output === 'json') printJson(reportJson(result, version()))
      else print(reportText(result))
    } finally {
      await target.close()
    }
  },
})

/**
 * Node's fs has as many operations in flight as libuv has threads, which is settled when a process starts: so
 * this one is started again with enough of them. False where it has them already.
 */
async function runWithThreads({ iodepth, numjobs }: BenchOptions): Promise<boolean> {
  const needed = iodepth * numjobs
  if (needed > MAX_POOL) {
    throw new UsageError(
      `--iodepth ${iodepth} times --numjobs ${numjobs}: Node's fs has at most ${MAX_POOL} in flight`,
    )
  }
  if (Number(process.env.UV_THREADPOOL_SIZE ?? 4) >= needed) return false
  const { spawn } = await import('node:child_process')
  const env = { ...process.env, UV_THREADPOOL_SIZE: String(needed) }
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    env,
    stdio: 'inherit',
  })
  // Ctrl-C reaches both; this one waits for the other's end.
  const pass = (name: NodeJS.Signals) => child.kill(name)
  process.on('SIGTERM', pass).on('SIGINT', () => {})
  process.exitCode = await new Promise<number>((resolve, reject) => {
    child.on('error', reject).on('exit', (code) => resolve(code ?? 1))
  })
  return true
}
