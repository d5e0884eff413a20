// The options that all streams and iterators share, checked and completed.
// Everything is checked before anything is sent; nothing is adjusted silently but the depth,
// which a small queue limits.

import { ArgumentValueError, OutOfRangeError } from '../../lib/errors.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import type { BlockIo } from '../queue/block-io.ts'
import { checkInteger, checkRange, checkSignal } from '../queue/validate.ts'

/** Options of every stream and iterator over a range of LBAs. */
export interface RangeOptions {
  /** First LBA, default 0. */
  slba?: number | undefined
  /** Number of blocks, default: to the end of the namespace. */
  nlb?: number | undefined
  /**
   * Commands in flight, default 32, and of large ones no more than 8 MiB take; at most the queue's. Memory is depth times the chunk, half as much more where chunks
   * are copied out of it (`createReadStream`, `readableWebStream`, `copy: true`), and no more.
   */
  depth?: number | undefined
  /** Queue, default 0. */
  qid?: number | undefined
  /** Ends it with AbortError. */
  signal?: AbortSignal | undefined
}

/** Names of RangeOptions, which those of each call begin with. */
export const RANGE_NAMES: OptionNames<RangeOptions> = {
  slba: true,
  nlb: true,
  depth: true,
  qid: true,
  signal: true,
}

/** A range in bytes, in the words of fs: on the boundaries of blocks. */
export interface ByteRangeOptions {
  /** First byte, in place of `slba`. */
  start?: number | undefined
  /** Last byte, which is read, too, in place of `nlb`; Infinity: to the end of the namespace. */
  end?: number | undefined
}

export interface Range {
  slba: number
  nlb: number
  /** Blocks in a chunk. */
  chunk: number
  depth: number
  qid: number
}

const DEFAULT_CHUNK_BYTES = 128 * 1024
// Of large commands some few keep a device busy, and memory that stays in a processor's cache is the quicker: with 32 of
// 1 MiB createReadStream took half as much time again as with 8.
const DEFAULT_DEPTH = 32
const LEAST_DEFAULT_DEPTH = 4
const DEFAULT_BYTES_IN_FLIGHT = 8 * 2 ** 20
const MAX_DEPTH = 65536

/** @param chunk blocks in a chunk, or undefined for the default of 128 KiB */
export function resolveRange(
  io: BlockIo,
  call: string,
  options: RangeOptions,
  chunk: number | undefined,
): Range {
  const { slba = 0, qid = 0, signal } = options
  checkInteger(`${call}: slba`, slba, 0)
  const { nlb = io.geometry.blockcount - slba } = options
  checkRange(call, slba, nlb, io.geometry)
  if (options.depth !== undefined) checkInteger(`${call}: depth`, options.depth, 1, MAX_DEPTH)
  io.queue(qid, call)
  const blocks = chunk ?? Math.max(1, Math.floor(DEFAULT_CHUNK_BYTES / io.geometry.blocksize))
  checkInteger(`${call}: chunk`, blocks, 1, Math.floor(2 ** 30 / io.geometry.blocksize))
  const depth = options.depth ?? defaultDepth(io, Math.min(blocks, nlb))
  checkSignal(call, signal)
  return {
    slba,
    nlb,
    chunk: Math.min(blocks, nlb),
    depth: Math.min(depth, io.queue(qid, call).pair.entries - 1),
    qid,
  }
}

function defaultDepth({ geometry: { maxbpio, blocksize } }: BlockIo, chunk: number): number {
  const enough = Math.ceil(DEFAULT_BYTES_IN_FLIGHT / (Math.min(chunk, maxbpio) * blocksize))
  return Math.max(LEAST_DEFAULT_DEPTH, Math.min(DEFAULT_DEPTH, enough))
}

/**
 * The same options, with the range in blocks where it was given in bytes.
 * @throws OutOfRangeError where it does not begin and end with a block; ArgumentValueError where it is given twice
 */
export function inBlocks<T extends RangeOptions & ByteRangeOptions>(
  { geometry: { blocksize } }: BlockIo,
  call: string,
  options: T,
): T {
  const { start, end, slba, nlb } = options
  if (start !== undefined && slba !== undefined) {
    throw new ArgumentValueError(`${call}: start and slba are the same; give one of them`)
  }
  const first = start === undefined ? slba : blocksOf(`${call}: start`, start, start, blocksize)
  if (end === undefined || end === Number.POSITIVE_INFINITY) return { ...options, slba: first }
  if (nlb !== undefined) {
    throw new ArgumentValueError(`${call}: end and nlb both say where it ends; give one of them`)
  }
  const after = blocksOf(`${call}: end`, end, end + 1, blocksize)
  checkInteger(`${call}: slba`, first ?? 0, 0)
  if (after <= (first ?? 0)) {
    throw new OutOfRangeError(`${call}: end ${end} is before the start ${(first ?? 0) * blocksize}`)
  }
  return { ...options, slba: first, nlb: after - (first ?? 0) }
}

function blocksOf(name: string, value: number, bytes: number, blocksize: number): number {
  checkInteger(name, value, 0)
  if (bytes % blocksize === 0) return bytes / blocksize
  const what = bytes === value ? 'the first byte' : 'the last byte'
  throw new OutOfRangeError(`${name} must be ${what} of a block of ${blocksize}, received ${value}`)
}

/** Blocks of a chunk given in bytes, which must be whole. */
export function chunkOfBytes(io: BlockIo, call: string, bytes: number | undefined): number | undefined {
  if (bytes === undefined) return undefined
  checkInteger(`${call}: highWaterMark`, bytes, io.geometry.blocksize)
  return Math.floor(bytes / io.geometry.blocksize)
}
