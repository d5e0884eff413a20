// Structures of VFIO and iommufd requests, encoded into Buffers and decoded from them, side by side.
// Written out by hand, since a struct type of koffi costs several times as much per call.

import { DecodeError } from '../errors.ts'
import { DMA_FLAGS, INFO_BYTES, sized } from '../vfio-abi/device.ts'
import { number64 } from '../vfio-abi/region.ts'
import { IOAS_MAP_FLAGS } from './constants.ts'

/** Bytes that the kernel wanted for a whole answer. */
export const wantedBytes = (b: Buffer): number => b.readUInt32LE(0)

/** struct vfio_group_status */
export const encodeGroupStatus = (): Buffer => sized(8)
export const decodeGroupStatus = (b: Buffer): { flags: number } => ({ flags: b.readUInt32LE(4) })

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
  b.writeUInt32LE(DMA_FLAGS.READ | DMA_FLAGS.WRITE, 4)
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
