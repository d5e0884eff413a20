// The order of a pass at random over a region: each place once, as fio's random map has it.
// Trade-off: a permutation that is computed (a Feistel network on the two halves of a place), so that it takes no
// memory, however large the region; some 20 ns for each I/O.

import type { Random } from './random.ts'

const ROUNDS = 4

export class RandomMap {
  readonly #size: number
  // A place is x * rows + y, with x below `columns`: a few places beyond the region are walked over.
  readonly #columns: number
  readonly #rows: number
  readonly #random: Random
  readonly #keys = new Int32Array(ROUNDS)

  /** @param size places: from 1 to 2^53 - 1 */
  constructor(size: number, random: Random) {
    this.#size = size
    this.#columns = Math.ceil(Math.sqrt(size))
    this.#rows = Math.ceil(size / this.#columns)
    this.#random = random
    this.shuffle()
  }

  /** Another order, for the next pass. */
  shuffle(): void {
    for (let i = 0; i < ROUNDS; i++) this.#keys[i] = this.#random.word()
  }

  /** The place that comes after `count` others, below the size: no two counts have the same. */
  at(count: number): number {
    const columns = this.#columns
    const rows = this.#rows
    let place = count
    do {
      let x = Math.floor(place / rows)
      let y = place - x * rows
      for (let i = 0; i < ROUNDS; i += 2) {
        x = (x + (mix(y, this.#keys[i]!) % columns)) % columns
        y = (y + (mix(x, this.#keys[i + 1]!) % rows)) % rows
      }
      place = x * rows + y
    } while (place >= this.#size)
    return place
  }
}

/** 32 bits that depend on all of a number's and of a key's. */
function mix(value: number, key: number): number {
  let bits = Math.imul(value ^ key, 0x85ebca6b)
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35)
  return (bits ^ (bits >>> 16)) >>> 0
}
