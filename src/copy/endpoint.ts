// One endpoint of a copy or a comparison: a file, a device, or standard input and output, behind one interface.
// Each chunk is valid until the next one is asked for, so that nothing is copied once more than needed.

import type { DmaPool } from '../../lib/memory/pool.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import type { Namespace } from '../namespace/namespace.ts'
import type { TransferSink, TransferSource } from '../streams/transfer.ts'
import type { Extents } from './extents.ts'

/** How data is moved. */
export interface TransferOptions {
  /**
   * Bytes that are moved at a time, a multiple of the device's block size: one command, where the device takes as
   * much. Default up to 1 MiB between a file and a device, else 128 KiB.
   */
  chunk?: number | undefined
  /** Commands in flight; default those of eight chunks between a file and a device, else 32. */
  depth?: number | undefined
  /** Make sure that the data is on the medium before the end is reported, default true. */
  flush?: boolean | undefined
  /** Fill the last block with zeroes, instead of keeping what the device has after the end. */
  pad?: boolean | undefined
  /** Ends it with AbortError. */
  signal?: AbortSignal | undefined
}

/** Names of TransferOptions. */
export const TRANSFER_NAMES: OptionNames<TransferOptions> = {
  chunk: true,
  depth: true,
  flush: true,
  pad: true,
  signal: true,
}

export type Chunks = AsyncIterable<Uint8Array>

/** How a target is written. */
export interface WriterOptions extends TransferOptions {
  /** Do not empty a file first: a part of it is written. */
  keep?: boolean | undefined
  /** All of the target reads as zeroes: those of the source need not be written. */
  known?: boolean | undefined
  /** Have a device tell which blocks are holes already: no zeroes are written there. */
  askHoles?: boolean | undefined
}

/** Writes a target at any place. Offsets are bytes from where the copy begins, multiples of `align`. */
export interface Writer {
  /** Writes that are of use at a time. */
  readonly parallel: number
  /** Bytes of a block: every write but the last has whole ones. */
  readonly align: number
  /** It takes its bytes in order, and can not be read. */
  readonly inOrder?: boolean
  /** Memory that it writes from without a copy; null: any. */
  readonly pool: DmaPool | null
  write(data: Buffer, at: number): Promise<void>
  /** The range reads as zeroes then. Returns how many bytes of zeroes had to be written for that. */
  zero(at: number, bytes: number): Promise<number>
  /** Reads back what was written, a device from its medium; `buffer` has whole blocks, of memory of `pool`. */
  read?(buffer: Buffer, at: number, bytes: number): Promise<void>
  /** Has what is written put on the medium, and the target be as long as `bytes`, while others write. Undefined for a pipe. */
  sync?(bytes: number): Promise<void>
  /** All is written, up to `bytes`: it is made as long, and flushed. */
  end(bytes: number, flush: boolean): Promise<void>
  /** Once, whether it came to the end or not. */
  close(): Promise<void>
}

export interface Endpoint {
  /** Path or address as the user wrote it, `stdin` or `stdout`. */
  readonly name: string
  /** Null for files. */
  readonly ns: Namespace | null
  /** True for a disk that a server exports: like a device it is longer than what somebody has put there. */
  readonly isExport?: boolean
  /** First LBA; 0 for files. */
  readonly slba: number
  /** Bytes of a block; 1 for files. */
  readonly blocksize: number
  /** Bytes that there are, or that there is space for; undefined where that is not known. */
  readonly size: number | undefined
  /** True where it can be read a second time. */
  readonly rereadable: boolean
  /** True for hardware, a block device of the kernel and an export included: what a person is asked about before it is lost. */
  readonly hardware: boolean
  /** What the system uses it for, as a sentence part, where writing it was forced. */
  readonly uses?: string | undefined
  /** Identity of the file, or of a software controller's image, where there is one. */
  readonly file: string | undefined
  /** The first `bytes` bytes, or all. Each chunk is valid until the next step. */
  read(bytes: number | undefined, options: TransferOptions): Chunks
  /** The same, where holes are known: they are zeroes that are not read. */
  readData?(bytes: number | undefined, options: TransferOptions): Chunks
  /** Writes what comes, at most `bytes` where that is known. Returns the bytes written. */
  write(chunks: Chunks, bytes: number | undefined, options: TransferOptions): Promise<number>
  /** Opens it to be written at any place. Once. */
  writer(options: WriterOptions): Promise<Writer>
  /** What `bytes` from `from` on are, without reading them; without this it is not known. */
  readonly extents?: ((from: number, bytes: number) => Extents) | undefined
  /** A file that can be read at any position: a device's memory is filled straight from it. */
  readonly readAt?: TransferSource | undefined
  /** Likewise one that can be written at any position, open while `write` runs. Returns what `write` does. */
  readonly writeAt?:
    | ((write: (sink: TransferSink) => Promise<number>, options: TransferOptions) => Promise<number>)
    | undefined
  /** Descriptor of a file that is open, and has been checked: another thread opens that, and not its path again. */
  descriptor?(): number | undefined
  /** Opens a file to write, and empties it; for a block device nothing is left to do. Once for all writing. */
  empty?(): Promise<void>
  close(): Promise<void>
}

/** One endpoint of a difference. */
export interface DifferingEndpoint {
  /** As it was given: a path or an address. */
  name: string
  /** Where it is a device: the LBA of the byte, and the byte in that block. */
  lba?: number
  byte?: number
  /** Position of the byte in the file or in the namespace. */
  position: number
  /** The bytes from a few before the difference on; `data[at]` is the one that differs, or the end came there. */
  data: Buffer
  at: number
}

export interface Difference {
  /** Bytes from the start of both that are equal. */
  offset: number
  /** What is there at either endpoint. */
  a: DifferingEndpoint
  b: DifferingEndpoint
}

export interface CompareResult {
  /** Bytes that were compared and are equal. */
  bytes: number
  /** From the first read to the last. */
  seconds: number
  /** The first difference, or null where all is equal. */
  difference: Difference | null
}

/** What a copy did to one target. */
export interface CopyTarget {
  /** As it was given: a path or an address. */
  name: string
  /** Bytes of the copy that it has. */
  bytes: number
  /** Bytes that were sent to it: zeroes that need not be sent are not among them. */
  written: number
  /** Bytes that were read back and are equal. */
  verified: number
  /** What ended it before the others. */
  error?: Error
  /** The first byte that reads back differently; `a` is the source. */
  difference?: Difference
}

/** A range that could not be read or written. */
export interface BadBlocks {
  /** First byte, from where the copy begins, and bytes. */
  at: number
  bytes: number
  /** Which end failed, with its last error. */
  side: 'read' | 'write'
  error: Error
}

export interface CopyResult {
  /** Bytes that were copied. */
  bytes: number
  /** From the first read to the last flush. */
  seconds: number
  /** Bytes that were read of the source, sent to the target (the first, where there are several), and known to be zeroes without being sent. */
  read: number
  written: number
  skipped: number
  /** SHA-256 of the source's bytes, where it was asked for or needed. */
  sha256?: string
  /** What could not be read or written, in order, where `onError` goes on. */
  bad: BadBlocks[]
  /** What each target has. */
  targets: CopyTarget[]
}

/** How far a copy is. */
export interface CopyReport {
  /** Bytes that every target has. */
  bytes: number
  /** Bytes that it will be; undefined where that is not known. */
  total: number | undefined
  /** See CopyResult. */
  read: number
  written: number
  skipped: number
  /** Bytes that could not be read or written. */
  bad: number
  /** Each target: one with an error has left. */
  targets: { name: string; bytes: number; error?: Error }[]
}
