// Where the views of DMA memory are mapped: anywhere, or, in a worker thread, over memory of its own heap.
// Trade-off: such a view takes 10 GiB of addresses, of which a process has some 13 000 times as much, and its
// ArrayBuffer is a multiple of 64 KiB; in exchange the thread can be ended at any moment.

import { isMainThread } from 'node:worker_threads'
import { OutOfMemoryError } from '../errors.ts'
import { MAP, PROT } from '../sys/libc.ts'
import { addressOf, type MemoryView, map, mapView, replaceMapping, retireView } from './mapping.ts'

/** Makes and ends the views of a pool's buffers. */
export interface ViewSpace {
  /**
   * A view of a part of a memfd: see `mapView`. Its buffer may be longer than what was asked for; what is behind that
   * is memory of no device. Throws SystemCallError or OutOfMemoryError.
   */
  map(fd: number, offset: number, bytes: number, touched?: boolean): MemoryView
  /** Ends it: who still holds it sees pages that belong to no one, or an empty buffer. */
  retire(view: MemoryView): void
}

/** Views wherever the system puts them. */
export const ANYWHERE: ViewSpace = { map: mapView, retire: retireView }

// As far as it is used here: Node's types leave WebAssembly to the DOM's.
interface Memory {
  readonly buffer: ArrayBuffer
  grow(units: number): number
}
declare const WebAssembly: {
  readonly Memory: new (size: { initial: number; maximum: number }) => Memory
}

// A page of WebAssembly.
const UNIT_BYTES = 2 ** 16
// Of memory without a view that is kept for the next one: to make one costs twice as much as to map it.
const MOST_SPARE = 64

/**
 * Views over memory of this thread's heap, which ends them all when the thread ends, however that comes about.
 *
 * A view of foreign memory is made by Node-API, which throws in a thread that `terminate` or the process's end has
 * caught there, and koffi's call to it then aborts the process. The memory of WebAssembly is page-aligned, unmapped as a
 * whole, and can be detached: the one kind of V8's own over which something else can be mapped.
 */
export function viewsInHeap(): ViewSpace {
  const live = new Map<bigint, Memory>()
  const spare = new Map<number, Memory[]>()
  let spares = 0

  const take = (units: number): Memory => {
    const memory = spare.get(units)?.pop()
    if (memory !== undefined) {
      spares--
      return memory
    }
    try {
      return new WebAssembly.Memory({ initial: units, maximum: units })
    } catch (cause) {
      throw new OutOfMemoryError(`a buffer of ${units * UNIT_BYTES} bytes: there are no more addresses`, {
        cause,
      })
    }
  }
  const give = (memory: Memory, units: number): void => {
    if (spares === MOST_SPARE) return
    spares++
    const known = spare.get(units)
    if (known === undefined) spare.set(units, [memory])
    else known.push(memory)
  }

  return {
    map(fd, offset, bytes, touched = false) {
      const units = Math.ceil(bytes / UNIT_BYTES)
      const memory = take(units)
      const { buffer } = memory
      const address = addressOf(buffer)
      const flags = MAP.SHARED | MAP.FIXED | (touched ? MAP.POPULATE : 0)
      try {
        map(address, bytes, PROT.READ | PROT.WRITE, flags, fd, offset)
      } catch (error) {
        give(memory, units)
        throw error
      }
      live.set(address, memory)
      return { address, buffer }
    },
    retire({ address, buffer }) {
      const memory = live.get(address)
      if (memory === undefined || memory.buffer !== buffer) return
      live.delete(address)
      const bytes = buffer.byteLength
      replaceMapping(address, bytes)
      // By no page more: that detaches the buffer, and makes another.
      memory.grow(0)
      give(memory, bytes / UNIT_BYTES)
    },
  }
}

/**
 * Where this thread's pools have their views. The main thread is ended by nothing but itself; with --jitless there is no
 * WebAssembly.
 */
export const VIEWS: ViewSpace = isMainThread || typeof WebAssembly === 'undefined' ? ANYWHERE : viewsInHeap()
