// Runs things side by side, several times in turn, and prints medians as a table.
// Trade-off: in turn and not one after another, since a noisy machine is then noisy for all of them alike.

import os from 'node:os'

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
  return rows.map(({ name }, i) => {
    const sorted = rates[i]!.sort((a, b) => a - b)
    return { name, median: sorted[sorted.length >> 1]!, min: sorted[0]!, max: sorted.at(-1)! }
  })
}

/** Things a second. */
export async function rateOf(count: number, work: () => unknown): Promise<number> {
  const started = performance.now()
  await work()
  return count / ((performance.now() - started) / 1000)
}

/** Prints results with their ratio to the first. */
export function printTable(title: string, unit: string, results: readonly Result[], digits = 2): void {
  console.log(`\n${title}`)
  const width = Math.max(...results.map(({ name }) => name.length))
  for (const { name, median, min, max } of results) {
    const figure = median.toFixed(digits).padStart(9)
    const range = `${min.toFixed(digits)} to ${max.toFixed(digits)}`
    const ratio = (median / results[0]!.median).toFixed(2)
    console.log(`  ${name.padEnd(width)} ${figure} ${unit}  (${range})  ${ratio} x`)
  }
}

export function printMachine(): void {
  const cpus = os.cpus()
  console.log(`Node ${process.version}, ${cpus.length} x ${cpus[0]?.model.trim()}, Linux ${os.release()}`)
}
