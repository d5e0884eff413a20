// Free runs of pages in an arena: first fit, neighbours joined when given back.
// A sorted array, since an arena has few holes; a tree would only pay with thousands.

/** Hands out runs of pages of a fixed range, the lowest that fits first. */
export class PageRuns {
  // Start and length of each free run, sorted, never touching each other.
  readonly #free: { start: number; pages: number }[]
  readonly pages: number

  constructor(pages: number) {
    this.pages = pages
    this.#free = [{ start: 0, pages }]
  }

  /** The first page of a run of `pages`, now taken; -1 where no hole is large enough. */
  take(pages: number): number {
    const at = this.#free.findIndex((run) => run.pages >= pages)
    const run = this.#free[at]
    if (run === undefined) return -1
    const { start } = run
    if (run.pages === pages) this.#free.splice(at, 1)
    else this.#free[at] = { start: start + pages, pages: run.pages - pages }
    return start
  }

  /** Gives a run back. */
  give(start: number, pages: number): void {
    let at = this.#free.findIndex((run) => run.start > start)
    if (at < 0) at = this.#free.length
    const before = this.#free[at - 1]
    const after = this.#free[at]
    const joinsBefore = before !== undefined && before.start + before.pages === start
    const joinsAfter = after !== undefined && start + pages === after.start
    const run = {
      start: joinsBefore ? before.start : start,
      pages: pages + (joinsBefore ? before.pages : 0) + (joinsAfter ? after.pages : 0),
    }
    this.#free.splice(at - (joinsBefore ? 1 : 0), (joinsBefore ? 1 : 0) + (joinsAfter ? 1 : 0), run)
  }

  /** Pages that are free. */
  get available(): number {
    return this.#free.reduce((sum, run) => sum + run.pages, 0)
  }

  /** Pages of the longest run that is free. */
  get largest(): number {
    return this.#free.reduce((most, run) => Math.max(most, run.pages), 0)
  }

  /** True where everything has been given back. */
  get whole(): boolean {
    return this.available === this.pages
  }
}
