// `unvme bench-compare`: the results of benchmarks in two folders, or more, side by side.
// Trade-off: figures as they are, and one ratio against the first folder; whether a difference is more than noise
// is for who knows how often each was measured.

import path from 'node:path'
import { UsageError } from '../../../lib/errors.ts'
import { sizeText } from '../../../lib/sys/units.ts'
import { short, timeText } from '../../bench/numbers.ts'
import { type Measured, readResults, type Side, sideBySide } from '../../bench/results.ts'
import { defineCommand, outputOption, variadicArgument } from '../define.ts'
import { type Column, print, printJson, table } from '../output.ts'
import { text } from '../parse.ts'

export const benchCompare = defineCommand({
  name: 'bench-compare',
  group: 'Tests and benchmarks',
  summary: 'Lay the results of benchmarks in two folders side by side',
  details: `Each folder holds files with the JSON of unvme bench, as scripts/unvme-benchmark writes them, or of fio \
(--output-format=json). A row is what was measured in the same words; ratios are against the first folder. \
Latencies are those from sending to the end, p99 what 99 % of them do not exceed.`,
  arguments: { folders: variadicArgument('DIR', text, 'folders with results: two, or more') },
  options: { output: outputOption() },
  examples: [
    ['bench-compare kernel vfio', 'what the driver makes of it'],
    ['bench-compare before after -o json', 'for programs'],
  ],
  run({ args, options }) {
    const { folders = [] } = args
    if (folders.length < 2) throw new UsageError(`two folders are needed, ${folders.length} given`)
    const results = folders.map(readResults)
    const rows = sideBySide(results)
    if (options.output === 'json') {
      printJson({ folders, rows })
      return
    }
    const names = namesOf(folders)
    for (const [i, name] of names.entries()) print(`${name}: ${targetsOf(results[i]!)}`)
    print()
    print(table(columnsOf(names), rows))
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

function columnsOf(names: readonly string[]): Column<Side>[] {
  const column = (title: string, text: (row: Side) => string): Column<Side> => ({ title, text, right: true })
  const of = (what: string, show: (result: Measured) => string) =>
    names.map((name, i) =>
      column(`${name} ${what}`, ({ results }) => (results[i] === undefined ? '-' : show(results[i]))),
    )
  const ratios = names.slice(1).map((name, i) =>
    column(names.length === 2 ? 'ratio' : `${name} ratio`, ({ results: [first, ...others] }) => {
      const other = others[i]
      if (first === undefined || other === undefined || first.iops === 0) return '-'
      return `${(other.iops / first.iops).toFixed(2)}x`
    }),
  )
  return [
    { title: 'rw', text: ({ rw }) => rw },
    column('bs', ({ bs }) => (/^\d+$/.test(bs) ? sizeText(Number(bs)) : bs)),
    column('jobs', ({ numjobs }) => String(numjobs)),
    column('depth', ({ iodepth }) => String(iodepth)),
    ...of('IOPS', ({ iops }) => short(iops)),
    ...ratios,
    ...of('mean', ({ mean }) => timeText(mean)),
    ...of('p99', ({ p99 }) => (p99 === undefined ? '-' : timeText(p99))),
  ]
}
