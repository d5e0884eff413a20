// Capabilities that the kernel appends to its answer about the IOMMU: IOVA ranges, mappings left.
// Checked as if they came from a stranger, since a wrong offset here would become a wrong mapping.

import { DecodeError } from '../errors.ts'
import type { IovaRange } from '../memory/iova.ts'
import { CAPABILITY_BYTES, readCapabilities, readPairs } from '../vfio-abi/region.ts'
import { IOMMU_CAP } from './constants.ts'

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
  if (found.offset + CAPABILITY_BYTES + 4 > b.length) throw new DecodeError('a cut-off count of mappings')
  return b.readUInt32LE(found.offset + CAPABILITY_BYTES)
}
