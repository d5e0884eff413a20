// A file, block device, pipe, or standard input or output as one side of a copy or a comparison.
// Trade-off: a file that is written is opened, and emptied, only when its data comes: what is found wrong
// before leaves it as it was.

import fs, { createReadStream, createWriteStream, type Stats } from 'node:fs'
import { type FileHandle, open, readFile as readText, stat, statfs } from 'node:fs/promises'
import { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { AbortError, ArgumentTypeError } from '../../lib/errors.ts'
import { readFile, readFully, writeFile, writeFully } from './file-chunks.ts'
import type { Chunks, Side, TransferOptions } from './side.ts'

const { O_NONBLOCK, O_RDONLY, O_WRONLY } = fs.constants
// How often a FIFO that nobody reads yet is looked at.
const FIFO_LOOK_MS = 20
/** Types of file systems (statfs) whose files have a page's size, whatever can be read: sysfs, configfs. */
const PAGE_SIZED = new Set([0x62656572, 0x62656570])

/** Opens a file to read, and finds its size. Throws the system's error, ArgumentTypeError for a directory. */
export async function openSourceFile(path: string): Promise<Side> {
  if ((await stat(path).catch(() => undefined))?.isFIFO()) return fifoSource(path)
  const handle = await open(path, 'r')
  try {
    const stats = await handle.stat()
    if (stats.isDirectory()) throw new ArgumentTypeError(`${path} is a directory, not a file`)
    // 0 is what /proc says of files that have content: their end is found by reading.
    const size = (await isPageSized(path, stats)) ? undefined : await sizeOf(stats)
    return fileSide(path, stats, size || undefined, handle)
  } catch (error) {
    await handle.close()
    throw error
  }
}

/**
 * A file to write, new or emptied first; a block device or pipe is written as it is, and what standard output is
 * open on is written through it.
 */
export async function openTargetFile(path: string): Promise<Side> {
  if (isStandardOutput(path)) return createStandardSide('stdout')
  const stats = await stat(path).catch(nothingThere)
  if (stats?.isDirectory()) throw new ArgumentTypeError(`${path} is a directory, not a file`)
  const size = stats?.isBlockDevice() ? await sizeOf(stats) : undefined
  return fileSide(path, stats, size, null)
}

/** True for `-`, and for a path of what standard output is open on: /dev/stdout, or the file that it goes to. */
export function isStandardOutput(path: string): boolean {
  if (path === '-') return true
  const there = fs.statSync(path, { throwIfNoEntry: false })
  const output = standardStats('stdout')
  return there?.ino === output?.ino && there?.dev === output?.dev && there !== undefined
}

/** Standard input, to be read, and standard output, to be written. */
export function createStandardSide(name: 'stdin' | 'stdout'): Side {
  const stats = standardStats(name)
  return {
    name,
    ns: null,
    slba: 0,
    blocksize: 1,
    size: undefined,
    rereadable: false,
    hardware: false,
    file: stats && fileIdentity(stats),
    read: (bytes, { signal }) => readStream(process.stdin, bytes, signal),
    write: (chunks, _bytes, { signal }) => writeStream(process.stdout, chunks, signal),
    close: async () => {},
  }
}

function standardStats(name: 'stdin' | 'stdout'): Stats | undefined {
  try {
    return fs.fstatSync(name === 'stdin' ? 0 : 1)
  } catch {
    // It is closed: reading or writing it will say so.
    return undefined
  }
}

// A FIFO is opened without waiting for its other end: an open that waits in the kernel can't be ended.
function fifoSource(path: string): Side {
  const fd = fs.openSync(path, O_RDONLY | O_NONBLOCK)
  const stats = fs.fstatSync(fd)
  let stream: Socket | undefined
  return {
    ...fileSide(path, stats, undefined, null),
    read: (bytes, { signal }) => {
      stream = new Socket({ fd, readable: true, writable: false })
      return readStream(stream, bytes, signal)
    },
    close: async () => {
      if (stream === undefined) fs.closeSync(fd)
      else stream.destroy()
    },
  }
}

/** Opens a FIFO to write when somebody has opened it to read. */
async function openFifo(path: string, signal: AbortSignal | undefined): Promise<Socket> {
  for (;;) {
    try {
      const fd = fs.openSync(path, O_WRONLY | O_NONBLOCK)
      return new Socket({ fd, readable: false, writable: true })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw error
    }
    await sleep(FIFO_LOOK_MS, undefined, { signal }).catch(() => {
      throw new AbortError(signal?.reason)
    })
  }
}

function fileSide(
  path: string,
  stats: Stats | undefined,
  size: number | undefined,
  handle: FileHandle | null,
): Side {
  const seekable = isSeekable(stats)
  return {
    name: path,
    ns: null,
    slba: 0,
    blocksize: 1,
    size,
    rereadable: seekable,
    hardware: stats?.isBlockDevice() ?? false,
    file: stats && fileIdentity(stats),
    read: (bytes, { signal }) => {
      if (size !== undefined) return readFile(handle!, Math.min(bytes ?? Infinity, size), signal)
      const from = { fd: handle!, autoClose: false, ...(seekable && { start: 0 }) }
      return readStream(createReadStream(path, from), bytes, signal)
    },
    write: (chunks, _bytes, options) => writeTarget(path, stats, chunks, options),
    ...(seekable && handle !== null && { readAt: (buffer, at) => readFully(handle, buffer, at) }),
    ...(seekable && {
      writeAt: (write, options) =>
        withTarget(path, options, (file) => write((data, at) => writeFully(file, data, at))),
    }),
    close: async () => handle?.close(),
  }
}

function isSeekable(stats: Stats | undefined): boolean {
  return stats === undefined || stats.isFile() || stats.isBlockDevice()
}

async function writeTarget(
  path: string,
  stats: Stats | undefined,
  chunks: Chunks,
  options: TransferOptions,
): Promise<number> {
  const { signal } = options
  if (stats?.isFIFO()) return writeStream(await openFifo(path, signal), chunks, signal)
  if (!isSeekable(stats)) return writeStream(createWriteStream(path), chunks, signal)
  return withTarget(path, options, (handle) => writeFile(handle, chunks, options.signal))
}

/** Opens a file, empties it, and sees to it that what `write` has written is on the medium. */
async function withTarget(
  path: string,
  { flush = true }: TransferOptions,
  write: (handle: FileHandle) => Promise<number>,
): Promise<number> {
  const handle = await open(path, 'w')
  try {
    const bytes = await write(handle)
    if (flush) await handle.datasync()
    return bytes
  } finally {
    await handle.close()
  }
}

async function* readStream(stream: Readable, bytes = Infinity, signal?: AbortSignal): Chunks {
  let left = bytes
  if (left === 0) return
  const end = () => stream.destroy(new AbortError(signal?.reason))
  if (signal?.aborted) end()
  signal?.addEventListener('abort', end, { once: true })
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      yield chunk.length <= left ? chunk : chunk.subarray(0, left)
      left -= chunk.length
      if (left <= 0) return
    }
  } finally {
    signal?.removeEventListener('abort', end)
  }
}

// The next chunk is asked for when this one has been taken, since it is only lent.
async function writeStream(stream: Writable, chunks: Chunks, signal?: AbortSignal): Promise<number> {
  if (stream === process.stdout) return writeChunks(stream, chunks, signal)
  // Reported by the write that failed; without a listener it would be the process's.
  stream.on('error', () => {})
  // A reader that takes nothing is not waited for.
  const end = () => stream.destroy(new AbortError(signal?.reason))
  if (signal?.aborted) end()
  signal?.addEventListener('abort', end, { once: true })
  try {
    const bytes = await writeChunks(stream, chunks, signal)
    await finished(stream.end())
    return bytes
  } finally {
    signal?.removeEventListener('abort', end)
    stream.destroy()
  }
}

async function writeChunks(stream: Writable, chunks: Chunks, signal?: AbortSignal): Promise<number> {
  let bytes = 0
  for await (const chunk of chunks) {
    if (signal?.aborted) throw new AbortError(signal.reason)
    await new Promise<void>((resolve, reject) => {
      stream.write(chunk, (error) => (error ? reject(error) : resolve()))
    })
    bytes += chunk.length
  }
  return bytes
}

/** True for an attribute of sysfs or the like, which is shorter than its size says. */
async function isPageSized(path: string, stats: Stats): Promise<boolean> {
  // Nothing else that has content takes no blocks, but for files with holes only.
  if (!stats.isFile() || stats.blocks > 0) return false
  return PAGE_SIZED.has((await statfs(path)).type)
}

/** Bytes of a file or of a block device; undefined for what has no size. */
async function sizeOf(stats: Stats): Promise<number | undefined> {
  if (stats.isFile()) return stats.size
  if (!stats.isBlockDevice()) return undefined
  // Linux's encoding of device numbers, and sectors of 512 bytes whatever the device's own are.
  const major = ((stats.rdev >>> 8) & 0xfff) | (Math.floor(stats.rdev / 2 ** 32) & ~0xfff)
  const minor = (stats.rdev & 0xff) | ((stats.rdev >>> 12) & 0xfff00)
  const sectors = await readText(`/sys/dev/block/${major}:${minor}/size`, 'utf8').catch(() => undefined)
  return sectors === undefined ? undefined : Number(sectors) * 512
}

/**
 * What tells a file from all others, whatever its path. Undefined for what may be read and written at once: terminals,
 * /dev/null, sockets.
 */
export function fileIdentity(stats: Stats): string | undefined {
  if (stats.isBlockDevice()) return `block ${stats.rdev}`
  return stats.isFile() || stats.isFIFO() ? `${stats.dev}:${stats.ino}` : undefined
}

function nothingThere(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}
