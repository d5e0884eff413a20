// Both ends of a queue's rings without anything around them, for what the driver is measured by: a trivial controller
// that completes each command at once in the same thread, and a bare loop that sends reads.
// Bring-up is the embedded controller's; only queue 1 is taken over, when it exists.

import type { QueuePair } from '../lib/nvme/pcie/queue-pair.ts'
import { openPcieTransport } from '../lib/nvme/pcie/transport.ts'
import { NVM } from '../lib/nvme/spec/opcodes.ts'
import type { PciFunction } from '../lib/pci/function.ts'
import { openSim } from '../lib/sim/index.ts'
import { createDevice } from '../src/controller/device.ts'
import { Namespace } from '../src/namespace/namespace.ts'

// V8 looks an import up at each use.
const { READ } = NVM

/** A namespace with one queue of `qsize` entries, which is completed here. */
export async function openTrivial(qsize: number): Promise<Namespace> {
  const sim = await openSim('sim:?size=64M&lba=4096')
  let takenOver: (() => void) | null = null
  const pci: PciFunction = {
    ...sim,
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
  }
  const { ns, dstrd } = await openOn(pci, { qsize, interrupts: false })
  const pair = ns.queue(0, 'bench').pair as QueuePair
  const { sq, cq } = ringsOf(pair)
  takenOver = completer(sq, cq, pci.doorbells, (2 * dstrd) >> 2, pair.entries)
  return ns
}

/** A pair's rings as words. */
export function ringsOf({ rings }: QueuePair): { sq: Uint32Array; cq: Uint32Array } {
  const words = ({ buffer, byteOffset, length }: Buffer) => new Uint32Array(buffer, byteOffset, length / 4)
  return { sq: words(rings.sq), cq: words(rings.cq) }
}

/** A namespace of a controller that a benchmark has at hand, and the controller's doorbell stride. */
export async function openOn(
  pci: PciFunction,
  options: { qcount?: number; qsize: number; interrupts: boolean },
): Promise<{ ns: Namespace; dstrd: number }> {
  const device = await createDevice(await openPcieTransport(pci), {})
  const geometry = await device.findGeometry()
  await device.provideQueues(options, geometry)
  const ns = new Namespace(device, geometry, 'bench')
  await device.release()
  return { ns, dstrd: device.controller.cap.dstrd }
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

/**
 * Reads of a block each on a queue's bare rings, with identifiers and phase, and with no checks: what no driver can avoid.
 * The data of the first goes to an IOVA of the words `lo` and `hi`, that of each further one at a time a page on.
 */
export function bareLoop(
  { sq, cq }: { sq: Uint32Array; cq: Uint32Array },
  { doorbells, notify, step }: Pick<PciFunction, 'doorbells' | 'notify' | 'step'>,
  { qid, dstrd, depth, lo, hi }: { qid: number; dstrd: number; depth: number; lo: number; hi: number },
): (commands: number) => void {
  const entries = cq.length / 4
  const sqDoorbell = (2 * qid * dstrd) >> 2
  const cqDoorbell = ((2 * qid + 1) * dstrd) >> 2
  const busy = new Uint8Array(entries)
  const free = Uint16Array.from({ length: entries }, (_, i) => entries - 1 - i)
  let freeCount = entries
  let tail = 0
  let head = 0
  let phase = 1
  return (commands) => {
    let sent = 0
    for (let done = 0; done < commands; ) {
      while (freeCount > entries - depth && sent < commands) {
        const cid = free[--freeCount]!
        const at = tail << 4
        sq[at] = READ | (cid << 16)
        sq[at + 1] = 1
        sq[at + 6] = lo + (cid << 12)
        sq[at + 7] = hi
        sq[at + 8] = 0
        sq[at + 9] = 0
        sq[at + 10] = sent & 4095
        sq[at + 11] = 0
        sq[at + 12] = 0
        busy[cid] = 1
        tail = tail + 1 === entries ? 0 : tail + 1
        sent++
      }
      doorbells[sqDoorbell] = tail
      notify?.()
      step?.()
      for (;;) {
        const dw3 = cq[(head << 2) + 3]!
        if (((dw3 >>> 16) & 1) !== phase) break
        const cid = dw3 & 0xffff
        if (++head === entries) {
          head = 0
          phase ^= 1
        }
        busy[cid] = 0
        free[freeCount++] = cid
        done++
      }
      doorbells[cqDoorbell] = head
    }
  }
}
