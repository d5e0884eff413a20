// DMA memory by the buffer: cut from a few large arenas, each mapped for the device once.
// Trade-off: whole pages for every buffer, so that each has views of its own which end when it is freed.

import {
  ArgumentTypeError,
  BufferInUseError,
  ClosedError,
  FreedBufferError,
  NotDmaMemoryError,
  OutOfMemoryError,
  OutOfRangeError,
  SystemCallError,
} from '../errors.ts'
import { PAGE_BYTES } from '../sys/units.ts'
import { type DmaArena, detachView, MAX_VIEW_BYTES, type MemoryView, viewOf } from './mapping.ts'
import { PageRuns } from './page-runs.ts'
import type { DmaSource, LentMemory } from './source.ts'
import { type DmaAllocation, type DmaBuffer, type DmaTag, kDma, own, tag, tagFor, tagPart } from './tag.ts'
import { VIEWS, type ViewSpace } from './views.ts'

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const DMA: typeof kDma = kDma

// Large enough for few mappings and for huge pages, small enough to pin quickly.
const ARENA_BYTES = 8 * 2 ** 20
const ARENAS_PER_SIZE = 8
const MAX_DOUBLINGS = 7
// What `keep` holds: the buffers of a stream that reads and of one that writes, and others up to so many bytes in all.
const KEPT = 2
const KEPT_BYTES = 64 * 2 ** 20
const MOST_KEPT = 1024

interface Arena {
  readonly dma: DmaArena
  readonly runs: PageRuns
  /** Pages given back may hold somebody's data. */
  recycled: boolean
  /** Views of it that were ended, could not be detached, and may still be seen. */
  stale: number
  /** Called once there are no more of those. */
  onUnseen: (() => void) | null
}

interface Owned extends DmaAllocation {
  /** Null where the memory is another pool's. */
  readonly arena: Arena | null
  readonly hugePages: boolean
  readonly page: number
  readonly pages: number
  readonly view: MemoryView
}

/** A buffer as plain data, with which another thread's pool makes a buffer over the same memory. */
export interface SharedBuffer {
  readonly iova: number
  readonly bytes: number
  /** Where it is mapped here. */
  readonly address: bigint
  readonly fd: number
  readonly offset: number
  readonly hugePages: boolean
}

export interface DmaPoolOptions {
  /** Where its buffers are mapped; default: where this thread has its views. */
  views?: ViewSpace
  /** Memory to begin with; more is asked of the function. */
  arenas?: readonly DmaArena[]
}

// Of the module: a pool's own would go with the pool, and with it what is still to be given back.
const unreachable = new FinalizationRegistry<() => void>((give) => give())

/** Allocates the DMA memory of one device. */
export class DmaPool {
  readonly #source: DmaSource
  readonly #views: ViewSpace
  #arenas: Arena[]
  #live = new Set<Owned>()
  // Freed buffers of `keep`, the latest last, and their bytes.
  #kept: Buffer[] = []
  #keptBytes = 0
  #mapping: Promise<void> | null = null
  #aheadRefused = false
  #closed = false

  constructor(source: DmaSource, { views = VIEWS, arenas = [] }: DmaPoolOptions = {}) {
    this.#source = source
    this.#views = views
    this.#arenas = arenas.map(createArena)
  }

  /** Bytes in buffers that have not been freed, nor kept. */
  get bytes(): number {
    let sum = 0
    for (const { bytes } of this.#live) sum += bytes
    return sum - this.#keptBytes
  }

  /**
   * Zeroed DMA memory, starting on a page of its own.
   * @param bytes from 1 to 2 GiB; the buffer has exactly this length
   * @throws OutOfMemoryError, also where the process has as many mappings as the system lets it: each buffer is one
   */
  alloc(bytes: number): Buffer {
    if (this.#closed) throw new ClosedError(`alloc on ${this.#source.address}: the device is closed`)
    if (!Number.isSafeInteger(bytes) || bytes < 1 || bytes > MAX_VIEW_BYTES) {
      throw new OutOfRangeError(`alloc of ${bytes} bytes: an integer from 1 to ${MAX_VIEW_BYTES} is needed`)
    }
    const pages = Math.ceil(bytes / PAGE_BYTES)
    const [arena, page] = this.#take(pages)
    if (this.#source.mapDmaAsync !== undefined) this.#askAhead()
    let view: MemoryView
    try {
      view = this.#viewOf(arena.dma, page * PAGE_BYTES, pages * PAGE_BYTES, arena.recycled)
    } catch (cause) {
      arena.runs.give(page, pages)
      throw noView(bytes, this.#live.size, cause)
    }
    if (arena.recycled) new Uint8Array(view.buffer, 0, pages * PAGE_BYTES).fill(0)
    const hugePages = arena.dma.hugePages ?? false
    return this.#own({ iova: arena.dma.iova + page * PAGE_BYTES, bytes, arena, hugePages, page, pages, view })
  }

  /** As `alloc`, without blocking where another process has to take new memory first. */
  async allocAsync(bytes: number): Promise<Buffer> {
    for (;;) {
      const waiting = this.ready([bytes])
      if (waiting === null) return this.alloc(bytes)
      await waiting
    }
  }

  /**
   * Whether `alloc` of these sizes finds memory without blocking: null where it does, in the same turn of the event
   * loop. Otherwise a promise, after which it is to be asked again: others may have been quicker. Rejects as `alloc`
   * throws where there is no more memory.
   */
  ready(sizes: readonly number[]): Promise<void> | null {
    // What can't be had at all is for `alloc` to say.
    if (this.#source.mapDmaAsync === undefined || this.#closed) return null
    const taken: [arena: Arena, page: number, pages: number][] = []
    let missing = 0
    for (const bytes of sizes) {
      const pages = Math.ceil(bytes / PAGE_BYTES)
      const found = this.#find(pages)
      if (found === null) missing = Math.max(missing, pages)
      else taken.push([...found, pages])
    }
    for (const [arena, page, pages] of taken) arena.runs.give(page, pages)
    if (missing === 0 || missing * PAGE_BYTES > this.#source.maxArenaBytes) return null
    if (this.#kept.length > 0) {
      this.#discardKept()
      return this.ready(sizes)
    }
    this.#mapping ??= this.#mapAsync(missing * PAGE_BYTES).finally(() => {
      this.#mapping = null
    })
    return this.#mapping
  }

  // Where another process has to take memory first, what comes next is asked for before it is needed: `alloc`, which
  // can't wait without blocking, then finds it there.
  #askAhead(): void {
    const enough = ARENA_BYTES / PAGE_BYTES
    if (this.#mapping !== null || this.#aheadRefused) return
    if (this.#arenas.some(({ runs }) => runs.largest >= enough)) return
    this.#mapping = this.#mapAsync(ARENA_BYTES)
      .catch(() => {
        this.#aheadRefused = true
      })
      .finally(() => {
        this.#mapping = null
      })
  }

  async #mapAsync(atLeast: number): Promise<void> {
    const { wanted, least } = this.#arenaSizes(atLeast)
    const map = (bytes: number) => this.#source.mapDmaAsync!(bytes)
    const dma = await map(wanted).catch((error) => {
      if (!(error instanceof OutOfMemoryError) || wanted === least) throw error
      return map(least)
    })
    if (this.#closed) this.#source.unmapDma(dma)
    else this.#arenas.push(createArena(dma))
  }

  /** A buffer over memory of another thread's pool for the same function: see `share`. */
  adopt({ iova, bytes, address, fd, offset, hugePages }: SharedBuffer): Buffer {
    const pages = Math.ceil(bytes / PAGE_BYTES)
    const whole = pages * PAGE_BYTES
    let view: MemoryView
    try {
      view = hugePages ? { address, buffer: viewOf(address, whole) } : this.#views.map(fd, offset, whole)
    } catch (cause) {
      throw noView(bytes, this.#live.size, cause)
    }
    return this.#own({ iova, bytes, arena: null, hugePages, page: 0, pages, view })
  }

  /** A buffer of `alloc` as plain data. It must not be freed while another pool has it. */
  share(buffer: Buffer): SharedBuffer {
    const { bytes, iova, view, arena, hugePages } = this.tagOf(buffer).allocation as Owned
    if (arena === null)
      throw new NotDmaMemoryError('the buffer is of another thread, which alone can share it')
    const { fd, iova: start } = arena.dma
    return { iova, bytes, address: view.address, fd, offset: iova - start, hugePages }
  }

  /**
   * Gives memory back. Every view of it becomes harmless: reads nothing of it, writes nothing to it.
   * Throws BufferInUseError while a command may still write to it, OutOfRangeError for a part of a buffer.
   */
  free(buffer: Buffer): void {
    const { allocation, iova } = this.tagOf(buffer, 'free')
    if (iova !== allocation.iova) {
      throw new OutOfRangeError(
        `free: a part of a buffer, at offset ${iova - allocation.iova}; what alloc returned is freed as a whole`,
      )
    }
    if (allocation.users > 0) {
      throw new BufferInUseError(
        `free of a buffer of ${allocation.bytes} bytes that ${allocation.users} operations in flight still use`,
      )
    }
    this.#release(allocation as Owned)
  }

  /**
   * As `free`, and where a lost command may still write to the memory, as soon as none can. Nothing where it went
   * with the device already.
   */
  discard(buffer: Uint8Array): void {
    if ((buffer as DmaBuffer)[DMA]?.allocation.owner === null) return
    const { allocation } = this.tagOf(buffer)
    if (allocation.users === 0) this.#release(allocation as Owned)
    else allocation.discarded = true
  }

  /** As `alloc`, for memory that no caller ever sees: it may be a buffer of `keep`, and holds anything. */
  reuse(bytes: number): Buffer {
    const at = this.#kept.findLastIndex(({ length }) => length === bytes)
    if (at < 0) return this.alloc(bytes)
    this.#keptBytes -= bytes
    return this.#kept.splice(at, 1)[0]!
  }

  /** As `ready`, for `reuse`. */
  readyToReuse(bytes: number): Promise<void> | null {
    return this.#kept.some(({ length }) => length === bytes) ? null : this.ready([bytes])
  }

  /**
   * As `discard`, for memory that no caller has seen: it is kept for `reuse`, mapped and touched as it is, until
   * others come or its room is needed. Making a view of 4 MiB again costs as much as reading 16 MiB.
   */
  keep(buffer: Buffer): void {
    const { allocation } = (buffer as DmaBuffer)[DMA]!
    if (allocation.owner === null || allocation.users > 0) {
      this.discard(buffer)
      return
    }
    this.#kept.push(buffer)
    this.#keptBytes += buffer.length
    while (this.#kept.length > MOST_KEPT || (this.#kept.length > KEPT && this.#keptBytes > KEPT_BYTES)) {
      const oldest = this.#kept.shift()!
      this.#keptBytes -= oldest.length
      this.discard(oldest)
    }
  }

  #discardKept(): void {
    this.#keptBytes = 0
    for (const buffer of this.#kept.splice(0)) this.discard(buffer)
  }

  /** Frees what was discarded, once it has no users. */
  reclaim(allocation: DmaAllocation): void {
    if (allocation.discarded && allocation.owner !== null && allocation.users === 0)
      this.#release(allocation as Owned)
  }

  /**
   * The tag of a buffer from `alloc`, or of any part of one.
   * Throws where it is none, or freed; `call` is named then.
   */
  tagOf(buffer: Uint8Array, call?: string): DmaTag {
    const known = (buffer as DmaBuffer | undefined)?.[DMA] ?? tagPart(buffer)
    const prefix = call === undefined ? '' : `${call}: `
    if (known === undefined) {
      if (!(buffer instanceof Uint8Array)) {
        throw new ArgumentTypeError(`${prefix}a Buffer is needed, received ${typeof buffer}`)
      }
      throw new NotDmaMemoryError(
        `${prefix}a buffer of ${(buffer as Uint8Array).length} bytes is not from alloc of ${this.#source.address}`,
      )
    }
    if (known.allocation.owner === null) {
      throw new FreedBufferError(`${prefix}the buffer has been freed, or its device closed`)
    }
    if (known.allocation.owner !== this) {
      throw new NotDmaMemoryError(
        `${prefix}the buffer is from alloc of another device than ${this.#source.address}`,
      )
    }
    return known
  }

  /** The tag of what begins `offset` bytes into a buffer of `alloc`, for whoever makes many parts and shows them to no one. */
  tagAt(buffer: Buffer, offset: number): DmaTag {
    const { allocation, iova } = (buffer as DmaBuffer)[DMA]!
    return tagFor(allocation, iova + offset)
  }

  /** True for a buffer that `tagOf` would take. */
  owns(buffer: Uint8Array): boolean {
    const known = (buffer as DmaBuffer | undefined)?.[DMA] ?? tagPart(buffer)
    return known?.allocation.owner === this
  }

  /** The device can read into any memory: see `lend`. */
  get lends(): boolean {
    return this.#source.lend !== undefined
  }

  /** See `DmaSource.lend`. */
  lend(buffer: Uint8Array): LentMemory | null {
    return this.#source.lend?.(buffer) ?? null
  }

  /** Ends every buffer and unmaps every arena. The device must not be able to write any more. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    for (const allocation of [...this.#live]) this.#release(allocation)
    for (const arena of this.#arenas) this.#unmap(arena)
    this.#arenas = []
    this.#kept = []
    this.#keptBytes = 0
  }

  #unmap(arena: Arena): void {
    const { dma } = arena
    this.#source.unmapDma(dma)
    const release = () => this.#source.releaseAddresses?.(dma)
    if (arena.stale === 0) release()
    else arena.onUnseen = release
  }

  #take(pages: number): [Arena, page: number] {
    const found = this.#find(pages)
    if (found !== null) return found
    if (this.#kept.length > 0) {
      this.#discardKept()
      return this.#take(pages)
    }
    const arena = this.#addArena(pages * PAGE_BYTES)
    return [arena, arena.runs.take(pages)]
  }

  #find(pages: number): [Arena, page: number] | null {
    for (const arena of this.#arenas) {
      const page = arena.runs.take(pages)
      if (page >= 0) return [arena, page]
    }
    return null
  }

  #addArena(atLeast: number): Arena {
    const { maxArenaBytes, address } = this.#source
    if (atLeast > maxArenaBytes) {
      throw new OutOfMemoryError(
        `alloc of ${atLeast} bytes: ${address} maps at most ${maxArenaBytes} at once`,
      )
    }
    const { wanted, least } = this.#arenaSizes(atLeast)
    const arena = createArena(this.#map(wanted, least))
    this.#arenas.push(arena)
    return arena
  }

  // Larger ones as there are more: some transports take only so many mappings.
  #arenaSizes(atLeast: number): { wanted: number; least: number } {
    const { maxArenaBytes } = this.#source
    const unit = ARENA_BYTES * 2 ** Math.min(MAX_DOUBLINGS, Math.floor(this.#arenas.length / ARENAS_PER_SIZE))
    const size = (rounded: number) => Math.min(maxArenaBytes, rounded)
    return { wanted: size(roundUp(atLeast, unit)), least: size(roundUp(atLeast, ARENA_BYTES)) }
  }

  // What is more than needed is a wish.
  #map(wanted: number, least: number): DmaArena {
    try {
      return this.#source.mapDma(wanted)
    } catch (error) {
      if (!(error instanceof OutOfMemoryError) || wanted === least) throw error
      return this.#source.mapDma(least)
    }
  }

  #own(memory: Omit<Owned, 'pool' | 'owner' | 'users' | 'discarded'>): Buffer {
    const allocation: Owned = { pool: this, owner: this, users: 0, discarded: false, ...memory }
    const { view, bytes, iova } = allocation
    this.#live.add(allocation)
    own(view.buffer, allocation)
    const buffer = Buffer.from(view.buffer, 0, bytes)
    tag(buffer, allocation, iova)
    return buffer
  }

  #release(allocation: Owned): void {
    const { arena, view, hugePages, page, pages } = allocation
    allocation.owner = null
    this.#live.delete(allocation)
    const give = () => {
      if (arena === null) return
      arena.recycled = true
      arena.runs.give(page, pages)
    }
    const giveUnseen = () => {
      give()
      if (arena !== null && --arena.stale === 0) arena.onUnseen?.()
    }
    if (!hugePages) this.#views.retire(view)
    else if (!detachView(view)) {
      // A stale view of it still writes into these pages: they are used again when no one can hold one.
      if (arena !== null) arena.stale++
      unreachable.register(view.buffer, giveUnseen)
      return
    }
    give()
  }

  // Huge pages can't be mapped in parts: there, a view is a part of the arena's own mapping. It is detached when
  // freed where this Node can; where not, it goes on showing its pages, which no one else has until it is collected.
  #viewOf(dma: DmaArena, offset: number, bytes: number, touched: boolean): MemoryView {
    if (!dma.hugePages) return this.#views.map(dma.fd, offset, bytes, touched)
    const address = dma.address + BigInt(offset)
    return { address, buffer: viewOf(address, bytes) }
  }
}

function noView(bytes: number, count: number, cause: unknown): unknown {
  if (!(cause instanceof SystemCallError) || cause.code !== 'ENOMEM') return cause
  const text = `alloc of ${bytes} bytes: the system gives no mapping beside the ${count} of other buffers`
  const advice =
    'each buffer is one, of at most vm.max_map_count in a process: cut several from one with subarray'
  return new OutOfMemoryError(`${text} (${advice})`, { cause })
}

const roundUp = (bytes: number, unit: number): number => Math.ceil(bytes / unit) * unit

function createArena(dma: DmaArena): Arena {
  return { dma, runs: new PageRuns(dma.bytes / PAGE_BYTES), recycled: false, stale: 0, onUnseen: null }
}
