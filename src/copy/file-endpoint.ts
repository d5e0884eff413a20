// A file, block device, pipe, or standard input or output as one endpoint of a copy or a comparison.
// A file that is written is opened, and emptied, only when its data comes: what is found wrong
// before leaves it as it was. A block device is held from the start, so that it can't be mounted meanwhile.

import fs, { createReadStream, createWriteStream, fstatSync, type Stats, statSync } from 'node:fs'
import { type FileHandle, open, stat, statfs } from 'node:fs/promises'
import { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { AbortError, ArgumentTypeError, InUseError } from '../../lib/errors.ts'
import { onAbort, throwIfAborted } from '../../lib/sys/abort.ts'
import { deviceBlockBytes, deviceBytes } from '../system/block-device.ts'
import {
  fileIdentity,
  openToWrite,
  refuseBelowDev,
  usesText,
  type WritingOptions,
} from '../system/writable.ts'
import type { Chunks, Endpoint, TransferOptions } from './endpoint.ts'
import { fileExtents } from './extents.ts'
import { readFully, writeFully } from './file-io.ts'
import { createFileWriter, createStreamWriter } from './writers.ts'

const writeDescriptor = promisify(fs.write)
const { O_NONBLOCK, O_RDONLY, O_WRONLY } = fs.constants
// How often a FIFO without a reader is looked at.
const FIFO_LOOK_MS = 20
/** Types of file systems (statfs) whose files have a page's size, whatever can be read: sysfs, configfs. */
const PAGE_SIZED = new Set([0x62656572, 0x62656570])

/** Opens a file to read, and finds its size. Throws the system's error, ArgumentTypeError for a directory. */
export async function openSourceFile(path: string): Promise<Endpoint> {
  if ((await stat(path).catch(() => undefined))?.isFIFO()) return fifoSource(path)
  const handle = await open(path, 'r')
  try {
    const stats = await handle.stat()
    if (stats.isDirectory()) throw new ArgumentTypeError(`${path} is a directory, not a file`)
    // 0 is what /proc says of files that have content: their end is found by reading.
    const size = (await isPageSized(path, stats)) ? undefined : sizeOf(stats)
    return fileEndpoint(path, stats, size || undefined, handle)
  } catch (error) {
    await handle.close()
    throw error
  }
}

/**
 * A file to write, new or emptied first; a block device or pipe is written as it is.
 * Throws InUseError for a block device that the system uses, unless `force`; SystemCallError (`ENOENT`) for a path below
 * /dev where nothing is; ArgumentTypeError for a directory.
 */
export async function openTargetFile(
  path: string,
  options: Pick<WritingOptions, 'force' | 'forceWord'> = {},
): Promise<Endpoint> {
  const stats = await stat(path).catch(nothingThere)
  if (stats?.isDirectory()) throw new ArgumentTypeError(`${path} is a directory, not a file`)
  if (stats === undefined) refuseBelowDev(path)
  const seekable = isSeekable(stats)
  const device = stats?.isBlockDevice() ? await openToWrite(path, options) : undefined
  const now = device?.stats ?? stats
  const endpoint = fileEndpoint(path, now, now?.isBlockDevice() ? sizeOf(now) : undefined, null)
  if (!seekable) return endpoint
  let handle = device?.handle
  let isNew = false
  const empty = async (keep = false) => {
    if (handle !== undefined) return handle
    const opened = await openToWrite(path, { ...options, create: true })
    handle = opened.handle
    // The user has not been asked about that.
    if (opened.stats.isBlockDevice()) throw new InUseError(`${path} has become a block device meanwhile`)
    isNew = !keep
    if (!keep && opened.stats.isFile() && opened.stats.size > 0) await handle.truncate()
    return handle
  }
  const write = async (how: TransferOptions, work: (handle: FileHandle) => Promise<number>) => {
    const file = await empty()
    const bytes = await work(file)
    if (how.flush ?? true) await file.datasync()
    return bytes
  }
  return {
    ...endpoint,
    uses: device && device.uses.length > 0 ? usesText(device.uses) : undefined,
    empty: async () => {
      await empty()
    },
    write: (chunks, _bytes, options) => write(options, (file) => writeFile(file, chunks, options.signal)),
    writeAt: (work, options) => write(options, (file) => work((data, at) => writeFully(file, data, at))),
    writer: async ({ keep }) => {
      const file = await empty(keep)
      const isFile = device === undefined
      const align = isFile ? 1 : deviceBlock(now!)
      const readBack = () => open(`/proc/self/fd/${file.fd}`, 'r')
      return createFileWriter(file, readBack, { known: isFile && isNew, align, isFile })
    },
    descriptor: () => handle?.fd,
    close: async () => handle?.close(),
  }
}

/** Bytes of a block of a block device: what is written of it in part would be read first, by the kernel. */
function deviceBlock(stats: Stats): number {
  try {
    return deviceBlockBytes(stats)
  } catch {
    return 512
  }
}

/**
 * Standard output to write. One that is a block device is asked about, and refused where it is in use, as by its path.
 * @throws InUseError
 */
export async function openStandardOutput(options: WritingOptions = {}): Promise<Endpoint> {
  const endpoint = createStandardEndpoint('stdout')
  const stats = standardStats('stdout')
  if (!stats?.isBlockDevice()) return endpoint
  const { handle, uses } = await openToWrite('/proc/self/fd/1', { ...options, inherited: true })
  const device: Endpoint = {
    ...endpoint,
    writer: async ({ signal, flush }) =>
      createStreamWriter((chunks) => device.write(chunks, undefined, { signal, flush })),
    size: sizeOf(stats),
    hardware: true,
    uses: uses.length > 0 ? usesText(uses) : undefined,
    // Node's own stream drops what it is given there. From where the descriptor stands, as a pipe of commands expects.
    write: async (chunks, _bytes, { signal, flush = true }) => {
      let bytes = 0
      for await (const chunk of chunks) {
        throwIfAborted(signal)
        for (let at = 0; at < chunk.length; ) at += (await writeDescriptor(1, chunk, at)).bytesWritten
        bytes += chunk.length
      }
      if (flush) await handle.datasync()
      return bytes
    },
    close: () => handle.close(),
  }
  return device
}

/** Standard input, to be read, and standard output, to be written. */
export function createStandardEndpoint(name: 'stdin' | 'stdout'): Endpoint {
  const stats = standardStats(name)
  const endpoint: Endpoint = {
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
    writer: async ({ signal }) =>
      createStreamWriter((chunks) => endpoint.write(chunks, undefined, { signal })),
    close: async () => {},
  }
  return endpoint
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
function fifoSource(path: string): Endpoint {
  const fd = fs.openSync(path, O_RDONLY | O_NONBLOCK)
  const stats = fs.fstatSync(fd)
  let stream: Socket | undefined
  return {
    ...fileEndpoint(path, stats, undefined, null),
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

/** Opens a FIFO to write when a reader has opened it. */
async function openFifo(path: string, signal: AbortSignal | undefined): Promise<Socket> {
  for (;;) {
    try {
      const fd = fs.openSync(path, O_WRONLY | O_NONBLOCK)
      return new Socket({ fd, readable: false, writable: true })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw error
    }
    await untilAborted(sleep(FIFO_LOOK_MS), signal)
  }
}

function fileEndpoint(
  path: string,
  stats: Stats | undefined,
  size: number | undefined,
  handle: FileHandle | null,
): Endpoint {
  const seekable = isSeekable(stats)
  const endpoint: Endpoint = {
    name: path,
    ns: null,
    slba: 0,
    blocksize: 1,
    size,
    rereadable: seekable,
    hardware: stats?.isBlockDevice() ?? false,
    file:
      stats &&
      fileIdentity(
        handle === null ? statSync(path, { bigint: true }) : fstatSync(handle.fd, { bigint: true }),
      ),
    writer: async ({ signal }) =>
      createStreamWriter((chunks) => endpoint.write(chunks, undefined, { signal })),
    read: (bytes, { signal }) => {
      if (size !== undefined) return readFile(handle!, Math.min(bytes ?? Infinity, size), signal)
      const from = { fd: handle!, autoClose: false, ...(seekable && { start: 0 }) }
      return readStream(createReadStream(path, from), bytes, signal)
    },
    write: async (chunks, _bytes, { signal }) =>
      writeStream(stats?.isFIFO() ? await openFifo(path, signal) : createWriteStream(path), chunks, signal),
    ...(seekable && handle !== null && { readAt: (buffer, at) => readFully(handle, buffer, at) }),
    ...(stats?.isFile() &&
      handle !== null && { extents: (from: number, bytes: number) => fileExtents(handle.fd, from, bytes) }),
    descriptor: () => handle?.fd,
    close: async () => handle?.close(),
  }
  return endpoint
}

function isSeekable(stats: Stats | undefined): boolean {
  return stats === undefined || stats.isFile() || stats.isBlockDevice()
}

async function* readStream(stream: Readable, bytes = Infinity, signal?: AbortSignal): Chunks {
  let left = bytes
  if (left === 0) return
  const end = () => stream.destroy(new AbortError(signal?.reason))
  if (signal?.aborted) end()
  const forget = onAbort(signal, end)
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      yield chunk.length <= left ? chunk : chunk.subarray(0, left)
      left -= chunk.length
      if (left <= 0) return
    }
  } finally {
    forget()
  }
}

// The next chunk is asked for when this one has been taken, since it is valid until then.
async function writeStream(stream: Writable, chunks: Chunks, signal?: AbortSignal): Promise<number> {
  // Standard output stays open: what it has not taken is the process's to drop.
  if (stream === process.stdout) return writeChunks(stream, chunks, signal)
  // Reported by the write that failed; without a listener it would be the process's.
  stream.on('error', () => {})
  try {
    const bytes = await writeChunks(stream, chunks, signal)
    await untilAborted(finished(stream.end()), signal)
    return bytes
  } finally {
    stream.destroy()
  }
}

async function writeChunks(stream: Writable, chunks: Chunks, signal?: AbortSignal): Promise<number> {
  let bytes = 0
  for await (const chunk of chunks) {
    throwIfAborted(signal)
    const taken = new Promise<void>((resolve, reject) => {
      stream.write(chunk, (error) => (error ? reject(error) : resolve()))
    })
    await untilAborted(taken, signal)
    bytes += chunk.length
  }
  return bytes
}

/** Waits for a reader to take something, and no longer than until the abort: there are readers that take nothing. */
async function untilAborted(taken: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  throwIfAborted(signal)
  let forget = () => {}
  const aborted = new Promise<never>((_, reject) => {
    forget = onAbort(signal, () => reject(new AbortError(signal?.reason)))
  })
  try {
    await Promise.race([taken, aborted])
  } finally {
    forget()
  }
}

/** True for an attribute of sysfs or the like, which is shorter than its size says. */
async function isPageSized(path: string, stats: Stats): Promise<boolean> {
  // Nothing else that has content takes no blocks, but for files with holes only.
  if (!stats.isFile() || stats.blocks > 0) return false
  return PAGE_SIZED.has((await statfs(path)).type)
}

/** Bytes of a file or of a block device; undefined for what has no size. */
function sizeOf(stats: Stats): number | undefined {
  if (stats.isFile()) return stats.size
  if (!stats.isBlockDevice()) return undefined
  try {
    return deviceBytes(stats)
  } catch {
    return undefined
  }
}

function nothingThere(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}

const PIECE_BYTES = 1 << 20
// libuv has four threads.
const PIECES = 4

/** The bytes of a file from `start` on; ends early where the file does. Each chunk is valid until the next step. */
export async function* readFile(handle: FileHandle, bytes: number, signal?: AbortSignal, start = 0): Chunks {
  const buffers = Array.from({ length: PIECES }, () => Buffer.allocUnsafeSlow(PIECE_BYTES))
  const reads: Promise<Buffer>[] = []
  let asked = 0
  const ask = () => {
    const buffer = buffers[(asked / PIECE_BYTES) % PIECES]!.subarray(0, bytes - asked)
    const read = readFully(handle, buffer, start + asked).then((bytes) => buffer.subarray(0, bytes))
    // An error is reported in its order: see the loop below.
    read.catch(() => {})
    reads.push(read)
    asked += buffer.length
  }
  try {
    while (asked < bytes && reads.length < PIECES) ask()
    while (reads.length > 0) {
      const data = await reads.shift()!
      throwIfAborted(signal)
      if (data.length > 0) yield data
      if (asked < bytes) ask()
    }
  } finally {
    await Promise.allSettled(reads)
  }
}

/** Writes the chunks from the file's start on. Returns the bytes written. */
async function writeFile(handle: FileHandle, chunks: Chunks, signal?: AbortSignal): Promise<number> {
  const buffers = Array.from({ length: PIECES }, () => Buffer.allocUnsafeSlow(PIECE_BYTES))
  const writes: Promise<void>[] = buffers.map(() => Promise.resolve())
  let current = 0
  let filled = 0
  let position = 0
  const send = () => {
    const write = writeFully(handle, buffers[current]!.subarray(0, filled), position)
    write.catch(() => {})
    writes[current] = write
    position += filled
    filled = 0
    current = (current + 1) % PIECES
  }
  try {
    for await (const chunk of chunks) {
      throwIfAborted(signal)
      for (let at = 0; at < chunk.length; ) {
        const part = chunk.subarray(at, at + PIECE_BYTES - filled)
        buffers[current]!.set(part, filled)
        filled += part.length
        at += part.length
        if (filled < PIECE_BYTES) continue
        send()
        await writes[current]
      }
    }
    if (filled > 0) send()
    await Promise.all(writes)
    return position
  } finally {
    await Promise.allSettled(writes)
  }
}
