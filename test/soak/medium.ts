// A model of a medium of which some writes may or may not have happened, and of who is at work on which blocks.

/** Bytes of one block; each of its 32-bit words is the block's value, but for the second, which is its number. */
export const BLOCK_BYTES = 512

export function fill(buf: Buffer, slba: number, value: number): void {
  const words = new Uint32Array(buf.buffer, buf.byteOffset, buf.length >> 2)
  words.fill(value)
  for (let at = 1, lba = slba; at < words.length; at += BLOCK_BYTES / 4) words[at] = value === 0 ? 0 : lba++
}

/** The values of the blocks in a buffer; throws where a block is not of one piece, or another one's. */
export function valuesOf(buf: Buffer, slba: number): number[] {
  const words = new Uint32Array(buf.buffer, buf.byteOffset, buf.length >> 2)
  const values: number[] = []
  for (let at = 0, lba = slba; at < words.length; at += BLOCK_BYTES / 4, lba++) {
    const value = words[at]!
    const owner = value === 0 ? 0 : lba
    for (let i = 0; i < BLOCK_BYTES / 4; i++) {
      if (words[at + i] === (i === 1 ? owner : value)) continue
      throw new Error(`block ${lba} is torn: word ${i} is ${words[at + i]}, of value ${value}`)
    }
    values.push(value)
  }
  return values
}

export interface Range {
  readonly slba: number
  readonly nlb: number
}

interface Use extends Range {
  readonly writes: boolean
}

export class Medium {
  readonly blocks: number
  /** What each block may hold. */
  readonly #possible: Set<number>[]
  readonly #uses = new Set<Use>()

  constructor(blocks: number) {
    this.blocks = blocks
    this.#possible = Array.from({ length: blocks }, () => new Set([0]))
  }

  /** Begins to use a range: what ends that, or undefined where others write there, or use what is to be written. */
  use(range: Range, writes: boolean): (() => void) | undefined {
    const { slba, nlb } = range
    for (const other of this.#uses) {
      const overlaps = slba < other.slba + other.nlb && other.slba < slba + nlb
      if (overlaps && (writes || other.writes)) return undefined
    }
    const use = { slba, nlb, writes }
    this.#uses.add(use)
    return () => void this.#uses.delete(use)
  }

  /** A write has ended well, or not: then it may have been done or not, block by block. */
  written({ slba, nlb }: Range, value: number, done: boolean): void {
    for (let lba = slba; lba < slba + nlb; lba++) {
      if (done) this.#possible[lba] = new Set([value])
      else this.#possible[lba]!.add(value)
    }
  }

  /** What a read found: it is known from then on. Throws where it can't be. */
  read(slba: number, values: readonly number[]): void {
    values.forEach((value, i) => {
      const possible = this.#possible[slba + i]!
      if (!possible.has(value)) {
        throw new Error(`block ${slba + i} has ${value}, and can only have ${[...possible].join(' or ')}`)
      }
      this.#possible[slba + i] = new Set([value])
    })
  }
}
