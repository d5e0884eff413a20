// What is asked of a server about its device, each request as a value: how it is sent is the caller's choice.

import {
  type DeviceInfo,
  DMA_FLAGS,
  decodeDeviceInfo,
  decodeIrqInfo,
  encodeDeviceInfo,
  encodeIrqInfo,
  encodeIrqSet,
  encodeRegionRequest,
  irqSetFlags,
} from '../vfio-abi/device.ts'
import { decodeRegion, type Region } from '../vfio-abi/region.ts'
import type { Request } from './channel.ts'
import { COMMAND, MAX_FDS } from './constants.ts'
import { encodeDmaMap, encodeDmaUnmap, encodeRegionAccess, REGION_ACCESS_BYTES } from './structs.ts'

const nothing = () => {}

export function deviceInfo(): Request<DeviceInfo> {
  const payload = encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 })
  return { command: COMMAND.GET_INFO, payload, decode: decodeDeviceInfo }
}

/** A region, and the file that its mappable areas are in, first of `fds`. All of them are the caller's to close. */
export function regionInfo(index: number): Request<{ region: Region; fds: number[] }> {
  return {
    command: COMMAND.GET_REGION_INFO,
    payload: encodeRegionRequest(index),
    maxFds: MAX_FDS,
    decode: (payload, fds) => ({ region: decodeRegion(payload), fds }),
  }
}

/** How many interrupts of this index the device has. */
export function irqCount(index: number): Request<number> {
  const payload = encodeIrqInfo({ flags: 0, index, count: 0 })
  return { command: COMMAND.GET_IRQ_INFO, payload, decode: (reply) => decodeIrqInfo(reply).count }
}

/**
 * Lets interrupts of this index signal eventfds; an empty list turns them off.
 * @param atOnce descriptors that one message may carry
 */
export function irqSets(index: number, eventfds: readonly number[], atOnce: number): Request<void>[] {
  const set = (start: number, fds: readonly number[]): Request<void> => ({
    command: COMMAND.SET_IRQS,
    payload: encodeIrqSet({ flags: irqSetFlags(fds.length), index, start, count: fds.length }),
    fds,
    decode: nothing,
  })
  if (eventfds.length === 0) return [set(0, [])]
  const sets: Request<void>[] = []
  for (let start = 0; start < eventfds.length; start += atOnce) {
    sets.push(set(start, eventfds.slice(start, start + atOnce)))
  }
  return sets
}

/** Reads `count` bytes of a region: 4 or 8 of registers, 1, 2 or 4 of configuration space. */
export function regionRead(region: number, offset: number, count: number): Request<Buffer> {
  const bytes = REGION_ACCESS_BYTES + count
  return {
    command: COMMAND.REGION_READ,
    payload: encodeRegionAccess({ offset, region, count }),
    least: bytes,
    most: bytes,
    decode: (payload) => payload.subarray(REGION_ACCESS_BYTES),
  }
}

/** Writes to a region, in one access. */
export function regionWrite(region: number, offset: number, data: Buffer): Request<void> {
  const payload = encodeRegionAccess({ offset, region, count: data.length }, data)
  return { command: COMMAND.REGION_WRITE, payload, decode: nothing }
}

/** Lets the device read and write the memory of a file at an IOVA. */
export function dmaMap(fd: number, iova: number, size: number): Request<void> {
  const payload = encodeDmaMap({ flags: DMA_FLAGS.READ | DMA_FLAGS.WRITE, offset: 0, iova, size })
  return { command: COMMAND.DMA_MAP, payload, fds: [fd], decode: nothing }
}

/** Takes memory back: exactly what was mapped. */
export function dmaUnmap(iova: number, size: number): Request<void> {
  return { command: COMMAND.DMA_UNMAP, payload: encodeDmaUnmap({ flags: 0, iova, size }), decode: nothing }
}

export function deviceReset(): Request<void> {
  return { command: COMMAND.DEVICE_RESET, payload: Buffer.alloc(0), decode: nothing }
}
