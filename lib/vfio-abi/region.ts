// Regions of a PCI device as VFIO describes them, over ioctl and over a socket alike: size, and areas that may be
// mapped. Checked as if they came from a stranger, since a wrong offset here would become a wrong mapping.

import { DecodeError } from '../errors.ts'

export const REGION_FLAGS = { READ: 1, WRITE: 2, MMAP: 4, CAPS: 8 } as const
/** Capabilities of region info. */
export const REGION_CAP = { SPARSE_MMAP: 1, MSIX_MAPPABLE: 3 } as const

/** Bytes of struct vfio_region_info without its capabilities. */
export const REGION_INFO_BYTES = 32

export interface RegionInfo {
  flags: number
  /** Offset of the first capability; 0 where there is none. */
  capOffset: number
  /** Bytes. */
  size: number
  /** Where the region begins in the device's file. */
  offset: number
}

/** A part of a region that may be mapped: byte offset in the region, and length. */
export interface Area {
  offset: number
  size: number
}

/** A region, and its parts that may be mapped; none where it can't be. */
export interface Region extends RegionInfo {
  areas: Area[]
}

/** struct vfio_region_info, without its capabilities. Throws DecodeError. */
export function decodeRegionInfo(b: Buffer): RegionInfo {
  if (b.length < REGION_INFO_BYTES) throw new DecodeError(`region info of ${b.length} bytes`)
  return {
    flags: b.readUInt32LE(4),
    capOffset: b.readUInt32LE(12),
    size: number64(b, 16),
    offset: number64(b, 24),
  }
}

/** struct vfio_region_info with its capabilities. Throws DecodeError. */
export function decodeRegion(b: Buffer): Region {
  const info = decodeRegionInfo(b)
  const caps = (info.flags & REGION_FLAGS.CAPS) !== 0 ? info.capOffset : 0
  const mappable = (info.flags & REGION_FLAGS.MMAP) !== 0
  return { ...info, areas: mappable ? readMappableAreas(b, caps, info.size) : [] }
}

/** struct vfio_info_cap_header, and where it stands in the answer. */
export interface Capability {
  id: number
  version: number
  offset: number
}

/** Bytes of struct vfio_info_cap_header. */
export const CAPABILITY_BYTES = 8

/**
 * The capabilities of an answer, in their order. `first` is the offset of the first; 0 where there is none.
 * Throws DecodeError where one lies outside the answer, or the chain returns to itself.
 */
export function readCapabilities(b: Buffer, first: number): Capability[] {
  const found: Capability[] = []
  const seen = new Set<number>()
  for (let offset = first; offset !== 0; offset = b.readUInt32LE(offset + 4)) {
    if (offset + CAPABILITY_BYTES > b.length) {
      throw new DecodeError(`capability at ${offset} of an answer of ${b.length} bytes`)
    }
    if (seen.has(offset)) throw new DecodeError(`capability chain returns to ${offset}`)
    seen.add(offset)
    found.push({ id: b.readUInt16LE(offset), version: b.readUInt16LE(offset + 2), offset })
  }
  return found
}

/**
 * Parts of a region that may be mapped, from its sparse-mmap capability; all of it where it has none.
 * Throws DecodeError where an area lies outside the region.
 */
export function readMappableAreas(b: Buffer, capOffset: number, regionSize: number): Area[] {
  const sparse = readCapabilities(b, capOffset).find(({ id }) => id === REGION_CAP.SPARSE_MMAP)
  if (sparse === undefined) return [{ offset: 0, size: regionSize }]
  const areas = readPairs(b, sparse.offset).map(([offset, size]) => ({ offset, size }))
  for (const { offset, size } of areas) {
    if (offset + size > regionSize) {
      throw new DecodeError(`mappable area ${offset}+${size} of a region of ${regionSize} bytes`)
    }
  }
  return areas.filter(({ size }) => size > 0).sort((a, b) => a.offset - b.offset)
}

/** The pairs of a capability that is a list: header, u32 count, u32 reserved, then pairs of u64. */
export function readPairs(b: Buffer, offset: number): [number, number][] {
  const start = offset + CAPABILITY_BYTES + 8
  const count = start <= b.length ? b.readUInt32LE(offset + CAPABILITY_BYTES) : 0
  if (start > b.length || start + 16 * count > b.length) {
    throw new DecodeError(`a capability of ${count} entries at ${offset} of an answer of ${b.length} bytes`)
  }
  return Array.from({ length: count }, (_, i) => [
    saturate(b.readBigUInt64LE(start + 16 * i)),
    saturate(b.readBigUInt64LE(start + 16 * i + 8)),
  ])
}

/** An IOMMU of 64 bits ends at 2^64 - 1: IOVAs are numbers here, so what lies above 2^53 is left unused. */
export const saturate = (value: bigint): number =>
  value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(value)

/** A 64-bit field as a number; addresses and sizes beyond 2^53 are no use here. */
export function number64(buffer: Buffer, at: number): number {
  const value = Number(buffer.readBigUInt64LE(at))
  if (!Number.isSafeInteger(value)) throw new DecodeError(`a 64-bit field of ${value} is out of range`)
  return value
}
