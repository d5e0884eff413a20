// How I/Os are sent and their ends are noticed: by polling a queue of the driver, or by callbacks of Node's fs.
// An engine knows slots and bytes, and nothing of what the benchmark does; each runs a source of I/Os
// in its own way, since a callback can't be polled and a poll can't wait.

import { QueueFullError } from '../../lib/errors.ts'
import type { Namespace } from '../namespace/namespace.ts'
import type { IoDescriptor } from '../queue/operation.ts'

/** Where the I/Os come from. A slot is a buffer with at most one I/O in flight. */
export interface Source {
  /** Chooses an I/O for a free slot and starts it. False where there is none now, or ever again. */
  next(slot: number): boolean
  /** The slot's I/O is done. @param now milliseconds */
  complete(slot: number, now: number): void
  /** There will be no more: false from `next` is for ever. */
  readonly exhausted: boolean
}

export interface Engine {
  /** A buffer for each slot. */
  readonly buffers: readonly Buffer[]
  /** Sends an I/O at a byte of the target; false where there is no room for it yet. */
  start(slot: number, write: boolean, at: number): boolean
  /**
   * Runs a source until it is exhausted and everything has ended. Rejects with what the first I/O failed with, when
   * all others have ended.
   */
  run(source: Source): Promise<void>
  close(): Promise<void>
}

// Polling goes on for so long between turns of the event loop.
const SLICE_MS = 20

/** An engine on one queue of a namespace: aread, awrite, apoll. */
export function createDeviceEngine(ns: Namespace, qid: number, depth: number, bs: number): Engine {
  const memory = ns.alloc(depth * bs)
  const buffers = Array.from({ length: depth }, (_, i) => memory.subarray(i * bs, (i + 1) * bs))
  const descriptors: (IoDescriptor | null)[] = new Array(depth).fill(null)
  const nlb = bs / ns.blocksize

  const start = (slot: number, write: boolean, at: number) => {
    const slba = at / ns.blocksize
    try {
      descriptors[slot] = write
        ? ns.awrite(qid, buffers[slot]!, slba, nlb)
        : ns.aread(qid, buffers[slot]!, slba, nlb)
      return true
    } catch (error) {
      // I/Os of several commands each can fill the queue before the depth is reached.
      if (error instanceof QueueFullError) return false
      throw error
    }
  }

  /** One look at every slot. Returns the number of I/Os in flight after it. */
  const look = (source: Source) => {
    let inFlight = 0
    for (let slot = 0; slot < depth; slot++) {
      const iod = descriptors[slot]!
      if (iod !== null) {
        if (!ns.apoll(iod)) {
          inFlight++
          continue
        }
        descriptors[slot] = null
        source.complete(slot, performance.now())
      }
      if (source.next(slot)) inFlight++
    }
    return inFlight
  }

  /** Waits for what is in flight when one has failed: its memory is the device's until then. */
  const drain = async () => {
    for (let slot = 0; slot < depth; slot++) {
      const iod = descriptors[slot]!
      descriptors[slot] = null
      if (iod === null) continue
      try {
        while (!ns.apoll(iod)) await new Promise(setImmediate)
      } catch {
        // The first one that failed is what is reported.
      }
    }
  }

  return {
    buffers,
    start,
    async run(source) {
      try {
        for (;;) {
          const until = performance.now() + SLICE_MS
          do {
            if (look(source) === 0 && source.exhausted) return
          } while (performance.now() < until)
          await new Promise(setImmediate)
        }
      } catch (error) {
        await drain()
        throw error
      }
    },
    async close() {
      if (!ns.closed) ns.free(memory)
    },
  }
}
