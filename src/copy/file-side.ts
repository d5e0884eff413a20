// A file, block device, pipe, or standard input or output as one side of a copy or a comparison.
// Trade-off: a file that is written is opened, and emptied, only when its data comes: what is found wrong
// before leaves it as it was. A block device is held from the start, so that nobody mounts it meanwhile.

import {
  type BigIntStats,
  createReadStream,
  createWriteStream,
  fstatSync,
  type Stats,
  statSync,
} from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import type { Readable, Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { AbortError, ArgumentTypeError, InUseError } from '../../lib/errors.ts'
import { imageIdentity } from '../../lib/sim/index.ts'
import { deviceBytes, deviceNumber } from '../system/block-device.ts'
import { openToWrite, refuseBelowDev, usesText } from '../system/writable.ts'
import { readFile, readFully, writeFile, writeFully } from './file-chunks.ts'
import type { Chunks, Side, TransferOptions } from './side.ts'

/** Opens a file to read, and finds its size. Throws the system's error, ArgumentTypeError for a directory. */
export async function openSourceFile(path: string): Promise<Side> {
  const handle = await open(path, 'r')
  try {
    const stats = await handle.stat()
    if (stats.isDirectory()) throw new ArgumentTypeError(`${path} is a directory, not a file`)
    const size = sizeOf(stats)
    return fileSide(path, stats, size, handle)
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
export async function openTargetFile(path: string, force = false): Promise<Side> {
  const stats = await stat(path).catch(nothingThere)
  if (stats?.isDirectory()) throw new ArgumentTypeError(`${path} is a directory, not a file`)
  if (stats === undefined) refuseBelowDev(path)
  const seekable = stats === undefined || stats.isFile() || stats.isBlockDevice()
  const device = stats?.isBlockDevice() ? await openToWrite(path, { force }) : undefined
  const now = device?.stats ?? stats
  const side = fileSide(path, now, now?.isBlockDevice() ? sizeOf(now) : undefined, null)
  if (!seekable) return side
  let handle = device?.handle
  const empty = async () => {
    if (handle !== undefined) return handle
    const opened = await openToWrite(path, { force, create: true })
    handle = opened.handle
    // Nobody has been asked about that.
    if (opened.stats.isBlockDevice()) throw new InUseError(`${path} has become a block device meanwhile`)
    if (opened.stats.isFile() && opened.stats.size > 0) await handle.truncate()
    return handle
  }
  const write = async (how: TransferOptions, work: (handle: FileHandle) => Promise<number>) => {
    const file = await empty()
    const bytes = await work(file)
    if (how.flush ?? true) await file.datasync()
    return bytes
  }
  return {
    ...side,
    uses: device && device.uses.length > 0 ? usesText(device.uses) : undefined,
    empty: async () => {
      await empty()
    },
    write: (chunks, _bytes, options) => write(options, (file) => writeFile(file, chunks, options.signal)),
    writeAt: (work, options) => write(options, (file) => work((data, at) => writeFully(file, data, at))),
    close: async () => handle?.close(),
  }
}

/** Standard input, to be read, and standard output, to be written. */
export function createStandardSide(name: 'stdin' | 'stdout'): Side {
  return {
    name,
    ns: null,
    slba: 0,
    blocksize: 1,
    size: undefined,
    rereadable: false,
    hardware: false,
    file: undefined,
    read: (bytes, { signal }) => readStream(process.stdin, bytes, signal),
    write: (chunks, _bytes, { signal }) => writeStream(process.stdout, chunks, signal),
    close: async () => {},
  }
}

function fileSide(
  path: string,
  stats: Stats | undefined,
  size: number | undefined,
  handle: FileHandle | null,
): Side {
  const seekable = stats === undefined || stats.isFile() || stats.isBlockDevice()
  return {
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
    read: (bytes, { signal }) => {
      if (seekable) return readFile(handle!, Math.min(bytes ?? Infinity, size ?? 0), signal)
      return readStream(createReadStream(path, { fd: handle!, autoClose: false }), bytes, signal)
    },
    write: (chunks, _bytes, { signal }) => writeStream(createWriteStream(path), chunks, signal),
    ...(seekable && handle !== null && { readAt: (buffer, at) => readFully(handle, buffer, at) }),
    close: async () => handle?.close(),
  }
}

async function* readStream(stream: Readable, bytes = Infinity, signal?: AbortSignal): Chunks {
  let left = bytes
  if (left === 0) return
  const end = () => stream.destroy(new AbortError(signal?.reason))
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
  let bytes = 0
  // Reported by the write that failed; without a listener it would be the process's.
  if (stream !== process.stdout) stream.on('error', () => {})
  for await (const chunk of chunks) {
    if (signal?.aborted) throw new AbortError(signal.reason)
    await new Promise<void>((resolve, reject) => {
      stream.write(chunk, (error) => (error ? reject(error) : resolve()))
    })
    bytes += chunk.length
  }
  if (stream !== process.stdout) await finished(stream.end())
  return bytes
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

/** What tells a file from all others, whatever its path: a block device by its number, whatever its node. */
export function fileIdentity(
  stats: Pick<Stats | BigIntStats, 'dev' | 'ino' | 'rdev' | 'isBlockDevice'>,
): string {
  return stats.isBlockDevice() ? `block ${deviceNumber(stats)}` : imageIdentity(stats)
}

function nothingThere(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}
