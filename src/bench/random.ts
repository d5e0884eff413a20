// Random numbers that are the same for the same seed, some ns each (xorshift with 32 bits of state: good enough to choose
// blocks), and the order of a pass at random over a region: each place once, as fio's random map has it. That is a
// permutation that is computed (a Feistel network on the two halves of a place), so that it takes no memory, however large
// the region; some 20 ns for each I/O.

export class Random {
  #state: number

  constructor(seed: number) {
    // Neighbouring seeds, as of jobs, must not give neighbouring numbers.
    this.#state = Math.imul(seed + 1, 2654435761) | 1
    for (let i = 0; i < 8; i++) this.word()
  }

  /** A signed integer of 32 bits, never 0. */
  word(): number {
    let x = this.#state
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    this.#state = x
    return x
  }

  /** An integer from 0 to n - 1. */
  below(n: number): number {
    // 53 bits: every block of the largest devices can be reached.
    const high = this.word() >>> 5
    const low = this.word() >>> 6
    return Math.floor(((high * 67108864 + low) / 2 ** 53) * n)
  }

  /** Fills a buffer, a multiple of 4 bytes long. */
  fill(buffer: Buffer): void {
    const words = new Int32Array(buffer.buffer, buffer.byteOffset, buffer.length >>> 2)
    for (let i = 0; i < words.length; i++) words[i] = this.word()
  }
}

const ROUNDS = 4

export class RandomMap {
  readonly #size: number
  // A place is x * scale + y; both halves are whole numbers of bits, so that at most as many places again as the
  // region has lie beyond it, and are walked over.
  readonly #scale: number
  readonly #xMask: number
  readonly #yMask: number
  readonly #random: Random
  readonly #keys = new Int32Array(ROUNDS)

  /** @param size places: from 1 to 2^53 - 1 */
  constructor(size: number, random: Random) {
    const bits = Math.max(1, Math.ceil(Math.log2(size)))
    const yBits = bits >>> 1
    this.#size = size
    this.#scale = 2 ** yBits
    this.#yMask = this.#scale - 1
    this.#xMask = 2 ** (bits - yBits) - 1
    this.#random = random
    this.shuffle()
  }

  /** Another order, for the next pass. */
  shuffle(): void {
    for (let i = 0; i < ROUNDS; i++) this.#keys[i] = this.#random.word()
  }

  /** The place that comes after `count` others, below the size: no two counts have the same. */
  at(count: number): number {
    const scale = this.#scale
    const keys = this.#keys
    let place = count
    do {
      let x = Math.floor(place / scale)
      let y = place - x * scale
      for (let i = 0; i < ROUNDS; i += 2) {
        x ^= mix(y, keys[i]!) & this.#xMask
        y ^= mix(x, keys[i + 1]!) & this.#yMask
      }
      place = x * scale + y
    } while (place >= this.#size)
    return place
  }
}

/** 32 bits that depend on all of a number's and of a key's. */
function mix(value: number, key: number): number {
  let bits = Math.imul(value ^ key, 0x85ebca6b)
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35)
  return bits ^ (bits >>> 16)
}
