// How I/Os are sent and their ends are noticed: by polling a queue of the driver, or by callbacks of Node's fs.
// An engine knows slots and bytes, and nothing of what the benchmark does; each runs a source of I/Os
// in its own way, since a callback can't be polled and a poll can't wait.

import { QueueFullError } from '../../lib/errors.ts'
import type { Namespace } from '../namespace/namespace.ts'
import type { IoDescriptor } from '../queue/operation.ts'

/** Where the I/Os come from. A slot is a buffer with at most one I/O in flight. */
export interface Source {
  /** Chooses an I/O for a free slot and starts it. False where there is none now, or ever again. @param now milliseconds */
  next(slot: number, now: number): boolean
  /** What was started since the last call has been sent. */
  sent(): void
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
// So many slots share a look at the clock, which costs a good part of what a small read does.
const BATCH = 16

/** What a slot is found to be. */
export const SLOT = { FREE: 0, BUSY: 1, DONE: 2 } as const
const { FREE, BUSY, DONE } = SLOT

/**
 * One look at every slot: tells the source what is done, and starts what comes next. It returns the number of I/Os in flight
 * after that.
 * @param stateOf looks at the I/O of a slot; a slot that was DONE is free from then on
 */
export function createLook(depth: number, stateOf: (slot: number) => number): (source: Source) => number {
  // The clock is read when the first is done, and when all are sent that follow.
  const lookAt = (source: Source, first: number) => {
    const end = Math.min(depth, first + BATCH)
    let inFlight = 0
    let now = 0
    for (let slot = first; slot < end; slot++) {
      const state = stateOf(slot)
      if (state === BUSY) {
        inFlight++
        continue
      }
      if (now === 0) now = performance.now()
      if (state === DONE) source.complete(slot, now)
      if (source.next(slot, now)) inFlight++
    }
    if (now !== 0) source.sent()
    return inFlight
  }
  return (source) => {
    let inFlight = 0
    for (let first = 0; first < depth; first += BATCH) inFlight += lookAt(source, first)
    return inFlight
  }
}

/** An engine on one queue of a namespace: aread, awrite, apoll. */
export function createDeviceEngine(ns: Namespace, qid: number, depth: number, bs: number): Engine {
  const memory = ns.alloc(depth * bs)
  const buffers = Array.from({ length: depth }, (_, i) => memory.subarray(i * bs, (i + 1) * bs))
  const descriptors: (IoDescriptor | null)[] = new Array(depth).fill(null)
  const nlb = bs / ns.blocksize
  // Where the event loop brings completions, polling without it finds none.
  const slice = ns.controller.transport.eventDriven === true ? 0 : SLICE_MS

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

  const look = createLook(depth, (slot) => {
    const iod = descriptors[slot]!
    if (iod === null) return FREE
    if (!ns.apoll(iod)) return BUSY
    descriptors[slot] = null
    return DONE
  })

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
          const until = performance.now() + slice
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
