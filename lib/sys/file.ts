// Which file a path means, and locks of files, as those who share disk images take them: flock(2), which this package's controllers take, and
// record locks, which QEMU and others take. Record locks are looked for and not taken; who takes them
// looks for no flock.

import fs from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { InUseError } from '../errors.ts'
import { F, fcntlLock, flock, LOCK, systemCallError } from './libc.ts'

/** What tells a file from every other, whatever its path. As bigints: some inodes are no safe integers. */
export function inodeIdentity({ dev, ino }: Pick<fs.Stats | fs.BigIntStats, 'dev' | 'ino'>): string {
  return `${dev}:${ino}`
}

/** A path without links, as far as it exists. */
export function realPath(file: string): string {
  try {
    return fs.realpathSync(file)
  } catch {
    return path.resolve(file)
  }
}

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK } = fs.constants

/**
 * Text of a file. Whoever may write the folder may have put anything there: a link to another file, a pipe that would block.
 * Throws what the file system says, and where it is no regular file.
 */
export function readRegularFile(file: string): string {
  const fd = fs.openSync(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  try {
    if (!fs.fstatSync(fd).isFile()) throw new Error('it is no regular file')
    return fs.readFileSync(fd, 'utf8')
  } finally {
    fs.closeSync(fd)
  }
}

/** What `replaceFile` makes first, and removes where it is there. */
export function nextFile(file: string): string {
  return `${file}.new`
}

/**
 * Replaces a file as a whole, durably. The new one is made under a name of its own, which may follow no link and must not be
 * there: one that a killed process has left is removed, and so is a link, but never what it leads to.
 * @param mode as it is to be, whatever the process's mask
 */
export function replaceFile(file: string, content: string, mode: number): void {
  for (const fd of replacing(file, content, mode)) fs.fsyncSync(fd)
}

/** The same, and the caller alone waits for the medium. @param mode default: what the process's mask leaves of 0666 */
export async function replaceFileAsync(file: string, content: string, mode?: number): Promise<void> {
  for (const fd of replacing(file, content, mode)) await fsync(fd)
}

const fsync = promisify(fs.fsync)

/** Yields what must be on the medium before it goes on: the file, then the folder with its name. Leaves nothing where it fails. */
function* replacing(file: string, content: string, mode: number | undefined): Generator<number> {
  const next = nextFile(file)
  fs.rmSync(next, { force: true })
  const fd = fs.openSync(next, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode === undefined ? 0o666 : 0o600)
  let isThere = false
  try {
    fs.writeFileSync(fd, content)
    if (mode !== undefined) fs.fchmodSync(fd, mode)
    yield fd
    fs.renameSync(next, file)
    isThere = true
  } finally {
    // A loop whose body throws ends this by return().
    fs.closeSync(fd)
    if (!isThere) fs.rmSync(next, { force: true })
  }
  const folder = fs.openSync(path.dirname(file), O_RDONLY)
  try {
    yield folder
  } finally {
    fs.closeSync(folder)
  }
}

// struct flock of x86-64.
const FLOCK_BYTES = 32
const TYPE = 0
const PID = 24
const F_WRLCK = 1
const F_UNLCK = 2

/**
 * Locks an open file for this descriptor alone, until it is closed.
 * Throws InUseError where somebody else has locked it, SystemCallError where its file system has no such locks.
 */
export function lockFile(fd: number, file: string): void {
  if (flock(fd, LOCK.EX | LOCK.NB) !== 0) {
    const cause = systemCallError('flock', file)
    if (cause.code !== 'EAGAIN') throw cause
    throw new InUseError(`${file} is in use by another controller or copy, in this process or another`, {
      cause,
    })
  }
  const owner = recordLockOwner(fd)
  if (owner === null) return
  throw new InUseError(`${file} is in use: ${owner > 0 ? `process ${owner}` : 'a process'} has locked it`)
}

/** Process that has a record lock in a file, or -1 for a lock that no process alone has; null where there is none. */
function recordLockOwner(fd: number): number | null {
  // From 0 to whatever end: as if all of it were to be written.
  const lock = Buffer.alloc(FLOCK_BYTES)
  lock.writeInt16LE(F_WRLCK, TYPE)
  // A file system without record locks has no holder of one.
  if (fcntlLock(fd, F.OFD_GETLK, lock) !== 0) return null
  return lock.readInt16LE(TYPE) === F_UNLCK ? null : lock.readInt32LE(PID)
}
