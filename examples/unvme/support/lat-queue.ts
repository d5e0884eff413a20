// One queue of lat-test: keeps it full for a time, and measures every operation.
// Trade-off: three looks at the clock for each operation, some 40 ns each, are a part of what is measured.

import { setImmediate } from 'node:timers/promises'
import type { IoDescriptor } from 'unvme'
import type { WorkContext } from './queues.ts'
import { Random } from './random.ts'

export interface LatencyData {
  readonly write: boolean
  /** Milliseconds. */
  readonly time: number
  readonly depth: number
  readonly seed: number
}

/** Milliseconds. */
interface Spread {
  min: number
  max: number
  sum: number
}

export interface Latencies {
  count: number
  /** Of the call that sends, and from its end until a poll finds it done. */
  readonly submission: Spread
  readonly completion: Spread
}

// Polling goes on for so long between turns of the event loop.
const SLICE_MS = 10

/** Called for each queue by onQueues. */
export async function work({ ns, qid, slba, nlb, index, data, signal }: WorkContext): Promise<Latencies> {
  const { write, time, depth, seed } = data as LatencyData
  const random = new Random(seed + index)
  const count = Math.max(1, Math.floor(nlb / ns.nbpp))
  const length = Math.min(nlb, ns.nbpp)
  const memory = ns.alloc(depth * ns.nbpp * ns.blocksize)
  random.fill(memory)
  const slots = Array.from({ length: depth }, (_, i) => {
    const bytes = ns.nbpp * ns.blocksize
    return { buf: memory.subarray(i * bytes, (i + 1) * bytes), sent: 0, iod: null as IoDescriptor | null }
  })
  const result: Latencies = { count: 0, submission: spread(), completion: spread() }

  const send = (slot: (typeof slots)[number]) => {
    const at = slba + random.below(count) * ns.nbpp
    const before = performance.now()
    slot.iod = write ? ns.awrite(qid, slot.buf, at, length) : ns.aread(qid, slot.buf, at, length)
    slot.sent = performance.now()
    add(result.submission, slot.sent - before)
  }

  const end = performance.now() + time
  for (let now = 0; now < end && !signal.aborted; ) {
    const pause = performance.now() + SLICE_MS
    do {
      for (const slot of slots) {
        if (slot.iod !== null) {
          if (!ns.apoll(slot.iod)) continue
          add(result.completion, performance.now() - slot.sent)
          result.count++
        }
        send(slot)
      }
      now = performance.now()
    } while (now < pause)
    await setImmediate()
  }
  for (const slot of slots) {
    while (slot.iod !== null && !ns.apoll(slot.iod));
    if (slot.iod === null) continue
    add(result.completion, performance.now() - slot.sent)
    result.count++
  }
  ns.free(memory)
  return result
}

function spread(): Spread {
  return { min: Number.POSITIVE_INFINITY, max: 0, sum: 0 }
}

function add(to: Spread, ms: number): void {
  if (ms < to.min) to.min = ms
  if (ms > to.max) to.max = ms
  to.sum += ms
}
