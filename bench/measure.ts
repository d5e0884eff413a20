// Runs things side by side, several times in turn, and makes a table of their medians.
// Trade-off: in turn and not one after another, since a noisy machine is then noisy for all of them alike.

import type { Goal, Table } from './table.ts'

export interface Row {
  name: string
  /** One run: what was done, in whatever unit the table has, and the seconds that it took. */
  run(): Promise<number> | number
}

export interface Result {
  name: string
  median: number
  min: number
  max: number
}

/** Calls every row `runs` times in turn, after one round to warm up; each call returns a rate. */
export async function sideBySide(rows: readonly Row[], runs = 5): Promise<Result[]> {
  const rates = rows.map(() => [] as number[])
  for (let round = -1; round < runs; round++) {
    for (const [i, row] of rows.entries()) {
      const rate = await row.run()
      if (round >= 0) rates[i]!.push(rate)
    }
  }
  return rows.map(({ name }, i) => ({ name, ...spreadOf(rates[i]!) }))
}

export function spreadOf(figures: readonly number[]): Omit<Result, 'name'> {
  const sorted = [...figures].sort((a, b) => a - b)
  return { median: sorted[sorted.length >> 1]!, min: sorted[0]!, max: sorted.at(-1)! }
}

export const medianOf = (figures: readonly number[]): number => spreadOf(figures).median

/** Things a second. */
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

/** The median of one result over that of another. */
export function ratio(results: readonly Result[], name: string, to: string): number {
  const median = (wanted: string) => results.find((result) => result.name === wanted)!.median
  return median(name) / median(to)
}

/** Results with their ratio to the first. */
export function tableOf(
  { title, about, unit, digits = 2 }: { title: string; about: string; unit: string; digits?: number },
  results: readonly Result[],
  goals: readonly Goal[] = [],
): Table {
  const first = results[0]!
  return {
    title,
    about,
    columns: [
      { name: unit, digits },
      { name: 'lowest', digits },
      { name: 'highest', digits },
      { name: 'ratio', digits: 2 },
    ],
    rows: results.map(({ name, median, min, max }) => ({
      name,
      cells: [median, min, max, median / first.median],
    })),
    goals,
  }
}
