// What streams and whatever else moves blocks need of an open namespace.

import type { DmaPool } from '../../lib/memory/pool.ts'
import type { Geometry } from './geometry.ts'
import type { IoQueue } from './io-queue.ts'

/** Blocks that can be read and written by the queues of a device. */
export interface BlockIo {
  readonly geometry: Geometry
  /** DMA memory of the device. */
  readonly pool: DmaPool
  /** The address that it was opened by, for messages. */
  readonly device: string
  /** A queue, from 0. Throws NoSuchQueueError, QueueOwnerError, or ClosedError; `call` is named in the message. */
  queue(qid: number, call: string): IoQueue
  /** What has to be ended before it is closed; returns the call that takes that back. */
  onClose(end: () => Promise<void>): () => void
}
