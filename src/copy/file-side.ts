// A file, block device, pipe, or standard input or output as one side of a copy or a comparison.
// Trade-off: a file that is written is opened, and emptied, only when its data comes: what is found wrong
// before leaves it as it was.

import { createReadStream, createWriteStream, type Stats } from 'node:fs'
import { type FileHandle, open, readFile as readText, stat } from 'node:fs/promises'
import type { Readable, Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { onAbort } from '../../lib/abort.ts'
import { AbortError, ArgumentTypeError } from '../../lib/errors.ts'
import { readFile, readFully, writeFile, writeFully } from './file-chunks.ts'
import type { Chunks, Side, TransferOptions } from './side.ts'

/** Opens a file to read, and finds its size. Throws the system's error, ArgumentTypeError for a directory. */
export async function openSourceFile(path: string): Promise<Side> {
  const handle = await open(path, 'r')
  try {
    const stats = await handle.stat()
    if (stats.isDirectory()) throw new ArgumentTypeError(`${path} is a directory, not a file`)
    const size = await sizeOf(stats)
    return fileSide(path, stats, size, handle)
  } catch (error) {
    await handle.close()
    throw error
  }
}

/** A file to write, new or emptied first; a block device or pipe is written as it is. */
export async function openTargetFile(path: string): Promise<Side> {
  const stats = await stat(path).catch(nothingThere)
  if (stats?.isDirectory()) throw new ArgumentTypeError(`${path} is a directory, not a file`)
  const size = stats?.isBlockDevice() ? await sizeOf(stats) : undefined
  return fileSide(path, stats, size, null)
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
    file: stats && fileIdentity(stats),
    read: (bytes, { signal }) => {
      if (seekable) return readFile(handle!, Math.min(bytes ?? Infinity, size ?? 0), signal)
      return readStream(createReadStream(path, { fd: handle!, autoClose: false }), bytes, signal)
    },
    write: (chunks, _bytes, options) => writeTarget(path, seekable, chunks, options),
    ...(seekable && handle !== null && { readAt: (buffer, at) => readFully(handle, buffer, at) }),
    ...(seekable && {
      writeAt: (write, options) =>
        withTarget(path, options, (file) => write((data, at) => writeFully(file, data, at))),
    }),
    close: async () => handle?.close(),
  }
}

async function writeTarget(
  path: string,
  seekable: boolean,
  chunks: Chunks,
  options: TransferOptions,
): Promise<number> {
  if (!seekable) return writeStream(createWriteStream(path), chunks, options.signal)
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
async function sizeOf(stats: Stats): Promise<number | undefined> {
  if (stats.isFile()) return stats.size
  if (!stats.isBlockDevice()) return undefined
  // Linux's encoding of device numbers, and sectors of 512 bytes whatever the device's own are.
  const major = ((stats.rdev >>> 8) & 0xfff) | (Math.floor(stats.rdev / 2 ** 32) & ~0xfff)
  const minor = (stats.rdev & 0xff) | ((stats.rdev >>> 12) & 0xfff00)
  const sectors = await readText(`/sys/dev/block/${major}:${minor}/size`, 'utf8').catch(() => undefined)
  return sectors === undefined ? undefined : Number(sectors) * 512
}

/** What tells a file from all others, whatever its path. */
export function fileIdentity({ dev, ino }: Stats): string {
  return `${dev}:${ino}`
}

function nothingThere(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}
