// What commands print: lines, tables, `name : value` lists, JSON, sizes, colour, and the question before
// something is destroyed. Trade-off: no locale and no width of the terminal; output is the same everywhere,
// so that scripts can read it, and only colour depends on who looks.

import { createInterface } from 'node:readline/promises'
import { styleText } from 'node:util'
import { AbortError, UsageError } from '../../lib/errors.ts'

export { bytesText } from '../../lib/sys/units.ts'

/** Writes one line, or several, to stdout. */
export function print(line = ''): void {
  process.stdout.write(`${line}\n`)
}

/** Writes a remark for the user to stderr, so that stdout stays data. */
export function note(line: string): void {
  process.stderr.write(`${line}\n`)
}

/** JSON as nvme-cli prints it: two spaces, numbers in decimals, also those above 2^53 (given as bigint). */
export function printJson(value: unknown): void {
  const text = JSON.stringify(
    value,
    (_, item) => (typeof item === 'bigint' ? `\u0000${item}\u0000` : item),
    2,
  )
  // JSON.stringify has no way to write a bigint: the marks above can't occur in any other string.
  print(text.replace(/"\\u0000(-?\d+)\\u0000"/g, '$1'))
}

export interface Column<Row> {
  title: string
  text(row: Row): string
  /** True for numbers. */
  right?: boolean
}

/** A table with a title row and a rule below it, columns as wide as their longest text. */
export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const cells = rows.map((row) => columns.map((column) => column.text(row)))
  const widths = columns.map((column, at) =>
    Math.max(column.title.length, ...cells.map((row) => row[at]!.length)),
  )
  const line = (texts: readonly string[]) =>
    texts
      .map((text, at) => (columns[at]!.right ? text.padStart(widths[at]!) : text.padEnd(widths[at]!)))
      .join('  ')
      .trimEnd()
  const titles = line(columns.map((column) => column.title))
  return [strong(titles), line(widths.map((width) => '-'.repeat(width))), ...cells.map(line)].join('\n')
}

/** `name : value` lines, the names padded to one width, as nvme-cli's id-ctrl. */
export function fields(pairs: readonly (readonly [name: string, value: string | number | bigint])[]): string {
  const width = Math.max(...pairs.map(([name]) => name.length))
  return pairs.map(([name, value]) => `${name.padEnd(width)} : ${value}`).join('\n')
}

// styleText looks at NO_COLOR and at the stream, for a single format only: calls are nested, never arrays.
export const strong = (text: string) => styleText('bold', text, { stream: process.stdout })
export const good = (text: string) => styleText('green', text, { stream: process.stdout })
export const bad = (text: string) => styleText('red', text, { stream: process.stdout })
export const faint = (text: string) => styleText('dim', text, { stream: process.stdout })

/**
 * Asks on the terminal, and returns where the answer is yes. `--yes` answers beforehand; without a terminal
 * there is nobody to ask, and the command is refused.
 */
export async function confirm(question: string, yes: boolean): Promise<void> {
  if (yes) return
  if (!process.stdin.isTTY) throw new UsageError(`${question} Not asked without a terminal: give --yes`)
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  const ended = new AbortController()
  // The terminal is in raw mode here, so that Ctrl-C comes as a key and not as a signal.
  lines.on('SIGINT', () => process.kill(process.pid, 'SIGINT'))
  // Ctrl-D ends the input with no answer, and `question` would wait for ever.
  lines.on('close', () => ended.abort())
  const answer = await lines.question(`${question} [y/N] `, { signal: ended.signal }).catch(() => '')
  lines.close()
  if (!/^y(es)?$/i.test(answer.trim())) throw new AbortError('not confirmed')
}
