// Shadow doorbells (NVMe 1.4 base, sections 5.7 and B.5): doorbells of I/O queues in host memory, and the events
// that say at which value the host is to ring the real one. A controller that polls asks for no ring at
// all (`quiet`); one that may sleep asks for a ring at every change, which is always right.

import { STATUS } from '../../nvme/spec/status.ts'
import { join32 } from '../../sys/int64.ts'
import type { DmaRange } from '../dma/dma.ts'
import type { Controller } from './controller.ts'

/** Each of the two buffers is one page of host memory; queues whose doorbells lie behind it have none here. */
const WORDS = 1024

export interface Shadow {
  readonly ranges: readonly DmaRange[]
  readonly doorbells: Uint32Array
  readonly doorbellsAt: number
  readonly events: Uint32Array
  readonly eventsAt: number
}

/** Doorbell Buffer Config. */
export function configureDoorbellBuffer(c: Controller, sqe: Uint32Array, e: number): number {
  if (!c.config.shadow) return STATUS.INVALID_OPCODE
  const doorbells = join32(sqe[e + 6]!, sqe[e + 7]!)
  const events = join32(sqe[e + 8]!, sqe[e + 9]!)
  if (doorbells % c.pageBytes !== 0 || events % c.pageBytes !== 0) return STATUS.PRP_OFFSET_INVALID
  const first = c.dma.find(doorbells, WORDS * 4)
  const second = c.dma.find(events, WORDS * 4)
  if (first === null || second === null) return STATUS.INVALID_FIELD
  c.shadow = {
    ranges: [first, second],
    doorbells: first.words,
    doorbellsAt: (doorbells - first.start + first.base) / 4,
    events: second.words,
    eventsAt: (events - second.start + second.base) / 4,
  }
  return 0
}

/** The doorbell of an I/O queue where it has one in the host's memory, else the real one. */
export function doorbellOf({ bar, config }: Controller, shadow: Shadow, doorbell: number): number {
  return doorbell >> config.dstrd < 2 || doorbell >= WORDS
    ? bar.doorbells[doorbell]!
    : shadow.doorbells[shadow.doorbellsAt + doorbell]!
}

/** Writes the events of all I/O queues: the value at which the host is to ring. */
export function askForRings(c: Controller, shadow: Shadow): void {
  if (!c.ready) return
  for (let i = 1; i < c.sqs.length; i++) {
    const sq = c.sqs[i]
    if (sq === undefined || sq.closed) continue
    askForRing(c, shadow, sq, sq.tail)
    askForRing(c, shadow, sq.cq, sq.cq.head)
  }
}

interface Queue {
  readonly size: number
  readonly doorbell: number
}

// The host rings when it passes the event's value. The one behind `current` is passed last of all.
function askForRing(c: Controller, { events, eventsAt }: Shadow, queue: Queue, current: number): void {
  if (queue.doorbell >= WORDS) return
  const behind = current === 0 ? queue.size - 1 : current - 1
  events[eventsAt + queue.doorbell] = c.quiet ? behind : current
}
