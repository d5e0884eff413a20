// The one rule for what is about to be written by its path: nothing that the system or another program uses is
// overwritten unless that is forced. A block device is held with O_EXCL from before the question to the end of the
// writing; a file is locked before it is emptied; and below /dev no file is made in place of a device that is missing.

import fs from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { InUseError, SystemCallError, UsageError } from '../../lib/errors.ts'
import { inodeIdentity, lockFile } from '../../lib/sys/file.ts'
import { deviceNumber } from './block-device.ts'
import { type Machine, thisMachine } from './machine.ts'
import { claimUse, readUseTables, type Use, usesOfDevice, usesOfFile } from './uses.ts'

// How often a pipe that takes nothing is looked at.
const PIPE_LOOK_MS = 10

export interface WritingOptions {
  /** Write what the system uses, or another program has locked, all the same. */
  force?: boolean | undefined
  /** How the caller's user writes `force`, for the error; empty where it can't be forced. Default `force: true`. */
  forceWord?: string | undefined
  /**
   * It is a descriptor that this process was started with: that it is open here, and in those that started this process,
   * is no use of it.
   */
  inherited?: boolean
  /** Make a file where there is none; never below /dev. */
  create?: boolean
  /** Open it for reading as well. */
  read?: boolean
  /** Further flags of open(2), as O_DIRECT. */
  flags?: number
  machine?: Machine
}

export interface Writable {
  /** As it was: nothing has been emptied. It has the device, or the lock of the file, until it is closed. */
  readonly handle: FileHandle
  readonly stats: fs.Stats
  /** What was no hindrance because it was forced. */
  readonly uses: readonly Use[]
}

/**
 * Opens a file or a block device to write it. A pipe would block here until its other end is opened.
 * @throws InUseError with the users, or where another program has locked the file; SystemCallError (`ENOENT`) for a path
 * below /dev where nothing is; Node's system errors
 */
export async function openToWrite(file: string, options: WritingOptions = {}): Promise<Writable> {
  const { force = false, machine = thisMachine() } = options
  const there = fs.statSync(file, { bigint: true, throwIfNoEntry: false })
  if (there === undefined) refuseBelowDev(file, machine)
  const { O_RDWR, O_WRONLY, O_CREAT, O_EXCL } = fs.constants
  const missing = there === undefined && options.create === true
  // Without O_CREAT, O_EXCL means a block device alone, and nothing for a file.
  const flags = (options.read ? O_RDWR : O_WRONLY) | (options.flags ?? 0)
  const exclusive = missing ? O_CREAT : force ? 0 : O_EXCL
  const handle = await open(file, flags | exclusive).catch((error: NodeJS.ErrnoException) => {
    throw there !== undefined && error.code === 'EBUSY' ? deviceInUse(options, file, there, error) : error
  })
  try {
    const stats = await handle.stat()
    // It came up between the look and the opening: the rule is for what it is now.
    if (missing && stats.isBlockDevice()) {
      await handle.close()
      return openToWrite(file, { ...options, create: false })
    }
    const uses = usesOf(options, await handle.stat({ bigint: true }))
    if (!force && uses.length > 0) throw inUse(options, file, uses)
    if (stats.isFile()) lock(handle.fd, file, force)
    return { handle, stats, uses }
  } catch (error) {
    await handle.close()
    throw error
  }
}

/**
 * Holds a block device that is about to be written by another way than its own file, as commands of the kernel's nvme
 * driver are.
 * @returns a descriptor, to be closed after the writing; null where the device can't be held, as it has no right for that
 * or is gone
 * @throws InUseError with the users
 */
export function claimToWrite(file: string, options: WritingOptions = {}): number | null {
  const { force = false } = options
  const { O_RDONLY, O_EXCL } = fs.constants
  const there = fs.statSync(file, { bigint: true, throwIfNoEntry: false })
  if (there === undefined) return null
  let fd: number | null = null
  try {
    fd = fs.openSync(file, O_RDONLY | (force ? 0 : O_EXCL))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EBUSY')
      throw deviceInUse(options, file, there, error as Error)
  }
  const uses = force ? [] : usesOf(options, there)
  if (uses.length === 0) return fd
  if (fd !== null) fs.closeSync(fd)
  throw inUse(options, file, uses)
}

/** A file that a command makes beside what it does: a report, or what a device sends. */
export interface OutputFile {
  readonly path: string
  /** See `fileIdentity`. */
  readonly identity: string | undefined
  /** Puts data in place of what the file holds, which is kept until the first byte comes. Once. */
  write(data: string | Uint8Array | AsyncIterable<Uint8Array>): Promise<void>
  /** Closes it. A file that was made here, and is empty, is taken away again. */
  close(): Promise<void>
}

/** Something that an output would overwrite: its identity (see `fileIdentity`) and what to call it. */
export interface OverwrittenFile {
  readonly identity: string | undefined
  readonly name: string
}

/**
 * Opens the file before the work that it is for, so that a name that can't be written is an error then. It is locked
 * until it is closed.
 * @param others what else the command reads or writes
 * @throws as `openToWrite`; UsageError for a block device, and where it is one of the others; ENXIO for a FIFO without
 * a reader
 */
export async function openOutputFile(
  file: string,
  others: readonly OverwrittenFile[] = [],
): Promise<OutputFile> {
  const there = fs.statSync(file, { bigint: true, throwIfNoEntry: false })
  const identity = there && fileIdentity(there)
  const other = others.find((one) => identity !== undefined && one.identity === identity)
  if (other !== undefined) throw new UsageError(`${file} is ${other.name}: it would be overwritten`)
  const isPlain = there === undefined || there.isFile() || there.isDirectory()
  if (there?.isBlockDevice()) throw notAFile(file)
  const { O_WRONLY, O_NONBLOCK } = fs.constants
  const handle = isPlain
    ? (await openToWrite(file, { create: true, forceWord: '' })).handle
    : await open(file, O_WRONLY | O_NONBLOCK)
  const stats = await handle.stat({ bigint: true })
  if (stats.isBlockDevice()) {
    await handle.close()
    throw notAFile(file)
  }
  return {
    path: file,
    identity: fileIdentity(stats),
    async write(data) {
      let first = stats.isFile()
      for await (const piece of typeof data === 'string' || data instanceof Uint8Array ? [data] : data) {
        if (first) await handle.truncate()
        first = false
        await writeAll(handle, typeof piece === 'string' ? Buffer.from(piece) : piece)
      }
    },
    async close() {
      const isEmpty = there === undefined && stats.isFile() && (await handle.stat()).size === 0
      // By the end of links, which stay.
      if (isEmpty) fs.rmSync(placeOf(file), { force: true })
      await handle.close()
    },
  }
}

function notAFile(file: string): UsageError {
  return new UsageError(`${file} is a block device, not a file`)
}

/** Writes everything, however much a pipe takes at a time. */
async function writeAll(handle: FileHandle, data: Uint8Array): Promise<void> {
  for (let at = 0; at < data.length; ) {
    try {
      at += (await handle.write(data, at)).bytesWritten
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
      await sleep(PIPE_LOOK_MS)
    }
  }
}

/**
 * What tells a file from all others, whatever its path: a block device by its number, whatever its node. Undefined for
 * what may be read and written at once: terminals, /dev/null, sockets.
 */
export function fileIdentity(
  stats: Pick<fs.Stats | fs.BigIntStats, 'dev' | 'ino' | 'rdev' | 'isBlockDevice' | 'isFile' | 'isFIFO'>,
): string | undefined {
  if (stats.isBlockDevice()) return `block ${deviceNumber(stats)}`
  return stats.isFile() || stats.isFIFO() ? inodeIdentity(stats) : undefined
}

/** Throws SystemCallError (`ENOENT`) where a file of this path would be a new one below /dev. */
export function refuseBelowDev(file: string, machine: Machine = thisMachine()): void {
  const folder = path.dirname(placeOf(file))
  const dev = fs.realpathSync(machine.dev)
  // What is mounted below it, as /dev/shm, is a place for files.
  const within = folder === dev || folder.startsWith(path.join(dev, '/'))
  if (!within || fs.statSync(folder).dev !== fs.statSync(dev).dev || folder === path.join(dev, 'shm')) return
  const fields = { code: 'ENOENT', errno: 2, syscall: 'open', path: file }
  throw new SystemCallError('no such device, and no file is made below /dev', fields)
}

// As many as Linux follows.
const MAX_LINKS = 40

/** Where a file would be made: at the end of links that lead to nothing. */
function placeOf(file: string): string {
  let place = file
  for (let links = 0; links < MAX_LINKS; links++) {
    const folder = fs.realpathSync(path.dirname(place))
    place = path.join(folder, path.basename(place))
    if (!fs.lstatSync(place, { throwIfNoEntry: false })?.isSymbolicLink()) break
    place = path.resolve(folder, fs.readlinkSync(place))
  }
  return place
}

/** Uses that the writing would harm: who only reads a device is none of them. */
function usesOf({ machine = thisMachine(), inherited }: WritingOptions, stats: fs.BigIntStats): Use[] {
  if (stats.isFile()) return usesOfFile(machine, stats)
  if (!stats.isBlockDevice()) return []
  const own = inherited ? ancestors() : []
  const uses = usesOfDevice(readUseTables(machine), deviceNumber(stats))
  return uses.filter(({ kind, pid }) => kind !== 'reader' && (pid === undefined || !own.includes(pid)))
}

/** This process and those that started it, up to the first. */
function ancestors(): number[] {
  const pids = [process.pid]
  for (let pid = process.ppid; pid > 0; ) {
    pids.push(pid)
    try {
      const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8')
      // Behind the name, which may hold anything: the state, and the parent.
      pid = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
    } catch {
      break
    }
  }
  return pids
}

function deviceInUse(options: WritingOptions, file: string, stats: fs.BigIntStats, cause: Error): InUseError {
  const uses = usesOf(options, stats)
  return inUse(options, file, uses.length > 0 ? uses : [claimUse(file)], cause)
}

function inUse(
  { forceWord = 'force: true' }: WritingOptions,
  file: string,
  uses: readonly Use[],
  cause?: Error,
): InUseError {
  const hint = forceWord && ` (${forceWord} writes it all the same)`
  return new InUseError(`${file} is in use: ${usesText(uses)}${hint}`, { cause })
}

/** The users of a device, as one sentence part. */
export function usesText(uses: readonly Use[]): string {
  return uses.map(({ text }) => text).join('; ')
}

// A file system that has no locks has no holder of one.
function lock(fd: number, file: string, force: boolean): void {
  try {
    lockFile(fd, file)
  } catch (error) {
    if (error instanceof InUseError && !force) throw error
  }
}
