// A vfio-user server's answers as they should be, for tests that bend them: see fake-server.ts.
// A PCI function of plain memory, with no controller behind its registers.

import { createSharedMemory } from '../../lib/memory/mapping.ts'
import {
  decodeIrqInfo,
  decodeRegionRequest,
  encodeDeviceInfo,
  encodeIrqInfo,
  REGION,
} from '../../lib/vfio-abi/device.ts'
import { COMMAND } from '../../lib/vfio-user/constants.ts'
import type { Message } from '../../lib/vfio-user/reader.ts'
import {
  decodeRegionAccess,
  encodeRegion,
  encodeRegionAccess,
  REGION_ACCESS_BYTES,
} from '../../lib/vfio-user/structs.ts'
import { hex, VERSION } from './wire.ts'

export const VECTORS = 17
export const MSIX_AT = 0x50
export const BAR_BYTES = 0x2000
/** Words that a test shares with the thread of its server. */
export const FAKE = { STOP: 0, MUTATIONS: 1 } as const
const NOTHING = Buffer.alloc(0)

export interface Answer {
  payload: Buffer
  fds: number[]
}

interface FakeDevice {
  /** Payload and descriptors of the reply; the descriptors stay the device's. */
  answer(message: Message): Answer
}

export function createFakeDevice(): FakeDevice {
  const bar = createSharedMemory(BAR_BYTES)
  const registers = Buffer.alloc(BAR_BYTES)
  const config = Buffer.alloc(4096)
  // Status: there are capabilities. Power management first, MSI-X second, enabled by who was here before.
  config.writeUInt16LE(0x0010, 0x06)
  config.writeUInt8(0x40, 0x34)
  hex('01 50').copy(config, 0x40)
  hex('11 00').copy(config, MSIX_AT)
  config.writeUInt16LE(0xc000 | (VECTORS - 1), MSIX_AT + 2)
  const spaces = new Map<number, Buffer>([
    [REGION.BAR0, registers],
    [REGION.CONFIG, config],
  ])
  const region = (index: number): Answer => {
    if (index !== REGION.BAR0) return plain(encodeRegion({ index, flags: 3, size: 4096, areas: [] }))
    const areas = [{ offset: 0x1000, size: 0x1000 }]
    return { payload: encodeRegion({ index, flags: 0xf, size: BAR_BYTES, areas }), fds: [bar.fd] }
  }
  const access = ({ header, payload }: Message): Answer => {
    const request = decodeRegionAccess(payload)
    const space = spaces.get(request.region)!.subarray(request.offset, request.offset + request.count)
    if (header.command === COMMAND.REGION_READ) return plain(encodeRegionAccess(request, space))
    payload.copy(space, 0, REGION_ACCESS_BYTES)
    return plain(encodeRegionAccess(request))
  }
  return {
    answer(message) {
      const { header, payload } = message
      switch (header.command) {
        case COMMAND.VERSION:
          return plain(VERSION)
        case COMMAND.GET_INFO:
          return plain(encodeDeviceInfo({ flags: 3, regions: 9, irqs: 5 }))
        case COMMAND.GET_REGION_INFO:
          return region(decodeRegionRequest(payload).index)
        case COMMAND.GET_IRQ_INFO:
          return plain(encodeIrqInfo({ flags: 1, index: decodeIrqInfo(payload).index, count: VECTORS }))
        case COMMAND.REGION_READ:
        case COMMAND.REGION_WRITE:
          return access(message)
        case COMMAND.DMA_UNMAP:
          return plain(payload)
        default:
          return plain(NOTHING)
      }
    },
  }
}

const plain = (payload: Buffer): Answer => ({ payload, fds: [] })
