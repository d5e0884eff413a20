// The short way of reads and writes: data within one page of the window, blocks of the medium right behind it.
// Trade-off: what the general way (io-commands.ts) does in seven calls stands here in one small function, at a
// quarter of its cost, in integers of 32 bits alone; whatever is the least unusual is left to the general way.

import { NVM } from '../nvme/opcodes.ts'
import type { Controller } from './controller.ts'

// Opcode, fused operation and PSDT.
const KIND = 0xc3ff
const FUA = 0x4000_0000
// A method of a typed array is looked up at each call, even in optimized code; this one is not.
const { copyWithin } = Uint8Array.prototype

/**
 * Executes the read or write at `sqe[e]`. Returns how much it moved in units of 512 bytes: above 0 read, below
 * 0 written; 0 where it did nothing, since this command is not of the commonest kind.
 */
export function transferNear(c: Controller, sqe: Uint32Array, e: number): number {
  const kind = sqe[e]! & KIND
  const ns = c.lastNamespace
  // Numbers of 32 bits are compared as signed ones: the same bits, and no conversion.
  if (kind > NVM.READ || kind < NVM.WRITE || (sqe[e + 1]! | 0) !== ns.nsidBits || sqe[e + 11] !== 0) return 0
  const slba = sqe[e + 10]! | 0
  const dw12 = sqe[e + 12]!
  const nlb = (dw12 & 0xffff) + 1
  if (slba < 0 || slba > ns.nearBlocks - nlb) return 0
  const bytes = nlb << ns.blockShift
  const low = sqe[e + 6]! | 0
  const { pageBytes } = c
  if ((low & 3) !== 0 || bytes > pageBytes - (low & (pageBytes - 1)) || bytes > c.maxBytes) return 0
  const { hit } = c.dma
  // A range is shorter than 4 GiB: below its start, or in the next 4 GiB, the difference comes out too large.
  const offset = (low - hit.startLow) | 0
  const carry = low >>> 0 < hit.startLow >>> 0 ? 1 : 0
  if (offset < 0 || offset > hit.nearLength - bytes || (sqe[e + 7]! | 0) !== hit.startHigh + carry) return 0
  const host = hit.base + offset
  const block = ns.nearAt + (slba << ns.blockShift)
  if (kind === NVM.READ) {
    copyWithin.call(c.window, host, block, block + bytes)
    return bytes >>> 9
  }
  if ((dw12 & FUA) !== 0 || !c.features.writeCache) return 0
  copyWithin.call(c.window, block, host, host + bytes)
  return -(bytes >>> 9)
}
