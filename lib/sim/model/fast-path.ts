// The short way of reads and writes: data within one page of the window, blocks of the medium right behind it.
// Trade-off: what the general way (io-commands.ts) does in seven calls stands here in one loop, at a fifth of its
// cost, in integers of 32 bits alone; whatever is the least unusual is left to the general way.

import { NVM } from '../../nvme/spec/opcodes.ts'
import { WINDOW_BYTES } from '../dma/space.ts'
import { GRANULE_SHIFT } from '../media/memory.ts'
import type { Controller } from './controller.ts'
import { countTransfers } from './health.ts'
import { CQE_WORDS, PHASE, SQE_WORDS, type SubmissionQueue, writeEntry } from './queues.ts'

// Opcode, fused operation and PSDT.
const KIND = 0xc3ff
const FUA = 0x4000_0000
// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const { READ, WRITE } = NVM
const SHIFT = GRANULE_SHIFT
/** Granules of the window, before those of the medium. */
const WINDOW_GRANULES = WINDOW_BYTES / 2 ** GRANULE_SHIFT
// A method of a typed array is looked up at each call, even in optimized code; this one is not.
const { copyWithin } = Uint8Array.prototype

/**
 * Executes commands from the head of an I/O queue on and posts their completions, up to `limit`, for which there is
 * room, as long as they are of the commonest kind. Returns their number.
 */
export function serveFast(c: Controller, sq: SubmissionQueue, limit: number): number {
  const { cq, words, base, size } = sq
  const { words: entries, base: firstEntry, size: entryCount } = cq
  // Nothing of this changes while such commands are executed.
  const { nsidBits, fastBlocks, fastAt, blockShift } = c.lastNamespace
  const { startLow, startHigh, fastLength, base: hostBase } = c.dma.hit
  const { window, maxBytes, pageBytes } = c
  const { written } = c.medium
  const leastKind = c.features.writeCache ? WRITE : READ
  const sqid = sq.id << 16
  let { head } = sq
  let { tail, phase } = cq
  let reads = 0
  let bytesRead = 0
  let bytesWritten = 0
  let count = 0
  while (count < limit) {
    const e = base + head * SQE_WORDS
    const dw0 = words[e]!
    const kind = dw0 & KIND
    // Numbers of 32 bits are compared as signed ones: the same bits, and no conversion.
    if (kind > READ || kind < leastKind || (words[e + 1]! | 0) !== nsidBits || words[e + 11] !== 0) break
    const slba = words[e + 10]! | 0
    const dw12 = words[e + 12]!
    const nlb = (dw12 & 0xffff) + 1
    if (slba < 0 || slba > fastBlocks - nlb) break
    const bytes = nlb << blockShift
    const low = words[e + 6]! | 0
    if ((low & 3) !== 0 || bytes > pageBytes - (low & (pageBytes - 1)) || bytes > maxBytes) break
    // A range is shorter than 4 GiB: below its start, or in the next 4 GiB, the difference comes out too large.
    const offset = (low - startLow) | 0
    const carry = low >>> 0 < startLow >>> 0 ? 1 : 0
    if (offset < 0 || offset > fastLength - bytes || (words[e + 7]! | 0) !== startHigh + carry) break
    const host = hostBase + offset
    const block = fastAt + (slba << blockShift)
    if (kind === READ) {
      copyWithin.call(window, host, block, block + bytes)
      reads++
      bytesRead += bytes
    } else {
      if ((dw12 & FUA) !== 0) break
      copyWithin.call(window, block, host, host + bytes)
      // A page at most: in two granules at most.
      written[(block >>> SHIFT) - WINDOW_GRANULES] = 1
      written[((block + bytes - 1) >>> SHIFT) - WINDOW_GRANULES] = 1
      bytesWritten += bytes
    }
    head = head + 1 === size ? 0 : head + 1
    writeEntry(entries, firstEntry + tail * CQE_WORDS, 0, sqid | head, phase | (dw0 >>> 16))
    if (++tail === entryCount) {
      tail = 0
      phase ^= PHASE
    }
    count++
  }
  if (count === 0) return 0
  countTransfers(c.counters, reads, bytesRead / 512, count - reads, bytesWritten / 512)
  sq.head = head
  sq.posted += count
  cq.tail = tail
  cq.phase = phase
  cq.used += count
  return count
}
