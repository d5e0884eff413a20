// Random numbers that are the same for the same seed, some ns each.
// Trade-off: xorshift with 32 bits of state: good enough to choose blocks, no more.

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
