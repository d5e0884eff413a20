// A queue pair as plain data: what it is made with, where its memory is, and how far it has come.
// All of it can be posted to another thread, which is why addresses and indices stand here in the open.

import type { DmaPool, SharedBuffer } from '../../memory/pool.ts'
import type { QueueOptions } from '../host/queue.ts'

export interface QueuePairOptions extends QueueOptions {
  /** Bytes from one doorbell to the next. */
  readonly dstrd: number
  /** Data of more than two pages is described by an SGL, and not by a list of its pages. */
  readonly sgl?: boolean | undefined
}

/** An idle pair as plain data, with which another thread goes on where this one stopped. */
export interface QueuePairShare extends QueuePairOptions {
  readonly sq: SharedBuffer
  readonly cq: SharedBuffer
  readonly lists: SharedBuffer
  readonly sqTail: number
  readonly cqHead: number
  readonly phase: number
  /** Shadow doorbells and events, a page each; null where the real doorbells are rung. */
  readonly shadow: SharedBuffer | null
}

/** The words of memory that another thread has allocated, and where the controller finds them. */
export function attachRing(pool: DmaPool, ring: SharedBuffer): { words: Uint32Array; iova: number } {
  return { words: new Uint32Array(pool.adopt(ring).buffer, 0, ring.bytes / 4), iova: ring.iova }
}
