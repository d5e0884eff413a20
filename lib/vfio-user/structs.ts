// Messages of vfio-user: the header, and the payload of each command and reply, encoded and decoded side by side.
// Written out by hand, little-endian; both client and server use them, so each is tested byte by byte.

import { need, sized } from '../vfio-abi/device.ts'
import { type Area, CAPABILITY_BYTES, number64, REGION_CAP, REGION_INFO_BYTES } from '../vfio-abi/region.ts'

export const HEADER_BYTES = 16
/** Bytes of the structures, and the least that argsz may say in a request of them. */
export const DMA_MAP_BYTES = 32
export const DMA_UNMAP_BYTES = 24

export interface Header {
  id: number
  command: number
  /** Bytes of the whole message. */
  size: number
  flags: number
  /** Of an error reply. */
  errno: number
}

/** A message, whole; `flags` has the type. An error reply has no payload. */
export function encodeMessage(header: Omit<Header, 'size' | 'errno'>, payload: Buffer, errno = 0): Buffer {
  const b = Buffer.alloc(HEADER_BYTES + payload.length)
  b.writeUInt16LE(header.id, 0)
  b.writeUInt16LE(header.command, 2)
  b.writeUInt32LE(b.length, 4)
  b.writeUInt32LE(header.flags, 8)
  b.writeUInt32LE(errno, 12)
  payload.copy(b, HEADER_BYTES)
  return b
}

export function decodeHeader(b: Buffer): Header {
  return {
    id: b.readUInt16LE(0),
    command: b.readUInt16LE(2),
    size: b.readUInt32LE(4),
    flags: b.readUInt32LE(8),
    errno: b.readUInt32LE(12),
  }
}

export interface DmaMap {
  flags: number
  /** Where the memory begins in its file. */
  offset: number
  iova: number
  size: number
}

/** DMA_MAP: struct vfio_user_dma_map */
export function encodeDmaMap({ flags, offset, iova, size }: DmaMap): Buffer {
  const b = sized(DMA_MAP_BYTES)
  b.writeUInt32LE(flags, 4)
  b.writeBigUInt64LE(BigInt(offset), 8)
  b.writeBigUInt64LE(BigInt(iova), 16)
  b.writeBigUInt64LE(BigInt(size), 24)
  return b
}

export function decodeDmaMap(b: Buffer): DmaMap {
  need(b, DMA_MAP_BYTES, 'DMA_MAP')
  return { flags: b.readUInt32LE(4), offset: number64(b, 8), iova: number64(b, 16), size: number64(b, 24) }
}

export interface DmaUnmap {
  flags: number
  iova: number
  size: number
}

/** DMA_UNMAP: struct vfio_user_dma_unmap, in the request and in the reply */
export function encodeDmaUnmap({ flags, iova, size }: DmaUnmap): Buffer {
  const b = sized(DMA_UNMAP_BYTES)
  b.writeUInt32LE(flags, 4)
  b.writeBigUInt64LE(BigInt(iova), 8)
  b.writeBigUInt64LE(BigInt(size), 16)
  return b
}

export function decodeDmaUnmap(b: Buffer): DmaUnmap {
  need(b, DMA_UNMAP_BYTES, 'DMA_UNMAP')
  return { flags: b.readUInt32LE(4), iova: number64(b, 8), size: number64(b, 16) }
}

export interface RegionReply {
  index: number
  flags: number
  size: number
  /** Parts that may be mapped; none: no capability, whatever the flags say. */
  areas: readonly Area[]
}

/** GET_REGION_INFO, the reply, with the sparse-mmap capability where there are areas; decoded by lib/pci. */
export function encodeRegion({ index, flags, size, areas }: RegionReply): Buffer {
  const b = sized(REGION_INFO_BYTES + (areas.length === 0 ? 0 : CAPABILITY_BYTES + 8 + 16 * areas.length))
  b.writeUInt32LE(flags, 4)
  b.writeUInt32LE(index, 8)
  b.writeBigUInt64LE(BigInt(size), 16)
  if (areas.length === 0) return b
  b.writeUInt32LE(REGION_INFO_BYTES, 12)
  b.writeUInt16LE(REGION_CAP.SPARSE_MMAP, REGION_INFO_BYTES)
  b.writeUInt16LE(1, REGION_INFO_BYTES + 2)
  b.writeUInt32LE(areas.length, REGION_INFO_BYTES + 8)
  areas.forEach((area, i) => {
    const at = REGION_INFO_BYTES + 16 + 16 * i
    b.writeBigUInt64LE(BigInt(area.offset), at)
    b.writeBigUInt64LE(BigInt(area.size), at + 8)
  })
  return b
}

export interface RegionAccess {
  offset: number
  region: number
  count: number
}

export const REGION_ACCESS_BYTES = 16

/** REGION_READ and REGION_WRITE, and their replies: the structure, and data behind it in some */
export function encodeRegionAccess({ offset, region, count }: RegionAccess, data?: Buffer): Buffer {
  const b = Buffer.alloc(REGION_ACCESS_BYTES + (data?.length ?? 0))
  b.writeBigUInt64LE(BigInt(offset), 0)
  b.writeUInt32LE(region, 8)
  b.writeUInt32LE(count, 12)
  data?.copy(b, REGION_ACCESS_BYTES)
  return b
}

export function decodeRegionAccess(b: Buffer): RegionAccess {
  need(b, REGION_ACCESS_BYTES, 'region access')
  return { offset: number64(b, 0), region: b.readUInt32LE(8), count: b.readUInt32LE(12) }
}
