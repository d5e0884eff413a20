// What a benchmark yields: figures with their units and goals, as data. The terminal's table and the page
// (page.ts) are both made from it. Trade-off: every cell is a number or nothing, so that no goal is ever judged
// by anything but a figure.

/** Settings of a run that benchmarks may mind. */
export interface BenchOptions {
  /** Also what takes minutes. */
  long: boolean
}

/** Yields its tables one by one, as they are measured. */
export type Benchmark = (options: BenchOptions) => AsyncIterable<Table>

export interface Column {
  /** With its unit, as it stands above the figures. */
  name: string
  /** Decimal places. */
  digits: number
}

export interface TableRow {
  name: string
  /** One for each column; null where there is nothing to say. */
  cells: readonly (number | null)[]
}

/** What the project asks of a figure. */
export interface Goal {
  what: string
  kind: 'at least' | 'at most'
  limit: number
  measured: number
  unit: string
}

export interface Table {
  title: string
  /** What is measured, for a reader of the page: one or two sentences. */
  about: string
  columns: readonly Column[]
  rows: readonly TableRow[]
  goals?: readonly Goal[]
  /** What was left out, and why; what a figure does not say. */
  notes?: readonly string[]
}

export function atLeast(what: string, measured: number, limit: number, unit = ''): Goal {
  return { what, kind: 'at least', limit, measured, unit }
}

export function atMost(what: string, measured: number, limit: number, unit = ''): Goal {
  return { what, kind: 'at most', limit, measured, unit }
}

export function isMet({ kind, limit, measured }: Goal): boolean {
  return kind === 'at least' ? measured >= limit : measured <= limit
}

/** `aread, apoll: 0.65 x, asked at least 0.75 x: missed`. */
export function goalText(goal: Goal): string {
  const { what, kind, limit, measured, unit } = goal
  const suffix = unit === '' ? '' : ` ${unit}`
  const verdict = isMet(goal) ? 'met' : 'missed'
  return `${what}: ${short(measured)}${suffix}, asked ${kind} ${limit}${suffix}: ${verdict}`
}

/** Four significant digits, more where the number has more before its point. */
export function short(value: number): string {
  const rounded = Number(value.toPrecision(4))
  return Math.abs(value) >= 1000 ? value.toFixed(0) : String(rounded)
}

export function cellText(cell: number | null, { digits }: Column): string {
  return cell === null ? '' : cell.toFixed(digits)
}

/** Prints a table as text. */
export function printTable({ title, columns, rows, goals = [], notes = [] }: Table): void {
  console.log(`\n${title}`)
  const nameWidth = Math.max(0, ...rows.map(({ name }) => name.length))
  const widths = columns.map((column, i) =>
    Math.max(column.name.length, ...rows.map(({ cells }) => cellText(cells[i]!, column).length)),
  )
  const line = (name: string, texts: readonly string[]) => {
    const padded = texts.map((text, i) => text.padStart(widths[i]!))
    console.log(`  ${[name.padEnd(nameWidth), ...padded].join('  ')}`.trimEnd())
  }
  if (rows.length > 0) {
    line(
      '',
      columns.map(({ name }) => name),
    )
  }
  for (const { name, cells } of rows) {
    line(
      name,
      cells.map((cell, i) => cellText(cell, columns[i]!)),
    )
  }
  for (const note of notes) console.log(`  (${note})`)
  for (const goal of goals) console.log(`  ${goalText(goal)}`)
}
