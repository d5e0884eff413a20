// Capability chains that the kernel appends to its answers: mappable areas of a region, IOVA ranges, mappings left.
// Trade-off: checked as if they came from a stranger, since a wrong offset here would become a wrong mapping.

import { DecodeError } from '../errors.ts'
import type { IovaRange } from '../pci/iova.ts'
import { IOMMU_CAP, REGION_CAP } from './constants.ts'

/** struct vfio_info_cap_header, and where it stands in the answer. */
export interface Capability {
  id: number
  version: number
  offset: number
}

const HEADER_BYTES = 8

/**
 * The capabilities of an answer, in their order. `first` is the offset of the first; 0 where there is none.
 * Throws DecodeError where one lies outside the answer, or the chain returns to itself.
 */
export function readCapabilities(b: Buffer, first: number): Capability[] {
  const found: Capability[] = []
  const seen = new Set<number>()
  for (let offset = first; offset !== 0; offset = b.readUInt32LE(offset + 4)) {
    if (offset + HEADER_BYTES > b.length) {
      throw new DecodeError(`capability at ${offset} of an answer of ${b.length} bytes`)
    }
    if (seen.has(offset)) throw new DecodeError(`capability chain returns to ${offset}`)
    seen.add(offset)
    found.push({ id: b.readUInt16LE(offset), version: b.readUInt16LE(offset + 2), offset })
  }
  return found
}

/** A part of a region that may be mapped: byte offset in the region, and length. */
export interface Area {
  offset: number
  size: number
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

/** IOVA ranges of a type1 IOMMU; null on kernels before 5.4, which do not tell. */
export function readIovaRanges(b: Buffer, capOffset: number): IovaRange[] | null {
  const found = readCapabilities(b, capOffset).find(({ id }) => id === IOMMU_CAP.IOVA_RANGE)
  if (found === undefined) return null
  return readPairs(b, found.offset).map(([first, last]) => ({ first, last }))
}

/** Mappings that the container still takes; null on kernels before 5.10, which do not tell. */
export function readMappingsLeft(b: Buffer, capOffset: number): number | null {
  const found = readCapabilities(b, capOffset).find(({ id }) => id === IOMMU_CAP.DMA_AVAIL)
  if (found === undefined) return null
  if (found.offset + HEADER_BYTES + 4 > b.length) throw new DecodeError('a cut-off count of mappings')
  return b.readUInt32LE(found.offset + HEADER_BYTES)
}

// Both lists have the same form: header, u32 count, u32 reserved, then pairs of u64.
function readPairs(b: Buffer, offset: number): [number, number][] {
  const start = offset + HEADER_BYTES + 8
  const count = start <= b.length ? b.readUInt32LE(offset + HEADER_BYTES) : 0
  if (start > b.length || start + 16 * count > b.length) {
    throw new DecodeError(`a capability of ${count} entries at ${offset} of an answer of ${b.length} bytes`)
  }
  return Array.from({ length: count }, (_, i) => [
    saturate(b.readBigUInt64LE(start + 16 * i)),
    saturate(b.readBigUInt64LE(start + 16 * i + 8)),
  ])
}

// An IOMMU of 64 bits ends at 2^64 - 1: IOVAs are numbers here, so what lies above 2^53 is left unused.
const saturate = (value: bigint): number =>
  value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(value)
