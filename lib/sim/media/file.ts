// Medium in a file: sparse, created on demand, kept across runs, read and written straight from host memory.
// Trade-off: synchronous system calls through the page cache; a flush makes it durable, as a volatile write
// cache would. An exclusive lock keeps other processes (and a second controller here) off.

import fs from 'node:fs'
import { ImageError, InUseError } from '../../errors.ts'
import { STATUS } from '../../nvme/spec/status.ts'
import { inodeIdentity, lockFile } from '../../sys/file.ts'
import { FALLOC_FL, fallocate, lseek, SEEK, systemCallError } from '../../sys/libc.ts'
import type { Pieces } from '../model/prp.ts'
import type { Medium, MediumExtent } from './medium.ts'
import { forgetState, loadState, type SavedState, type StateFile, stateFileOf } from './nonvolatile.ts'
import { Unflushed } from './unflushed.ts'

/** An open and locked disk image. */
export interface Image {
  readonly path: string
  readonly fd: number
  /** Bytes of each of its namespaces. */
  readonly namespaceBytes: number
  readonly bytes: number
  /** Where what the controller keeps is kept, and what was. */
  readonly stateFile: StateFile
  readonly state: SavedState | undefined
  /** What tells it from every other file, by whatever path: device and inode. */
  readonly identity: string
}

export interface ImageShape {
  readonly path: string
  /** Bytes of each namespace; undefined: what the image holds, in equal shares. */
  readonly size: number | undefined
  /** Bytes behind them that no namespace has. */
  readonly spare: number
  readonly lba: number
  readonly namespaces: number
}

/**
 * Opens and locks an image; creates it where it is missing and a size is given.
 * Throws ImageError (missing, too short, no multiple of the blocks, no regular file) or InUseError.
 */
export function openImage(shape: ImageShape): Image {
  const { path } = shape
  const fd = openFile(shape)
  try {
    const stats = fs.fstatSync(fd, { bigint: true })
    if (!stats.isFile()) throw new ImageError(`${path} is no regular file`)
    lock(fd, path)
    const stateFile = stateFileOf(path, fd)
    return { path, fd, stateFile, identity: inodeIdentity(stats), ...measure(shape, fd, stateFile) }
  } catch (error) {
    fs.closeSync(fd)
    throw error
  }
}

function lock(fd: number, path: string): void {
  try {
    lockFile(fd, path)
  } catch (cause) {
    if (cause instanceof InUseError) throw cause
    throw new ImageError(`${path} can't be locked: ${(cause as Error).message}`, { cause })
  }
}

/** Gives the image back, and its lock. */
export function closeImage({ fd }: Image): void {
  fs.closeSync(fd)
}

function openFile({ path, size }: ImageShape): number {
  const create = size === undefined ? 0 : fs.constants.O_CREAT
  try {
    return fs.openSync(path, fs.constants.O_RDWR | create, 0o666)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT' && size === undefined) {
      throw new ImageError(`${path} does not exist; size=… creates it (as sim:${path}?size=1G)`, { cause })
    }
    throw new ImageError(`${path} can't be opened: ${(cause as Error).message}`, { cause })
  }
}

function measure(
  { path, size, spare, lba, namespaces }: ImageShape,
  fd: number,
  stateFile: StateFile,
): Pick<Image, 'namespaceBytes' | 'bytes' | 'state'> {
  const existing = fs.fstatSync(fd).size
  if (existing === 0) forgetState(stateFile)
  const state = loadState(stateFile, path, existing)
  // From now on it says what the namespaces are, and not the address.
  if (state !== undefined) return { namespaceBytes: 0, bytes: state.bytes, state }
  if (size !== undefined) {
    const bytes = size * namespaces + spare
    // An empty file is a new one, whether made here or by somebody who only reserved the name.
    if (existing === 0) extend(path, fd, bytes)
    else if (existing < bytes) {
      const share = namespaces === 1 ? '' : ` (${namespaces} namespaces of ${size})`
      throw new ImageError(`${path} has ${existing} bytes, and size= asks for ${bytes}${share}`)
    }
    return { namespaceBytes: size, bytes, state }
  }
  const shared = existing - spare
  if (shared <= 0 || shared % (lba * namespaces) !== 0) {
    const unit =
      namespaces === 1 ? `${lba} byte blocks` : `${lba} byte blocks in ${namespaces} equal namespaces`
    throw new ImageError(`${path} has ${existing} bytes, which is no number of ${unit}`)
  }
  return { namespaceBytes: shared / namespaces, bytes: existing, state }
}

function extend(path: string, fd: number, bytes: number): void {
  try {
    fs.ftruncateSync(fd, bytes)
  } catch (cause) {
    throw new ImageError(`${path} can't be made ${bytes} bytes long: ${(cause as Error).message}`, { cause })
  }
}

// What has no length of its own is read and written in parts of this many bytes.
const PART = 2 ** 20

export class FileMedium implements Medium {
  readonly bytes: number
  readonly near = 0
  readonly written = new Uint8Array(0)
  readonly granule: number
  readonly #fd: number
  #unflushed: Unflushed | null = null
  #scratch = new Uint8Array(0)
  #zeroes: Uint8Array | undefined

  constructor(image: Pick<Image, 'fd' | 'bytes'>) {
    this.bytes = image.bytes
    this.#fd = image.fd
    // The file system's block: a file has holes of whole ones.
    this.granule = fs.fstatSync(image.fd).blksize
  }

  read(at: number, pieces: Pieces): number {
    let from = at
    for (let i = 0; i < pieces.count; i++) {
      const status = this.#readAll(pieces.ranges[i]!.bytes, pieces.at[i]!, pieces.length[i]!, from)
      if (status !== 0) return status
      from += pieces.length[i]!
    }
    return 0
  }

  write(at: number, pieces: Pieces): number {
    this.#keep(at, pieces.bytes)
    let to = at
    for (let i = 0; i < pieces.count; i++) {
      const status = this.#writeAll(pieces.ranges[i]!.bytes, pieces.at[i]!, pieces.length[i]!, to)
      if (status !== 0) return status
      to += pieces.length[i]!
    }
    return 0
  }

  compare(at: number, pieces: Pieces): number {
    let from = at
    for (let i = 0; i < pieces.count; i++) {
      const length = pieces.length[i]!
      const status = this.#readAll(this.#scratchOf(length), 0, length, from)
      if (status !== 0) return status
      const host = pieces.ranges[i]!.bytes.subarray(pieces.at[i]!, pieces.at[i]! + length)
      if (Buffer.compare(this.#scratch.subarray(0, length), host) !== 0) return STATUS.COMPARE_FAILURE
      from += length
    }
    return 0
  }

  verify(at: number, bytes: number): number {
    for (let done = 0; done < bytes; done += PART) {
      const length = Math.min(PART, bytes - done)
      const status = this.#readAll(this.#scratchOf(length), 0, length, at + done)
      if (status !== 0) return status
    }
    return 0
  }

  #scratchOf(bytes: number): Uint8Array {
    if (this.#scratch.length < bytes) this.#scratch = new Uint8Array(bytes)
    return this.#scratch
  }

  zero(at: number, bytes: number): number {
    this.#keep(at, bytes)
    if (fallocate(this.#fd, FALLOC_FL.KEEP_SIZE | FALLOC_FL.PUNCH_HOLE, at, bytes) === 0) return 0
    // A file system without holes.
    this.#zeroes ??= new Uint8Array(PART)
    for (let done = 0; done < bytes; done += PART) {
      const status = this.#writeAll(this.#zeroes, 0, Math.min(PART, bytes - done), at + done)
      if (status !== 0) return status
    }
    return 0
  }

  flush(at?: number, bytes?: number): number {
    try {
      fs.fdatasyncSync(this.#fd)
      this.#unflushed?.forget(at, bytes)
      return 0
    } catch {
      return STATUS.WRITE_FAULT
    }
  }

  recordUnflushed(unit: number): void {
    this.#unflushed ??= new Unflushed(unit)
  }

  cutPower(kept: number): void {
    this.#unflushed?.lose(kept, (block, at) => this.#writeAll(block, 0, block.length, at))
  }

  #keep(at: number, bytes: number): void {
    this.#unflushed?.keep(at, bytes, (block, from) => this.#readAll(block, 0, block.length, from))
  }

  extents(at: number, bytes: number, most: number): MediumExtent[] {
    const extents: MediumExtent[] = []
    const end = at + bytes
    for (let from = at; from < end && extents.length < most; ) {
      const found = lseek(this.#fd, from, SEEK.DATA)
      // None up to the file's end, or no such question here.
      const start = found >= 0 ? Number(found) : systemCallError('lseek').code === 'ENXIO' ? end : from
      if (start > from) {
        extents.push({ bytes: Math.min(start, end) - from, data: false })
        from = start
        continue
      }
      const hole = Number(lseek(this.#fd, from, SEEK.HOLE))
      const until = hole > from ? Math.min(hole, end) : end
      extents.push({ bytes: until - from, data: true })
      from = until
    }
    return extents
  }

  #readAll(to: Uint8Array, index: number, bytes: number, at: number): number {
    try {
      for (let done = 0; done < bytes; ) {
        const got = fs.readSync(this.#fd, to, index + done, bytes - done, at + done)
        // Somebody has cut the image short.
        if (got === 0) return STATUS.UNRECOVERED_READ_ERROR
        done += got
      }
      return 0
    } catch {
      return STATUS.UNRECOVERED_READ_ERROR
    }
  }

  #writeAll(from: Uint8Array, index: number, bytes: number, at: number): number {
    try {
      for (let done = 0; done < bytes; ) {
        done += fs.writeSync(this.#fd, from, index + done, bytes - done, at + done)
      }
      return 0
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ENOSPC'
        ? STATUS.CAPACITY_EXCEEDED
        : STATUS.WRITE_FAULT
    }
  }
}
