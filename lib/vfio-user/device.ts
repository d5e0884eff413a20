// What a server says of its device, and the requests that change it, each as one call.
// Trade-off: thin functions over a channel; what belongs together in time is lib/vfio-user/function.ts's affair.

import { ProtocolError, UnsupportedError } from '../errors.ts'
import { decodeRegion, type Region } from '../pci/region.ts'
import type { Channel } from './channel.ts'
import { COMMAND, commandName, DEVICE_FLAGS, DMA_FLAGS, MAX_FDS } from './constants.ts'
import { closeDescriptors } from './socket.ts'
import {
  type DeviceInfo,
  decodeDeviceInfo,
  decodeIrqInfo,
  encodeDeviceInfo,
  encodeDmaMap,
  encodeDmaUnmap,
  encodeIrqInfo,
  encodeIrqSet,
  encodeRegionAccess,
  encodeRegionRequest,
  irqSetFlags,
  REGION_ACCESS_BYTES,
} from './structs.ts'

export function getDeviceInfo(channel: Channel): DeviceInfo {
  const request = encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 })
  const info = channel.ask(COMMAND.GET_INFO, request, decodeDeviceInfo)
  if ((info.flags & DEVICE_FLAGS.PCI) === 0) throw new UnsupportedError(`${channel.name} is no PCI device`)
  return info
}

/** A region, and the file that its mappable areas are in, first of `fds`. All of them are the caller's to close. */
export function getRegion(channel: Channel, index: number): { region: Region; fds: number[] } {
  const command = COMMAND.GET_REGION_INFO
  const { payload, fds } = channel.request(command, encodeRegionRequest(index), { maxFds: MAX_FDS })
  try {
    return { region: channel.decode(command, payload, decodeRegion), fds }
  } catch (error) {
    closeDescriptors(fds)
    throw error
  }
}

/** How many interrupts of this index the device has. */
export function countIrqs(channel: Channel, index: number): number {
  const request = encodeIrqInfo({ flags: 0, index, count: 0 })
  return channel.ask(COMMAND.GET_IRQ_INFO, request, decodeIrqInfo).count
}

/**
 * Lets interrupts of this index signal eventfds; an empty list turns them off.
 * @param atOnce descriptors that one message may carry
 */
export function setIrqs(channel: Channel, index: number, eventfds: readonly number[], atOnce: number): void {
  const command = COMMAND.SET_IRQS
  if (eventfds.length === 0) {
    channel.request(command, encodeIrqSet({ flags: irqSetFlags(0), index, start: 0, count: 0 }))
  }
  for (let start = 0; start < eventfds.length; start += atOnce) {
    const fds = eventfds.slice(start, start + atOnce)
    const flags = irqSetFlags(fds.length)
    channel.request(command, encodeIrqSet({ flags, index, start, count: fds.length }), { fds })
  }
}

/** Reads `count` bytes of a region: 4 or 8 of registers, 1, 2 or 4 of configuration space. */
export function readRegion(channel: Channel, region: number, offset: number, count: number): Buffer {
  const command = COMMAND.REGION_READ
  const request = encodeRegionAccess({ offset, region, count })
  const least = REGION_ACCESS_BYTES + count
  const { payload } = channel.request(command, request, { least })
  if (payload.length === least) return payload.subarray(REGION_ACCESS_BYTES)
  throw new ProtocolError(
    `${channel.name}: ${commandName(command)}: ${payload.length - REGION_ACCESS_BYTES} bytes, not ${count}`,
  )
}

/** Writes to a region, in one access. */
export function writeRegion(channel: Channel, region: number, offset: number, data: Buffer): void {
  channel.request(COMMAND.REGION_WRITE, encodeRegionAccess({ offset, region, count: data.length }, data))
}

/** Lets the device read and write the memory of a file at an IOVA. Throws SystemCallError where it won't. */
export function mapMemory(channel: Channel, fd: number, iova: number, size: number): void {
  const flags = DMA_FLAGS.READ | DMA_FLAGS.WRITE
  channel.request(COMMAND.DMA_MAP, encodeDmaMap({ flags, offset: 0, iova, size }), { fds: [fd] })
}

/** Takes memory back: exactly what was mapped. */
export function unmapMemory(channel: Channel, iova: number, size: number): void {
  channel.request(COMMAND.DMA_UNMAP, encodeDmaUnmap({ flags: 0, iova, size }))
}
