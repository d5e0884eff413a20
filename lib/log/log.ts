// Loggers by debug namespace, and one optional file for all of them.
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
      write(fd, `${new Date().toISOString()} ${process.pid} unvme:${name} ${format(message, ...values)}\n`)
    }
  }
  return Object.defineProperty(log, 'enabled', {
    get: () => debug.enabled || fd !== undefined,
  }) as unknown as Logger
}

// A log that can't be written is no reason for the driver to fail.
function write(file: number, line: string): void {
  try {
    fs.writeSync(file, line)
  } catch (error) {
    closeLogFile()
    process.emitWarning(`the log file is closed: ${(error as Error).message}`)
  }
}

/** Appends everything that is logged from now on to `path` too, whether DEBUG names it or not. Throws the system's error. */
export function openLogFile(path: string): void {
  closeLogFile()
  fd = fs.openSync(path, 'a')
}

export function closeLogFile(): void {
  if (fd !== undefined) fs.closeSync(fd)
  fd = undefined
}

// UNVMe's users look for a file, not for an environment variable of a Node package.
const path = process.env.UNVME_LOG
if (path) {
  try {
    openLogFile(path)
  } catch (error) {
    process.emitWarning(`there is no log file (UNVME_LOG): ${(error as Error).message}`)
  }
}
