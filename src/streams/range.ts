// The options that all streams and iterators share, checked and completed.
// Trade-off: everything is checked before anything is sent; nothing is adjusted silently but the depth,
// which a small queue limits.

import { ArgumentTypeError } from '../../lib/errors.ts'
import type { Namespace } from '../namespace.ts'
import { checkInteger, checkRange } from '../validate.ts'

/** Options of every stream and iterator over a range of LBAs. */
export interface RangeOptions {
  /** First LBA, default 0. */
  slba?: number
  /** Number of blocks, default: to the end of the namespace. */
  nlb?: number
  /**
   * Commands in flight, default 32; at most the queue's. Memory is depth times the chunk, half as much more where chunks
   * are copied out of it (`createReadStream`, `readableWebStream`, `copy: true`), and no more.
   */
  depth?: number
  /** Queue, default 0. */
  qid?: number
  /** Ends it with AbortError. */
  signal?: AbortSignal | undefined
}

export interface Range {
  slba: number
  nlb: number
  /** Blocks in a chunk. */
  chunk: number
  depth: number
  qid: number
}

export const DEFAULT_CHUNK_BYTES = 128 * 1024
const DEFAULT_DEPTH = 32
const MAX_DEPTH = 65536

/** @param chunk blocks in a chunk, or undefined for the default of 128 KiB */
export function resolveRange(
  ns: Namespace,
  call: string,
  options: RangeOptions,
  chunk: number | undefined,
): Range {
  const { slba = 0, qid = 0, depth = DEFAULT_DEPTH, signal } = options
  checkInteger(`${call}: slba`, slba, 0)
  const { nlb = ns.blockcount - slba } = options
  checkRange(call, slba, nlb, ns.geometry)
  checkInteger(`${call}: depth`, depth, 1, MAX_DEPTH)
  ns.queue(qid, call)
  const blocks = chunk ?? Math.max(1, Math.floor(DEFAULT_CHUNK_BYTES / ns.blocksize))
  checkInteger(`${call}: chunk`, blocks, 1, Math.floor(2 ** 30 / ns.blocksize))
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new ArgumentTypeError(`${call}: signal must be an AbortSignal`)
  }
  return { slba, nlb, chunk: Math.min(blocks, nlb), depth: Math.min(depth, ns.maxiopq), qid }
}

/** Blocks of a chunk given in bytes, which must be whole. */
export function chunkOfBytes(ns: Namespace, call: string, bytes: number | undefined): number | undefined {
  if (bytes === undefined) return undefined
  checkInteger(`${call}: highWaterMark`, bytes, ns.blocksize)
  return Math.floor(bytes / ns.blocksize)
}
