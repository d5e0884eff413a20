// A served controller driven by hand: registers by message, an admin queue in this process's memory.

import test, { type ExecutionContext } from 'ava'
import { CONFIG_COMMAND, encodeDeviceInfo, REGION } from '../../lib/vfio-abi/device.ts'
import { COMMAND } from '../../lib/vfio-user/constants.ts'
import { encodeDmaMap, encodeDmaUnmap } from '../../lib/vfio-user/structs.ts'
import { startServer } from '../support/server.ts'
import { newMemory, u16, u32, Wire } from './wire.ts'

export const CAP = 0x00
export const CC = 0x14
export const CSTS = 0x1c
export const AQA = 0x24
export const ASQ = 0x28
export const ACQ = 0x30
export const DOORBELLS = 0x1000
export const READY = 1
export const FATAL = 2
export const EN = 0x0046_0001
export const MSIX_CONTROL = 0x42
export const MSIX_ENABLE = 0x8000
export const IOVA = 0x10_0000

export const map = (iova: number, size: number, { offset = 0, flags = 3 } = {}) =>
  encodeDmaMap({ flags, offset, iova, size })
export const unmap = (iova: number, size: number, flags = 0) => encodeDmaUnmap({ flags, iova, size })
export const register = (wire: Wire, offset: number) => wire.read(REGION.BAR0, offset).readUInt32LE()
export const setRegister = (wire: Wire, offset: number, value: number) =>
  wire.write(REGION.BAR0, offset, u32(value))

/** Bus master on, an admin queue of 16 entries at `iova` (submission) and a page behind (completion), enabled. */
export function enable(wire: Wire, iova = IOVA): number {
  wire.write(REGION.CONFIG, CONFIG_COMMAND, u16(0x0406))
  setRegister(wire, AQA, 0x000f_000f)
  setRegister(wire, ASQ, iova)
  setRegister(wire, ASQ + 4, 0)
  setRegister(wire, ACQ, iova + 4096)
  setRegister(wire, ACQ + 4, 0)
  setRegister(wire, CC, EN)
  return register(wire, CSTS)
}

/** A controller with its admin queue in memory of this process. */
export function bringUp(wire: Wire) {
  const memory = newMemory(65536)
  wire.errno(COMMAND.DMA_MAP, map(IOVA, 65536), [memory.fd])
  enable(wire)
  let tail = 0
  return {
    ...memory,
    /** Sends an admin command and waits until its completion is there; returns its status. */
    admin(opcode: number, { prp1 = 0, cdw10 = 0, cdw11 = 0, nsid = 0 } = {}): number {
      const at = tail * 16
      memory.words.fill(0, at, at + 16)
      memory.words[at] = opcode | (tail << 16)
      memory.words[at + 1] = nsid
      memory.words[at + 6] = prp1
      memory.words[at + 10] = cdw10
      memory.words[at + 11] = cdw11
      const entry = 1024 + tail * 4 + 3
      tail++
      setRegister(wire, DOORBELLS, tail)
      while (memory.words[entry] === 0) register(wire, CSTS)
      return memory.words[entry]! >>> 17
    },
  }
}

/** A test on a server of its own, with one client that has said VERSION; the server goes on after it. */
export const served = test.macro(
  async (t, doorbells: 'mapped' | 'shadow', body: (t: ExecutionContext, wire: Wire) => void) => {
    const server = await startServer({ device: 'sim:?size=4M&qcount=4', doorbells })
    const wire = Wire.connect(server.socket).negotiate()
    try {
      body(t, wire)
      t.is(wire.errno(COMMAND.GET_INFO, encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 })), 0, 'it goes on')
    } finally {
      wire.close()
      await server.stop()
    }
  },
)
