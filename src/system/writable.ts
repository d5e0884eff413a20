// The one rule for what is about to be written by its path: nothing that the system or another program uses is
// overwritten unless that is forced. A block device is held with O_EXCL from before the question to the end of the
// writing; a file is locked before it is emptied; and below /dev no file is made in place of a device that is missing.

import fs from 'node:fs'
import { type FileHandle, open, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { ArgumentTypeError, InUseError, SystemCallError } from '../../lib/errors.ts'
import { lockFile } from '../../lib/sys/file.ts'
import { deviceNumber } from './block-device.ts'
import { type Machine, thisMachine } from './machine.ts'
import { claimUse, readUseTables, type Use, usesOfDevice, usesOfFile } from './uses.ts'

export interface WritingOptions {
  /** Write what the system uses, or another program has locked, all the same. */
  force?: boolean | undefined
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
    throw there !== undefined && error.code === 'EBUSY' ? deviceInUse(machine, file, there, error) : error
  })
  try {
    const stats = await handle.stat()
    // It came up between the look and the opening: the rule is for what it is now.
    if (missing && stats.isBlockDevice()) {
      await handle.close()
      return openToWrite(file, { ...options, create: false })
    }
    const uses = usesOf(machine, await handle.stat({ bigint: true }))
    if (!force && uses.length > 0) throw inUse(file, uses)
    if (stats.isFile()) lock(handle.fd, file, force)
    return { handle, stats, uses }
  } catch (error) {
    await handle.close()
    throw error
  }
}

/**
 * Writes a file that a command makes beside what it does: new, or emptied first.
 * @throws as `openToWrite`; ArgumentTypeError for a block device, which no such file is meant for
 */
export async function writeOutputFile(file: string, data: Uint8Array | string): Promise<void> {
  const there = fs.statSync(file, { throwIfNoEntry: false })
  // A pipe or a terminal.
  if (there !== undefined && !there.isFile() && !there.isBlockDevice()) return writeFile(file, data)
  const { handle, stats } = await openToWrite(file, { create: true })
  try {
    if (!stats.isFile()) throw new ArgumentTypeError(`${file} is a block device, not a file`)
    if (stats.size > 0) await handle.truncate()
    await handle.writeFile(data)
  } finally {
    await handle.close()
  }
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
function usesOf(machine: Machine, stats: fs.BigIntStats): Use[] {
  if (stats.isFile()) return usesOfFile(machine, stats)
  if (!stats.isBlockDevice()) return []
  const uses = usesOfDevice(readUseTables(machine), deviceNumber(stats))
  return uses.filter(({ kind }) => kind !== 'reader')
}

function deviceInUse(machine: Machine, file: string, stats: fs.BigIntStats, cause: Error): InUseError {
  const uses = usesOf(machine, stats)
  return inUse(file, uses.length > 0 ? uses : [claimUse(file)], cause)
}

function inUse(file: string, uses: readonly Use[], cause?: Error): InUseError {
  const message = `${file} is in use: ${usesText(uses)} (force: true writes it all the same)`
  return new InUseError(message, { cause })
}

/** The users of a device, as one sentence part. */
export function usesText(uses: readonly Use[]): string {
  return uses.map(({ text }) => text).join('; ')
}

// A file system that has no locks has nobody who holds one.
function lock(fd: number, file: string, force: boolean): void {
  try {
    lockFile(fd, file)
  } catch (error) {
    if (error instanceof InUseError && !force) throw error
  }
}
