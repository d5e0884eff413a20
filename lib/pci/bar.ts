// BAR 0 in this process's memory: mapped where that is allowed, by call where it is not, all-ones once it is gone.
// One address range for all of it, with harmless pages in the gaps, so that registers and doorbells
// are one array and a stale view never faults.

import { OutOfRangeError, UnsupportedError } from '../errors.ts'
import {
  detachView,
  type MemoryView,
  map,
  mapAnonymous,
  replaceMapping,
  retireView,
} from '../memory/mapping.ts'
import { MAP, PROT } from '../sys/libc.ts'
import { PAGE_BYTES } from '../sys/units.ts'
import type { Region } from '../vfio-abi/region.ts'
import type { FunctionShare } from './function.ts'

const ALL_ONES = 0xffff_ffff
/** Where the doorbells begin (NVMe 1.4 base, 3.1.24). */
const DOORBELLS = 0x1000
// More than the doorbells of 65 536 queue pairs at the widest stride in use; what lies behind is a controller
// memory buffer, which would only cost memory when the BAR is replaced.
const MAX_BYTES = 2 ** 24

export interface Bar {
  /** BAR 0 from 1000h on, as far as it is mapped in one piece. */
  readonly doorbells: Uint32Array
  read(offset: number): number
  write(offset: number, value: number): void
  /** Puts all-ones in place of the device: views stay, and touch it no more. */
  cover(): void
  /**
   * Maps the device again after `cover`, at the same addresses: from another file, where one is given.
   * Throws where that can't be mapped, and stays covered.
   */
  uncover(fd?: number, region?: Region): void
  /** Ends the views. */
  retire(): void
  /** Where another thread finds it in memory. */
  share(): Pick<FunctionShare, 'doorbells' | 'registers'>
}

/** How the parts of a BAR are reached that can't be mapped: registers of 32 bits. */
export interface BarAccess {
  read(offset: number): number
  write(offset: number, value: number): void
}

/**
 * Maps BAR 0, which begins at `region.offset` of the file.
 * Throws UnsupportedError where its doorbells can't be mapped.
 */
export function mapBar(fd: number, region: Region, access: BarAccess, name: string): Bar {
  const bytes = Math.min(MAX_BYTES, Math.ceil(region.size / PAGE_BYTES) * PAGE_BYTES)
  if (bytes < DOORBELLS + 8) {
    throw new UnsupportedError(`${name}: BAR 0 has ${region.size} bytes; an NVMe controller has 8192 or more`)
  }
  const runs = pageRuns(region, bytes)
  const doorbellRun = runs.find(({ start, end }) => start <= DOORBELLS && DOORBELLS < end)
  if (doorbellRun === undefined) {
    throw new UnsupportedError(`${name}: the doorbells in BAR 0 can't be mapped`)
  }
  const view = mapAnonymous(bytes)
  try {
    mapRuns(fd, region, view, runs)
  } catch (error) {
    retireView(view)
    throw error
  }
  return makeBar({ fd, region, access, view, runs, doorbellEnd: doorbellRun.end })
}

interface Run {
  start: number
  end: number
}

/** The mappable areas as runs of whole pages within the first `bytes`. */
export function pageRuns({ areas, size }: Pick<Region, 'areas' | 'size'>, bytes: number): Run[] {
  return areas
    .map((area) => {
      const end = area.offset + area.size
      // A region that ends inside a page has that page for itself.
      const pages = end === size ? Math.ceil(end / PAGE_BYTES) : Math.floor(end / PAGE_BYTES)
      return {
        start: Math.ceil(area.offset / PAGE_BYTES) * PAGE_BYTES,
        end: Math.min(bytes, pages * PAGE_BYTES),
      }
    })
    .filter(({ start, end }) => end > start)
}

function mapRuns(fd: number, region: Region, view: MemoryView, runs: Run[]): void {
  for (const { start, end } of runs) {
    const at = view.address + BigInt(start)
    map(at, end - start, PROT.READ | PROT.WRITE, MAP.SHARED | MAP.FIXED, fd, region.offset + start)
  }
}

interface Parts {
  fd: number
  region: Region
  access: BarAccess
  view: MemoryView
  runs: Run[]
  doorbellEnd: number
}

function makeBar({ fd, region, access, view, runs, doorbellEnd }: Parts): Bar {
  const words = new Uint32Array(view.buffer)
  const bytes = view.buffer.byteLength
  // For each page: whether loads and stores reach the device.
  const mapped = new Uint8Array(bytes / PAGE_BYTES)
  for (const { start, end } of runs) mapped.fill(1, start / PAGE_BYTES, end / PAGE_BYTES)
  let present = true
  let retired = false
  let shared = false

  const check = (offset: number) => {
    if (Number.isInteger(offset / 4) && offset >= 0 && offset < region.size) return
    throw new OutOfRangeError(
      `register at ${offset}: a multiple of 4 below ${region.size} is needed (the size of BAR 0)`,
    )
  }
  const cover = () => {
    replaceMapping(view.address, bytes)
    words.fill(ALL_ONES)
  }
  return {
    doorbells: new Uint32Array(view.buffer, DOORBELLS, (doorbellEnd - DOORBELLS) / 4),
    read(offset) {
      if (!present) return ALL_ONES
      check(offset)
      return mapped[Math.floor(offset / PAGE_BYTES)] === 1 ? words[offset / 4]! : access.read(offset)
    },
    write(offset, value) {
      if (!present) return
      check(offset)
      if (mapped[Math.floor(offset / PAGE_BYTES)] === 1) words[offset / 4] = value
      else access.write(offset, value)
    },
    cover() {
      if (present) cover()
      present = false
    },
    uncover(file = fd, { offset } = region) {
      try {
        mapRuns(file, { ...region, offset }, view, runs)
      } catch (error) {
        cover()
        throw error
      }
      present = true
    },
    retire() {
      if (retired) return
      retired = true
      this.cover()
      // Another thread's views are not this one's to end: for them the range stays as it is, all-ones.
      if (shared) detachView(view)
      else retireView(view, 0xff)
    },
    share() {
      shared = true
      return {
        doorbells: { address: view.address + BigInt(DOORBELLS), bytes: doorbellEnd - DOORBELLS },
        registers: mapped[0] === 1 ? { address: view.address, bytes: PAGE_BYTES } : null,
      }
    },
  }
}
