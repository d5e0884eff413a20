// What a client's requests do, one function for each command: payload and descriptors in, the reply's out.
// Whatever can't be met is thrown, and becomes an error reply where the message came in (session.ts).

import {
  DEVICE_FLAGS,
  DEVICE_INFO_BYTES,
  decodeDeviceInfo,
  decodeIrqInfo,
  decodeIrqSet,
  decodeRegionRequest,
  encodeDeviceInfo,
  encodeIrqInfo,
  IRQ,
  IRQ_FLAGS,
  IRQ_INFO_BYTES,
  IRQ_SET_BYTES,
  IRQS,
  REGION,
  REGIONS,
} from '../../vfio-abi/device.ts'
import { REGION_INFO_BYTES } from '../../vfio-abi/region.ts'
import { COMMAND, commandName } from '../constants.ts'
import {
  DMA_MAP_BYTES,
  DMA_UNMAP_BYTES,
  decodeDmaMap,
  decodeDmaUnmap,
  decodeRegionAccess,
  encodeRegion,
  encodeRegionAccess,
  REGION_ACCESS_BYTES,
} from '../structs.ts'
import type { ServedDevice } from './device.ts'
import type { ServedInterrupts } from './interrupts.ts'
import type { Mappings } from './mappings.ts'
import { Refusal } from './refusal.ts'
import type { Regions } from './regions.ts'

export interface Reply {
  readonly payload: Buffer
  /** Goes with it, and stays the server's. */
  readonly fd?: number
}

export const EMPTY: Reply = { payload: Buffer.alloc(0) }

/** What the requests of one client work on. */
export interface Served {
  readonly device: ServedDevice
  readonly regions: Regions
  readonly mappings: Mappings
  readonly interrupts: ServedInterrupts
  /** The file of BAR 0, where its doorbells can be mapped. */
  readonly doorbells: number | null
}

type Handler = (served: Served, payload: Buffer, fds: number[]) => Reply

const HANDLERS: Readonly<Record<number, Handler>> = {
  [COMMAND.DMA_MAP]: mapMemory,
  [COMMAND.DMA_UNMAP]: unmapMemory,
  [COMMAND.GET_INFO]: deviceInfo,
  [COMMAND.GET_REGION_INFO]: regionInfo,
  [COMMAND.GET_IRQ_INFO]: irqInfo,
  [COMMAND.SET_IRQS]: setIrqs,
  [COMMAND.REGION_READ]: readRegion,
  [COMMAND.REGION_WRITE]: writeRegion,
  [COMMAND.DEVICE_RESET]: reset,
}

/**
 * Does what a request asks for. Descriptors that are kept are taken out of `fds`; the rest are the caller's to close.
 * Throws what `errnoOf` has an errno for.
 */
export function execute(served: Served, command: number, payload: Buffer, fds: number[]): Reply {
  const handler = HANDLERS[command]
  if (handler === undefined) throw new Refusal('ENOTSUP', commandName(command))
  return handler(served, payload, fds)
}

function mapMemory({ mappings }: Served, payload: Buffer, fds: number[]): Reply {
  const request = decodeDmaMap(payload)
  checkArgsz(payload, DMA_MAP_BYTES)
  mappings.add(request, fds[0])
  return EMPTY
}

function unmapMemory({ mappings }: Served, payload: Buffer): Reply {
  const request = decodeDmaUnmap(payload)
  checkArgsz(payload, DMA_UNMAP_BYTES)
  mappings.remove(request)
  return { payload: payload.subarray(0, DMA_UNMAP_BYTES) }
}

function deviceInfo(_: Served, payload: Buffer): Reply {
  decodeDeviceInfo(payload)
  checkArgsz(payload, DEVICE_INFO_BYTES)
  const flags = DEVICE_FLAGS.RESET | DEVICE_FLAGS.PCI
  return { payload: encodeDeviceInfo({ flags, regions: REGIONS, irqs: IRQS }) }
}

function regionInfo({ regions, doorbells }: Served, payload: Buffer): Reply {
  const { argsz, index } = decodeRegionRequest(payload)
  checkArgsz(payload, REGION_INFO_BYTES)
  const whole = encodeRegion(regions.describe(index, doorbells !== null))
  if (whole.length > argsz) {
    // The structure alone says in argsz how much is needed for the rest.
    const start = whole.subarray(0, REGION_INFO_BYTES)
    start.writeUInt32LE(0, 12)
    return { payload: start }
  }
  if (index !== REGION.BAR0 || doorbells === null) return { payload: whole }
  return { payload: whole, fd: doorbells }
}

function irqInfo({ device }: Served, payload: Buffer): Reply {
  const { index } = decodeIrqInfo(payload)
  checkArgsz(payload, IRQ_INFO_BYTES)
  if (index >= IRQS) throw new Refusal('EINVAL', `no interrupts of index ${index}`)
  const msix = index === IRQ.MSIX
  const flags = msix ? IRQ_FLAGS.EVENTFD : 0
  return { payload: encodeIrqInfo({ flags, index, count: msix ? device.vectors : 0 }) }
}

function setIrqs({ interrupts }: Served, payload: Buffer, fds: number[]): Reply {
  const request = decodeIrqSet(payload)
  checkArgsz(payload, IRQ_SET_BYTES)
  interrupts.set(request, fds)
  return EMPTY
}

function readRegion({ regions }: Served, payload: Buffer): Reply {
  const access = decodeRegionAccess(payload)
  return { payload: encodeRegionAccess(access, regions.read(access)) }
}

function writeRegion({ regions }: Served, payload: Buffer): Reply {
  const access = decodeRegionAccess(payload)
  regions.write(access, payload.subarray(REGION_ACCESS_BYTES))
  return { payload: encodeRegionAccess(access) }
}

function reset({ device }: Served): Reply {
  device.reset()
  return EMPTY
}

/** A caller says in its first word how much it can take: less than the structure is an error. */
function checkArgsz(payload: Buffer, bytes: number): void {
  const argsz = payload.readUInt32LE(0)
  if (argsz < bytes) throw new Refusal('EINVAL', `argsz ${argsz}: ${bytes} are needed`)
}
