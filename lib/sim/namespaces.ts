// Namespaces: which blocks of the medium are whose, and which of them can't be read.
// Trade-off: equal shares of the medium in the order of their ids, so that an image needs no table of its own.

import type { SimConfig } from './address.ts'
import { type BadRange, insertRange, removeRange } from './bad-ranges.ts'

export interface Namespace {
  readonly nsid: number
  /** First byte on the medium. */
  readonly at: number
  readonly blockBytes: number
  /** Blocks. */
  readonly blocks: number
  /** Blocks that Write Uncorrectable marked, sorted; null while there are none. */
  bad: BadRange[] | null
}

/** @param bytes of each namespace */
export function createNamespaces(config: SimConfig, bytes: number): Map<number, Namespace> {
  const blockBytes = config.lba
  const blocks = Math.floor(bytes / blockBytes)
  return new Map(
    config.nsids.map((nsid, i) => [nsid, { nsid, at: i * bytes, blockBytes, blocks, bad: null }]),
  )
}

/** True where a read of the range must fail. */
export function touchesBad(ns: Namespace, slba: number, nlb: number): boolean {
  return ns.bad?.some((range) => range.start < slba + nlb && slba < range.end) ?? false
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
