// Compressed sources, recognized by their content: gzip by node:zlib, the others by the system's programs, zstd by node:zlib where
// there is no program, and the one file of a zip archive. What is an image format of its own is refused: its bytes are no disk's. And targets that are
// compressed on the way.
// A program runs on a core of its own, and no library for xz and bzip2 comes near it. Node's zstd ends after the first
// frame of several: what it leaves is an error here, and never the end of the data.

import { spawn } from 'node:child_process'
import fs from 'node:fs'
import { Socket, type SocketConstructorOpts } from 'node:net'
import path from 'node:path'
import { PassThrough, Readable, type Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import zlib from 'node:zlib'
import { AbortError, DecodeError, UnsupportedError } from '../../lib/errors.ts'
import { onAbort, throwIfAborted } from '../../lib/sys/abort.ts'
import { createPipe } from '../../lib/sys/libc.ts'
import type { Compression } from './choices.ts'
import type { Chunks, Endpoint, TransferOptions } from './endpoint.ts'
import { createStreamWriter } from './writers.ts'
import { checkedEntry, entryBytes, onlyEntry, type ZipEntry } from './zip.ts'

/** Bytes that tell what a file is. */
const HEAD_BYTES = 512
const ZLIB_CHUNK_BYTES = 256 * 1024
// What Linux lets a pipe hold without privileges.
const PIPE_BYTES = 2 ** 20

interface Format {
  readonly name: string
  /** Its first bytes. */
  readonly magic: string
  /** Where they stand; default 0. */
  readonly at?: number
  /** By this Node. */
  readonly create?: (() => Transform) | undefined
  /** By this program, with `-dc`. */
  readonly program?: string
  /** Why it is refused. */
  readonly hint?: (name: string) => string
}

// The types of Node 20 have no zstd.
const { createZstdCompress, createZstdDecompress } = zlib as typeof zlib & {
  createZstdCompress?: (options: object) => Transform
  createZstdDecompress?: (options: object) => Transform
}
const chunkSize = ZLIB_CHUNK_BYTES

const throughNbd = (name: string) => `serve it by qemu-nbd --read-only ${name}, and copy from there`
const archive = (program: string) => (name: string) =>
  `copy one file of it: ${program} ${name} | unvme copy - DST`

const FORMATS: readonly Format[] = [
  { name: 'gzip', magic: '1f8b08', create: () => zlib.createGunzip({ chunkSize }), program: 'gzip' },
  {
    name: 'zstd',
    magic: '28b52ffd',
    create: createZstdDecompress && (() => createZstdDecompress({ chunkSize })),
    program: 'zstd',
  },
  // What pzstd and others put before the first frame: one that is to be skipped.
  ...['50', '51', '52', '53', '54', '55', '56', '57', '58', '59', '5a', '5b', '5c', '5d', '5e', '5f'].map(
    (first): Format => ({
      name: 'zstd',
      magic: `${first}2a4d18`,
      create: createZstdDecompress && (() => createZstdDecompress({ chunkSize })),
      program: 'zstd',
    }),
  ),
  { name: 'xz', magic: 'fd377a585a00', program: 'xz' },
  { name: 'bzip2', magic: '425a68', program: 'bzip2' },
  { name: 'lz4', magic: '04224d18', program: 'lz4' },
  { name: 'lzip', magic: '4c5a495001', program: 'lzip' },
  { name: 'qcow2', magic: '514649fb', hint: throughNbd },
  { name: 'VMDK', magic: '4b444d56', hint: throughNbd },
  { name: 'VMDK', magic: Buffer.from('# Disk DescriptorFile').toString('hex'), hint: throughNbd },
  { name: 'VHDX', magic: Buffer.from('vhdxfile').toString('hex'), hint: throughNbd },
  { name: 'VHD', magic: Buffer.from('conectix').toString('hex'), hint: throughNbd },
  { name: 'QED', magic: '51454400', hint: throughNbd },
  {
    name: 'an Android sparse image',
    magic: '3aff26ed',
    hint: (name) => `make it one by simg2img ${name} DISK.img`,
  },
  { name: 'VDI', magic: '7f10dabe', at: 64, hint: throughNbd },
  {
    name: 'zip',
    magic: '504b0304',
    create: () => zlib.createInflateRaw({ chunkSize }),
    hint: archive('unzip -p'),
  },
  { name: '7z', magic: '377abcaf271c', hint: archive('7z x -so') },
]

/** What these first bytes are the beginning of; undefined for plain data. */
function formatOf(head: Buffer): Format | undefined {
  return FORMATS.find(({ name, magic, at = 0 }) => {
    const bytes = Buffer.from(magic, 'hex')
    if (!head.subarray(at, at + bytes.length).equals(bytes)) return false
    // Three letters may begin anything: the block size, and the first block's or the end's mark, come after them.
    const [level = 0, mark = 0] = [head[3], head[4]]
    return name !== 'bzip2' || (level >= 0x31 && level <= 0x39 && (mark === 0x31 || mark === 0x17))
  })
}

/** What is read of a source, and what its file holds. */
export interface Unpacked {
  readonly endpoint: Endpoint
  /** `gzip` and the like, where it is compressed. */
  readonly format: string | undefined
}

/**
 * The same source; where its content is compressed, what that holds.
 * @param raw take the bytes as they are
 * @param onStored called with the bytes of the file, in order, where they are decompressed
 * @throws UnsupportedError for an image format of its own, and an archive
 */
export async function unpacked(
  source: Endpoint,
  raw: boolean,
  signal: AbortSignal | undefined,
  onStored?: (data: Uint8Array) => void,
): Promise<Unpacked> {
  // Nothing is asked of a device: its bytes are those of a disk.
  if (raw || source.ns !== null || source.hardware) return { endpoint: source, format: undefined }
  const { head, rest } = await peek(source, signal)
  const format = formatOf(head)
  if (format === undefined) return { endpoint: rest, format: undefined }
  const { name, hint } = format
  const entry = name === 'zip' ? await onlyEntry(rest) : undefined
  if (entry !== undefined) return { endpoint: unzipped(rest, format, entry, onStored), format: name }
  if (hint !== undefined) {
    throw new UnsupportedError(
      `${source.name} is ${name}, and not the bytes of a disk: ${hint(source.name)} (raw copies it as it is)`,
    )
  }
  const endpoint: Endpoint = {
    ...rest,
    size: undefined,
    extents: undefined,
    readAt: undefined,
    descriptor: () => undefined,
    read: (bytes, options) => decompress(rest, format, bytes, options, onStored),
  }
  return { endpoint, format: name }
}

/** The content of the one file of a zip archive. */
function unzipped(
  archive: Endpoint,
  format: Format,
  entry: ZipEntry,
  onStored: ((data: Uint8Array) => void) | undefined,
): Endpoint {
  // A checksum beside it is of the archive, whose bytes are not all read on the way.
  const stored = async (options: TransferOptions) => {
    if (onStored === undefined) return
    for await (const chunk of archive.read(undefined, options)) onStored(chunk)
  }
  async function* read(bytes: number | undefined, options: TransferOptions): Chunks {
    await stored(options)
    const whole: Chunks = entry.isDeflated
      ? decompress(
          { ...archive, read: () => entryBytes(archive, entry) },
          format,
          undefined,
          options,
          undefined,
        )
      : entryBytes(archive, entry)
    let left = bytes ?? Number.POSITIVE_INFINITY
    for await (const chunk of checkedEntry(whole, entry, archive.name)) {
      throwIfAborted(options.signal)
      yield chunk.length <= left ? chunk : chunk.subarray(0, left)
      left -= chunk.length
      if (left <= 0) return
    }
  }
  const none = { extents: undefined, readAt: undefined, descriptor: () => undefined }
  return { ...archive, ...none, size: entry.bytes, read }
}

/** The first bytes of a source, and the source with them. */
async function peek(
  source: Endpoint,
  signal: AbortSignal | undefined,
): Promise<{ head: Buffer; rest: Endpoint }> {
  if (source.readAt !== undefined) {
    const head = Buffer.alloc(HEAD_BYTES)
    return { head: head.subarray(0, await source.readAt(head, 0)), rest: source }
  }
  const chunks = source.read(undefined, { signal })[Symbol.asyncIterator]()
  const first: Buffer[] = []
  let length = 0
  while (length < HEAD_BYTES) {
    const { done, value } = await chunks.next()
    if (done) break
    first.push(Buffer.from(value))
    length += value.length
  }
  const head = Buffer.concat(first)
  async function* read(bytes = Number.POSITIVE_INFINITY): Chunks {
    let left = bytes
    try {
      for (let chunk: Uint8Array = head; left > 0; ) {
        const part = chunk.length <= left ? chunk : chunk.subarray(0, left)
        left -= part.length
        if (part.length > 0) yield part
        if (left === 0) return
        const { done, value } = await chunks.next()
        if (done) return
        chunk = value
      }
    } finally {
      await chunks.return?.()
    }
  }
  const close = async () => {
    await chunks.return?.()
    await source.close()
  }
  return { head, rest: { ...source, read, close } }
}

async function* decompress(
  source: Endpoint,
  format: Format,
  bytes: number | undefined,
  options: TransferOptions,
  onStored: ((data: Uint8Array) => void) | undefined,
): Chunks {
  const { signal } = options
  let left = bytes ?? Number.POSITIVE_INFINITY
  const { name, create, program } = format
  const worker =
    create !== undefined && (name === 'gzip' || program === undefined || !isInstalled(program))
      ? byNode(create())
      : byProgram(format, source, onStored === undefined)
  let fedBytes = 0
  const forget = onAbort(signal, () => worker.end(new AbortError(signal?.reason)))
  const stored = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of source.read(undefined, options)) {
      onStored?.(chunk)
      fedBytes += chunk.length
      // A chunk is valid until the next is asked for, and a stream may keep several.
      yield Buffer.from(chunk)
    }
  }
  // Its failure is the reader's: see below.
  const fed = worker.reads === undefined ? Promise.resolve() : pipeline(Readable.from(stored()), worker.reads)
  fed.catch((error) => worker.end(error))
  try {
    throwIfAborted(signal)
    for await (const chunk of worker.chunks) {
      yield chunk.length <= left ? chunk : chunk.subarray(0, left)
      left -= chunk.length
      if (left <= 0) return
    }
    await worker.over
    // What follows a whole gzip file is no part of it.
    const used = name === 'gzip' ? fedBytes : (worker.used?.() ?? fedBytes)
    if (program !== undefined && used < fedBytes) {
      throw new Error(
        `its first part ends after ${used} bytes, and only the program ${program} reads the next`,
      )
    }
    await fed
  } catch (error) {
    throwIfAborted(signal)
    if (error instanceof UnsupportedError || (error as NodeJS.ErrnoException).code === 'EIO') throw error
    const { message } = error as Error
    throw new DecodeError(`${source.name} is no whole ${name} file: ${message}`, { cause: error })
  } finally {
    forget()
    worker.end()
    await fed.catch(() => {})
  }
}

/** What decompresses or compresses. */
interface Worker {
  /** Takes what is stored; undefined where it reads the file itself. */
  readonly reads: NodeJS.WritableStream | undefined
  readonly chunks: AsyncIterable<Buffer>
  /** Bytes that it has used of what it was given, where it may leave some. */
  used?(): number
  /** Rejects where it found something wrong. */
  readonly over: Promise<void>
  end(error?: Error): void
}

function byNode(transform: Transform): Worker {
  return {
    reads: transform,
    used: () => (transform as Transform & { bytesWritten: number }).bytesWritten,
    chunks: transform,
    over: Promise.resolve(),
    end: (error) => void transform.destroy(error),
  }
}

function byProgram({ name, program }: Format, source: Endpoint, direct: boolean): Worker {
  const fd = direct ? source.descriptor?.() : undefined
  // A position of its own, from the start.
  const own = fd === undefined ? undefined : fs.openSync(`/proc/self/fd/${fd}`, 'r')
  try {
    return runProgram(program!, ['-dc'], own ?? 'pipe', `${source.name} is ${name}`)
  } finally {
    if (own !== undefined) fs.closeSync(own)
  }
}

function runProgram(program: string, words: readonly string[], input: number | 'pipe', what: string): Worker {
  const { reader, writer } = createPipe(PIPE_BYTES)
  const output = readPipe(reader)
  // In a group of its own: Ctrl-C is for the copy, which ends the program and says how far it came.
  const child = spawn(program, words, { stdio: [input, writer, 'pipe'], detached: true })
  fs.closeSync(writer)
  let said = ''
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(0, 1000)
  })
  // A write to a program that has ended is the program's failure.
  child.stdin?.on('error', () => {})
  const over = new Promise<void>((resolve, reject) => {
    child.on('error', (error: NodeJS.ErrnoException) => {
      const missing = error.code === 'ENOENT'
      const why = missing ? `there is no program ${program} on this system` : error.message
      const failed = new UnsupportedError(`${what}: ${why}`, { cause: error })
      output.destroy(failed)
      reject(failed)
    })
    child.on('close', (code, killed) => {
      if (code === 0) resolve()
      else reject(new Error(said.trim() || `${program} ended with ${code ?? killed}`))
    })
  })
  over.catch(() => {})
  return {
    reads: child.stdin ?? undefined,
    chunks: output.chunks,
    over,
    end(error) {
      if (child.exitCode === null) child.kill()
      output.destroy(error)
    },
  }
}

/**
 * Reads a pipe into one buffer: each chunk is valid until the next step. A child's own standard output is read 64 KiB at a time
 * into memory that is new each time, which took half the time of a copy in the collector.
 * @param fd is closed at the end
 */
function readPipe(fd: number): { chunks: AsyncIterable<Buffer>; destroy(error?: Error): void } {
  const buffer = Buffer.allocUnsafeSlow(PIPE_BYTES)
  let filled = 0
  let ended = false
  let failed: Error | undefined
  let wake = () => {}
  const end = (error?: Error) => {
    failed ??= error
    ended = true
    wake()
  }
  const onread = {
    buffer,
    // False: it reads no more until `resume`.
    callback(bytes: number) {
      filled = bytes
      wake()
      return false
    },
  }
  // The types of Node 20 know it of connections only.
  const how: SocketConstructorOpts = Object.assign({ fd, readable: true, writable: false }, { onread })
  const socket = new Socket(how)
  socket.on('error', end).on('close', () => end())
  async function* chunks(): AsyncGenerator<Buffer> {
    for (;;) {
      if (failed !== undefined) throw failed
      if (filled > 0) {
        yield buffer.subarray(0, filled)
        filled = 0
        socket.resume()
      } else if (ended) return
      else {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    }
  }
  return { chunks: chunks(), destroy: (error) => void socket.destroy(error) }
}

function isInstalled(program: string): boolean {
  return (process.env.PATH ?? '').split(':').some((folder) => fs.existsSync(path.join(folder, program)))
}

/** The same target, which stores compressed what is written to it. */
export function packed(target: Endpoint, how: Compression): Endpoint {
  return {
    ...target,
    size: undefined,
    rereadable: false,
    writeAt: undefined,
    write: (chunks, _bytes, options) => target.write(compress(chunks, how, target.name), undefined, options),
    writer: async ({ signal, flush }) =>
      createStreamWriter((chunks) =>
        target.write(compress(chunks, how, target.name), undefined, { signal, flush }),
      ),
  }
}

async function* compress(chunks: Chunks, how: Compression, name: string): Chunks {
  const create =
    how === 'gzip'
      ? () => zlib.createGzip({ chunkSize })
      : createZstdCompress && (() => createZstdCompress({ chunkSize }))
  const worker = create
    ? byNode(create())
    : runProgram('zstd', ['-q', '-c', '-'], 'pipe', `${name} is to be ${how}`)
  const copies = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) yield Buffer.from(chunk)
  }
  // What goes wrong with the chunks ends what reads the compressed ones, with the same error.
  let failed: Error | undefined
  const fed = pipeline(Readable.from(copies()), worker.reads ?? new PassThrough()).catch((error) => {
    failed = error
    worker.end(error)
  })
  try {
    for await (const chunk of worker.chunks) yield chunk
    await worker.over
    await fed
    if (failed !== undefined) throw failed
  } finally {
    worker.end()
    await fed
  }
}
