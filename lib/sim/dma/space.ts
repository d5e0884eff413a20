// The controller's address space: a window for the driver's DMA memory with the memory medium right behind it.
// Trade-off: both in one view make a 4 KiB read or write one `copyWithin` (135 ns hot, where a subarray and
// `set` take 170); what does not fit into a view of 2 GiB is reached through further views, a little slower.

import os from 'node:os'
import { OutOfMemoryError, SystemCallError } from '../../errors.ts'
import { map, viewOf } from '../../memory/mapping.ts'
import { MADV, MAP, madvise, munmap, PROT, systemCallError } from '../../sys/libc.ts'

/** Bytes of DMA memory that can be mapped into the window. */
export const WINDOW_BYTES = 2 ** 29
// Huge pages spare most TLB misses of random access; on a larger, sparse medium one for each block is a waste.
const HUGE_MEDIUM_BYTES = 2 ** 31
// A little under 2 GiB: an index, and the end of a piece, then always are small integers.
const FIRST_VIEW_BYTES = 2 ** 31 - 2 ** 21

/** A reserved range: the window first, `mediumBytes` of memory medium behind it. */
export interface Space {
  readonly address: bigint
  readonly mediumBytes: number
}

/**
 * Reserves addresses; memory is taken where it is touched, or all of the medium's at once (`populate`).
 * Throws OutOfMemoryError.
 */
export function reserveSpace(mediumBytes: number, populate = false): Space {
  // Asked for more than there is, the system would not refuse: it ends processes.
  if (populate && mediumBytes > os.freemem()) throw noMemory(mediumBytes, 'as much at once')
  const bytes = WINDOW_BYTES + mediumBytes
  let address: bigint
  try {
    // Private, since reading what was never written then takes no memory: it is the system's page of zeroes.
    const flags = MAP.PRIVATE | MAP.ANONYMOUS | MAP.NORESERVE
    address = map(0n, bytes, PROT.READ | PROT.WRITE, flags, -1, 0)
  } catch (cause) {
    throw noMemory(mediumBytes, 'such an address range (see vm.overcommit_memory and RLIMIT_AS)', cause)
  }
  const space = { address, mediumBytes }
  const medium = address + BigInt(WINDOW_BYTES)
  if (mediumBytes > 0 && mediumBytes <= HUGE_MEDIUM_BYTES) madvise(medium, mediumBytes, MADV.HUGEPAGE)
  if (populate && madvise(medium, mediumBytes, MADV.POPULATE_WRITE) !== 0) {
    const cause = systemCallError('madvise')
    releaseSpace(space)
    throw noMemory(mediumBytes, 'as much at once', cause)
  }
  return space
}

function noMemory(mediumBytes: number, what: string, cause?: unknown): unknown {
  if (cause !== undefined && !(cause instanceof SystemCallError)) return cause
  return new OutOfMemoryError(
    `a medium of ${mediumBytes} bytes in memory: the system does not give ${what}`,
    {
      cause,
    },
  )
}

/** Gives everything back. Nothing may touch a view of it any more. */
export function releaseSpace(space: Space): void {
  munmap(space.address, WINDOW_BYTES + space.mediumBytes)
}

/** The window and the first part of the medium as one array. */
export function viewSpace(space: Space): Uint8Array {
  const bytes = Math.min(WINDOW_BYTES + space.mediumBytes, FIRST_VIEW_BYTES)
  return new Uint8Array(viewOf(space.address, bytes))
}
