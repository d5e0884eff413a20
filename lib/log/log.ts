// Loggers by debug namespace, one optional file for all of them, and hex dumps.
// Trade-off: the file is written synchronously, so that the last line before a crash is in it.

import fs from 'node:fs'
import { format } from 'node:util'
import createDebug from 'debug'

export interface Logger {
  (message: string, ...values: unknown[]): void
  /** True where a call does anything: guard costly arguments with it. */
  readonly enabled: boolean
}

let fd: number | undefined

/**
 * A logger for `unvme:<name>`: shown on stderr where the environment variable DEBUG names it
 * (`DEBUG=unvme:*`), and written to the log file where one is open.
 */
export function logger(name: string): Logger {
  const debug = createDebug(`unvme:${name}`)
  const log = (message: string, ...values: unknown[]) => {
    if (debug.enabled) debug(message, ...values)
    if (fd !== undefined) {
      fs.writeSync(
        fd,
        `${new Date().toISOString()} ${process.pid} unvme:${name} ${format(message, ...values)}\n`,
      )
    }
  }
  return Object.defineProperty(log, 'enabled', {
    get: () => debug.enabled || fd !== undefined,
  }) as unknown as Logger
}

/** Appends everything that is logged from now on to `path` too, whether DEBUG names it or not. */
export function openLogFile(path: string): void {
  closeLogFile()
  fd = fs.openSync(path, 'a')
}

export function closeLogFile(): void {
  if (fd !== undefined) fs.closeSync(fd)
  fd = undefined
}

/**
 * Lines of 16 bytes, hexadecimal and text, with `*` for lines that repeat the one before.
 * @param base number shown for the first byte
 */
export function hexDump(data: Uint8Array, base = 0): string {
  const lines: string[] = []
  let last = ''
  let repeated = false
  for (let at = 0; at < data.length; at += 16) {
    const row = data.subarray(at, at + 16)
    const hex = Array.from(row, (b) => b.toString(16).padStart(2, '0')).join(' ')
    if (hex === last && at + 16 < data.length) {
      if (!repeated) lines.push('*')
      repeated = true
      continue
    }
    const text = Array.from(row, (b) => (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : '.')).join('')
    lines.push(`${(base + at).toString(16).padStart(8, '0')}  ${hex.padEnd(47)}  ${text}`)
    last = hex
    repeated = false
  }
  return lines.join('\n')
}

// UNVMe's users look for a file, not for an environment variable of a Node package.
const path = process.env.UNVME_LOG
if (path) openLogFile(path)
