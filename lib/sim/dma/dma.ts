// What of the host's memory the controller can reach: mapped IOVA ranges, as an IOMMU would have them.
// A list that is searched, with the last hit tried first: drivers use few and large ranges.

/** One mapped range. Byte `start + i` is `bytes[base + i]`. */
export interface DmaRange {
  readonly start: number
  readonly length: number
  readonly bytes: Uint8Array
  readonly words: Uint32Array
  readonly base: number
  /** Its length where it lies in the window, else 0. */
  readonly fastLength: number
  /** The two halves of `start`, the low one as a signed number. */
  readonly startLow: number
  readonly startHigh: number
}

const NO_BYTES = new Uint8Array(0)
const NOTHING: DmaRange = {
  start: -1,
  length: 0,
  bytes: NO_BYTES,
  words: new Uint32Array(0),
  base: 0,
  fastLength: 0,
  startLow: 0,
  startHigh: 0,
}

/** The mapped ranges of one controller. */
export class DmaTable {
  #ranges: DmaRange[] = []
  /** The last that was found. */
  hit: DmaRange = NOTHING
  /** Called at a miss: looks whether the host has mapped more meanwhile, and says so. */
  onMiss: (() => boolean) | null = null

  /** The range that holds all of `bytes` from `iova` on, or null: the access is refused. */
  find(iova: number, bytes: number): DmaRange | null {
    const { hit } = this
    const offset = iova - hit.start
    if (offset >= 0 && offset + bytes <= hit.length) return hit
    return this.#search(iova, bytes) ?? this.#again(iova, bytes)
  }

  get ranges(): readonly DmaRange[] {
    return this.#ranges
  }

  /** Byte `iova + i` is `bytes[base + i]`; the array starts on a page. */
  add(iova: number, length: number, bytes: Uint8Array, base: number, near = false): void {
    const words = this.#wordsOf(bytes)
    // Indices of a view are small integers, and are kept as such: see near.ts.
    const fastLength = near ? length | 0 : 0
    const startHigh = Math.floor(iova / 0x1_0000_0000) | 0
    this.#ranges.push({
      start: iova,
      length,
      bytes,
      words,
      base: base | 0,
      fastLength,
      startLow: iova | 0,
      startHigh,
    })
  }

  #wordsOf(bytes: Uint8Array): Uint32Array {
    const known = this.#ranges.find((range) => range.bytes === bytes)
    return known?.words ?? new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2)
  }

  remove(iova: number): void {
    this.#ranges = this.#ranges.filter((range) => range.start !== iova)
    this.hit = NOTHING
  }

  clear(): void {
    this.#ranges = []
    this.hit = NOTHING
  }

  #search(iova: number, bytes: number): DmaRange | null {
    for (const range of this.#ranges) {
      if (iova >= range.start && iova + bytes <= range.start + range.length) {
        this.hit = range
        return range
      }
    }
    return null
  }

  #again(iova: number, bytes: number): DmaRange | null {
    return this.onMiss?.() ? this.#search(iova, bytes) : null
  }
}
