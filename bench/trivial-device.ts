// A controller that completes every I/O command at once and does nothing else: the rings of a queue pair, played
// by the same thread. What is left of a command's time is the driver's.
// Trade-off: bring-up is the embedded controller's; only queue 1 is taken over, when it exists.

import { type DmaArena, mapView } from '../lib/memory/mapping.ts'
import type { QueuePair } from '../lib/nvme/pcie/queue-pair.ts'
import type { PciFunction } from '../lib/pci/function.ts'
import { openSim } from '../lib/sim/index.ts'

export interface TrivialDevice {
  readonly pci: PciFunction
  /** From now on queue 1 is completed here. */
  takeOver(pair: QueuePair, dstrd: number): void
}

export async function openTrivialDevice(): Promise<TrivialDevice> {
  const sim = await openSim('sim:?size=64M&lba=4096')
  const arenas: DmaArena[] = []
  let takenOver: (() => void) | null = null
  const words = (iova: number, bytes: number) => {
    const arena = arenas.find((a) => iova >= a.iova && iova + bytes <= a.iova + a.bytes)!
    const page = Math.floor((iova - arena.iova) / 4096) * 4096
    const view = mapView(arena.fd, page, Math.ceil(bytes / 4096) * 4096)
    return new Uint32Array(view.buffer, 0, bytes / 4)
  }
  const pci: PciFunction = {
    ...sim,
    mapDma(bytes) {
      const arena = sim.mapDma(bytes)
      arenas.push(arena)
      return arena
    },
    notify: null,
    step() {
      if (takenOver !== null) takenOver()
      else sim.step!()
    },
    writeRegister(offset, value) {
      sim.writeRegister(offset, value)
      // The end of the device is the embedded controller's again.
      takenOver = null
    },
    async close() {
      await sim.close()
    },
  }
  return {
    pci,
    takeOver(pair, dstrd) {
      const { entries } = pair
      const sq = words(pair.sqIova, entries * 64)
      const cq = words(pair.cqIova, entries * 16)
      takenOver = completer(sq, cq, pci.doorbells, (2 * dstrd) >> 2, entries)
    },
  }
}

/** Posts a completion for each command that a doorbell announced. */
export function completer(
  sq: Uint32Array,
  cq: Uint32Array,
  doorbells: Uint32Array,
  doorbell: number,
  entries: number,
): () => void {
  let sqHead = 0
  let cqTail = 0
  let devicePhase = 1
  return () => {
    // As a C compiler does by itself: kept in registers within the loop.
    let head = sqHead
    let tail = cqTail
    let phase = devicePhase
    const end = doorbells[doorbell]!
    while (head !== end) {
      const cid = sq[head << 4]! >>> 16
      head = head + 1 === entries ? 0 : head + 1
      const at = tail << 2
      cq[at] = 0
      cq[at + 2] = head
      cq[at + 3] = cid | (phase << 16)
      if (++tail === entries) {
        tail = 0
        phase ^= 1
      }
    }
    sqHead = head
    cqTail = tail
    devicePhase = phase
  }
}
