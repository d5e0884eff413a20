// A file or a kernel block device through Node's fs, with as many reads and writes in flight: what the driver is
// measured against. Past the page cache where the file system lets it, as a device is; libuv's threads
// limit what is truly in flight, so UV_THREADPOOL_SIZE must be at least the depth of all jobs together.

import fs from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { SystemCallError, UnsupportedError } from '../../lib/errors.ts'
import { type MemoryView, mapAnonymous, retireView } from '../../lib/memory/mapping.ts'
import { deviceBlockBytes, deviceBytes } from '../system/block-device.ts'
import { openToWrite } from '../system/writable.ts'
import type { Engine, Source } from './engine.ts'
import type { TargetFacts } from './plan.ts'

export interface OpenFile extends TargetFacts {
  readonly handle: FileHandle
  readonly blockDevice: boolean
  /** False where the file system has no O_DIRECT: then it is the page cache that is measured. */
  readonly direct: boolean
}

// What O_DIRECT needs at most on devices in use.
const DIRECT_BLOCK = 4096

export interface FileOptions {
  readonly write: boolean
  /** True: past the page cache, or UnsupportedError; false: through it; undefined: past it where that can be. */
  readonly direct?: boolean | undefined
  /** Write what the system uses all the same. */
  readonly force?: boolean | undefined
  /** How the user writes `force`, for the error. */
  readonly forceWord?: string | undefined
}

/** Opens it; what is to be written and in use is refused with InUseError, unless `force`: see `openToWrite`. */
export async function openFile(
  path: string,
  { write, direct, force, forceWord }: FileOptions,
): Promise<OpenFile> {
  const { O_RDONLY, O_DIRECT } = fs.constants
  const openWith = async (flags: number) =>
    write
      ? (await openToWrite(path, { read: true, flags, force, forceWord })).handle
      : open(path, O_RDONLY | flags)
  const [handle, isDirect] = await openDirect(openWith, direct === false ? 0 : O_DIRECT)
  try {
    if (direct && !isDirect) {
      throw new UnsupportedError(`${path}: its file system has no O_DIRECT, which --direct=1 asks for`)
    }
    const facts = await handle.stat()
    const blockDevice = facts.isBlockDevice()
    return {
      name: path,
      bytes: blockDevice ? deviceBytes(facts) : facts.size,
      blocksize: blockDevice ? deviceBlockBytes(facts) : isDirect ? DIRECT_BLOCK : 1,
      handle,
      blockDevice,
      direct: isDirect,
    }
  } catch (error) {
    await handle.close()
    throw error
  }
}

async function openDirect(
  openWith: (flags: number) => Promise<FileHandle>,
  direct: number,
): Promise<[handle: FileHandle, direct: boolean]> {
  try {
    return [await openWith(direct), direct !== 0]
  } catch (error) {
    if (direct === 0 || (error as NodeJS.ErrnoException).code !== 'EINVAL') throw error
    return [await openWith(0), false]
  }
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
    if (failure === null && source.next(slot, performance.now())) inFlight++
    else idle.push(slot)
    source.sent()
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
