// Shadow doorbells (Doorbell Buffer Config; NVMe 1.4 base, sections 5.7 and B.5): an emulated controller learns by
// memory, and rung only when it asks for that. A queue stores to other words and calls another `notify`,
// so that queues without shadow doorbells have not one instruction more.

import type { DmaPool, SharedBuffer } from '../../memory/pool.ts'
import type { PciFunction } from '../../pci/function.ts'
import { PAGE_BYTES } from '../../sys/units.ts'
import { cqHeadDoorbell, sqTailDoorbell } from '../spec/registers.ts'

/** Where a queue pair stores its doorbells, and what it calls after each store. */
export interface Doorbells extends Pick<PciFunction, 'doorbells' | 'notify'> {
  /** The shadow doorbells and the events, for a thread that goes on with the queue pair. */
  readonly shadow?: SharedBuffer | null
}

const PAGE_WORDS = PAGE_BYTES / 4

/** The two buffers of a controller, a page each. */
export class ShadowDoorbells {
  /** Both pages, shadow doorbells first: the data of Doorbell Buffer Config, as PRP1 and PRP2. */
  readonly memory: Buffer
  readonly #pci: PciFunction
  readonly #dstrd: number
  readonly #words: Uint32Array
  readonly #share: SharedBuffer

  constructor(pci: PciFunction, pool: DmaPool, dstrd: number) {
    this.#pci = pci
    this.#dstrd = dstrd
    this.memory = pool.alloc(2 * PAGE_BYTES)
    this.#words = new Uint32Array(this.memory.buffer, this.memory.byteOffset, 2 * PAGE_WORDS)
    this.#share = pool.share(this.memory)
  }

  /** As zero as the buffers of a controller that knows of none. */
  clear(): void {
    this.#words.fill(0)
  }

  /**
   * Doorbells of the admin queue, which is at work already: the real ones are always rung, and the shadow follows
   * (section B.5).
   * @param rung its doorbells as they are
   */
  ofAdminQueue(rung: { tail: number; head: number }): Doorbells {
    const { doorbells, notify } = this.#pci
    const shadow = this.#words
    const sq = sqTailDoorbell(0, this.#dstrd)
    const cq = cqHeadDoorbell(0, this.#dstrd)
    let { tail, head } = rung
    shadow[sq] = tail
    shadow[cq] = head
    return {
      doorbells: shadow,
      notify() {
        if (shadow[sq] !== tail) {
          tail = shadow[sq]!
          doorbells[sq] = tail
        }
        if (shadow[cq] !== head) {
          head = shadow[cq]!
          doorbells[cq] = head
        }
        if (notify !== null) notify()
      },
    }
  }

  /** Doorbells of an I/O queue pair that is about to be created; null where a page has no room for them. */
  ofQueuePair(qid: number, entries: number): Doorbells | null {
    const sq = sqTailDoorbell(qid, this.#dstrd)
    const cq = cqHeadDoorbell(qid, this.#dstrd)
    if (cq >= PAGE_WORDS) return null
    const words = this.#words
    words[sq] = words[cq] = words[PAGE_WORDS + sq] = words[PAGE_WORDS + cq] = 0
    return { ...ringFor(this.#pci, words, sq, cq, entries), shadow: this.#share }
  }
}

/** The shadow doorbells of a queue pair that another thread has created: it stands where that thread stopped. */
export function attachShadow(
  pci: PciFunction,
  words: Uint32Array,
  { qid, dstrd, entries }: { qid: number; dstrd: number; entries: number },
): Doorbells {
  return ringFor(pci, words, sqTailDoorbell(qid, dstrd), cqHeadDoorbell(qid, dstrd), entries)
}

// `words` are the shadow doorbells, and a page behind each its event.
function ringFor(
  { doorbells, notify }: PciFunction,
  words: Uint32Array,
  sq: number,
  cq: number,
  entries: number,
): Doorbells {
  const sqEvent = PAGE_WORDS + sq
  const cqEvent = PAGE_WORDS + cq
  // The store must be seen by the controller before its event is read here, or both sides could rely on the
  // other and sleep: only a locked access keeps a processor from reading first.
  const fence = new Int32Array(1)
  let tail = words[sq]!
  let head = words[cq]!
  return {
    doorbells: words,
    notify() {
      Atomics.exchange(fence, 0, 0)
      let rung = false
      const newTail = words[sq]!
      if (newTail !== tail) {
        if (passes(words[sqEvent]!, tail, newTail, entries)) {
          doorbells[sq] = newTail
          rung = true
        }
        tail = newTail
      }
      const newHead = words[cq]!
      if (newHead !== head) {
        if (passes(words[cqEvent]!, head, newHead, entries)) {
          doorbells[cq] = newHead
          rung = true
        }
        head = newHead
      }
      if (rung && notify !== null) notify()
    },
  }
}

/** True where a doorbell of a queue of `entries` that goes from `from` to `to` passes `event`. */
export function passes(event: number, from: number, to: number, entries: number): boolean {
  const way = to - from
  const until = event - from
  return (until < 0 ? until + entries : until) < (way < 0 ? way + entries : way)
}
