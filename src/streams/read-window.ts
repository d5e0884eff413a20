// Reads a range ahead, chunk by chunk, and hands the chunks out in order.
// Trade-off: in order means that one slow command holds back those after it, up to the window's size; what
// failed is reported in its place, after everything that was read before it.

import { NVM } from '../../lib/nvme/spec/opcodes.ts'
import type { BlockIo } from '../queue/block-io.ts'
import { tuning } from '../queue/tuning.ts'
import type { Range } from './range.ts'
import { errorOf, memoryFor, type Slot, Window, type WindowOptions } from './window.ts'

const optionsOf = (lends: boolean): WindowOptions => ({ lends, spare: lends ? 0 : tuning.spare })

export class ReadWindow {
  /**
   * Called when the oldest chunk has arrived, once for each time that `peek` found none: from within a poll, so that it
   * must not call what may throw.
   */
  onReady: () => void = () => {}
  private readonly window: Window
  private readonly range: Range
  private readonly endSlba: number
  private next: number
  // Slots are used in turn: `held` of them, from `head` on, are lent to somebody, then those that are sent or arrived.
  private head = 0
  private held = 0
  private lent = 0
  private waiting = false
  private filling = false

  /** @param lends chunks are shown to callers: see Window; where not, they are copied, and the next read does not wait */
  constructor(io: BlockIo, range: Range, end: () => Promise<void>, lends = false) {
    this.range = range
    this.next = range.slba
    this.endSlba = range.slba + range.nlb
    this.window = new Window(io, range, end, optionsOf(lends))
    const ahead = this.window.slots.length > this.window.limit
    this.window.onSettled = (slot) => {
      if (ahead) this.fill()
      if (this.waiting && slot === this.oldest) {
        this.waiting = false
        this.onReady()
      }
    }
    this.fill()
  }

  /** What to wait for before such a window is made: see `memoryFor`. */
  static ready(io: BlockIo, range: Range, lends = false, signal?: AbortSignal): Promise<void> | null {
    return memoryFor(io, range, optionsOf(lends), signal)
  }

  /** Chunks that there is memory for. */
  get size(): number {
    return this.window.slots.length
  }

  /** True when every chunk has been handed out: lent, or released. */
  get done(): boolean {
    return this.held === this.lent && this.next === this.endSlba
  }

  /**
   * The oldest chunk that is not lent, where it has arrived. It stays the oldest until `lend` or `release`.
   * @throws what its command failed with
   */
  peek(): Slot | null {
    let slot = this.arrived()
    if (slot === null && this.held > this.lent) {
      this.waiting = false
      this.window.poll()
      slot = this.arrived()
    }
    if (slot === null) {
      this.waiting = true
      return null
    }
    const error = errorOf(slot)
    if (error !== null) throw error
    return slot
  }

  /** Calls back when the oldest chunk has arrived, or failed; true where it has already. */
  watch(onReady: () => void): boolean {
    this.onReady = onReady
    try {
      return this.peek() !== null
    } catch {
      // Thrown again by the next `peek`, which reports it.
      return true
    }
  }

  /** The oldest chunk is its user's until a `release`: `peek` gives the one after it. */
  lend(): void {
    this.lent++
  }

  /** The oldest chunk, lent before the others or not at all, is not needed any more: its slot is sent on. */
  release(): void {
    if (this.lent > 0) this.lent--
    this.head = this.head + 1 === this.window.slots.length ? 0 : this.head + 1
    this.held--
    this.fill()
  }

  /** Waits for what is in flight, then gives the memory back. */
  close(): Promise<void> {
    return this.window.close()
  }

  private get oldest(): Slot {
    const { slots } = this.window
    const at = this.head + this.lent
    return slots[at >= slots.length ? at - slots.length : at]!
  }

  private arrived(): Slot | null {
    const slot = this.oldest
    return this.held > this.lent && !slot.inFlight ? slot : null
  }

  private fill(): void {
    // A command may end while it is sent, or others while it is rung: the loop that sends takes their slots, too.
    if (this.filling) return
    this.filling = true
    try {
      this.send()
    } finally {
      this.filling = false
    }
  }

  private send(): void {
    const { window } = this
    const { slots, limit } = window
    while (
      this.held < slots.length &&
      window.inFlight < limit &&
      this.next < this.endSlba &&
      !window.closed
    ) {
      const at = this.head + this.held
      const nlb = Math.min(this.range.chunk, this.endSlba - this.next)
      const slba = this.next
      this.held++
      this.next += nlb
      this.window.issue(slots[at >= slots.length ? at - slots.length : at]!, NVM.READ, slba, nlb)
      if (this.next === this.endSlba) this.window.last()
    }
  }
}
