// Commands that are executed later: in the order of their times, or behind others of their queue.
// Each is copied out of its ring, since the host may reuse the entry; a heap in typed arrays, so
// that a million delayed commands a second make no garbage.

import type { FaultAction } from '../faults/syntax.ts'
import { SQE_WORDS, type SubmissionQueue } from './queues.ts'

export interface Pending {
  /** Milliseconds that each I/O command takes. */
  latency: { readonly min: number; readonly max: number }
  /** Commands that wait in any way. */
  count: number
  /** Slots: each command's entry, queue, time, place in the order of arrival, and fault. */
  entries: Uint32Array
  due: Float64Array
  arrival: Float64Array
  readonly queues: (SubmissionQueue | null)[]
  readonly actions: (FaultAction | null)[]
  readonly free: number[]
  /** Heap of slots by time, then arrival. */
  readonly heap: number[]
  /** Slots that wait for `behind` commands of their queue, with the count at which each is released. */
  held: { readonly slot: number; readonly until: number }[]
  /** Slots that are due and found their completion queue full. */
  stalled: number[]
  arrivals: number
  /** State of the generator for latencies within a range. */
  random: number
}

export function createPending(latency: { min: number; max: number }): Pending {
  return {
    latency,
    count: 0,
    entries: new Uint32Array(0),
    due: new Float64Array(0),
    arrival: new Float64Array(0),
    queues: [],
    actions: [],
    free: [],
    heap: [],
    held: [],
    stalled: [],
    arrivals: 0,
    random: 0x2545_f491,
  }
}

/** Time in milliseconds that the next command takes. */
export function nextLatency(p: Pending): number {
  const { min, max } = p.latency
  if (min === max) return min
  // xorshift32: the same series in every run, so that a test can be repeated.
  let x = p.random
  x ^= x << 13
  x ^= x >>> 17
  x ^= x << 5
  p.random = x
  return min + ((max - min) * (x >>> 0)) / 0x1_0000_0000
}

/** Puts the command at `sqe[e]` aside until `due` (Infinity where it is held). Returns its slot. */
export function addPending(
  p: Pending,
  sq: SubmissionQueue,
  sqe: Uint32Array,
  e: number,
  due: number,
  action: FaultAction | null,
): number {
  const slot = p.free.pop() ?? addSlot(p)
  const at = slot * SQE_WORDS
  for (let i = 0; i < SQE_WORDS; i++) p.entries[at + i] = sqe[e + i]!
  p.due[slot] = due
  p.arrival[slot] = p.arrivals++
  p.queues[slot] = sq
  p.actions[slot] = action
  p.count++
  sq.waiting++
  if (action?.kind === 'behind') p.held.push({ slot, until: sq.posted + action.commands })
  else pushHeap(p, slot)
  return slot
}

/** The slot of the command that is due next and no later than `now`; -1 where there is none. */
export function takeDue(p: Pending, now: number): number {
  const first = p.heap[0]
  if (first === undefined || p.due[first]! > now) return -1
  popHeap(p)
  return first
}

/** Slots whose queue has completed enough others, or has no others left to complete. */
export function takeReleased(p: Pending): number[] {
  const released = p.held.filter(({ slot, until }) => {
    const sq = p.queues[slot]!
    const others = sq.waiting - p.held.filter((h) => p.queues[h.slot] === sq).length
    return sq.posted >= until || (others === 0 && sq.head === sq.tail)
  })
  if (released.length > 0) p.held = p.held.filter((h) => !released.includes(h))
  return released.map(({ slot }) => slot)
}

/** Gives a slot back whose command was executed or dropped. */
export function endPending(p: Pending, slot: number): void {
  p.queues[slot]!.waiting--
  p.queues[slot] = null
  p.actions[slot] = null
  p.count--
  p.free.push(slot)
}

/** When the next command is due, in milliseconds; Infinity where none waits for a time. */
export function nextDue(p: Pending): number {
  const first = p.heap[0]
  return first === undefined ? Number.POSITIVE_INFINITY : p.due[first]!
}

/** Takes out every waiting command that `matches`, wherever it waits. Their slots are still to be ended. */
export function removePending(p: Pending, matches: (sq: SubmissionQueue, cid: number) => boolean): number[] {
  const removed: number[] = []
  p.queues.forEach((sq, slot) => {
    if (sq !== null && matches(sq, p.entries[slot * SQE_WORDS]! >>> 16)) removed.push(slot)
  })
  const stays = (slot: number) => !removed.includes(slot)
  const heap = p.heap.filter(stays)
  p.heap.length = 0
  for (const slot of heap) pushHeap(p, slot)
  p.held = p.held.filter(({ slot }) => stays(slot))
  p.stalled = p.stalled.filter(stays)
  return removed.sort((a, b) => p.arrival[a]! - p.arrival[b]!)
}

function addSlot(p: Pending): number {
  const slot = p.queues.length
  p.queues.push(null)
  p.actions.push(null)
  if (slot === p.due.length) {
    const slots = Math.max(64, slot * 2)
    p.entries = grown(p.entries, new Uint32Array(slots * SQE_WORDS))
    p.due = grown(p.due, new Float64Array(slots))
    p.arrival = grown(p.arrival, new Float64Array(slots))
  }
  return slot
}

function grown<T extends Uint32Array | Float64Array>(from: T, to: T): T {
  to.set(from)
  return to
}

function before(p: Pending, a: number, b: number): boolean {
  const d = p.due[a]! - p.due[b]!
  return d < 0 || (d === 0 && p.arrival[a]! < p.arrival[b]!)
}

function pushHeap(p: Pending, slot: number): void {
  const { heap } = p
  let i = heap.length
  heap.push(slot)
  while (i > 0) {
    const parent = (i - 1) >> 1
    if (!before(p, slot, heap[parent]!)) break
    heap[i] = heap[parent]!
    i = parent
  }
  heap[i] = slot
}

function popHeap(p: Pending): void {
  const { heap } = p
  const last = heap.pop()!
  const size = heap.length
  if (size === 0) return
  let i = 0
  for (;;) {
    let child = 2 * i + 1
    if (child >= size) break
    if (child + 1 < size && before(p, heap[child + 1]!, heap[child]!)) child++
    if (!before(p, heap[child]!, last)) break
    heap[i] = heap[child]!
    i = child
  }
  heap[i] = last
}
