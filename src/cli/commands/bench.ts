// `unvme bench`: rates and latencies of a device, in fio's words.
// A file or a kernel block device can be named as well, by Node's own fs, so that both ways can be
// compared with one command and one report.
// `unvme bench-compare`: results in two folders or more side by side, as they are, with one ratio against the first folder.

import { randomInt } from 'node:crypto'
import { constants } from 'node:os'
import path from 'node:path'
import { ArgumentTypeError, OutOfRangeError, UsageError } from '../../../lib/errors.ts'
import { onAbort } from '../../../lib/sys/abort.ts'
import { parseDuration, short, sizeText, timeText } from '../../../lib/sys/units.ts'
import {
  type BenchOptions,
  DEFAULT_NAME,
  PERCENTILES,
  planJobs,
  RW,
  VERIFY,
  writes,
} from '../../bench/plan.ts'
import { type Measured, readResults, type Side, sideBySide } from '../../bench/results.ts'
import type { BenchResult } from '../../bench/run.ts'
import type { BenchTarget } from '../../bench/target.ts'
import type { OutputFile } from '../../system/writable.ts'
import {
  choice,
  defineCommand,
  FORCE_WORD,
  flag,
  forceOption,
  optionalArgument,
  outputOption,
  type Values,
  value,
  valueOr,
  variadicArgument,
  yesOption,
} from '../define.ts'
import { engineRemark, fromFio, ioengine, percentileList, zeroOrOne } from '../fio.ts'
import { bytesText, type Column, confirm, note, print, printJson, table, visibleLines } from '../output.ts'
import { choiceParser, duration, integer, size, text } from '../parse.ts'
import { version } from '../program.ts'
import { namespaceOption } from '../transfer.ts'

// libuv takes no more threads.
const MAX_POOL = 1024

const FORMATS = ['normal', 'json'] as const

const options = {
  rw: {
    ...choice(RW, 'what to do'),
    // fio's other word for it.
    parse: (word: string) => choiceParser(RW)(word === 'readwrite' ? 'rw' : word),
  },
  bs: valueOr('SIZE', size({ min: 512, max: 2 ** 30 }), 4096, 'bytes of one I/O', { fallbackText: '4k' }),
  iodepth: valueOr('N', integer({ min: 1, max: 65535 }), 1, 'I/Os in flight of each job'),
  numjobs: valueOr('N', integer({ min: 1, max: 1024 }), 1, 'jobs'),
  runtime: value('TIME', runtime, 'how long to measure, as 10s or 2m'),
  timeBased: value('0|1', zeroOrOne, '0: --runtime is only a limit, and --loops counts'),
  rampTime: valueOr('TIME', duration(), 0, 'how long to run before that'),
  loops: value('N', integer({ min: 1 }), 'passes over the region (default: 1)'),
  size: value('SIZE', size({ min: 512 }), 'bytes of the region; default: to the end'),
  offset: valueOr('SIZE', size(), 0, 'where the region begins'),
  rwmixread: value('PERCENT', integer({ max: 100 }), 'share of reads with rw and randrw (default: 50)'),
  rwmixwrite: value('PERCENT', integer({ max: 100 }), 'share of writes, in place of --rwmixread'),
  norandommap: flag('draw each random block by itself, in place of each block once in a pass'),
  randrepeat: value('0|1', zeroOrOne, '0: other random numbers in every run'),
  verify: {
    ...choice(VERIFY, 'write blocks with a checksum, and check what is read'),
    parse: (word: string) => choiceParser(VERIFY)(word === 'crc32c' ? 'crc32' : word),
  },
  gtodReduce: flag('measure no latencies, for the highest rate'),
  calibrate: flag('measure what the measurement itself costs, without a target'),
  percentileList: value('LIST', percentileList, 'percentiles to report, as 50:99:99.9'),
  name: valueOr('NAME', text, DEFAULT_NAME, 'what the results call it'),
  filename: value('ADDR', text, 'the target, in place of the argument'),
  direct: value('0|1', zeroOrOne, 'files: 1: past the page cache or not at all, 0: through it'),
  ioengine: value(
    'NAME',
    ioengine,
    "unvme or node-fs, as the target has it; another one of fio's is remarked on",
  ),
  groupReporting: value(
    '0|1',
    groupReporting,
    'jobs are always reported together: taken, and without effect',
  ),
  thread: flag('jobs are always threads: taken, and without effect'),
  readonly: flag('refuse to write'),
  outputFormat: choice(FORMATS, 'how to print', 'o'),
  output: value('FILE', outputFile, 'write the results to a file, in place of standard output'),
  html: value('FILE', text, 'write a report with charts to one HTML file'),
  namespaceId: namespaceOption(),
  yes: yesOption(),
  force: forceOption(),
}

export const bench = defineCommand({
  name: 'bench',
  group: 'Tests and benchmarks',
  summary: 'Measure rates and latencies, in the words of fio',
  details: `Each job has a thread and a queue of its own. Jobs at random share the region given by --offset and \
--size; jobs in order, or with --verify, have a part of it each. Without --runtime a job goes over its part once \
(--loops: several times); with it, as often as the time allows. At random, each pass has each block once, as with fio's random map; \
--norandommap turns that off. Up to 16 I/Os that are found done together share a look at the clock, and so do those \
that follow them: --calibrate shows what measuring costs. Ctrl-C, or an I/O that fails, ends early, and what was measured is reported.

With --verify, a job reads back what it has written at the end of each pass, and at the end of the time; reading \
back does not count in the rates.

A file or a kernel block device (a word without a colon, as /dev/nvme0n1) is measured through Node's fs with as \
many reads or writes in flight, past the page cache where that can be had.

The options are fio's, also in its spelling: --ramp_time=5, --direct=1, --output-format=json. One that is 0 or 1 is 1 \
where neither follows it: --direct. What differs: --runtime \
alone is time-based; 4k and 4KiB are 4096 bytes, 4KB is 4000 (for fio, KB is 1024 and KiB 1000); \
the checksums of --verify are this program's, crc32c is taken for crc32.

What is written is random and destroys what was there: anything but a software controller asks first.`,
  arguments: {
    target: optionalArgument('ADDR', text, 'address of the device, or path of a file or block device'),
  },
  options,
  respell: fromFio,
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
    [
      'bench --name=job --filename=sim: --rw=randrw --bs=4k --size=64m --norandommap --output-format=json',
      'as fio is called',
    ],
  ],
  async run({ args, options, signal }) {
    const plan = planOf(options)
    if (options.calibrate) return printCalibration(plan, options.outputFormat)
    const name = targetOf(args.target, options.filename)
    if (options.readonly && writes(plan.rw)) {
      throw new UsageError(`--rw ${plan.rw} writes, and --readonly is given`)
    }
    const { isAddress } = await import('../../copy/endpoint-spec.ts')
    if (!isAddress(name) && (await runWithThreads(plan, signal))) return process.exitCode as number
    await measure(name, plan, options, signal)
  },
})

type Options = Values<typeof options>

function targetOf(argument: string | undefined, filename: string | undefined): string {
  if (argument !== undefined && filename !== undefined) {
    throw new UsageError(`two targets: ${argument} and --filename=${filename}`)
  }
  const name = argument ?? filename
  if (name === undefined) throw new UsageError('nothing to measure: ADDR is needed, or --filename=ADDR')
  return name
}

function planOf(options: Options): BenchOptions {
  const { rw, bs, iodepth, numjobs, rampTime, offset, verify, norandommap, gtodReduce, name } = options
  const { runtime, timeBased, loops, rwmixread, rwmixwrite } = options
  if (timeBased && runtime === undefined) throw new UsageError('--time-based needs --runtime')
  if (timeBased && loops !== undefined) {
    throw new UsageError('--loops and --time-based: with --time-based=0 the loops count')
  }
  if (rwmixread !== undefined && rwmixwrite !== undefined && rwmixread + rwmixwrite !== 100) {
    throw new UsageError(`--rwmixread ${rwmixread} and --rwmixwrite ${rwmixwrite}: together they are not 100`)
  }
  const byTime = runtime !== undefined && (timeBased ?? loops === undefined)
  return {
    ...{ rw, bs, iodepth, numjobs, rampTime, offset, verify, norandommap, gtodReduce, name, runtime },
    size: options.size,
    loops: byTime ? Number.POSITIVE_INFINITY : (loops ?? 1),
    rwmixread: rwmixread ?? (rwmixwrite === undefined ? 50 : 100 - rwmixwrite),
    seed: options.randrepeat === false ? randomInt(2 ** 31) : 0,
    percentiles: options.percentileList ?? PERCENTILES,
  }
}

/** A time to measure for: more than none. */
function runtime(word: string): number {
  if (parseDuration(word) > 0) return duration({ min: 1 })(word)
  throw new OutOfRangeError(
    `${word} leaves no time to measure; without --runtime the region is gone over once`,
  )
}

function groupReporting(word: string): boolean {
  if (zeroOrOne(word)) return true
  throw new UsageError('all jobs are reported together: there is no report for each')
}

/** fio's --output is a file; that of the other commands is a format. */
function outputFile(word: string): string {
  if (!(FORMATS as readonly string[]).includes(word)) return word
  throw new ArgumentTypeError(
    `'${word}' is a format: -o ${word}, or --output-format=${word}; a file of that name is ./${word}`,
  )
}

interface Reports {
  readonly output: OutputFile | undefined
  readonly html: OutputFile | undefined
}

async function openReports({ output, html }: Options, target: BenchTarget): Promise<Reports> {
  const { openOutputFile } = await import('../../system/writable.ts')
  const measured = { name: `${target.name}, which is measured`, identity: target.file }
  const first = output === undefined ? undefined : await openOutputFile(output, [measured])
  try {
    const others =
      first === undefined ? [measured] : [measured, { name: '--output', identity: first.identity }]
    return { output: first, html: html === undefined ? undefined : await openOutputFile(html, others) }
  } catch (error) {
    await first?.close()
    throw error
  }
}

async function printCalibration(plan: BenchOptions, format: Options['outputFormat']): Promise<void> {
  const { calibrate } = await import('../../bench/calibrate.ts')
  const result = await calibrate(plan)
  if (format === 'json') return printJson(result)
  const { iodepth, io, ioWithoutLatencies, clock, record } = result
  print(`Measuring takes ${io.toFixed(0)} ns of each I/O at depth ${iodepth}, and ${ioWithoutLatencies.toFixed(0)} ns with --gtod-reduce.
A look at the clock takes ${clock.toFixed(0)} ns, a record of a latency ${record.toFixed(1)} ns: an I/O has three, slat, clat and lat.`)
}

async function measure(
  name: string,
  plan: BenchOptions,
  options: Options,
  signal: AbortSignal,
): Promise<void> {
  const { openBenchTarget } = await import('../../bench/target.ts')
  const { runBench } = await import('../../bench/run.ts')
  const { namespaceId: nsid, direct, ioengine, yes, force, outputFormat } = options
  const target = await openBenchTarget(name, { ...plan, nsid, direct, force, forceWord: FORCE_WORD })
  let reports: Reports | undefined
  let failure: unknown
  try {
    planJobs(plan, target)
    const remark = ioengine && engineRemark(ioengine, target.engine)
    if (remark) note(remark)
    // Before anything is measured: a name that can't be written is an error now, and not after an hour.
    reports = await openReports(options, target)
    if (writes(plan.rw) && target.precious) {
      const region = bytesText(plan.size ?? target.bytes - plan.offset)
      await confirm(`Overwrite ${region} of ${target.name} (${target.description})?`, yes)
    }
    const { startLive } = await import('../../bench/live.ts')
    const live = startLive(plan)
    const result = await runBench(target, plan, { signal, onSample: live.show }).finally(live.stop)
    const measured = result.read.ios + result.write.ios > 0 || result.failure === undefined
    if (measured) await deliver(result, outputFormat, reports)
    failure = result.failure
  } catch (error) {
    failure = error
  }
  for (const open of [reports?.output, reports?.html, target]) {
    await open?.close().catch((error) => {
      failure ??= error
    })
  }
  if (failure !== undefined) throw failure
}

/** Writes every report that can be written, then throws what the first one failed with. */
async function deliver(result: BenchResult, format: Options['outputFormat'], { output, html }: Reports) {
  const { reportText } = await import('../../bench/report-text.ts')
  const { reportJson } = await import('../../bench/report-json.ts')
  const failures: unknown[] = []
  const attempt = async (write: () => Promise<void>): Promise<boolean> => {
    try {
      await write()
      return true
    } catch (error) {
      failures.push(error)
      return false
    }
  }
  const text = `${format === 'json' ? JSON.stringify(reportJson(result, version()), null, 2) : reportText(result)}\n`
  const inFile = output !== undefined && (await attempt(() => output.write(text)))
  // Where one output does not take it, the next one may: it was measured once, and perhaps for hours.
  if (!inFile) await attempt(() => printOrSay(text))
  if (html !== undefined) {
    const { reportHtml } = await import('../../bench/report-html.ts')
    if (await attempt(() => html.write(reportHtml(result, version())))) note(`report: ${html.path}`)
  }
  if (failures.length > 0) throw failures[0]
}

/** Writes to standard output, or to standard error where that fails; rejects then all the same. */
function printOrSay(text: string): Promise<void> {
  const shown = visibleLines(text)
  return new Promise((resolve, reject) => {
    process.stdout.write(shown, (error) => {
      if (!error) return resolve()
      // At once: the stream's own error, which comes next, may end the process.
      process.stderr.write(shown, () => reject(error))
    })
  })
}

// Longer than a process that was signalled itself takes to say so; a signal after that is a second request.
const RELAY_MS = 1000

/**
 * Node's fs has as many operations in flight as libuv has threads, which is settled when a process starts: so
 * this one is started again with enough of them. False where it has them already.
 */
async function runWithThreads({ iodepth, numjobs }: BenchOptions, signal: AbortSignal): Promise<boolean> {
  const needed = iodepth * numjobs
  if (needed > MAX_POOL) {
    throw new UsageError(
      `--iodepth ${iodepth} times --numjobs ${numjobs}: Node's fs has at most ${MAX_POOL} in flight`,
    )
  }
  if (Number(process.env.UV_THREADPOOL_SIZE ?? 4) >= needed) {
    onAbort(signal, () => process.connected && process.send?.('ending'))
    return false
  }
  const { spawn } = await import('node:child_process')
  const env = { ...process.env, UV_THREADPOOL_SIZE: String(needed) }
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    env,
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  })
  // A terminal and `timeout` signal the whole group: a child that has it already says so, and would end without its
  // results by a second one. This process has nothing of its own to end: it waits for the child.
  let endingSince = Number.POSITIVE_INFINITY
  child.on('message', () => {
    endingSince = performance.now()
  })
  const relay = (name: NodeJS.Signals) => {
    if (performance.now() - endingSince > RELAY_MS) child.kill(name)
    else setTimeout(() => endingSince < Number.POSITIVE_INFINITY || child.kill(name), RELAY_MS).unref()
  }
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.removeAllListeners(name).on(name, relay)
  process.exitCode = await new Promise<number>((resolve, reject) => {
    child.on('error', reject).on('exit', (code, name) => resolve(code ?? 128 + constants.signals[name!]))
  })
  return true
}

export const benchCompare = defineCommand({
  name: 'bench-compare',
  group: 'Tests and benchmarks',
  summary: 'Lay the results of benchmarks in two folders or files side by side',
  details: `Each folder holds files with the JSON of unvme bench, as scripts/unvme-benchmark writes them, or of fio \
(--output-format=json or json+); a single file will do. A row is what was measured in the same words: each section of a job file has its \
own, its jobs counted together. Ratios are against the first folder. \
Latencies are those from sending to the end, p99 what 99 % of them do not exceed; - is unknown: fio's jobs that were \
reported one by one have a p99 together only with --group_reporting or json+. fio's engines that do one I/O at a time (sync, psync …) \
have depth 1. Where a folder has several results of a kind, each has a row, with where it is from.`,
  arguments: { folders: variadicArgument('DIR', text, 'folders with results, or files: two, or more') },
  options: { output: outputOption() },
  examples: [
    ['bench-compare kernel vfio', 'what the driver makes of it'],
    ['bench-compare before after -o json', 'for programs'],
    ['bench-compare fio.json unvme.json', 'one result of each'],
  ],
  run({ args, options }) {
    const { folders = [] } = args
    if (folders.length < 2) throw new UsageError(`two folders or files are needed, ${folders.length} given`)
    const results = folders.map(readResults)
    const rows = sideBySide(results)
    if (options.output === 'json') {
      printJson({ folders, rows })
      return
    }
    const names = namesOf(folders)
    for (const remark of remarksOf(names, rows)) note(remark)
    for (const [i, name] of names.entries()) print(`${name}: ${targetsOf(results[i]!)}`)
    print()
    print(table(columnsOf(names, rows), rows))
  },
})

/** The folders' own names where they differ, else their paths. */
function namesOf(folders: readonly string[]): string[] {
  const names = folders.map((folder) => path.basename(path.resolve(folder)))
  return new Set(names).size === names.length ? names : [...folders]
}

function targetsOf(results: readonly Measured[]): string {
  return [...new Set(results.map(({ target }) => target || 'unnamed'))].join(', ')
}

/** What a row alone does not say: several results of a kind, and those that ended with an error. */
function remarksOf(names: readonly string[], rows: readonly Side[]): string[] {
  const kinds = new Set(rows.filter((row) => row.several).map(kindText))
  const several = [...kinds].flatMap((kind) =>
    names.flatMap((name, at) => {
      const same = rows.filter((row) => kindText(row) === kind)
      const sources = same.flatMap(({ results }) => results[at]?.source ?? [])
      return sources.length < 2
        ? []
        : [`${name} has ${sources.length} results of ${kind}: ${sources.join(', ')}`]
    }),
  )
  const failed = rows.flatMap(({ results }) =>
    results.flatMap((result, at) =>
      result === undefined || result.error === 0
        ? []
        : [`${names[at]}: ${result.source} ended with error ${result.error}`],
    ),
  )
  return [...several, ...failed]
}

const kindText = ({ rw, bs, numjobs, iodepth }: Side) =>
  `${rw}, ${blockText(bs)}, ${numjobs} ${numjobs === 1 ? 'job' : 'jobs'}, depth ${iodepth}`

const blockText = (bs: number | string) => (typeof bs === 'number' ? sizeText(bs) : bs)

function columnsOf(names: readonly string[], rows: readonly Side[]): Column<Side>[] {
  const column = (title: string, text: (row: Side) => string): Column<Side> => ({ title, text, right: true })
  const of = (what: string, show: (result: Measured) => string | undefined) =>
    names.map((name, i) =>
      column(`${name} ${what}`, ({ results }) => (results[i] && show(results[i])) ?? '-'),
    )
  const known = (value: number | undefined, show: (value: number) => string) =>
    value === undefined ? undefined : show(value)
  const ratios = names.slice(1).map((name, i) =>
    column(names.length === 2 ? 'ratio' : `${name} ratio`, ({ results: [first, ...others] }) => {
      const other = others[i]
      if (!first?.iops || other?.iops === undefined) return '-'
      return `${(other.iops / first.iops).toFixed(2)}x`
    }),
  )
  return [
    { title: 'rw', text: ({ rw }) => rw },
    column('bs', ({ bs }) => blockText(bs)),
    column('jobs', ({ numjobs }) => String(numjobs)),
    column('depth', ({ iodepth }) => String(iodepth)),
    // Which is which can't be seen by what was measured.
    ...(rows.some(({ several }) => several) ? of('from', ({ source }) => source) : []),
    ...of('IOPS', ({ iops }) => known(iops, short)),
    ...ratios,
    ...of('mean', ({ mean }) => known(mean, timeText)),
    ...of('p99', ({ p99 }) => known(p99, timeText)),
  ]
}
