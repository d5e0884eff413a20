// What commands print: lines, tables, `name : value` lists, JSON, sizes, colour, and the question before
// something is destroyed. No locale and no width of the terminal; output is the same everywhere,
// so that scripts can read it, and only colour depends on who looks.

import fs from 'node:fs'
import { createInterface } from 'node:readline'
import { ReadStream } from 'node:tty'
import { styleText } from 'node:util'
import { AbortError, UsageError } from '../../lib/errors.ts'

// Control characters, and those that reorder or break lines.
const UNSEEN = /[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/gu
// The same, with what may stand in lines of our own: line feeds, and the colours that the functions below write.
const UNSEEN_IN_LINES = new RegExp(`(\\n|\\t|\u001b\\[(?:1|2|22|31|32|39)m)|${UNSEEN.source}`, 'gu')

/**
 * A text that somebody else supplied (a device's model, a name) as it may go to a terminal: control characters as
 * `\x1b`, so that it can neither move the cursor nor look like lines of ours.
 */
export function visible(text: string): string {
  return text.replace(UNSEEN, escapeText)
}

/** Lines of ours as they may go to a terminal: what `visible` was not called for can do nothing worse than break them. */
export function visibleLines(lines: string): string {
  return lines.replace(UNSEEN_IN_LINES, (found, own?: string) => own ?? escapeText(found))
}

function escapeText(character: string): string {
  const code = character.codePointAt(0)!.toString(16)
  return code.length <= 2 ? `\\x${code.padStart(2, '0')}` : `\\u${code.padStart(4, '0')}`
}

export { bytesText } from '../../lib/sys/units.ts'

/** Writes one line, or several, to stdout. */
export function print(line = ''): void {
  process.stdout.write(`${visibleLines(line)}\n`)
}

/** Writes a remark for the user to stderr, so that stdout stays data. */
export function note(line: string): void {
  process.stderr.write(`${visibleLines(line)}\n`)
}

/** JSON as nvme-cli prints it: two spaces, numbers in decimals, also those above 2^53 (given as bigint). */
export function printJson(value: unknown): void {
  const text = JSON.stringify(
    value,
    (_, item) => (typeof item === 'bigint' ? `\u0000${item}\u0000` : item),
    2,
  )
  // JSON.stringify has no way to write a bigint: the marks above can't occur in any other string.
  const numbers = text.replace(/"\\u0000(-?\d+)\\u0000"/g, '$1')
  // What JSON.stringify leaves as it is (DEL, C1) can stand in strings only; the line feeds are its own.
  print(
    numbers.replace(UNSEEN, (found) =>
      found === '\n' ? found : `\\u${found.codePointAt(0)!.toString(16).padStart(4, '0')}`,
    ),
  )
}

export interface Column<Row> {
  title: string
  text(row: Row): string
  /** True for numbers. */
  right?: boolean
}

/** A table with a title row and a rule below it, columns as wide as their longest text. */
export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const cells = rows.map((row) => columns.map((column) => visible(column.text(row))))
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
  return pairs.map(([name, value]) => `${name.padEnd(width)} : ${visible(String(value))}`).join('\n')
}

/** Bytes that may be anything are for files and programs. */
export function checkTerminal(): void {
  if (!process.stdout.isTTY) return
  throw new UsageError('bytes may be anything, and are not written to a terminal: redirect the output')
}

// styleText looks at NO_COLOR and at the stream, for a single format only: calls are nested, never arrays.
export const strong = (text: string) => styleText('bold', text, { stream: process.stdout })
export const good = (text: string) => styleText('green', text, { stream: process.stdout })
export const bad = (text: string) => styleText('red', text, { stream: process.stdout })
export const faint = (text: string) => styleText('dim', text, { stream: process.stdout })

/**
 * Asks on the terminal, and returns where the answer is yes. `--yes` answers beforehand; without a terminal the
 * command is refused. Where standard input or the messages go elsewhere (data through a pipe), the terminal is
 * /dev/tty. Ctrl-C and SIGTERM end it as a no.
 */
export async function confirm(question: string, yes: boolean): Promise<void> {
  if (yes) return
  const asked = visible(question)
  const terminal = openTerminal()
  if (terminal === undefined) throw new UsageError(`${asked} Not asked without a terminal: give --yes`)
  // Whole lines, as the terminal edits them: in raw mode Ctrl-C would be a key, and reach no other program of a pipe.
  const lines = createInterface({ input: terminal.input, terminal: false })
  const interrupt = () => lines.close()
  process.on('SIGINT', interrupt).on('SIGTERM', interrupt)
  terminal.write(`${asked} [y/N] `)
  const answer = await new Promise<string>((resolve) => {
    lines.once('line', resolve).once('close', () => {
      // Ctrl-D ends the input with no answer, as an interrupt does, and leaves the cursor in the line.
      terminal.write('\n')
      resolve('')
    })
  })
  lines.removeAllListeners('close')
  process.off('SIGINT', interrupt).off('SIGTERM', interrupt)
  lines.close()
  terminal.close()
  if (!/^y(es)?$/i.test(answer.trim())) throw new AbortError('not confirmed')
}

interface Terminal {
  readonly input: NodeJS.ReadableStream
  write(text: string): void
  close(): void
}

/** Where a question is asked; undefined without a terminal. */
function openTerminal(): Terminal | undefined {
  const { stdin, stderr } = process
  if (stdin.isTTY && stderr.isTTY) {
    return { input: stdin, write: (text) => stderr.write(text), close: () => {} }
  }
  try {
    const input = new ReadStream(fs.openSync('/dev/tty', 'r'))
    const output = fs.openSync('/dev/tty', 'w')
    return {
      input,
      write: (text) => fs.writeSync(output, text),
      close: () => {
        input.destroy()
        fs.closeSync(output)
      },
    }
  } catch {
    return undefined
  }
}
