// Memory that a device and this process share: memfd, mmap and views, through koffi.
// Trade-off: each view is its own mapping of the memfd, some microseconds to make, so that a freed view can be
// pointed at harmless pages while the device's mapping and every other view stay as they are.

import { OutOfRangeError } from '../errors.ts'
import {
  close,
  F,
  fcntl,
  ftruncate,
  MADV,
  MAP,
  MAP_FAILED,
  MFD,
  madvise,
  memfd_create,
  mmap,
  munmap,
  PROT,
  SEAL,
  systemCallError,
} from '../sys/libc.ts'
import { native } from '../sys/native.ts'
import { HUGE_PAGE_BYTES, PAGE_BYTES } from '../sys/units.ts'

const READ_WRITE = PROT.READ | PROT.WRITE

// A view of 4 GiB or more aborts the process on Node 20.
export const MAX_VIEW_BYTES = 2 ** 31

/** A range of memory that the device reaches at `iova` and this process through views of `fd`. */
export interface DmaArena {
  readonly iova: number
  readonly bytes: number
  /** The memfd behind it; also what vfio-user passes to its server. */
  readonly fd: number
  /** Where the whole arena is mapped in this process. Ends with the arena: a view that may outlive it is `mapView`'s. */
  readonly address: bigint
  /** True where it stands on huge pages: then a part of it can't be mapped a second time. */
  readonly hugePages?: boolean
}

/** Shared memory, mapped once as a whole. */
export interface SharedMemory {
  readonly fd: number
  readonly address: bigint
  readonly bytes: number
  readonly hugePages: boolean
}

/** A zero-copy view of mapped memory, at its own address. */
export interface MemoryView {
  readonly address: bigint
  readonly buffer: ArrayBuffer
}

/**
 * Makes `bytes` of zeroed shared memory, on huge pages where asked for and available, and maps it.
 * Throws SystemCallError (ENOMEM and others).
 * @param options.hugePages those that were reserved: a part of them can't be mapped a second time
 * @param options.pinned all of it is about to be pinned for a device: it is taken now, on transparent huge pages where the
 * kernel makes some (6.1 and later). These can be mapped in parts; and an IOMMU translates each as one.
 */
export function createSharedMemory(bytes: number, { hugePages = false, pinned = false } = {}): SharedMemory {
  checkLength(bytes)
  if (hugePages && bytes % HUGE_PAGE_BYTES === 0) {
    try {
      return createMemfd(bytes, true)
    } catch {
      // None reserved, or too few: ordinary pages do.
    }
  }
  const memory = createMemfd(bytes, false)
  if (pinned) takeHugePages(memory)
  return memory
}

function createMemfd(bytes: number, hugePages: boolean): SharedMemory {
  const fd = memfd_create('unvme', MFD.CLOEXEC | MFD.ALLOW_SEALING | (hugePages ? MFD.HUGETLB : 0))
  if (fd < 0) throw systemCallError('memfd_create')
  try {
    if (ftruncate(fd, bytes) !== 0) throw systemCallError('ftruncate')
    // Whoever it is shared with can't take it away: a mapping beyond the end of a file ends the process at first touch.
    if (fcntl(fd, F.ADD_SEALS, SEAL.SEAL | SEAL.SHRINK | SEAL.GROW) !== 0) throw systemCallError('fcntl')
    // Huge pages are taken now: a missing one would otherwise be a SIGBUS at first touch.
    const address = hugePages
      ? map(0n, bytes, READ_WRITE, MAP.SHARED | MAP.POPULATE, fd, 0)
      : mapAligned(fd, bytes)
    // Transparent huge pages where the system lets shared memory ask for them (shmem_enabled is `advise`): these
    // can be mapped in parts. It is a wish, and its failure the normal case.
    if (!hugePages && bytes >= HUGE_PAGE_BYTES) madvise(address, bytes, MADV.HUGEPAGE)
    return { fd, address, bytes, hugePages }
  } catch (error) {
    close(fd)
    throw error
  }
}

// Whatever the system's settings for shared memory are, which by default keep it from huge pages. That it fails is no fault:
// an older kernel does not know it, and there may be too little memory in one piece.
function takeHugePages({ address, bytes }: SharedMemory): void {
  // An extent of nothing is left as it is.
  for (let at = 0; at < bytes; at += HUGE_PAGE_BYTES)
    madvise(address + BigInt(at), PAGE_BYTES, MADV.POPULATE_WRITE)
  madvise(address, bytes, MADV.COLLAPSE)
}

// Begins on a huge page's boundary where it is as large as one: only there the kernel can use one.
function mapAligned(fd: number, bytes: number): bigint {
  if (bytes < HUGE_PAGE_BYTES) return map(0n, bytes, READ_WRITE, MAP.SHARED, fd, 0)
  const { address, range } = reserveAligned(bytes, PROT.NONE)
  try {
    map(address, bytes, READ_WRITE, MAP.SHARED | MAP.FIXED, fd, 0)
  } catch (error) {
    releaseAddresses(range)
    throw error
  }
  const head = Number(address - range.address)
  if (head > 0) munmap(range.address, head)
  if (head < HUGE_PAGE_BYTES) munmap(address + BigInt(bytes), HUGE_PAGE_BYTES - head)
  return address
}

/**
 * True where no one can take pages of a peer's file away, which would end this process at first touch: a memfd that is
 * sealed against shrinking, by its maker or here.
 */
export function cannotShrink(fd: number): boolean {
  const seals = fcntl(fd, F.GET_SEALS, 0)
  return seals >= 0 && ((seals & SEAL.SHRINK) !== 0 || fcntl(fd, F.ADD_SEALS, SEAL.SHRINK) === 0)
}

/**
 * Unmaps the whole and closes the descriptor; views of it made by `mapView` have their own mappings.
 * On huge pages there are views of the mapping itself: so its range stays, with pages that belong to no one.
 */
export function destroySharedMemory(memory: SharedMemory): void {
  if (memory.hugePages) replaceMapping(memory.address, memory.bytes)
  else munmap(memory.address, memory.bytes)
  close(memory.fd)
}

/**
 * A second mapping of a part of shared memory, both ends page-aligned, as an ArrayBuffer.
 * @param touched all of it will be touched at once: its pages are mapped together, at a tenth of the cost
 */
export function mapView(fd: number, offset: number, bytes: number, touched = false): MemoryView {
  checkLength(bytes)
  const address = map(0n, bytes, READ_WRITE, MAP.SHARED | (touched ? MAP.POPULATE : 0), fd, offset)
  return { address, buffer: viewOf(address, bytes) }
}

/** An ArrayBuffer over memory that is mapped already, in this or another thread; it owns nothing. */
export function viewOf(address: bigint, bytes: number): ArrayBuffer {
  checkLength(bytes)
  if (address === 0n) throw new OutOfRangeError('a view of address 0 would end the process')
  return native().view(address, bytes) as ArrayBuffer
}

/**
 * Zeroed memory of this process alone, on transparent huge pages where the system has them: begins on one, and is in one
 * piece as far as the machine goes. A part of it can't be mapped a second time, and a child process does not have it.
 */
export function mapPrivate(bytes: number): { readonly address: bigint; readonly range: AddressRange } {
  checkLength(bytes)
  const { address, range } = reserveAligned(bytes, READ_WRITE)
  // A child would share the pages: the first store here after that takes a copy, and what a device sends goes to the other.
  if (madvise(range.address, range.bytes, MADV.DONTFORK) !== 0) {
    const error = systemCallError('madvise')
    releaseAddresses(range)
    throw error
  }
  // Where there are none, ordinary pages do.
  madvise(address, bytes, MADV.HUGEPAGE)
  return { address, range }
}

// Private memory with `bytes` of it from a huge page's boundary on, nothing of it touched. What nothing can be stored in counts
// for no limit.
function reserveAligned(
  bytes: number,
  prot: number,
): { readonly address: bigint; readonly range: AddressRange } {
  const whole = bytes + HUGE_PAGE_BYTES
  const start = map(0n, whole, prot, MAP.PRIVATE | MAP.ANONYMOUS | MAP.NORESERVE, -1, 0)
  const unit = BigInt(HUGE_PAGE_BYTES)
  const address = ((start + unit - 1n) / unit) * unit
  return { address, range: { address: start, bytes: whole } }
}

/** A range of addresses. */
export interface AddressRange {
  readonly address: bigint
  readonly bytes: number
}

/** Ends whatever is mapped in the range. No thread may touch a view of it any more. */
export function releaseAddresses({ address, bytes }: AddressRange): void {
  munmap(address, bytes)
}

/** Where a buffer's memory is. */
export function addressOf(buffer: ArrayBuffer): bigint {
  return BigInt(native().address(buffer))
}

/** Private zeroed memory of this process, taken from the system only where it is touched. */
export function mapAnonymous(bytes: number): MemoryView {
  checkLength(bytes)
  const address = map(0n, bytes, READ_WRITE, MAP.SHARED | MAP.ANONYMOUS | MAP.NORESERVE, -1, 0)
  return { address, buffer: viewOf(address, bytes) }
}

// Ranges whose views could not be detached; given back to the system once no one can see them any more.
const retired = new FinalizationRegistry<{ address: bigint; bytes: number }>(({ address, bytes }) => {
  munmap(address, bytes)
})

type Transferable = ArrayBuffer & { transfer?: (bytes?: number) => ArrayBuffer }

/**
 * Ends a view: whoever still holds it reads and writes pages that belong to no one, or, where this Node can
 * detach it (22 and later), an empty buffer. The memory behind it is untouched. Never faults.
 */
export function retireView({ address, buffer }: MemoryView, fill = 0): void {
  const bytes = buffer.byteLength
  if (bytes === 0) return
  replaceMapping(address, bytes)
  if (fill !== 0) new Uint8Array(buffer).fill(fill)
  if (detachView({ address, buffer })) munmap(address, bytes)
  else retired.register(buffer, { address, bytes })
}

/** Empties a view's buffer where this Node can, and tells whether it could. What it showed stays mapped. */
export function detachView({ buffer }: MemoryView): boolean {
  const { transfer } = buffer as Transferable
  if (transfer === undefined) return false
  transfer.call(buffer, 0)
  return true
}

/** Puts anonymous pages in place of whatever is mapped at a page-aligned range, in one step. */
export function replaceMapping(address: bigint, bytes: number): void {
  map(address, bytes, READ_WRITE, MAP.PRIVATE | MAP.ANONYMOUS | MAP.FIXED | MAP.NORESERVE, -1, 0)
}

/** mmap: the address, or SystemCallError. `address` 0n lets the kernel choose. */
export function map(
  address: bigint,
  bytes: number,
  prot: number,
  flags: number,
  fd: number,
  offset: number,
): bigint {
  const at = BigInt(mmap(address, bytes, prot, flags, fd, offset))
  if (at === MAP_FAILED) throw systemCallError('mmap')
  return at
}

function checkLength(bytes: number): void {
  if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes > MAX_VIEW_BYTES) {
    throw new OutOfRangeError(`memory of ${bytes} bytes: from 1 to ${MAX_VIEW_BYTES} can be had at once`)
  }
}
