// Identifiers of the commands of one queue: which are free, how old those in flight are, which were given up.
// A queue without rings in device memory takes its identifiers here; lib/nvme/pcie keeps its own beside its rings.

// A command's age is counted in slices of its timeout: no clock is read for a command.
const SLICES = 8
const SLICE_MASK = 0x7f
const SLICE_BITS = 7
// What is known of an identifier: nothing is in flight (FREE), a command in flight (its wire identifier above its
// slice, never negative), or one without an answer (the complement of its wire identifier).
const FREE = -0x8000_0000
const MAX_BITS = 24

/** Identifiers of one queue, owned by one thread. */
export class CommandIds {
  /** Those that can be taken. */
  free: number
  /** Those that are out of use since their commands had no answer, until one comes after all. */
  lost = 0
  /** Milliseconds between two calls of `expire`, at most, for timeouts to be kept. */
  readonly sliceMs: number
  readonly count: number
  private readonly indexMask: number
  private readonly idMask: number
  // Free identifiers as they are used next, a stack: the index in the lower bits, above it a generation, so that a second
  // answer to one command is none to the next.
  private readonly stack: Int32Array
  private readonly slots: Int32Array
  private slice = 0
  // Milliseconds that calls of `expire` have seen pass: at its latest call, and at the end of each slice.
  private seen = 0
  private seenAt = 0
  private readonly sliceEnds = new Float64Array(SLICE_MASK + 1)
  private readonly timeout: number

  /**
   * @param count commands that can be in flight
   * @param bits of an identifier on its way, 16 to 24
   * @param timeout milliseconds after which a command without an answer is lost
   */
  constructor(count: number, bits: number, timeout: number) {
    this.count = count
    this.free = count
    this.indexMask = 2 ** Math.ceil(Math.log2(count)) - 1
    this.idMask = 2 ** Math.min(bits, MAX_BITS) - 1
    // One for each index that an identifier can name: none is out of bounds.
    this.slots = new Int32Array(this.indexMask + 1).fill(FREE)
    this.stack = Int32Array.from({ length: count }, (_, i) => count - 1 - i)
    this.timeout = timeout
    this.sliceMs = timeout / SLICES
  }

  /** Commands in flight. */
  get inFlight(): number {
    return this.count - this.free - this.lost
  }

  /** An identifier as it goes on its way, which names a command in flight from now on; -1 where all are in use. */
  take(): number {
    if (this.free === 0) return -1
    const id = this.stack[--this.free]!
    this.slots[id & this.indexMask] = (id << SLICE_BITS) | this.slice
    return id
  }

  /** The command that an identifier names: an index from 0 to `count - 1`. */
  indexOf(id: number): number {
    return id & this.indexMask
  }

  /** True where the identifier is one of a command in flight. */
  has(id: number): boolean {
    return id >= 0 && this.slots[id & this.indexMask]! >> SLICE_BITS === id
  }

  /** True where it is one of a command that had no answer in time. */
  wasLost(id: number): boolean {
    return this.slots[id & this.indexMask] === ~id
  }

  /** A command in flight has ended: its identifier is free, for one of the next generation. */
  release(id: number): void {
    this.slots[id & this.indexMask] = FREE
    this.stack[this.free++] = (id + this.indexMask + 1) & this.idMask
  }

  /** One without an answer has ended after all. */
  releaseLost(id: number): void {
    this.lost--
    this.release(id)
  }

  /** The identifier on its way of a command in flight, or without an answer. */
  idOf(index: number): number {
    const slot = this.slots[index]!
    return slot >= 0 ? slot >> SLICE_BITS : ~slot
  }

  /**
   * Counts time: commands older than the timeout are lost from now on, and handed to `give` one by one.
   * Early never; late by up to an eighth of the timeout, by what a call comes late, and by what goes beyond a quarter
   * of the timeout between two calls: time in which nothing was looked at counts for no command's age.
   * @param now milliseconds of a steady clock
   */
  expire(now: number, give: (index: number) => void): void {
    this.seen += Math.min(now - this.seenAt, 2 * this.sliceMs)
    this.seenAt = now
    const last = (this.slice - 1) & SLICE_MASK
    if (this.seen - this.sliceEnds[last]! < this.sliceMs) return
    this.sliceEnds[this.slice] = this.seen
    this.slice = (this.slice + 1) & SLICE_MASK
    if (this.inFlight === 0) return
    for (let index = 0; index < this.count; index++) {
      const slot = this.slots[index]!
      if (slot >= 0 && this.seen - this.sliceEnds[slot & SLICE_MASK]! >= this.timeout) this.lose(index, give)
    }
  }

  /** Makes a command young again. */
  refresh(index: number): void {
    this.slots[index] = (this.slots[index]! & ~SLICE_MASK) | this.slice
  }

  /** Gives up every command in flight. */
  abandon(give: (index: number) => void): void {
    for (let index = 0; index < this.count; index++) {
      if (this.slots[index]! >= 0) this.lose(index, give)
    }
  }

  private lose(index: number, give: (index: number) => void): void {
    this.slots[index] = ~(this.slots[index]! >> SLICE_BITS)
    this.lost++
    give(index)
  }

  /** Every identifier is free; one that was in flight or lost is not the next one's. */
  reset(): void {
    for (let index = 0; index < this.count; index++) {
      if (this.slots[index] !== FREE) this.release(this.idOf(index))
    }
    this.lost = 0
  }
}
