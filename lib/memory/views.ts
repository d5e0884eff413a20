// Where the views of DMA memory are mapped: anywhere, or within a range of addresses that another thread reserved.
// Trade-off: such a range holds addresses for as long as its thread lives, but no memory; in exchange the thread
// that reserved it can end every view in it at once, also those of a thread that died.

import { OutOfMemoryError } from '../errors.ts'
import { MAP, munmap, PROT } from '../sys/libc.ts'
import { PAGE_BYTES } from '../sys/units.ts'
import {
  type AddressRange,
  detachView,
  type MemoryView,
  map,
  mapView,
  replaceMapping,
  retireView,
  viewOf,
} from './mapping.ts'
import { PageRuns } from './page-runs.ts'

/** Makes and ends the views of a pool's buffers. */
export interface ViewSpace {
  /** A view of a part of a memfd: see `mapView`. Throws SystemCallError or OutOfMemoryError. */
  map(fd: number, offset: number, bytes: number, touched?: boolean): MemoryView
  /** Ends it: who still holds it sees pages that belong to no one, or an empty buffer. */
  retire(view: MemoryView): void
}

/** Views wherever the system puts them. */
export const ANYWHERE: ViewSpace = { map: mapView, retire: retireView }

/** Reserves addresses; nothing is taken of the machine's memory. */
export function reserveAddresses(bytes: number): AddressRange {
  return { address: map(0n, bytes, PROT.NONE, MAP.PRIVATE | MAP.ANONYMOUS | MAP.NORESERVE, -1, 0), bytes }
}

/** Ends whatever is mapped in the range. No thread may touch a view of it any more. */
export function releaseAddresses({ address, bytes }: AddressRange): void {
  munmap(address, bytes)
}

/** Views within a reserved range. An address is used again once no one can hold its old view. */
export function viewsWithin({ address, bytes }: AddressRange): ViewSpace {
  const runs = new PageRuns(bytes / PAGE_BYTES)
  const unreachable = new FinalizationRegistry<() => void>((give) => give())
  return {
    map(fd, offset, length, touched = false) {
      const page = runs.take(length / PAGE_BYTES)
      if (page < 0) {
        throw new OutOfMemoryError(`a buffer of ${length} bytes: the ${bytes} bytes of addresses are used up`)
      }
      const at = address + BigInt(page * PAGE_BYTES)
      const flags = MAP.SHARED | MAP.FIXED | (touched ? MAP.POPULATE : 0)
      map(at, length, PROT.READ | PROT.WRITE, flags, fd, offset)
      return { address: at, buffer: viewOf(at, length) }
    },
    retire(view) {
      const length = view.buffer.byteLength
      if (length === 0) return
      replaceMapping(view.address, length)
      const give = () => runs.give(Number(view.address - address) / PAGE_BYTES, length / PAGE_BYTES)
      if (detachView(view)) give()
      else unreachable.register(view.buffer, give)
    },
  }
}
