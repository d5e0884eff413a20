// The short way of reads and writes: data within one page of the window, blocks of the medium right behind it.
// Trade-off: what the general way (io-commands.ts) does in seven calls stands here in one function with the
// commonest case alone, at a third of its cost; whatever is the least unusual is left to the general way.

import { NVM } from '../nvme/opcodes.ts'
import type { Controller } from './controller.ts'
import { COUNTER } from './health.ts'

const HIGH = 0x1_0000_0000
// Opcode, fused operation and PSDT.
const KIND = 0xc3ff
const FUA = 0x4000_0000

/** Executes the read or write at `sqe[e]` and returns true; or does nothing and returns false. */
export function transferNear(c: Controller, sqe: Uint32Array, e: number): boolean {
  const kind = sqe[e]! & KIND
  const ns = c.lastNamespace
  if ((kind !== NVM.READ && kind !== NVM.WRITE) || sqe[e + 1] !== ns.nsid || ns.bad !== null) return false
  const slba = sqe[e + 10]!
  const dw12 = sqe[e + 12]!
  const nlb = (dw12 & 0xffff) + 1
  if (sqe[e + 11] !== 0 || slba + nlb > ns.nearBlocks) return false
  const bytes = nlb << ns.blockShift
  const low = sqe[e + 6]!
  if ((low & 3) !== 0 || bytes > c.pageBytes - (low & (c.pageBytes - 1)) || bytes > c.maxBytes) return false
  const { hit } = c.dma
  const offset = sqe[e + 7]! * HIGH + low - hit.start
  if (!(offset >= 0 && offset + bytes <= hit.nearLength)) return false
  // All below 2 GiB, as the window's view is.
  const host = (hit.base + offset) | 0
  const block = (ns.nearAt + (slba << ns.blockShift)) | 0
  const { counters, window } = c
  if (kind === NVM.READ) {
    counters[COUNTER.READS]!++
    counters[COUNTER.UNITS_READ]! += bytes >>> 9
    window.copyWithin(host, block, block + bytes)
    return true
  }
  if ((dw12 & FUA) !== 0 || !c.features.writeCache) return false
  counters[COUNTER.WRITES]!++
  counters[COUNTER.UNITS_WRITTEN]! += bytes >>> 9
  window.copyWithin(block, host, host + bytes)
  return true
}
