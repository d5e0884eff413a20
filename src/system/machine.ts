// The machine whose devices are looked at and changed: where its file systems are, and the few acts on it.
// One object for all of it, so that tests put a made-up tree and a made-up kernel in its place.

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { SetupError } from '../../lib/errors.ts'
import { readAttribute } from '../../lib/pci/sysfs.ts'

export interface Account {
  uid: number
  gid: number
}

export interface Machine {
  /** Where sysfs, proc and the device nodes are. */
  readonly sys: string
  readonly proc: string
  readonly dev: string
  /** Writes to a file of sysfs that exists. Throws Node's system error. */
  write(file: string, value: string): void
  /** Loads a kernel module. Throws SetupError with what modprobe said. */
  loadModule(name: string): void
  /**
   * Holds a block device for this process alone. Returns what lets go of it; null where the kernel or another process
   * holds it so.
   */
  claim(file: string): (() => void) | null
  chown(file: string, account: Account): void
  /** A user by name or number; undefined where there is none. */
  findAccount(name: string): Account | undefined
}

/**
 * The machine that this process runs on.
 * @param sysroot a folder with a copy of another machine's `sys`, `proc` and `dev`, to look at in its place
 */
export function thisMachine(sysroot = '/'): Machine {
  const folder = (name: string) => path.join(sysroot, name)
  return {
    sys: folder('sys'),
    proc: folder('proc'),
    dev: folder('dev'),
    write,
    loadModule,
    claim,
    chown,
    findAccount,
  }
}

// With O_WRONLY alone: a missing file is then ENOENT, not the EACCES that sysfs answers to creating one.
function write(file: string, value: string): void {
  const fd = fs.openSync(file, fs.constants.O_WRONLY)
  try {
    fs.writeSync(fd, value)
  } finally {
    fs.closeSync(fd)
  }
}

function loadModule(name: string): void {
  // The program that the kernel itself calls: sudo's PATH need not have it.
  const modprobe = readText('/proc/sys/kernel/modprobe') || 'modprobe'
  const { error, status, stderr } = spawnSync(modprobe, [name], { encoding: 'utf8' })
  if (status === 0) return
  throw new SetupError(`modprobe ${name} failed: ${error?.message ?? (stderr.trim() || `status ${status}`)}`)
}

// O_EXCL on a block device (without O_CREAT) asks for it alone: mounted file systems, swap, RAID, LVM and
// careful programs hold theirs so, and a partition's holder counts for the whole device. One that can't be opened
// for another reason (it has no node, or is just going) is held by no user.
function claim(file: string): (() => void) | null {
  try {
    const fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_EXCL)
    return () => fs.closeSync(fd)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EBUSY' ? null : () => {}
  }
}

function chown(file: string, { uid, gid }: Account): void {
  fs.chownSync(file, uid, gid)
}

function findAccount(name: string): Account | undefined {
  const number = (option: string) => {
    const { status, stdout } = spawnSync('id', [option, '--', name], { encoding: 'utf8' })
    return status === 0 && /^\d+$/.test(stdout.trim()) ? Number(stdout) : undefined
  }
  const uid = number('-u')
  const gid = number('-g')
  return uid === undefined || gid === undefined ? undefined : { uid, gid }
}

/** An attribute's text, or another file's, as `readAttribute` reads it. */
export function readText(...segments: string[]): string | null {
  return readAttribute(path.join(...segments))
}

/** A folder's entries, sorted; none where it can't be read. */
export function readFolder(...segments: string[]): string[] {
  try {
    return fs.readdirSync(path.join(...segments)).sort()
  } catch {
    return []
  }
}
