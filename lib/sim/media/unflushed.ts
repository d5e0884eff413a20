// What a medium would lose with its power: by block, what it held before the writes since the last flush.

// A device has no larger cache: before more is kept, what is in it is on the medium.
const MOST_BYTES = 2 ** 26

export class Unflushed {
  readonly #unit: number
  readonly #before = new Map<number, Uint8Array>()
  // Of a generator of pseudo-random numbers (xorshift32).
  #seed = 0x2545_f491

  /** @param unit bytes of a block, which is written in whole or not at all */
  constructor(unit: number) {
    this.#unit = unit
  }

  /** A range is about to change: `read` gives what it holds. */
  keep(at: number, bytes: number, read: (block: Uint8Array, at: number) => void): void {
    const unit = this.#unit
    if (this.#before.size * unit + bytes > MOST_BYTES) this.#before.clear()
    if (bytes > MOST_BYTES) return
    for (let block = Math.floor(at / unit); block * unit < at + bytes; block++) {
      if (this.#before.has(block)) continue
      const data = new Uint8Array(unit)
      read(data, block * unit)
      this.#before.set(block, data)
    }
  }

  /** A range is on the medium; without one, all is. */
  forget(at = 0, bytes = Number.POSITIVE_INFINITY): void {
    const unit = this.#unit
    if (bytes === Number.POSITIVE_INFINITY) this.#before.clear()
    else for (let block = at / unit; block * unit < at + bytes; block++) this.#before.delete(block)
  }

  /**
   * The power is gone: `write` puts back what was there before, of all blocks but a share of them.
   * @param kept per cent of the blocks that had reached the medium, whichever these are
   */
  lose(kept: number, write: (block: Uint8Array, at: number) => void): void {
    for (const [block, data] of this.#before) {
      if (this.#random() * 100 >= kept) write(data, block * this.#unit)
    }
    this.#before.clear()
  }

  #random(): number {
    this.#seed ^= this.#seed << 13
    this.#seed ^= this.#seed >>> 17
    this.#seed ^= this.#seed << 5
    return (this.#seed >>> 0) / 2 ** 32
  }
}
