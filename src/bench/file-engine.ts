// A file or a kernel block device through Node's fs, with as many reads and writes in flight: what the driver is
// measured against. Trade-off: past the page cache where the file system lets it, as a device is; libuv's threads
// limit what is truly in flight, so UV_THREADPOOL_SIZE must be at least the depth of all jobs together.

import fs from 'node:fs'
import { InUseError, SystemCallError, UnsupportedError } from '../../lib/errors.ts'
import { type MemoryView, mapAnonymous, retireView } from '../../lib/pci/index.ts'
import { readAttribute } from '../../lib/pci/sysfs.ts'
import type { Engine, Source } from './engine.ts'
import type { TargetFacts } from './plan.ts'

export interface OpenFile extends TargetFacts {
  readonly fd: number
  readonly blockDevice: boolean
  /** False where the file system has no O_DIRECT: then it is the page cache that is measured. */
  readonly direct: boolean
}

// What O_DIRECT needs at most on devices in use.
const DIRECT_BLOCK = 4096

/**
 * Opens it; a block device that is to be written, and that the system uses, is refused with InUseError.
 * @param direct true: past the page cache, or UnsupportedError; false: through it; undefined: past it where that can be
 */
export function openFile(path: string, write: boolean, direct?: boolean): OpenFile {
  const { O_RDWR, O_RDONLY, O_DIRECT, O_EXCL } = fs.constants
  const facts = fs.statSync(path)
  const blockDevice = facts.isBlockDevice()
  const flags = (write ? O_RDWR : O_RDONLY) | (blockDevice && write ? O_EXCL : 0)
  const [fd, isDirect] = openDirect(path, flags, direct === false ? 0 : O_DIRECT)
  if (direct && !isDirect) {
    fs.closeSync(fd)
    throw new UnsupportedError(`${path}: its file system has no O_DIRECT, which --direct=1 asks for`)
  }
  const bytes = blockDevice ? sizeOf(path) : facts.size
  return {
    name: path,
    bytes,
    blocksize: blockDevice ? blockSizeOf(path) : isDirect ? DIRECT_BLOCK : 1,
    fd,
    blockDevice,
    direct: isDirect,
  }
}

function openDirect(path: string, flags: number, direct: number): [fd: number, direct: boolean] {
  try {
    return [fs.openSync(path, flags | direct), direct !== 0]
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EBUSY') {
      throw new InUseError(`${path} is in use by the system: mounted, swap, or part of another device`, {
        cause: error,
      })
    }
    if (code !== 'EINVAL') throw error
    return [fs.openSync(path, flags), false]
  }
}

function sysfsNumber(path: string, file: string): number | undefined {
  const { rdev } = fs.statSync(path)
  const major = (rdev >>> 8) & 0xfff
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00)
  const text = readAttribute(`/sys/dev/block/${major}:${minor}/${file}`)
  return text === null ? undefined : Number(text)
}

function sizeOf(path: string): number {
  const sectors = sysfsNumber(path, 'size')
  if (sectors === undefined) throw new UnsupportedError(`${path}: /sys does not say how large it is`)
  return sectors * 512
}

function blockSizeOf(path: string): number {
  // A partition has its disk's.
  return (
    sysfsNumber(path, 'queue/logical_block_size') ??
    sysfsNumber(path, '../queue/logical_block_size') ??
    DIRECT_BLOCK
  )
}

/** An engine on an open file. */
export function createFileEngine(fd: number, depth: number, bs: number): Engine {
  const views: MemoryView[] = Array.from({ length: depth }, () => mapAnonymous(Math.ceil(bs / 4096) * 4096))
  const buffers = views.map(({ buffer }) => Buffer.from(buffer, 0, bs))
  let done: (slot: number, error: Error | null) => void = () => {}
  return {
    buffers,
    start(slot, write, at) {
      const ended = (error: Error | null, bytes: number) =>
        done(slot, error ?? (bytes === bs ? null : shortTransfer(bytes, bs, at)))
      if (write) fs.write(fd, buffers[slot]!, 0, bs, at, ended)
      else fs.read(fd, buffers[slot]!, 0, bs, at, ended)
      return true
    },
    run(source) {
      return new Promise((resolve, reject) => {
        done = drive(source, depth, resolve, reject)
      })
    },
    async close() {
      for (const view of views) retireView(view)
    },
  }
}

/** Starts a source, and returns what goes on with it when a slot is done. */
function drive(source: Source, depth: number, resolve: () => void, reject: (error: Error) => void) {
  let inFlight = 0
  let failure: Error | null = null
  const fill = (slot: number) => {
    if (failure === null && source.next(slot)) inFlight++
    else idle.push(slot)
  }
  const idle: number[] = []
  const settle = () => {
    if (inFlight > 0) return
    if (failure !== null) reject(failure)
    else if (source.exhausted) resolve()
    // Nothing could be started just now.
    else setImmediate(go)
  }
  const go = () => {
    for (const slot of idle.splice(0)) fill(slot)
    settle()
  }
  queueMicrotask(() => {
    idle.push(...Array(depth).keys())
    go()
  })
  return (slot: number, error: Error | null) => {
    inFlight--
    try {
      if (error === null) source.complete(slot, performance.now())
      else failure ??= error
    } catch (thrown) {
      failure ??= thrown as Error
    }
    idle.push(slot)
    go()
  }
}

function shortTransfer(bytes: number, bs: number, at: number): Error {
  return new SystemCallError(`${bytes} of ${bs} bytes at ${at}`, {
    code: 'EIO',
    errno: 5,
    syscall: 'read or write',
  })
}
