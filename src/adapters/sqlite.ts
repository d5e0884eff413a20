// A VFS for SQLite compiled to WebAssembly with calls that may wait (wa-sqlite's asynchronous build): one database on a
// namespace, with a rollback journal in an area of its own. SQLite's locks, order and flushes are kept, so that a process that is
// killed, or a machine that loses power, leaves a database that the next opening rolls back to the last commit.
//
// The layout: two slots of state, which are written by turns, the area of the journal, the area of the database. The state says
// how long both files are and whether there is a journal, which is what a file system's directory would say: its journal
// is gone, and the transaction committed, when a slot says so. A slot never tells of data that was not written before it.

import { crc32 } from 'node:zlib'
import { ArgumentTypeError, InUseError, OutOfRangeError, SetupError } from '../../lib/errors.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import { show } from '../../lib/sys/show.ts'
import type { Namespace } from '../namespace/namespace.ts'
import { checkBoolean, checkInteger, checkOptions } from '../queue/validate.ts'
import { bytes, type NamespaceBytes } from './bytes.ts'

/** What is needed of the module that wa-sqlite's factory makes. */
export interface SqliteModule {
  /** The memory, which is another array after it has grown. */
  readonly HEAPU8: Uint8Array
  UTF8ToString(pointer: number): string
  _sqlite3_malloc(bytes: number): number
}

export interface SqliteVfsOptions {
  /** Name of the VFS, for `open_v2`. Default: `unvme`. */
  name?: string | undefined
  /** Make an empty database, whatever the namespace holds. Default: false, and one is made only where it starts with zeroes. */
  format?: boolean | undefined
  /**
   * Bytes of the journal's area, when it is made: what a transaction changes of the database has to fit in it.
   * Default: a quarter of the namespace, at most 1 GiB.
   */
  journalBytes?: number | undefined
}

const NAMES: OptionNames<SqliteVfsOptions> = { name: true, format: true, journalBytes: true }

// SQLite's numbers, of sqlite3.h.
const RESULT = { OK: 0, ERROR: 1, NOTFOUND: 12, FULL: 13, CANTOPEN: 14 } as const
const IOERR = {
  READ: 266,
  SHORT_READ: 522,
  WRITE: 778,
  FSYNC: 1034,
  TRUNCATE: 1546,
  DELETE: 2570,
  CLOSE: 4106,
} as const
const OPEN = {
  CREATE: 0x4,
  MAIN_DB: 0x100,
  MAIN_JOURNAL: 0x800,
  SUPER_JOURNAL: 0x4000,
  WAL: 0x80000,
} as const
const FCNTL_PRAGMA = 14
// Modes without a journal that survives the process, and the one with memory that is shared between processes.
const REFUSED_MODES = ['memory', 'off', 'wal']

const MAGIC = 'unvmeSQL'
const VERSION = 1
const STATE_BYTES = 56
const AREA_BYTES = 4096
const LEAST_BYTES = 64 * 1024

/** One of SQLite's files: the database, its journal, or a temporary one in memory. */
interface VfsFile {
  size: number
  read(data: Uint8Array, offset: number): Promise<unknown>
  write(data: Uint8Array, offset: number): Promise<unknown>
  clear(offset: number, length: number): Promise<unknown>
  /** Most bytes of it. */
  readonly most: number
}

class Area implements VfsFile {
  size = 0
  readonly most: number
  private readonly access: NamespaceBytes
  private readonly start: number

  constructor(access: NamespaceBytes, start: number, most: number) {
    this.access = access
    this.start = start
    this.most = most
  }

  read(data: Uint8Array, offset: number): Promise<unknown> {
    return this.access.read(data, this.start + offset)
  }

  write(data: Uint8Array, offset: number): Promise<unknown> {
    return this.access.write(data, this.start + offset)
  }

  clear(offset: number, length: number): Promise<unknown> {
    return this.access.zeroes(this.start + offset, length)
  }
}

class MemoryFile implements VfsFile {
  size = 0
  readonly most = 2 ** 31
  private data = Buffer.alloc(0)

  async read(data: Uint8Array, offset: number): Promise<void> {
    data.set(this.data.subarray(offset, offset + data.length))
  }

  async write(data: Uint8Array, offset: number): Promise<void> {
    const end = offset + data.length
    if (end > this.data.length) {
      const larger = Buffer.alloc(Math.max(end, 2 * this.data.length))
      this.data.copy(larger)
      this.data = larger
    }
    this.data.set(data, offset)
  }

  async clear(offset: number, length: number): Promise<void> {
    // What is after it is zeroes as soon as it is there.
    this.data.subarray(offset, offset + length).fill(0)
  }
}

/** A VFS of SQLite on a namespace, see `sqliteVfs`. Its methods are called by SQLite. */
export class SqliteVfs {
  readonly name: string
  readonly mxPathname = 512
  /** Why the last call of SQLite failed, where that was the device. */
  lastError: Error | null = null

  private readonly ns: Namespace
  private readonly access: NamespaceBytes
  private readonly module: SqliteModule
  private readonly files = new Map<number, VfsFile>()
  private readonly slotBytes: number
  private main!: Area
  private journal!: Area
  private hasJournal = false
  private sequence = 0
  // What the slots say already; empty where a slot may have been written, or not.
  private saved = ''

  /** Made by `sqliteVfs`. */
  constructor(ns: Namespace, module: SqliteModule, name: string) {
    this.ns = ns
    this.module = module
    this.name = name
    this.access = bytes(ns)
    this.slotBytes = Math.max(AREA_BYTES, ns.blocksize)
  }

  /** @internal Finds the database, or makes one. */
  async prepare({ format = false, journalBytes }: SqliteVfsOptions): Promise<void> {
    const slots = Buffer.alloc(2 * this.slotBytes)
    await this.access.read(slots, 0)
    const states = [0, this.slotBytes].flatMap(
      (at) => decodeState(slots.subarray(at, at + STATE_BYTES)) ?? [],
    )
    states.sort((a, b) => b.sequence - a.sequence)
    const [state] = states
    if (state !== undefined && !format) {
      this.place(state.journalBytes)
      Object.assign(this, { sequence: state.sequence, hasJournal: state.hasJournal })
      this.main.size = state.mainSize
      this.journal.size = state.journalSize
      this.saved = this.state()
      return
    }
    if (!format && slots.some((byte) => byte !== 0)) {
      throw new SetupError(
        `sqliteVfs: ${this.ns.device} holds other data than a database of this VFS; format: true overwrites it`,
      )
    }
    const quarter = Math.min(this.access.size / 4, 2 ** 30)
    this.place(Math.floor((journalBytes ?? quarter) / AREA_BYTES) * AREA_BYTES)
    // A slot that is found later must not be one from before.
    this.sequence = state?.sequence ?? 0
    await this.save()
    await this.save('again')
    await this.access.flush()
  }

  private place(journalBytes: number): void {
    const start = 2 * this.slotBytes
    const most = this.access.size - start - journalBytes
    if (most < AREA_BYTES) {
      throw new OutOfRangeError(
        `sqliteVfs: a journal of ${journalBytes} bytes leaves no space for the database on ${this.access.size} bytes`,
      )
    }
    this.journal = new Area(this.access, start, journalBytes)
    this.main = new Area(this.access, start + journalBytes, most)
  }

  /** Ends the use of the namespace by this VFS, which stays open. Its database has to be closed before. */
  async close(): Promise<void> {
    if (this.files.size > 0) throw new InUseError('sqliteVfs: close: its database is still open')
    release(this.ns)
  }

  /** For wa-sqlite: `sqliteVfs` has waited for it. */
  isReady(): boolean {
    return true
  }

  /** wa-sqlite asks which of the methods give promises. */
  hasAsyncMethod(method: string): boolean {
    return ASYNC_METHODS.has(method)
  }

  /** Opens the database, its journal, or a temporary file in memory. */
  xOpen(_vfs: number, _name: number, file: number, flags: number, outFlags: number): number {
    if ((flags & (OPEN.SUPER_JOURNAL | OPEN.WAL)) !== 0) return RESULT.CANTOPEN
    const isMain = (flags & OPEN.MAIN_DB) !== 0
    const isJournal = (flags & OPEN.MAIN_JOURNAL) !== 0
    const create = (flags & OPEN.CREATE) !== 0
    // One connection: there are no locks.
    if (isMain && [...this.files.values()].includes(this.main)) return RESULT.CANTOPEN
    if (isJournal && !this.hasJournal) {
      if (!create) return RESULT.CANTOPEN
      this.hasJournal = true
      this.journal.size = 0
    }
    if (isMain && !create && this.main.size === 0) return RESULT.CANTOPEN
    this.files.set(file, isMain ? this.main : isJournal ? this.journal : new MemoryFile())
    this.setInt(outFlags, flags)
    return RESULT.OK
  }

  /** The file is not used any more. */
  async xClose(file: number): Promise<number> {
    const found = this.files.get(file)
    this.files.delete(file)
    return found === this.main ? this.attempt(IOERR.CLOSE, () => this.save()) : RESULT.OK
  }

  /** Reads; what is after the end is zeroes, and SHORT_READ. */
  async xRead(file: number, pointer: number, count: number, low: number, high: number): Promise<number> {
    const found = this.files.get(file)!
    const offset = wide(low, high)
    const data = Buffer.alloc(count)
    const there = Math.min(count, Math.max(0, found.size - offset))
    const result = await this.attempt(IOERR.READ, () => found.read(data.subarray(0, there), offset))
    this.module.HEAPU8.set(data, pointer)
    return result === RESULT.OK && there < count ? IOERR.SHORT_READ : result
  }

  /** Writes, and makes the file longer where that is needed. */
  async xWrite(file: number, pointer: number, count: number, low: number, high: number): Promise<number> {
    const found = this.files.get(file)!
    const offset = wide(low, high)
    if (offset + count > found.most) return RESULT.FULL
    const data = this.module.HEAPU8.slice(pointer, pointer + count)
    return this.attempt(IOERR.WRITE, async () => {
      // A page must not be overwritten before the journal that has it can be found: also where nothing is flushed.
      if (found === this.main) await this.saveJournal()
      if (offset > found.size) await found.clear(found.size, offset - found.size)
      await found.write(data, offset)
      found.size = Math.max(found.size, offset + count)
    })
  }

  /** Makes a file shorter. */
  async xTruncate(file: number, low: number, high: number): Promise<number> {
    const found = this.files.get(file)!
    const before = found.size
    found.size = Math.min(before, wide(low, high))
    if (found !== this.journal) return RESULT.OK
    // That is a commit.
    const result = await this.attempt(IOERR.TRUNCATE, () => this.save())
    if (this.saved !== this.state()) found.size = before
    return result
  }

  /** What was written is on the medium after this, and then what the slots say of it. */
  async xSync(file: number): Promise<number> {
    if (this.files.get(file) instanceof MemoryFile) return RESULT.OK
    return this.attempt(IOERR.FSYNC, () => this.flush())
  }

  /** The journal is gone: a commit. */
  async xDelete(_vfs: number, name: number, sync: number): Promise<number> {
    if (!this.module.UTF8ToString(name).endsWith('-journal')) return RESULT.OK
    const { hasJournal, journal } = this
    const { size } = journal
    this.hasJournal = false
    journal.size = 0
    const result = await this.attempt(IOERR.DELETE, () => (sync === 0 ? this.save() : this.flush()))
    // Where no slot says so it is still there, and the next that reads rolls back by it, as after a kill.
    if (this.saved !== this.state()) {
      this.hasJournal = hasJournal
      journal.size = size
    }
    return result
  }

  /** Bytes of a file. */
  xFileSize(file: number, pointer: number): number {
    const { size } = this.files.get(file)!
    this.setInt(pointer, size % 2 ** 32)
    this.setInt(pointer + 4, Math.floor(size / 2 ** 32))
    return RESULT.OK
  }

  /** Whether there is a file of this name. */
  xAccess(_vfs: number, name: number, _flags: number, result: number): number {
    const path = this.module.UTF8ToString(name)
    const there = path.endsWith('-journal') ? this.hasJournal : !path.endsWith('-wal') && this.main.size > 0
    this.setInt(result, there ? 1 : 0)
    return RESULT.OK
  }

  /** The name as it is. */
  xFullPathname(_vfs: number, name: number, most: number, pointer: number): number {
    const path = Buffer.from(`${this.module.UTF8ToString(name)}\0`)
    if (path.length > most) return RESULT.CANTOPEN
    this.module.HEAPU8.set(path, pointer)
    return RESULT.OK
  }

  /** The message of `lastError`, as far as there is room for it. */
  xGetLastError(_vfs: number, most: number, pointer: number): number {
    const message = Buffer.alloc(most)
    message.write(this.lastError?.message ?? '', 0, Math.max(0, most - 1))
    this.module.HEAPU8.set(message, pointer)
    return RESULT.OK
  }

  /** There is one connection. */
  xLock(): number {
    return RESULT.OK
  }

  /** As `xLock`. */
  xUnlock(): number {
    return RESULT.OK
  }

  /** There is no other connection. */
  xCheckReservedLock(_file: number, result: number): number {
    this.setInt(result, 0)
    return RESULT.OK
  }

  /** Refuses journal modes that do not keep the database whole. */
  xFileControl(_file: number, op: number, argument: number): number {
    if (op !== FCNTL_PRAGMA) return RESULT.NOTFOUND
    const [pragma, value] = [4, 8].map((at) => this.text(this.getInt(argument + at)).toLowerCase())
    if (pragma !== 'journal_mode' || !REFUSED_MODES.includes(value!)) return RESULT.NOTFOUND
    const message = Buffer.from(
      `journal_mode ${value}: a database on a namespace has delete, truncate or persist\0`,
    )
    const pointer = this.module._sqlite3_malloc(message.length)
    if (pointer !== 0) this.module.HEAPU8.set(message, pointer)
    this.setInt(argument, pointer)
    return RESULT.ERROR
  }

  /** What the device writes in whole. */
  xSectorSize(): number {
    return this.ns.blocksize
  }

  /** Nothing that SQLite could make use of. */
  xDeviceCharacteristics(): number {
    return 0
  }

  // The state comes after what it tells of: first the data is on the medium, then the slot.
  private async flush(): Promise<void> {
    await this.access.flush()
    if (this.saved === this.state()) return
    await this.save()
    await this.access.flush()
  }

  private async saveJournal(): Promise<void> {
    const { hasJournal, journal, saved } = this
    if (saved.endsWith(`${hasJournal} ${journal.size}`)) return
    await this.save()
    // A commit that failed may be what the slots say on the medium.
    if (saved === '') await this.access.flush()
  }

  private state(): string {
    return `${this.main.size} ${this.hasJournal} ${this.journal.size}`
  }

  private async save(again?: 'again'): Promise<void> {
    const state = this.state()
    if (this.saved === state && again === undefined) return
    // After a failure the same slot is written again: the other is whole.
    const sequence = this.sequence + 1
    const slot = Buffer.alloc(this.slotBytes)
    encodeState(slot, {
      ...{ sequence, hasJournal: this.hasJournal, journalBytes: this.journal.most },
      ...{ mainSize: this.main.size, journalSize: this.journal.size },
    })
    this.saved = ''
    await this.access.write(slot, (sequence % 2) * this.slotBytes)
    this.sequence = sequence
    this.saved = state
  }

  private async attempt(failure: number, work: () => Promise<unknown>): Promise<number> {
    try {
      await work()
      return RESULT.OK
    } catch (error) {
      this.lastError = error as Error
      return failure
    }
  }

  private text(pointer: number): string {
    return pointer === 0 ? '' : this.module.UTF8ToString(pointer)
  }

  private getInt(pointer: number): number {
    const { buffer, byteOffset } = this.module.HEAPU8
    return new DataView(buffer, byteOffset).getUint32(pointer, true)
  }

  private setInt(pointer: number, value: number): void {
    const { buffer, byteOffset } = this.module.HEAPU8
    new DataView(buffer, byteOffset).setUint32(pointer, value, true)
  }
}

const ASYNC_METHODS = new Set(['xClose', 'xRead', 'xWrite', 'xTruncate', 'xSync', 'xDelete'])

// WebAssembly without BigInt gives 64-bit numbers in halves, signed.
const wide = (low: number, high: number) => high * 2 ** 32 + (low >>> 0)

interface State {
  readonly sequence: number
  readonly hasJournal: boolean
  readonly journalBytes: number
  readonly mainSize: number
  readonly journalSize: number
}

function encodeState(slot: Buffer, state: State): void {
  slot.write(MAGIC, 'latin1')
  slot.writeUInt32LE(VERSION, 8)
  slot.writeUInt32LE(state.hasJournal ? 1 : 0, 12)
  const numbers = [state.sequence, state.mainSize, state.journalSize, state.journalBytes]
  for (const [i, number] of numbers.entries()) slot.writeBigUInt64LE(BigInt(number), 16 + 8 * i)
  slot.writeUInt32LE(crc32(slot.subarray(0, STATE_BYTES - 8)), STATE_BYTES - 8)
}

function decodeState(slot: Buffer): State | null {
  if (slot.toString('latin1', 0, 8) !== MAGIC || slot.readUInt32LE(8) !== VERSION) return null
  if (slot.readUInt32LE(STATE_BYTES - 8) !== crc32(slot.subarray(0, STATE_BYTES - 8))) return null
  const [sequence, mainSize, journalSize, journalBytes] = [16, 24, 32, 40].map((at) =>
    Number(slot.readBigUInt64LE(at)),
  ) as [number, number, number, number]
  return { hasJournal: slot.readUInt32LE(12) === 1, sequence, mainSize, journalSize, journalBytes }
}

// By the memory of their controller, as those of one namespace may be opened several times; then by namespace.
const used = new WeakMap<Namespace['pool'], Map<number, Namespace>>()

function claim(ns: Namespace): void {
  const owners = used.get(ns.pool) ?? new Map<number, Namespace>()
  used.set(ns.pool, owners)
  if (owners.get(ns.id)?.closed === false) throw new InUseError(`sqliteVfs: ${ns.device} has a VFS already`)
  owners.set(ns.id, ns)
}

function release(ns: Namespace): void {
  const owners = used.get(ns.pool)
  if (owners?.get(ns.id) === ns) owners.delete(ns.id)
}

/**
 * A VFS for SQLite on an open namespace, which is the database's alone: for wa-sqlite's asynchronous build (tested with
 * @journeyapps/wa-sqlite 2), whose `vfs_register` takes it. One connection at a time; the database may be opened by any name.
 * Commits are flushed as SQLite's `synchronous` says. Call `close` when its database is closed.
 *
 * @param module what wa-sqlite's factory resolves with
 * @throws SetupError where the namespace holds something else; InUseError where it has such a VFS; OutOfRangeError,
 * ArgumentTypeError; as `bytes`
 */
export async function sqliteVfs(
  ns: Namespace,
  module: SqliteModule,
  options: SqliteVfsOptions = {},
): Promise<SqliteVfs> {
  const { name = 'unvme', format, journalBytes } = checkOptions('sqliteVfs', options, NAMES)
  if (typeof name !== 'string') {
    throw new ArgumentTypeError(`sqliteVfs: name must be a string, received ${show(name)}`)
  }
  if (!(module?.HEAPU8 instanceof Uint8Array)) {
    throw new ArgumentTypeError(
      `sqliteVfs: module must be that of wa-sqlite's factory, received ${show(module)}`,
    )
  }
  checkBoolean('sqliteVfs: format', format)
  if (journalBytes !== undefined) checkInteger('sqliteVfs: journalBytes', journalBytes, LEAST_BYTES)
  const vfs = new SqliteVfs(ns, module, name)
  claim(ns)
  try {
    await vfs.prepare(options)
    return vfs
  } catch (error) {
    release(ns)
    throw error
  }
}
