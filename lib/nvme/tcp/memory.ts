// Memory of a device that no DMA reaches: plain memory of this process, with addresses of its own making that lead back
// to it. A buffer is an ArrayBuffer of its own, which goes with the collector once no one holds it; and for one read
// any other Buffer is such memory, too, which is filled where it is.

import type { DmaArena, MemoryView } from '../../memory/mapping.ts'
import type { DmaSource, LentMemory } from '../../memory/source.ts'
import type { AllocationPool, DmaAllocation, DmaTag } from '../../memory/tag.ts'
import type { ViewSpace } from '../../memory/views.ts'
import { PAGE_BYTES } from '../../sys/units.ts'

const PAGE_SHIFT = 12
// 2^32 / 4096
const HIGH_PAGES = 2 ** 20
const MOST_ARENA_BYTES = 2 ** 31
// Nothing is at address 0.
const FIRST_ADDRESS = 2 ** 20
// Each Buffer of a caller's has 4 GiB of addresses: these are their upper halves, above those of all arenas.
const FIRST_LENT = 2 ** 29
const MOST_LENT = 2 ** 29
const MOST_LENT_BYTES = 2 ** 31
const BUFFER = Buffer.prototype
const BYTES = Uint8Array.prototype
const NO_BYTES = new Uint8Array(0)

/** One buffer's memory, by the page that it begins at. */
export interface Region {
  /** Of a caller's, none where the call has ended; and none is left of a buffer that was transferred to another thread. */
  readonly bytes: Uint8Array
  readonly page: number
}

/** A caller's Buffer, for one read after the other. */
class Lent implements Region, LentMemory, AllocationPool {
  bytes: Uint8Array = NO_BYTES
  readonly page: number
  readonly iova: number
  readonly lo = 0
  readonly hi: number
  readonly allocation: DmaAllocation
  private readonly idle: Lent[]

  /** @param idle those that no operation has */
  constructor(hi: number, idle: Lent[]) {
    this.hi = hi
    this.page = hi * HIGH_PAGES
    this.iova = hi * 2 ** 32
    this.idle = idle
    this.allocation = { pool: this, owner: this, iova: this.iova, bytes: 0, users: 0, discarded: false }
  }

  tagOf(): DmaTag {
    return this
  }

  part(): void {
    this.bytes = NO_BYTES
  }

  giveBack(): void {
    const { allocation } = this
    this.bytes = NO_BYTES
    if (allocation.users > 0) allocation.discarded = true
    else this.reclaim(allocation)
  }

  /** No command names it any more: the next operation may. */
  reclaim(allocation: DmaAllocation): void {
    if (allocation.users > 0) return
    allocation.discarded = false
    this.idle.push(this)
  }
}

/** What a pool's addresses lead to. Makes no memory before a buffer is asked for. */
export class PlainMemory implements DmaSource, ViewSpace {
  readonly address: string
  readonly maxArenaBytes = MOST_ARENA_BYTES
  // By page of the address.
  private readonly regions: (Region | undefined)[] = []
  private readonly arenas: DmaArena[] = []
  private next = FIRST_ADDRESS
  // Callers' Buffers, by the upper half of their addresses.
  private readonly lent: Lent[] = []
  private readonly idle: Lent[] = []
  // Data that a socket still sends, and memory that was freed meanwhile.
  private sending = 0
  private readonly held: ArrayBuffer[] = []

  constructor(address: string) {
    this.address = address
  }

  /** An arena is a range of addresses: its descriptor is its number here. */
  mapDma(bytes: number): DmaArena {
    const arena = { iova: this.next, bytes, fd: this.arenas.length, address: 0n }
    this.next += bytes
    this.arenas.push(arena)
    return arena
  }

  unmapDma(): void {}

  /** A buffer's memory, zeroed. */
  map(fd: number, offset: number, bytes: number): MemoryView {
    const buffer = new ArrayBuffer(bytes)
    const address = this.arenas[fd]!.iova + offset
    const page = address / PAGE_BYTES
    const region = { bytes: new Uint8Array(buffer), page }
    for (let i = 0; i < bytes / PAGE_BYTES; i++) this.regions[page + i] = region
    return { address: BigInt(address), buffer }
  }

  /** Who still holds a view of it has an empty buffer. What a socket is sending stays where it is until that is done. */
  retire({ address, buffer }: MemoryView): void {
    const page = Number(address) / PAGE_BYTES
    const pages = buffer.byteLength / PAGE_BYTES
    for (let i = 0; i < pages; i++) this.regions[page + i] = undefined
    const taken = structuredClone(buffer, { transfer: [buffer] })
    if (this.sending > 0) this.held.push(taken)
  }

  /** Any Buffer or Uint8Array: one of a class of its own may have methods of its own, too. */
  lend(buffer: Uint8Array): LentMemory | null {
    const kind = Object.getPrototypeOf(buffer)
    const { byteLength } = buffer
    if ((kind !== BUFFER && kind !== BYTES) || byteLength === 0 || byteLength > MOST_LENT_BYTES) return null
    const lent = this.idle.pop() ?? this.addLent()
    if (lent === null) return null
    lent.bytes = buffer
    return lent
  }

  private addLent(): Lent | null {
    const { length } = this.lent
    if (length === MOST_LENT) return null
    const lent = new Lent(FIRST_LENT + length, this.idle)
    this.lent.push(lent)
    return lent
  }

  /** The memory that an address in halves is in; undefined where there is none. */
  find(lo: number, hi: number): Region | undefined {
    if (hi >= FIRST_LENT) return this.lent[hi - FIRST_LENT]
    return this.regions[hi * HIGH_PAGES + (lo >>> PAGE_SHIFT)]
  }

  /** A socket has got views of memory to send. */
  beginSending(): void {
    this.sending++
  }

  readonly endSending = (): void => {
    if (--this.sending === 0) this.held.length = 0
  }
}
