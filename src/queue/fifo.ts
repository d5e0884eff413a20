// First in, first out, on a ring: both ends in constant time, however many wait.

export class Fifo<T> {
  // A power of two long.
  #ring: (T | undefined)[] = new Array(16)
  #head = 0
  #length = 0

  get length(): number {
    return this.#length
  }

  /** The one that is taken next. */
  get first(): T | undefined {
    return this.#ring[this.#head]
  }

  push(item: T): void {
    if (this.#length === this.#ring.length) this.#grow()
    this.#ring[(this.#head + this.#length++) & (this.#ring.length - 1)] = item
  }

  shift(): T | undefined {
    if (this.#length === 0) return undefined
    const item = this.#ring[this.#head]
    // It must not be kept alive.
    this.#ring[this.#head] = undefined
    this.#head = (this.#head + 1) & (this.#ring.length - 1)
    this.#length--
    return item
  }

  /** Takes an item out, wherever it is. False where it is not in. */
  remove(item: T): boolean {
    const items = [...this.#ring.slice(this.#head), ...this.#ring.slice(0, this.#head)].slice(0, this.#length)
    const at = items.indexOf(item)
    if (at < 0) return false
    items.splice(at, 1)
    this.#ring = [...items, ...new Array(this.#ring.length - items.length)]
    this.#head = 0
    this.#length--
    return true
  }

  #grow(): void {
    const { length } = this.#ring
    const items = [...this.#ring.slice(this.#head), ...this.#ring.slice(0, this.#head)]
    this.#ring = [...items, ...new Array(length)]
    this.#head = 0
  }
}
