// Namespaces: which blocks of the medium are whose, and which of them can't be read.
// Trade-off: equal shares of the medium in the order of their ids, so that an image needs no table of its own.

import type { SimConfig } from './address.ts'
import { type BadRange, insertRange, removeRange } from './bad-ranges.ts'
import { WINDOW_BYTES } from './space.ts'

export interface Namespace {
  readonly nsid: number
  /** First byte on the medium. */
  readonly at: number
  readonly blockBytes: number
  readonly blockShift: number
  /** Blocks. */
  readonly blocks: number
  /** Blocks of its beginning that stand in the window's array, and the index of the first there. */
  readonly nearBlocks: number
  readonly nearAt: number
  /** Blocks that Write Uncorrectable marked, sorted; null while there are none. */
  bad: BadRange[] | null
}

/**
 * @param bytes of each
 * @param near bytes of the medium that stand behind the window
 */
export function createNamespaces(config: SimConfig, bytes: number, near: number): Map<number, Namespace> {
  const blockBytes = config.lba
  const blocks = Math.floor(bytes / blockBytes)
  const create = (nsid: number, i: number): Namespace => {
    const at = i * bytes
    const nearBlocks = Math.max(0, Math.min(blocks, Math.floor((near - at) / blockBytes)))
    const nearAt = nearBlocks === 0 ? 0 : WINDOW_BYTES + at
    return { nsid, at, blockBytes, blockShift: Math.log2(blockBytes), blocks, nearBlocks, nearAt, bad: null }
  }
  return new Map(config.nsids.map((nsid, i) => [nsid, create(nsid, i)]))
}

/** True where a read of the range must fail. */
export function touchesBad(ns: Namespace, slba: number, nlb: number): boolean {
  if (ns.bad === null) return false
  return ns.bad.some((range) => range.start < slba + nlb && slba < range.end)
}

export function markBad(ns: Namespace, slba: number, nlb: number): void {
  ns.bad = insertRange(ns.bad ?? [], { start: slba, end: slba + nlb })
}

/** What is written can be read again. */
export function unmarkBad(ns: Namespace, slba: number, nlb: number): void {
  if (ns.bad === null) return
  const left = removeRange(ns.bad, { start: slba, end: slba + nlb })
  ns.bad = left.length === 0 ? null : left
}
