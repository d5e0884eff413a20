// A queue pair as plain data: what it is made with, where its memory is, and how far it has come.
// All of it can be posted to another thread, which is why addresses and indices stand here in the open.

import { viewOf } from '../../memory/mapping.ts'
import type { QueueOptions } from '../host/queue.ts'

export interface QueuePairOptions extends QueueOptions {
  /** Bytes from one doorbell to the next. */
  readonly dstrd: number
}

/** A part of a pair's memory. */
export interface RingMemory {
  readonly address: bigint
  readonly bytes: number
  readonly iova: number
}

/** An idle pair as plain data, with which another thread goes on where this one stopped. */
export interface QueuePairShare extends QueuePairOptions {
  readonly sq: RingMemory
  readonly cq: RingMemory
  readonly lists: RingMemory
  readonly sqTail: number
  readonly cqHead: number
  readonly phase: number
  /** Shadow doorbells and events, a page each; null where the real doorbells are rung. */
  readonly shadow: RingMemory | null
}

/** The words of memory that another thread has allocated, and where the controller finds them. */
export function attachRing({ address, bytes, iova }: RingMemory): { words: Uint32Array; iova: number } {
  return { words: new Uint32Array(viewOf(address, bytes)), iova }
}
