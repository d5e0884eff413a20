// Memory of a device that no DMA reaches: plain memory of this process, with addresses of its own making that lead back
// to it. A buffer is an ArrayBuffer of its own, which goes with the collector once no one holds it.

import type { DmaArena, MemoryView } from '../../memory/mapping.ts'
import type { DmaSource } from '../../memory/source.ts'
import type { ViewSpace } from '../../memory/views.ts'
import { PAGE_BYTES } from '../../sys/units.ts'

const PAGE_SHIFT = 12
// 2^32 / 4096
const HIGH_PAGES = 2 ** 20
const MOST_ARENA_BYTES = 2 ** 31
// Nothing is at address 0.
const FIRST_ADDRESS = 2 ** 20

/** One buffer's memory, by the page that it begins at. */
export interface Region {
  readonly bytes: Uint8Array
  readonly page: number
}

/** What a pool's addresses lead to. Makes no memory before a buffer is asked for. */
export class PlainMemory implements DmaSource, ViewSpace {
  readonly address: string
  readonly maxArenaBytes = MOST_ARENA_BYTES
  // By page of the address.
  private readonly regions: (Region | undefined)[] = []
  private readonly arenas: DmaArena[] = []
  private next = FIRST_ADDRESS
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

  /** The memory that an address in halves is in; undefined where there is none. */
  find(lo: number, hi: number): Region | undefined {
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
