// `unvme bench-compare`: the results of benchmarks in two folders, or more, side by side.
// Trade-off: figures as they are, and one ratio against the first folder; whether a difference is more than noise
// is for who knows how often each was measured.

import path from 'node:path'
import { UsageError } from '../../../lib/errors.ts'
import { sizeText } from '../../../lib/sys/units.ts'
import { short, timeText } from '../../bench/numbers.ts'
import { type Measured, readResults, type Side, sideBySide } from '../../bench/results.ts'
import { defineCommand, outputOption, variadicArgument } from '../define.ts'
import { type Column, note, print, printJson, table } from '../output.ts'
import { text } from '../parse.ts'

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
