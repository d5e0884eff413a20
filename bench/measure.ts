// What all benchmarks share: rows that are run in turn, medians of their figures, and tables of these.
// In turn and not one after another, since a noisy machine is then noisy for all rows alike.

import { describe } from '../src/bench/report-text.ts'
import { table } from '../src/cli/output.ts'

const ROUNDS = 5

export interface Row {
  name: string
  /** One run: a figure for each column. */
  run(): Promise<readonly number[]> | readonly number[]
}

export interface Column {
  /** With its unit, as it stands above the figures. */
  name: string
  /** Decimal places. */
  digits: number
}

export interface Table {
  title: string
  columns: readonly Column[]
  /** A cell for each column; null where there is nothing to say. */
  rows: readonly { name: string; cells: readonly (number | null)[] }[]
  /** What was left out, and why; what a figure does not say. */
  notes?: readonly string[]
}

export function medianOf(figures: readonly number[]): number {
  return [...figures].sort((a, b) => a - b)[figures.length >> 1]!
}

/** Each row's figures in each round, after one round to warm up. */
async function inTurn(rows: readonly Row[]): Promise<(readonly number[])[][]> {
  const taken = rows.map(() => [] as (readonly number[])[])
  for (let round = -1; round < ROUNDS; round++) {
    for (const [i, row] of rows.entries()) {
      const figures = await row.run()
      if (round >= 0) taken[i]!.push(figures)
    }
  }
  return taken
}

/** A table of the medians of all figures. */
export async function medians(
  title: string,
  columns: readonly Column[],
  rows: readonly Row[],
): Promise<Table> {
  const taken = await inTurn(rows)
  const cells = taken.map((rounds) => columns.map((_, at) => medianOf(rounds.map((figures) => figures[at]!))))
  return { title, columns, rows: rows.map(({ name }, i) => ({ name, cells: cells[i]! })) }
}

/** A table of rows with one figure each, with its spread, and the ratio to that of the first row, the yardstick. */
export async function compare(
  title: string,
  { name: unit, digits }: Column,
  rows: readonly Row[],
): Promise<Table> {
  const taken = (await inTurn(rows)).map((rounds) => rounds.map(([figure]) => figure!))
  const first = medianOf(taken[0]!)
  return {
    title,
    columns: [...[unit, 'lowest', 'highest'].map((name) => ({ name, digits })), { name: 'ratio', digits: 2 }],
    rows: rows.map(({ name }, i) => {
      const median = medianOf(taken[i]!)
      const { min, max } = describe(taken[i]!)
      return { name, cells: [median, min, max, median / first] }
    }),
  }
}

/** Runs `work`: things a second, of `count` that it does. */
export async function rateOf(count: number, work: () => unknown): Promise<number> {
  const started = performance.now()
  await work()
  return count / ((performance.now() - started) / 1000)
}

/** Processor time that `work` takes, of all threads of the process, in milliseconds. */
export async function cpuOf(work: () => unknown): Promise<number> {
  const before = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1e3
}

export function printTable({ title, columns, rows, notes = [] }: Table): void {
  const names = { title: '', text: ({ name }: Table['rows'][number]) => name }
  const figures = columns.map(({ name, digits }, i) => ({
    title: name,
    text: ({ cells }: Table['rows'][number]) => cells[i]?.toFixed(digits) ?? '',
    right: true,
  }))
  console.log(`\n${title}\n${table([names, ...figures], rows)}`)
  for (const note of notes) console.log(`(${note})`)
}
