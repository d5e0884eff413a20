// Latencies in nanoseconds: minimum, maximum, mean, deviation, and percentiles from counts in buckets, which are
// found by a shift of 32-bit numbers: three records are part of every I/O that `unvme bench` measures. The histogram of
// perf_hooks refuses 0, does not show its counts, and takes somewhat longer for a record (16 ns where this takes 12, and 2 for
// a value that is the same again).
// 64 buckets for each power of two: a percentile is exact within 1/64.

const BITS = 6
const PER_OCTAVE = 1 << BITS
const OCTAVES = 38
const BUCKETS = OCTAVES * PER_OCTAVE
const WORD = 2 ** 32
// Bits that a value beyond 32 bits loses before it is shifted as a number of 32 bits.
const DROPPED = 32 - BITS
/** From here on all values are in the last bucket: 2.4 hours. */
const LIMIT = 2 ** (OCTAVES + BITS - 1)

/** A histogram as plain data, as it is posted from one thread to another. */
export interface HistogramData {
  readonly counts: Float64Array
  readonly n: number
  readonly min: number
  readonly max: number
  readonly mean: number
  /** Sum of squared differences from the mean. */
  readonly m2: number
}

export class Histogram {
  readonly #counts = new Float64Array(BUCKETS)
  #n = 0
  #max = 0
  #min = Number.POSITIVE_INFINITY
  // Sums of the differences from the first value, and of their squares: a record divides nothing.
  #base = 0
  #sum = 0
  #squares = 0
  // The latest value, and how many more of it came at once.
  #latest = Number.NaN
  #more = 0

  /** @param ns from 0; more than an hour counts as an hour in percentiles */
  record(ns: number): void {
    // I/Os that share two looks at the clock took as long as each other.
    if (ns === this.#latest) {
      this.#more++
      return
    }
    if (this.#more > 0) this.#addMore()
    this.#latest = ns
    this.#counts[bucketOf(ns)]!++
    if (this.#n++ === 0) this.#base = ns
    if (ns < this.#min) this.#min = ns
    if (ns > this.#max) this.#max = ns
    const delta = ns - this.#base
    this.#sum += delta
    this.#squares += delta * delta
  }

  #addMore(): void {
    const more = this.#more
    const delta = this.#latest - this.#base
    this.#more = 0
    this.#counts[bucketOf(this.#latest)]! += more
    this.#n += more
    this.#sum += more * delta
    this.#squares += more * delta * delta
  }

  /** How many are in each bucket. */
  get counts(): Float64Array {
    if (this.#more > 0) this.#addMore()
    return this.#counts
  }

  /** How many were recorded. */
  get n(): number {
    return this.#n + this.#more
  }

  get max(): number {
    return this.#max
  }

  /** 0 where nothing was recorded, as the mean and the deviation. */
  get min(): number {
    return this.#n === 0 ? 0 : this.#min
  }

  get mean(): number {
    if (this.#more > 0) this.#addMore()
    return this.#n === 0 ? 0 : this.#base + this.#sum / this.#n
  }

  get #m2(): number {
    if (this.#more > 0) this.#addMore()
    return this.#n === 0 ? 0 : Math.max(0, this.#squares - (this.#sum * this.#sum) / this.#n)
  }

  /** Standard deviation of the sample. */
  get stddev(): number {
    return this.n < 2 ? 0 : Math.sqrt(this.#m2 / (this.n - 1))
  }

  /** The value that `percent` of all do not exceed, from 0 to 100: within a bucket's width, 1/64. */
  percentile(percent: number): number {
    if (this.n === 0) return 0
    const { counts } = this
    const rank = Math.max(1, Math.ceil((percent / 100) * this.n))
    let seen = 0
    for (let i = 0; i < BUCKETS; i++) {
      seen += counts[i]!
      if (seen >= rank) return Math.min(this.max, Math.max(this.min, highestOf(i)))
    }
    return this.max
  }

  /** How many are from one bound (inclusive) to another (exclusive). A bucket counts where it begins. */
  countBetween(from: number, to: number): number {
    const { counts } = this
    let sum = 0
    let i = bucketOf(from)
    if (lowestOf(i) < from) i++
    for (; i < BUCKETS && lowestOf(i) < to; i++) sum += counts[i]!
    return sum
  }

  clear(): void {
    this.#counts.fill(0)
    this.#n = this.#max = this.#base = this.#sum = this.#squares = this.#more = 0
    this.#min = Number.POSITIVE_INFINITY
    this.#latest = Number.NaN
  }

  /** Adds what another one has recorded. */
  add({ counts, n, min, max, mean, m2 }: HistogramData): void {
    if (n === 0) return
    const mine = this.counts
    for (let i = 0; i < BUCKETS; i++) mine[i]! += counts[i]!
    if (this.#n === 0) this.#base = mean
    const delta = mean - this.#base
    this.#sum += delta * n
    this.#squares += m2 + delta * delta * n
    this.#n += n
    this.#min = Math.min(this.#min, min)
    this.#max = Math.max(this.#max, max)
  }

  get data(): HistogramData {
    return { counts: this.counts, n: this.n, min: this.min, max: this.max, mean: this.mean, m2: this.#m2 }
  }
}

/** Values below 128 have buckets of their own; above, each power of two has 64. */
function bucketOf(ns: number): number {
  // Whole numbers of 32 bits alone: V8 shifts them in a register, where powers of floating point cost some 50 ns.
  if (ns < WORD) {
    const value = ns > 0 ? ns >>> 0 : 0
    if (value < PER_OCTAVE) return value
    const shift = 31 - BITS - Math.clz32(value)
    return (shift << BITS) + (value >>> shift)
  }
  return bucketOfLong(ns)
}

/** From 2^32 ns (4.3 s) on. What is dropped first, 2^26 ns, is not more than a bucket's width there. */
function bucketOfLong(ns: number): number {
  if (!(ns < LIMIT)) return BUCKETS - 1
  const value = (ns / 2 ** DROPPED) >>> 0
  const shift = 31 - BITS - Math.clz32(value)
  return ((shift + DROPPED) << BITS) + (value >>> shift)
}

/** The smallest value of a bucket. */
export function lowestOf(bucket: number): number {
  if (bucket < 2 * PER_OCTAVE) return bucket
  const shift = (bucket >> BITS) - 1
  return (bucket - (shift << BITS)) * 2 ** shift
}

function highestOf(bucket: number): number {
  return lowestOf(bucket + 1) - 1
}
