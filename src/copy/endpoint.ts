// One endpoint of a copy or a comparison: a file, a device, or standard input and output, behind one interface.
// Each chunk is valid until the next one is asked for, so that nothing is copied once more than needed.

import type { OptionNames } from '../../lib/sys/options.ts'
import type { Namespace } from '../namespace/namespace.ts'
import type { TransferSink, TransferSource } from '../streams/transfer.ts'

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

/** A range of bytes, from where the one before it ends. */
export interface Extent {
  readonly bytes: number
  readonly hole: boolean
  readonly zero: boolean
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
  /** Writes what comes, at most `bytes` where that is known. Returns the bytes written. */
  write(chunks: Chunks, bytes: number | undefined, options: TransferOptions): Promise<number>
  /** A file that can be read at any position: a device's memory is filled straight from it. */
  readonly readAt?: TransferSource | undefined
  /** Likewise one that can be written at any position, open while `write` runs. Returns what `write` does. */
  readonly writeAt?:
    | ((write: (sink: TransferSink) => Promise<number>, options: TransferOptions) => Promise<number>)
    | undefined
  /**
   * Where there is one: which ranges have data, are holes, or read as zeroes, from `offset` on, one after the other and
   * `bytes` in all. What is neither a hole nor zeroes is to be read.
   */
  extents?(offset: number, bytes: number): Promise<readonly Extent[]>
  /** Descriptor of a file that is open, and has been checked: another thread opens that, and not its path again. */
  descriptor?(): number | undefined
  /** Opens a file to write, and empties it; for a block device nothing is left to do. Once for all writing. */
  empty?(): Promise<void>
  close(): Promise<void>
}

export interface CopyResult {
  /** Bytes that were copied. */
  bytes: number
  /** From the first read to the last flush. */
  seconds: number
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
