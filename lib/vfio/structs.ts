// Structures of VFIO and iommufd requests, encoded into Buffers and decoded from them, side by side.
// Trade-off: written out by hand, since a struct type of koffi costs several times as much per call.

import { DecodeError } from '../errors.ts'
import { number64 } from '../pci/region.ts'
import { DMA_MAP_FLAGS, IOAS_MAP_FLAGS, IRQ_SET } from './constants.ts'

/** Room for a structure and its capabilities at first; the answer's argsz says where it is too little. */
export const INFO_BYTES = 4096
/** Bytes that the kernel wanted for a whole answer. */
export const wantedBytes = (b: Buffer): number => b.readUInt32LE(0)

/** Writes the first word, `argsz`, which each structure of VFIO begins with. */
function sized(bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes)
  buffer.writeUInt32LE(bytes, 0)
  return buffer
}

/** struct vfio_group_status */
export const encodeGroupStatus = (): Buffer => sized(8)
export const decodeGroupStatus = (b: Buffer): { flags: number } => ({ flags: b.readUInt32LE(4) })

export interface DeviceInfo {
  flags: number
  regions: number
  irqs: number
}

/** struct vfio_device_info */
export const encodeDeviceInfo = (): Buffer => sized(20)
export function decodeDeviceInfo(b: Buffer): DeviceInfo {
  return { flags: b.readUInt32LE(4), regions: b.readUInt32LE(8), irqs: b.readUInt32LE(12) }
}

/** struct vfio_region_info, with room for capabilities */
export function encodeRegionInfo(index: number, bytes = INFO_BYTES): Buffer {
  const b = sized(bytes)
  b.writeUInt32LE(index, 8)
  return b
}

/** struct vfio_irq_info */
export function encodeIrqInfo(index: number): Buffer {
  const b = sized(16)
  b.writeUInt32LE(index, 8)
  return b
}
export const decodeIrqInfo = (b: Buffer): { flags: number; count: number } => ({
  flags: b.readUInt32LE(4),
  count: b.readUInt32LE(12),
})

/** struct vfio_irq_set: from now on interrupt `index`[0…] adds 1 to these eventfds; none: interrupts off. */
export function encodeIrqSet(index: number, eventfds: readonly number[]): Buffer {
  const b = sized(20 + 4 * eventfds.length)
  const data = eventfds.length === 0 ? IRQ_SET.DATA_NONE : IRQ_SET.DATA_EVENTFD
  b.writeUInt32LE(data | IRQ_SET.ACTION_TRIGGER, 4)
  b.writeUInt32LE(index, 8)
  b.writeUInt32LE(0, 12)
  b.writeUInt32LE(eventfds.length, 16)
  for (const [i, fd] of eventfds.entries()) b.writeInt32LE(fd, 20 + 4 * i)
  return b
}

export interface IommuInfo {
  flags: number
  /** Bitmap of page sizes. */
  pageSizes: bigint
  capOffset: number
}

/** struct vfio_iommu_type1_info, with room for capabilities */
export const encodeIommuInfo = (bytes = INFO_BYTES): Buffer => sized(bytes)
export function decodeIommuInfo(b: Buffer): IommuInfo {
  if (b.length < 20) throw new DecodeError(`IOMMU info of ${b.length} bytes`)
  return { flags: b.readUInt32LE(4), pageSizes: b.readBigUInt64LE(8), capOffset: b.readUInt32LE(16) }
}

/** struct vfio_iommu_type1_dma_map, for reading and writing by the device */
export function encodeDmaMap(address: bigint, iova: number, bytes: number): Buffer {
  const b = sized(32)
  b.writeUInt32LE(DMA_MAP_FLAGS.READ | DMA_MAP_FLAGS.WRITE, 4)
  b.writeBigUInt64LE(address, 8)
  b.writeBigUInt64LE(BigInt(iova), 16)
  b.writeBigUInt64LE(BigInt(bytes), 24)
  return b
}

/** struct vfio_iommu_type1_dma_unmap */
export function encodeDmaUnmap(iova: number, bytes: number): Buffer {
  const b = sized(24)
  b.writeBigUInt64LE(BigInt(iova), 8)
  b.writeBigUInt64LE(BigInt(bytes), 16)
  return b
}
/** Bytes that were unmapped: 0 where nothing was mapped there. */
export const decodeDmaUnmap = (b: Buffer): number => number64(b, 16)

/** struct vfio_device_bind_iommufd */
export function encodeBindIommufd(iommufd: number): Buffer {
  const b = sized(16)
  b.writeInt32LE(iommufd, 8)
  return b
}

/** struct vfio_device_attach_iommufd_pt */
export function encodeAttachIommufd(ioas: number): Buffer {
  const b = sized(12)
  b.writeUInt32LE(ioas, 8)
  return b
}

/** struct iommu_ioas_alloc */
export const encodeIoasAlloc = (): Buffer => sized(12)
export const decodeIoasAlloc = (b: Buffer): number => b.readUInt32LE(8)

/** struct iommu_ioas_iova_ranges: asks for up to `count` ranges, stored at `address` */
export function encodeIoasRanges(ioas: number, count: number, address: bigint): Buffer {
  const b = sized(32)
  b.writeUInt32LE(ioas, 4)
  b.writeUInt32LE(count, 8)
  b.writeBigUInt64LE(address, 16)
  return b
}
/** How many ranges there are. */
export const decodeIoasRanges = (b: Buffer): number => b.readUInt32LE(8)

/** struct iommu_ioas_map, at a fixed IOVA, for reading and writing by the device */
export function encodeIoasMap(ioas: number, address: bigint, iova: number, bytes: number): Buffer {
  const b = sized(40)
  b.writeUInt32LE(IOAS_MAP_FLAGS.FIXED_IOVA | IOAS_MAP_FLAGS.WRITEABLE | IOAS_MAP_FLAGS.READABLE, 4)
  b.writeUInt32LE(ioas, 8)
  b.writeBigUInt64LE(address, 16)
  b.writeBigUInt64LE(BigInt(bytes), 24)
  b.writeBigUInt64LE(BigInt(iova), 32)
  return b
}

/** struct iommu_ioas_unmap */
export function encodeIoasUnmap(ioas: number, iova: number, bytes: number): Buffer {
  const b = sized(24)
  b.writeUInt32LE(ioas, 4)
  b.writeBigUInt64LE(BigInt(iova), 8)
  b.writeBigUInt64LE(BigInt(bytes), 16)
  return b
}
