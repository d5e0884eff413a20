// The host's side of DMA: makes arenas, gives them IOVAs, and shows them to the controller.
// An IOVA in the window is its offset there, so that what fits into the window costs no table; a
// later arena that does not fit is mapped anywhere.

import { OutOfMemoryError, OutOfRangeError, SystemCallError } from '../../errors.ts'
import {
  createSharedMemory,
  type DmaArena,
  destroySharedMemory,
  MAX_VIEW_BYTES,
  map,
  replaceMapping,
  type SharedMemory,
  viewOf,
} from '../../memory/mapping.ts'
import { PageRuns } from '../../memory/page-runs.ts'
import { MAP, PROT } from '../../sys/libc.ts'
import { PAGE_BYTES } from '../../sys/units.ts'
import type { DmaTable } from './dma.ts'
import { type Space, WINDOW_BYTES } from './space.ts'

// Above 4 GiB, and 1 MiB below a multiple of it, so that both halves of an address are put to use at once.
const FIRST_IOVA = 2 * 2 ** 32 - 2 ** 20
const IOVA_BYTES = 2 ** 40

/** A mapped range as the controller gets to know it. */
export interface RangeDescriptor {
  readonly iova: number
  readonly bytes: number
  /** Where it is mapped for the controller. */
  readonly address: bigint
  /** Offset in the window, or -1 where it lies outside. */
  readonly windowAt: number
}

/** Makes and maps the arenas of one function. */
export class DmaHost {
  readonly #space: Space
  readonly #attach: (range: RangeDescriptor) => void
  readonly #detach: (iova: number) => void
  readonly #runs = new PageRuns(IOVA_BYTES / PAGE_BYTES)
  readonly #arenas = new Map<DmaArena, SharedMemory>()

  /** @param detach returns when the controller does not touch the range any more */
  constructor(space: Space, attach: (range: RangeDescriptor) => void, detach: (iova: number) => void) {
    this.#space = space
    this.#attach = attach
    this.#detach = detach
  }

  map(bytes: number): DmaArena {
    if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes % PAGE_BYTES !== 0 || bytes > MAX_VIEW_BYTES) {
      throw new OutOfRangeError(
        `mapDma of ${bytes} bytes: a multiple of ${PAGE_BYTES} up to ${MAX_VIEW_BYTES} is needed`,
      )
    }
    const page = this.#runs.take(bytes / PAGE_BYTES)
    if (page < 0) throw new OutOfMemoryError(`mapDma of ${bytes} bytes: no IOVA range of this size is left`)
    const offset = page * PAGE_BYTES
    try {
      const memory = createSharedMemory(bytes)
      const arena = { iova: FIRST_IOVA + offset, bytes, fd: memory.fd, address: memory.address }
      this.#show(arena.iova, memory, offset)
      this.#arenas.set(arena, memory)
      return arena
    } catch (cause) {
      this.#runs.give(page, bytes / PAGE_BYTES)
      if (!(cause instanceof SystemCallError)) throw cause
      throw new OutOfMemoryError(`mapDma of ${bytes} bytes: ${cause.message}`, { cause })
    }
  }

  #show(iova: number, memory: SharedMemory, offset: number): void {
    const { bytes, fd, address } = memory
    if (offset + bytes > WINDOW_BYTES) {
      this.#attach({ iova, bytes, address, windowAt: -1 })
      return
    }
    const at = this.#space.address + BigInt(offset)
    try {
      map(at, bytes, PROT.READ | PROT.WRITE, MAP.SHARED | MAP.FIXED, fd, 0)
    } catch (error) {
      destroySharedMemory(memory)
      throw error
    }
    this.#attach({ iova, bytes, address: at, windowAt: offset })
  }

  unmap(arena: DmaArena): void {
    const memory = this.#arenas.get(arena)
    if (memory === undefined) return
    this.#arenas.delete(arena)
    const { iova, bytes } = arena
    this.#detach(iova)
    const offset = iova - FIRST_IOVA
    if (offset + bytes <= WINDOW_BYTES) replaceMapping(this.#space.address + BigInt(offset), bytes)
    destroySharedMemory(memory)
    this.#runs.give(offset / PAGE_BYTES, bytes / PAGE_BYTES)
  }

  /** Unmaps what is left. */
  close(): void {
    for (const arena of this.#arenas.keys()) this.unmap(arena)
  }
}

/** The controller's side: adds a range to its table. `window` is the view of the space. */
export function attachRange(table: DmaTable, window: Uint8Array, range: RangeDescriptor): void {
  const inWindow = range.windowAt >= 0
  const bytes = inWindow ? window : new Uint8Array(viewOf(range.address, range.bytes))
  table.add(range.iova, range.bytes, bytes, inWindow ? range.windowAt : 0, inWindow)
}
