// A file that a report is written to: opened before anything is measured, so that a name that can't be written is an
// error then and not after an hour. Trade-off: what the file holds is kept until there is a report to put in its place.

import fs from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { UsageError } from '../../lib/errors.ts'
import { refuseBelowDev } from '../system/writable.ts'

export interface ReportFile {
  readonly path: string
  /** Puts a text in place of what the file holds. */
  write(text: string): Promise<void>
  /** Closes it. A file that was made here, and never written, is taken away again. */
  close(): void
}

/**
 * Opens a file for a report, or makes it.
 * @param others files that are something else: the target of the measurement, another report
 * @throws UsageError for a block device, or where it is one of the others; what fs throws, ENXIO for a FIFO without
 * a reader
 */
export function openReportFile(path: string, others: readonly string[] = []): ReportFile {
  const { O_WRONLY, O_CREAT, O_EXCL, O_NONBLOCK } = fs.constants
  const before = fs.statSync(path, { throwIfNoEntry: false })
  if (before === undefined) refuseBelowDev(path)
  if (before?.isBlockDevice()) throw new UsageError(`${path} is a block device: a report goes to a file`)
  for (const other of others) {
    if (before !== undefined && isSameFile(before, other)) {
      throw new UsageError(`${path} is ${other}: a report would overwrite it`)
    }
  }
  // A FIFO without a reader is an error, and nothing to wait for.
  const fd = fs.openSync(path, O_WRONLY | O_NONBLOCK | (before === undefined ? O_CREAT | O_EXCL : 0), 0o666)
  let written = false
  return {
    path,
    async write(text) {
      written = true
      if (fs.fstatSync(fd).isFile()) fs.ftruncateSync(fd)
      await writeAll(fd, Buffer.from(text))
    },
    close() {
      fs.closeSync(fd)
      if (before === undefined && !written) fs.rmSync(path, { force: true })
    },
  }
}

function isSameFile({ dev, ino }: fs.Stats, path: string): boolean {
  const other = fs.statSync(path, { throwIfNoEntry: false })
  return other?.isFile() === true && other.dev === dev && other.ino === ino
}

/** Writes everything, however much a pipe takes at a time. */
async function writeAll(fd: number, data: Buffer): Promise<void> {
  for (let at = 0; at < data.length; ) {
    try {
      at += fs.writeSync(fd, data, at)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
      await sleep(10)
    }
  }
}
