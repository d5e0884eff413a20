// VFIO without an IOMMU: the device is given physical addresses, and nothing keeps it from any other memory.
// Trade-off: only where asked for. An arena is one reserved huge page, the largest memory that is one physical piece.

import fs from 'node:fs'
import { OutOfMemoryError, SetupError } from '../errors.ts'
import type { SharedMemory } from '../memory/mapping.ts'
import type { PciFacts, SysfsOptions } from '../pci/sysfs.ts'
import { HUGE_PAGE_BYTES, PAGE_BYTES } from '../sys/units.ts'
import { IOMMU_TYPE } from './constants.ts'
import type { IommuGroup } from './group.ts'
import { getDevice, openContainer } from './type1.ts'

// An entry of pagemap: the frame number in bits 0 to 54, and bit 63 where the page is in memory.
const FRAME_MASK = (1n << 55n) - 1n
const PRESENT = 1n << 63n

/** Opens the function's group of the no-IOMMU mode, and warns. */
export function openNoIommu(facts: PciFacts, sysfs: SysfsOptions): IommuGroup {
  const path = `/dev/vfio/noiommu-${facts.noIommuGroup}`
  const { container, group } = openContainer(facts, path, IOMMU_TYPE.NOIOMMU, sysfs)
  process.emitWarning(
    `${facts.name} is driven without an IOMMU: a fault in the device or in this program can overwrite any memory of the machine`,
    { type: 'UnvmeWarning', code: 'UNVME_NOIOMMU' },
  )
  return {
    kind: 'noiommu',
    maxArenaBytes: HUGE_PAGE_BYTES,
    needsHugePage: true,
    openDevice: (device) => getDevice(group, device, path),
    map: (memory, name) => physicalAddress(memory, name),
    unmap() {
      // Nothing was mapped: the page goes back when its memory is unmapped from the process.
    },
    close() {
      fs.closeSync(group)
      fs.closeSync(container)
    },
  }
}

/** The physical address of memory on one huge page. Needs CAP_SYS_ADMIN. */
export function physicalAddress(memory: SharedMemory, name: string, pagemap = '/proc/self/pagemap'): number {
  if (!memory.hugePages || memory.bytes > HUGE_PAGE_BYTES) {
    throw new OutOfMemoryError(
      `${name}: no huge page is free, and without an IOMMU each ${HUGE_PAGE_BYTES / 2 ** 20} MiB of DMA memory is one; ` +
        "reserve some, as by 'sysctl vm.nr_hugepages=64'",
    )
  }
  const entry = Buffer.alloc(8)
  const fd = fs.openSync(pagemap, 'r')
  try {
    fs.readSync(fd, entry, 0, 8, (Number(memory.address) / PAGE_BYTES) * 8)
  } finally {
    fs.closeSync(fd)
  }
  const value = entry.readBigUInt64LE()
  const frame = Number(value & FRAME_MASK)
  // The kernel shows frames as 0 to those without the right to see them.
  if ((value & PRESENT) === 0n || frame === 0) {
    throw new SetupError(`${name}: physical addresses can't be seen; the no-IOMMU mode needs root`)
  }
  return frame * PAGE_BYTES
}
