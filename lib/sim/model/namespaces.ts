// Namespaces: which blocks of the medium are whose, and which of them can't be read.
// Equal shares of the medium in the order of their ids, so that an image needs no table of its own until
// a command changes them (see nonvolatile.ts).

import type { SimConfig } from '../address.ts'
import { WINDOW_BYTES } from '../dma/space.ts'

export interface Namespace {
  readonly nsid: number
  /** The same 32 bits as a signed number. */
  readonly nsidBits: number
  /** First byte on the medium, and how many it has there. */
  readonly at: number
  readonly bytes: number
  readonly blockBytes: number
  readonly blockShift: number
  /** Blocks. */
  readonly blocks: number
  /** Blocks of its beginning that stand in the window's array, and the index of the first there. */
  readonly fastTotal: number
  readonly fastAt: number
  /** As `fastTotal`, but none while there are blocks that can't be read. */
  fastBlocks: number
  /** Blocks that Write Uncorrectable marked, sorted; null while there are none. */
  bad: BadRange[] | null
}

/** Where a namespace is on the medium, and how it is formatted. */
export interface Place {
  readonly nsid: number
  readonly at: number
  readonly bytes: number
  readonly blockBytes: number
  /** Blocks of it that can't be read. */
  readonly bad?: readonly BadRange[]
}

/** @param near bytes of the medium that stand behind the window */
export function createNamespace({ nsid, at, bytes, blockBytes, bad = [] }: Place, near: number): Namespace {
  const blocks = Math.floor(bytes / blockBytes)
  // Small integers: see near.ts.
  const fastTotal = Math.max(0, Math.min(blocks, Math.floor((near - at) / blockBytes))) | 0
  return {
    nsid,
    nsidBits: nsid | 0,
    at,
    bytes,
    blockBytes,
    blockShift: 31 - Math.clz32(blockBytes),
    blocks,
    fastTotal,
    fastAt: fastTotal === 0 ? 0 : (WINDOW_BYTES + at) | 0,
    fastBlocks: bad.length === 0 ? fastTotal : 0,
    bad: bad.length === 0 ? null : [...bad],
  }
}

/** What a new medium is divided into: `bytes` for each id of the address. */
export function placesOf(config: SimConfig, bytes: number): Place[] {
  return config.nsids.map((nsid, i) => ({ nsid, at: i * bytes, bytes, blockBytes: config.lba }))
}

/** Stands for the namespace of the last command where there is none any more: no command is for it. */
export const NO_NAMESPACE: Namespace = createNamespace({ nsid: 0, at: 0, bytes: 0, blockBytes: 512 }, 0)

/** True where a read of the range must fail. */
export function touchesBad(ns: Namespace, slba: number, nlb: number): boolean {
  if (ns.bad === null) return false
  return ns.bad.some((range) => range.start < slba + nlb && slba < range.end)
}

export function markBad(ns: Namespace, slba: number, nlb: number): void {
  ns.bad = insertRange(ns.bad ?? [], { start: slba, end: slba + nlb })
  ns.fastBlocks = 0
}

/** What is written can be read again. True where it could not before. */
export function unmarkBad(ns: Namespace, slba: number, nlb: number): boolean {
  if (ns.bad === null || !touchesBad(ns, slba, nlb)) return false
  const left = removeRange(ns.bad, { start: slba, end: slba + nlb })
  ns.bad = left.length === 0 ? null : left
  ns.fastBlocks = ns.bad === null ? ns.fastTotal : 0
  return true
}

export interface BadRange {
  readonly start: number
  readonly end: number
}

/** The list with a range added, joined with what it touches. */
export function insertRange(ranges: readonly BadRange[], added: BadRange): BadRange[] {
  const before = ranges.filter((range) => range.end < added.start)
  const after = ranges.filter((range) => range.start > added.end)
  const joined = ranges.slice(before.length, ranges.length - after.length)
  const start = Math.min(added.start, ...joined.map((range) => range.start))
  const end = Math.max(added.end, ...joined.map((range) => range.end))
  return [...before, { start, end }, ...after]
}

/** The list without a range; what only overlaps it is cut. */
export function removeRange(ranges: readonly BadRange[], removed: BadRange): BadRange[] {
  return ranges.flatMap((range) =>
    [
      { start: range.start, end: Math.min(range.end, removed.start) },
      { start: Math.max(range.start, removed.end), end: range.end },
    ].filter(({ start, end }) => start < end),
  )
}
