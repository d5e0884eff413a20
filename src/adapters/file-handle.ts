// A namespace with the calls of fs.FileHandle, for code that takes one: positions in bytes, buffers of any kind, a position
// of its own that reads and writes without one move, and the streams of fs, which get their reads and writes from here.

import fs, { type ReadStream, type WriteStream } from 'node:fs'
import { constants } from 'node:os'
import { ArgumentTypeError, OutOfRangeError, SystemCallError } from '../../lib/errors.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import { show } from '../../lib/sys/show.ts'
import type { Namespace } from '../namespace/namespace.ts'
import { checkBoolean, checkInteger, checkOptions, checkSignal } from '../queue/validate.ts'
import { bytes, type NamespaceBytes } from './bytes.ts'

type Position = number | bigint | null | undefined

/** Where a read goes, or what a write takes: of a buffer, from `offset` on; at `position`, or at the handle's own. */
export interface FilePlace {
  offset?: number | null | undefined
  length?: number | null | undefined
  position?: Position
}

export interface FileReadOptions<B extends NodeJS.ArrayBufferView = Buffer> extends FilePlace {
  /** Default: 16 KiB that are allocated. */
  buffer?: B | undefined
}

/** Of the streams, as those of fs.FileHandle; `start` and `end` are bytes, and `end` is the last of them. */
export interface FileStreamOptions {
  encoding?: BufferEncoding | undefined
  start?: number | undefined
  highWaterMark?: number | undefined
  /** Close the handle with the stream. Default: true. */
  autoClose?: boolean | undefined
  emitClose?: boolean | undefined
  signal?: AbortSignal | undefined
}

export interface FileReadStreamOptions extends FileStreamOptions {
  end?: number | undefined
}

export interface FileWriteStreamOptions extends FileStreamOptions {
  /** Flush before the stream is closed. Default: false, as that of fs. */
  flush?: boolean | undefined
}

/** What `stat` tells: of a regular file, so that programs that look for one go on. */
export interface NamespaceStats {
  /** Bytes. */
  readonly size: number
  /** Bytes of a logical block, and 512-byte units of the whole, as those of stat(2). */
  readonly blksize: number
  readonly blocks: number
  readonly mode: number
  isFile(): boolean
  isDirectory(): boolean
  isBlockDevice(): boolean
  isCharacterDevice(): boolean
  isSymbolicLink(): boolean
  isFIFO(): boolean
  isSocket(): boolean
}

const STREAM_NAMES: OptionNames<FileStreamOptions> = {
  encoding: true,
  start: true,
  highWaterMark: true,
  autoClose: true,
  emitClose: true,
  signal: true,
}
const READ_STREAM_NAMES: OptionNames<FileReadStreamOptions> = { ...STREAM_NAMES, end: true }
const WRITE_STREAM_NAMES: OptionNames<FileWriteStreamOptions> = { ...STREAM_NAMES, flush: true }
const PLACE_NAMES: OptionNames<FilePlace> = { offset: true, length: true, position: true }
const READ_NAMES: OptionNames<FileReadOptions> = { ...PLACE_NAMES, buffer: true }

// Of a stream that is open: it has to be something, and not 0.
const STREAM_FD = 1
/** As that of FileHandle. */
const READ_BYTES = 16 * 1024

/** An open namespace as a file, see `fileHandle`. */
export class NamespaceFile implements AsyncDisposable {
  private readonly bytes: NamespaceBytes
  private readonly ns: Namespace
  private position = 0
  private closing: Promise<void> | null = null
  private readonly pending = new Set<Promise<unknown>>()

  /** Made by `fileHandle`. */
  constructor(ns: Namespace) {
    this.ns = ns
    this.bytes = bytes(ns)
  }

  /**
   * Reads into a buffer; fewer bytes than asked for, down to 0, at the end of the namespace.
   *
   * @param buffer any view, or options with one
   * @param offset first byte of the buffer that is filled, or the other options. Default: 0
   * @param length bytes. Default: what the buffer has from `offset` on
   * @param position first byte of the namespace; null, undefined and -1 stand for the handle's own position, which moves
   * @throws OutOfRangeError, ArgumentTypeError; SystemCallError EBADF when closed; NvmeError and others of the device
   */
  async read<B extends NodeJS.ArrayBufferView = Buffer>(
    buffer?: B | FileReadOptions<B> | null,
    offset?: number | FilePlace | null,
    length?: number | null,
    position?: Position,
  ): Promise<{ bytesRead: number; buffer: B }> {
    this.check('read')
    let view: B
    let place = offset
    if (ArrayBuffer.isView(buffer)) view = buffer
    else {
      const options = checkOptions('read', (buffer ?? {}) as unknown as FileReadOptions, READ_NAMES)
      const { buffer: own = Buffer.alloc(READ_BYTES), ...rest } = options
      view = own as unknown as B
      place = rest
    }
    const { part, at } = this.locate('read', view, place, length, position)
    const bytesRead = Math.min(part.length, Math.max(0, this.bytes.size - (at ?? this.position)))
    await this.move(at, bytesRead, (from) => this.bytes.read(part.subarray(0, bytesRead), from))
    return { bytesRead, buffer: view }
  }

  /**
   * Writes what a buffer or a string holds; fewer bytes where the namespace ends within it.
   *
   * @param data any view, or a string, which `(string, position, encoding)` follow
   * @throws as `read`; SystemCallError ENOSPC at the end of the namespace
   */
  async write<D extends NodeJS.ArrayBufferView | string>(
    data: D,
    offset?: number | bigint | FilePlace | null,
    length?: number | string | null,
    position?: Position,
  ): Promise<{ bytesWritten: number; buffer: D }> {
    this.check('write')
    const { part, at } =
      typeof data === 'string'
        ? this.locate('write', Buffer.from(data, length as BufferEncoding), 0, null, offset as Position)
        : this.locate('write', data, offset as number, length as number, position)
    return { bytesWritten: await this.put(part, at), buffer: data }
  }

  /** Reads into several buffers, one after another. See `read`. */
  async readv<B extends NodeJS.ArrayBufferView>(
    buffers: readonly B[],
    position?: Position,
  ): Promise<{ bytesRead: number; buffers: readonly B[] }> {
    this.check('readv')
    const parts = viewsOf('readv', buffers)
    const at = positionOf('readv', position)
    const left = Math.max(0, this.bytes.size - (at ?? this.position))
    const bytesRead = Math.min(
      left,
      parts.reduce((sum, { length }) => sum + length, 0),
    )
    const data = parts.length === 1 ? parts[0]!.subarray(0, bytesRead) : Buffer.allocUnsafeSlow(bytesRead)
    await this.move(at, bytesRead, (from) => this.bytes.read(data, from))
    if (parts.length !== 1) {
      let used = 0
      for (const part of parts) {
        const filled = data.subarray(used, used + part.length)
        part.set(filled)
        used += filled.length
      }
    }
    return { bytesRead, buffers }
  }

  /** Writes several buffers, one after another, as one range. See `write`. */
  async writev<B extends NodeJS.ArrayBufferView>(
    buffers: readonly B[],
    position?: Position,
  ): Promise<{ bytesWritten: number; buffers: readonly B[] }> {
    this.check('writev')
    const parts = viewsOf('writev', buffers)
    const data = parts.length === 1 ? parts[0]! : Buffer.concat(parts)
    return { bytesWritten: await this.put(data, positionOf('writev', position)), buffers }
  }

  /** The size of the namespace and of its blocks. */
  async stat(): Promise<NamespaceStats> {
    this.check('fstat')
    const { size } = this.bytes
    const no = () => false
    return {
      ...{ size, blksize: this.ns.blocksize, blocks: Math.floor(size / 512) },
      mode: fs.constants.S_IFREG | 0o600,
      isFile: () => true,
      ...{ isDirectory: no, isBlockDevice: no, isCharacterDevice: no },
      ...{ isSymbolicLink: no, isFIFO: no, isSocket: no },
    }
  }

  /** What was written before is on the medium when this resolves. */
  async sync(): Promise<void> {
    this.check('fsync')
    await this.track(this.bytes.flush())
  }

  /** The same as `sync`: a namespace has no other data of a file. */
  async datasync(): Promise<void> {
    this.check('fdatasync')
    await this.track(this.bytes.flush())
  }

  /** The Readable of fs over a range of bytes; without `start` from the handle's position on. */
  createReadStream(options: FileReadStreamOptions = {}): ReadStream {
    this.check('read')
    checkStream('createReadStream', checkOptions('createReadStream', options, READ_STREAM_NAMES))
    return fs.createReadStream(this.ns.device, {
      ...defined(options),
      fs: {
        ...this.endings(),
        read: (_fd: number, data: Buffer, offset: number, length: number, at: Position, done: Done) =>
          settle(this.read(data, offset, length, at), done, ({ bytesRead }) => [bytesRead, data]),
      },
    } as Parameters<typeof fs.createReadStream>[1])
  }

  /** The Writable of fs over the bytes from `start`, or the handle's position, on. */
  createWriteStream(options: FileWriteStreamOptions = {}): WriteStream {
    this.check('write')
    checkStream('createWriteStream', checkOptions('createWriteStream', options, WRITE_STREAM_NAMES))
    checkBoolean('createWriteStream: flush', options.flush)
    return fs.createWriteStream(this.ns.device, {
      ...defined(options),
      fs: {
        ...this.endings(),
        write: (_fd: number, data: Buffer, offset: number, length: number, at: Position, done: Done) =>
          settle(this.write(data, offset, length, at), done, ({ bytesWritten }) => [bytesWritten, data]),
        writev: (_fd: number, buffers: Buffer[], at: Position, done: Done) =>
          settle(this.writev(buffers, at), done, ({ bytesWritten }) => [bytesWritten, buffers]),
      },
    } as Parameters<typeof fs.createWriteStream>[1])
  }

  /** Waits for the calls of this handle; more of them reject with EBADF. The namespace stays open. */
  close(): Promise<void> {
    this.closing ??= Promise.allSettled([...this.pending]).then(() => {})
    return this.closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  private check(syscall: string): void {
    if (this.closing === null) return
    throw new SystemCallError('bad file descriptor', { code: 'EBADF', errno: constants.errno.EBADF, syscall })
  }

  // What the arguments of a read or a write mean: the part of the buffer, and where.
  private locate(
    call: string,
    view: NodeJS.ArrayBufferView,
    offset: number | FilePlace | null | undefined,
    length: number | null | undefined,
    position: Position,
  ): { part: Uint8Array; at: number | null } {
    if (typeof offset === 'object' && offset !== null) {
      const place = checkOptions(call, offset, PLACE_NAMES)
      return this.locate(call, view, place.offset ?? 0, place.length, place.position)
    }
    const whole = viewOf(call, view)
    const from = offset ?? 0
    checkInteger(`${call}: offset`, from, 0, whole.length)
    const count = length ?? whole.length - from
    checkInteger(`${call}: length`, count, 0, whole.length - from)
    return { part: whole.subarray(from, from + count), at: positionOf(call, position) }
  }

  private async put(data: Uint8Array, at: number | null): Promise<number> {
    const written = Math.min(data.length, Math.max(0, this.bytes.size - (at ?? this.position)))
    if (written === 0 && data.length > 0) {
      const { ENOSPC } = constants.errno
      throw new SystemCallError('no space left on device', {
        code: 'ENOSPC',
        errno: ENOSPC,
        syscall: 'write',
      })
    }
    await this.move(at, written, (from) => this.bytes.write(data.subarray(0, written), from))
    return written
  }

  // The handle's position has moved before the next call looks at it, and moves back where nothing was transferred.
  private async move(
    at: number | null,
    count: number,
    work: (from: number) => Promise<unknown>,
  ): Promise<void> {
    const from = at ?? this.position
    if (at === null) this.position += count
    if (count === 0) return
    try {
      await this.track(work(from))
    } catch (error) {
      if (at === null && this.position === from + count) this.position = from
      throw error
    }
  }

  private async track<T>(work: Promise<T>): Promise<T> {
    this.pending.add(work)
    try {
      return await work
    } finally {
      this.pending.delete(work)
    }
  }

  private endings() {
    return {
      open: (_path: string, _flags: string, _mode: number, callback: Done) =>
        process.nextTick(callback, null, STREAM_FD),
      close: (_fd: number, callback: Done) => settle(this.close(), callback),
      fsync: (_fd: number, callback: Done) => settle(this.sync(), callback),
    }
  }
}

type Done = (error: Error | null, ...values: unknown[]) => void

// As a callback of fs: what it throws is the stream's, and no rejection.
function settle<T>(work: Promise<T>, done: Done, valuesOf: (result: T) => unknown[] = () => []): void {
  work.then(
    (result) => process.nextTick(done, null, ...valuesOf(result)),
    (error) => process.nextTick(done, error),
  )
}

// Options of fs that are undefined are not always as good as none.
function defined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>
}

function checkStream(call: string, { autoClose, emitClose, signal }: FileStreamOptions): void {
  checkBoolean(`${call}: autoClose`, autoClose)
  checkBoolean(`${call}: emitClose`, emitClose)
  checkSignal(call, signal)
}

function viewOf(call: string, view: unknown): Uint8Array {
  if (!ArrayBuffer.isView(view)) {
    throw new ArgumentTypeError(
      `${call}: buffer must be a Buffer, TypedArray or DataView, received ${show(view)}`,
    )
  }
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
}

function viewsOf(call: string, views: unknown): Uint8Array[] {
  if (Array.isArray(views)) return views.map((view) => viewOf(call, view))
  throw new ArgumentTypeError(`${call}: buffers must be an array, received ${show(views)}`)
}

// Null for that of the handle.
function positionOf(call: string, position: Position): number | null {
  if (position === null || position === undefined || position === -1 || position === -1n) return null
  if (typeof position === 'bigint' && position > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new OutOfRangeError(`${call}: position must be a safe integer, received ${position}n`)
  }
  const at = Number(position)
  if (typeof position !== 'number' && typeof position !== 'bigint') {
    throw new ArgumentTypeError(`${call}: position must be a number or a bigint, received ${show(position)}`)
  }
  checkInteger(`${call}: position`, at, 0)
  return at
}

/**
 * An open namespace as an object with the calls of fs.FileHandle. Any number of them may be open on a namespace, each with a
 * position of its own; closing one leaves the namespace open. See `bytes` for what concurrent writes do.
 *
 * @throws as `bytes`
 */
export function fileHandle(ns: Namespace): NamespaceFile {
  return new NamespaceFile(ns)
}
