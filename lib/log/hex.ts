// Hex dumps in the form of `hexdump -C`: position, sixteen bytes, and the printable ones as text.
// Rows that repeat the one before are a single `*`, so that a dump of an empty device is short.

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

/** A dump that is made chunk by chunk. */
export interface HexDumper {
  /** Lines for the whole rows that are there by now, each with its line feed. */
  add(chunk: Uint8Array): string
  /** The lines that are left: a row that is not full, and the end's position. */
  end(): string
}

/** @param position number shown for the first byte */
export function hexDumper(position: number): HexDumper {
  let rest = Buffer.alloc(0)
  let previous: Buffer | null = null
  let repeated = false
  return {
    add(chunk) {
      const data = Buffer.concat([rest, chunk])
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
      return lines
    },
    end() {
      const last = rest.length > 0 ? `${hexRow(position, rest)}\n` : ''
      return `${last}${(position + rest.length).toString(16).padStart(8, '0')}\n`
    },
  }
}

/** The dump of bytes that are all there. */
export function hexDump(data: Uint8Array, position = 0): string {
  const dumper = hexDumper(position)
  return dumper.add(data) + dumper.end()
}
