// Hex dumps in the form of `hexdump -C`: position, sixteen bytes, and the printable ones as text.
// Trade-off: rows that repeat the one before are a single `*`, so that a dump of an empty device is short.

const ROW_BYTES = 16

/**
 * One row of up to 16 bytes.
 * @param mark decorates the byte at an index, for instance with colour
 */
export function hexRow(
  position: number,
  row: Uint8Array,
  mark: (text: string, index: number) => string = (text) => text,
): string {
  let hex = ''
  let text = ''
  for (let i = 0; i < ROW_BYTES; i++) {
    const byte = row[i]
    if (i === ROW_BYTES / 2) hex += ' '
    hex += byte === undefined ? '   ' : ` ${mark(byte.toString(16).padStart(2, '0'), i)}`
    if (byte !== undefined) text += mark(byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.', i)
  }
  return `${position.toString(16).padStart(8, '0')} ${hex}  |${text}|`
}

/** The dump of a stream of bytes, a text for each chunk, with the end's position in the last line. */
export async function* hexDump(
  chunks: AsyncIterable<Uint8Array>,
  position: number,
): AsyncGenerator<Uint8Array> {
  let rest = Buffer.alloc(0)
  let previous: Buffer | null = null
  let repeated = false
  for await (const chunk of chunks) {
    const data = rest.length > 0 ? Buffer.concat([rest, chunk]) : Buffer.from(chunk)
    const whole = data.length - (data.length % ROW_BYTES)
    let lines = ''
    for (let at = 0; at < whole; at += ROW_BYTES) {
      const row = data.subarray(at, at + ROW_BYTES)
      if (previous?.equals(row)) {
        if (!repeated) lines += '*\n'
        repeated = true
      } else {
        lines += `${hexRow(position + at, row)}\n`
        repeated = false
        previous = row
      }
    }
    rest = data.subarray(whole)
    position += whole
    if (lines !== '') yield Buffer.from(lines)
  }
  if (rest.length > 0) yield Buffer.from(`${hexRow(position, rest)}\n`)
  yield Buffer.from(`${(position + rest.length).toString(16).padStart(8, '0')}\n`)
}
