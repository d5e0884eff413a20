// Physical Region Pages (NVMe 1.4 base, section 4.3): where the data of a command lies, page by page.
// Memory is contiguous in IOVA, so a list is computed from a start and a length, and 64-bit
// addresses are pairs of 32-bit halves, which V8 keeps out of the heap where larger numbers would not be.

import { PAGE_BYTES } from '../../sys/units.ts'

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const PAGE = PAGE_BYTES
const ENTRIES_PER_PAGE = PAGE / 8

/** Pages that `bytes` touch when they start `offset` bytes into a page. */
export function pagesTouched(offset: number, bytes: number): number {
  return Math.ceil((offset + bytes) / PAGE)
}

/** List pages that a transfer of up to `maxBytes` can need, chained ones included, wherever it starts. */
export function listPagesNeeded(maxBytes: number): number {
  // The worst start is in a page's last dword. PRP1 holds the first page; a chained page gives up its last entry.
  const entries = pagesTouched(PAGE - 4, maxBytes) - 1
  if (entries <= ENTRIES_PER_PAGE) return 1
  return 1 + Math.ceil((entries - ENTRIES_PER_PAGE) / (ENTRIES_PER_PAGE - 1))
}

/** Most bytes of a transfer that so many list pages describe, wherever it starts. */
export function bytesDescribed(listPages: number): number {
  return (listPages * (ENTRIES_PER_PAGE - 1) + 1) * PAGE
}

/**
 * Writes PRP1 and PRP2 into a submission queue entry, and the list where two do not hold the transfer.
 *
 * @param sqe the queue as 32-bit words; `at` is the entry's first word
 * @param lo @param hi IOVA of the data, in halves; at least dword-aligned
 * @param bytes at least 1
 * @param list the list pages as 32-bit words; `listAt` is the first word of this command's own pages
 * @param listLo @param listHi IOVA of those pages, contiguous
 */
export function writePrps(
  sqe: Uint32Array,
  at: number,
  lo: number,
  hi: number,
  bytes: number,
  list: Uint32Array,
  listAt: number,
  listLo: number,
  listHi: number,
): void {
  const offset = lo & (PAGE - 1)
  let left = bytes - (PAGE - offset)
  sqe[at + 6] = lo
  sqe[at + 7] = hi
  if (left <= 0) {
    sqe[at + 8] = 0
    sqe[at + 9] = 0
    return
  }
  let pageLo = (lo - offset + PAGE) | 0
  let pageHi = pageLo === 0 ? (hi + 1) | 0 : hi
  if (left <= PAGE) {
    sqe[at + 8] = pageLo
    sqe[at + 9] = pageHi
    return
  }
  sqe[at + 8] = listLo
  sqe[at + 9] = listHi
  let word = listAt
  let room = ENTRIES_PER_PAGE
  while (left > 0) {
    if (room === 1 && left > PAGE) {
      // The last entry of a full page points to the next page, which follows it.
      listLo = (listLo + PAGE) | 0
      if (listLo === 0) listHi = (listHi + 1) | 0
      list[word++] = listLo
      list[word++] = listHi
      room = ENTRIES_PER_PAGE
    }
    list[word++] = pageLo
    list[word++] = pageHi
    room--
    pageLo = (pageLo + PAGE) | 0
    if (pageLo === 0) pageHi = (pageHi + 1) | 0
    left -= PAGE
  }
}
