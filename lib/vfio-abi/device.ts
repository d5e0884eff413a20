// What <linux/vfio.h> says of a PCI device, which VFIO takes by ioctl and vfio-user as the payload of messages: flags,
// indexes and structures, encoded and decoded side by side.

import { DecodeError } from '../errors.ts'
import { REGION_INFO_BYTES } from './region.ts'

export const DEVICE_FLAGS = { RESET: 1, PCI: 2 } as const
export const IRQ_FLAGS = { EVENTFD: 1 } as const
export const IRQ_SET = { DATA_NONE: 1, DATA_EVENTFD: 4, ACTION_TRIGGER: 0x20 } as const
export const DMA_FLAGS = { READ: 1, WRITE: 2 } as const

/** Regions of a PCI device: BARs are 0 to 5. */
export const REGION = { BAR0: 0, CONFIG: 7 } as const
export const REGIONS = 9
/** Interrupts of a PCI device. REQ asks the user to let the device go. */
export const IRQ = { INTX: 0, MSI: 1, MSIX: 2, ERR: 3, REQ: 4 } as const
export const IRQS = 5

/** Configuration space: the command register and its bits (PCI 3.0, section 6.2.2). */
export const CONFIG_COMMAND = 4
export const PCI_COMMAND = { MEMORY: 0x2, BUS_MASTER: 0x4, INTX_DISABLE: 0x400 } as const

/** Bytes of the structures, and the least that argsz may say in a request of them. */
export const DEVICE_INFO_BYTES = 16
export const IRQ_INFO_BYTES = 16
export const IRQ_SET_BYTES = 20
/** Room for a structure and its capabilities at first; the answer's argsz says where it is too little. */
export const INFO_BYTES = 4096

/** A buffer whose first word, `argsz`, is its length: each structure of VFIO begins so. */
export function sized(bytes: number): Buffer {
  const b = Buffer.alloc(bytes)
  b.writeUInt32LE(bytes, 0)
  return b
}

/** Answers may be longer than their structure, and are never shorter. Throws DecodeError. */
export function need(b: Buffer, bytes: number, what: string): void {
  if (b.length < bytes) throw new DecodeError(`${what} of ${b.length} bytes: ${bytes} are needed`)
}

export interface DeviceInfo {
  flags: number
  regions: number
  irqs: number
}

/** struct vfio_device_info; a request has zeroes in it */
export function encodeDeviceInfo({ flags = 0, regions = 0, irqs = 0 }: Partial<DeviceInfo> = {}): Buffer {
  const b = sized(DEVICE_INFO_BYTES)
  b.writeUInt32LE(flags, 4)
  b.writeUInt32LE(regions, 8)
  b.writeUInt32LE(irqs, 12)
  return b
}

export function decodeDeviceInfo(b: Buffer): DeviceInfo {
  need(b, DEVICE_INFO_BYTES, 'device info')
  return { flags: b.readUInt32LE(4), regions: b.readUInt32LE(8), irqs: b.readUInt32LE(12) }
}

export interface IrqInfo {
  flags: number
  index: number
  count: number
}

/** struct vfio_irq_info, in the request and in the answer */
export function encodeIrqInfo({ flags = 0, index, count = 0 }: Partial<IrqInfo> & { index: number }): Buffer {
  const b = sized(IRQ_INFO_BYTES)
  b.writeUInt32LE(flags, 4)
  b.writeUInt32LE(index, 8)
  b.writeUInt32LE(count, 12)
  return b
}

export function decodeIrqInfo(b: Buffer): IrqInfo {
  need(b, IRQ_INFO_BYTES, 'interrupt info')
  return { flags: b.readUInt32LE(4), index: b.readUInt32LE(8), count: b.readUInt32LE(12) }
}

export interface IrqSet {
  flags: number
  index: number
  start: number
  count: number
}

/** struct vfio_irq_set, with descriptors behind it where they are not sent beside it */
export function encodeIrqSet(
  { flags, index, start, count }: IrqSet,
  eventfds: readonly number[] = [],
): Buffer {
  const b = sized(IRQ_SET_BYTES + 4 * eventfds.length)
  b.writeUInt32LE(flags, 4)
  b.writeUInt32LE(index, 8)
  b.writeUInt32LE(start, 12)
  b.writeUInt32LE(count, 16)
  for (const [i, fd] of eventfds.entries()) b.writeInt32LE(fd, IRQ_SET_BYTES + 4 * i)
  return b
}

export function decodeIrqSet(b: Buffer): IrqSet {
  need(b, IRQ_SET_BYTES, 'an interrupt set')
  return {
    flags: b.readUInt32LE(4),
    index: b.readUInt32LE(8),
    start: b.readUInt32LE(12),
    count: b.readUInt32LE(16),
  }
}

/** Flags that let `count` eventfds be signalled; 0: the interrupts are turned off. */
export const irqSetFlags = (count: number): number =>
  (count === 0 ? IRQ_SET.DATA_NONE : IRQ_SET.DATA_EVENTFD) | IRQ_SET.ACTION_TRIGGER

/** struct vfio_region_info as a request; by ioctl the room for the answer is behind it (`bytes`), by message it is not */
export function encodeRegionRequest(index: number, argsz = INFO_BYTES, bytes = REGION_INFO_BYTES): Buffer {
  const b = Buffer.alloc(bytes)
  b.writeUInt32LE(argsz, 0)
  b.writeUInt32LE(index, 8)
  return b
}

export function decodeRegionRequest(b: Buffer): { argsz: number; index: number } {
  need(b, REGION_INFO_BYTES, 'a region request')
  return { argsz: b.readUInt32LE(0), index: b.readUInt32LE(8) }
}
