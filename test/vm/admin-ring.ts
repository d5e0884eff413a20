// An admin queue by hand, on nothing but a PCI function: what the specification asks for and no more
// (NVMe 1.4 base, 7.6.1). So that the tests of VFIO do not depend on the driver.

import { type DmaArena, viewOf } from '../../lib/memory/mapping.ts'
import type { PciFunction } from '../../lib/pci/function.ts'

const REGISTER = { CC: 0x14, CSTS: 0x1c, AQA: 0x24, ASQ: 0x28, ACQ: 0x30 } as const
const ENTRIES = 16
const ENABLE = 0x0046_0001

interface AdminRing {
  readonly arena: DmaArena
  /** The arena's memory: rings in pages 0 and 1, the rest for data. */
  readonly bytes: Buffer
  /** Posts Identify Controller with its data at this IOVA. */
  post(prp1: number): void
  /** True where the completion of a post has come; throws where it is an error. */
  reap(): boolean
  /** Posts, polls, and returns when done. */
  identify(prp1: number): void
  /** CC.EN = 0, and waits for it. */
  disable(): void
}

/** Maps an arena, makes admin queues in its first two pages, and enables the controller. */
export function startAdminRing(pci: PciFunction, arenaBytes = 2 ** 20): AdminRing {
  const arena = pci.mapDma(arenaBytes)
  const bytes = Buffer.from(viewOf(arena.address, arenaBytes))
  const words = new Uint32Array(bytes.buffer)
  let tail = 0
  let head = 0
  let phase = 1

  const spin = (what: string, done: () => boolean) => {
    const until = performance.now() + 10_000
    while (!done()) if (performance.now() > until) throw new Error(`no ${what} within 10 s`)
  }
  const waitReady = (ready: number) =>
    spin(`CSTS.RDY ${ready}`, () => (pci.readRegister(REGISTER.CSTS) & 1) === ready)
  const writeAddress = (register: number, iova: number) => {
    pci.writeRegister(register, iova % 2 ** 32)
    pci.writeRegister(register + 4, Math.floor(iova / 2 ** 32))
  }
  const disable = () => {
    pci.writeRegister(REGISTER.CC, 0)
    waitReady(0)
  }
  const post = (prp1: number) => {
    const entry = (tail * 64) / 4
    words.fill(0, entry, entry + 16)
    words[entry] = (tail << 16) | 0x06
    words[entry + 6] = prp1 % 2 ** 32
    words[entry + 7] = Math.floor(prp1 / 2 ** 32)
    words[entry + 10] = 1
    tail = (tail + 1) % ENTRIES
    pci.doorbells[0] = tail
    pci.notify?.()
  }
  const reap = () => {
    pci.step?.()
    const status = words[(4096 + head * 16 + 12) / 4]! >>> 16
    if ((status & 1) !== phase) return false
    head = (head + 1) % ENTRIES
    if (head === 0) phase ^= 1
    pci.doorbells[1] = head
    pci.notify?.()
    if (status >>> 1 !== 0) throw new Error(`Identify failed: status ${(status >>> 1).toString(16)}h`)
    return true
  }

  disable()
  words.fill(0)
  pci.writeRegister(REGISTER.AQA, ((ENTRIES - 1) << 16) | (ENTRIES - 1))
  writeAddress(REGISTER.ASQ, arena.iova)
  writeAddress(REGISTER.ACQ, arena.iova + 4096)
  pci.writeRegister(REGISTER.CC, ENABLE)
  waitReady(1)
  const identify = (prp1: number) => {
    post(prp1)
    spin('completion', reap)
  }
  return { arena, bytes, post, reap, identify, disable }
}
