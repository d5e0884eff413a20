// Memory that another process brings: its files mapped into the controller's window, or beside it.
// The window is given out in huge pages, so that files of huge pages fit in like all others.

import { OutOfMemoryError, OutOfRangeError } from '../../errors.ts'
import {
  MAX_VIEW_BYTES,
  type MemoryView,
  map,
  mapView,
  replaceMapping,
  retireView,
} from '../../memory/mapping.ts'
import { PageRuns } from '../../memory/page-runs.ts'
import { MAP, PROT } from '../../sys/libc.ts'
import type { DmaTable } from './dma.ts'
import { type Space, WINDOW_BYTES } from './space.ts'

const UNIT = 2 ** 21

type Mapped = { readonly bytes: number } & (
  | { readonly kind: 'window'; readonly unit: number }
  | { readonly kind: 'view'; readonly view: MemoryView }
)

/** The mappings of one controller, by IOVA. */
export class ForeignDma {
  readonly #space: Space
  readonly #window: Uint8Array
  readonly #table: DmaTable
  readonly #detach: (iova: number) => void
  // The first address in the window that is a huge page's, as an offset.
  readonly #start: number
  readonly #runs: PageRuns
  readonly #mapped = new Map<number, Mapped>()

  /** @param detach lets the controller forget a range, before its memory goes */
  constructor(space: Space, window: Uint8Array, table: DmaTable, detach: (iova: number) => void) {
    this.#space = space
    this.#window = window
    this.#table = table
    this.#detach = detach
    this.#start = (UNIT - Number(space.address % BigInt(UNIT))) % UNIT
    this.#runs = new PageRuns(Math.floor((WINDOW_BYTES - this.#start) / UNIT))
  }

  /**
   * Maps `bytes` of a file, from `offset` on, for the controller. The file may be closed then.
   * Throws SystemCallError where it can't be mapped, OutOfMemoryError where it is too large.
   */
  map(iova: number, bytes: number, fd: number, offset: number): void {
    if (this.#mapped.has(iova)) throw new OutOfRangeError(`IOVA ${iova.toString(16)}h is mapped already`)
    if (bytes > MAX_VIEW_BYTES) {
      throw new OutOfMemoryError(`a mapping of ${bytes} bytes: ${MAX_VIEW_BYTES} are possible`)
    }
    const unit = this.#runs.take(Math.ceil(bytes / UNIT))
    if (unit < 0) this.#mapBeside(iova, bytes, fd, offset)
    else this.#mapInWindow(iova, bytes, fd, offset, unit)
  }

  #mapInWindow(iova: number, bytes: number, fd: number, offset: number, unit: number): void {
    const at = this.#start + unit * UNIT
    try {
      const address = this.#space.address + BigInt(at)
      map(address, bytes, PROT.READ | PROT.WRITE, MAP.SHARED | MAP.FIXED, fd, offset)
    } catch (error) {
      this.#runs.give(unit, Math.ceil(bytes / UNIT))
      throw error
    }
    this.#mapped.set(iova, { kind: 'window', bytes, unit })
    this.#table.add(iova, bytes, this.#window, at, true)
  }

  #mapBeside(iova: number, bytes: number, fd: number, offset: number): void {
    const view = mapView(fd, offset, bytes)
    this.#mapped.set(iova, { kind: 'view', bytes, view })
    this.#table.add(iova, bytes, new Uint8Array(view.buffer), 0)
  }

  /** Takes a mapping away, whole. A controller that works in it can't go on. */
  unmap(iova: number): void {
    const mapped = this.#mapped.get(iova)
    if (mapped === undefined) return
    this.#mapped.delete(iova)
    this.#detach(iova)
    if (mapped.kind === 'view') {
      retireView(mapped.view)
      return
    }
    const units = Math.ceil(mapped.bytes / UNIT)
    const at = this.#start + mapped.unit * UNIT
    replaceMapping(this.#space.address + BigInt(at), units * UNIT)
    this.#runs.give(mapped.unit, units)
  }

  unmapAll(): void {
    for (const iova of [...this.#mapped.keys()]) this.unmap(iova)
  }
}
