// VFIO by the device's own character file and /dev/iommu: kernel 6.6 and later, where built with it.
// Trade-off: one I/O address space for each group, though iommufd could share one, as with the type1 container.

import fs from 'node:fs'
import { SetupError } from '../errors.ts'
import { type IovaRange, IovaSpace } from '../memory/iova.ts'
import { MAX_VIEW_BYTES, mapAnonymous, type SharedMemory } from '../memory/mapping.ts'
import {
  membersInTheWay,
  type PciFacts,
  readGroupMembers,
  readPciMemory,
  type SysfsOptions,
} from '../pci/sysfs.ts'
import { ioctl, munmap, systemCallError } from '../sys/libc.ts'
import { saturate } from '../vfio-abi/region.ts'
import { IOMMUFD, VFIO } from './constants.ts'
import { explainBusy, explainMap, explainNotViable, explainSetIommu, openFile } from './explain.ts'
import type { IommuGroup } from './group.ts'
import {
  decodeIoasAlloc,
  decodeIoasRanges,
  encodeAttachIommufd,
  encodeBindIommufd,
  encodeIoasAlloc,
  encodeIoasMap,
  encodeIoasRanges,
  encodeIoasUnmap,
} from './structs.ts'
import { takeIova } from './type1.ts'

const IOMMU = '/dev/iommu'
const RANGE_BYTES = 16
const MAX_RANGES = 256

/** Where the function's character file is, on kernels that have one. */
const devicePath = ({ vfioDevice }: PciFacts): string => `/dev/vfio/devices/${vfioDevice}`

/** True where kernel and rights allow to open the function by iommufd. */
export function hasIommufd(facts: PciFacts): boolean {
  if (facts.vfioDevice === null) return false
  try {
    for (const path of [IOMMU, devicePath(facts)]) fs.accessSync(path, fs.constants.R_OK | fs.constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** Opens /dev/iommu and makes an address space for the group of this function. */
export function openIommufd(facts: PciFacts, sysfs: SysfsOptions): IommuGroup {
  const iommu = openFile(IOMMU, facts)
  try {
    const request = encodeIoasAlloc()
    if (ioctl(iommu, IOMMUFD.IOAS_ALLOC, request) !== 0) throw systemCallError('IOMMU_IOAS_ALLOC')
    const ioas = decodeIoasAlloc(request)
    // Known once the first device is attached: it narrows what the address space allows.
    let iovas: IovaSpace | undefined
    return {
      kind: 'iommufd',
      maxArenaBytes: MAX_VIEW_BYTES,
      needsHugePage: false,
      openDevice: async (device) => {
        const fd = openDevice(iommu, ioas, device, sysfs)
        iovas ??= new IovaSpace(queryRanges(iommu, ioas), readPciMemory(sysfs))
        return fd
      },
      map: (memory, name) => mapMemory(iommu, ioas, iovas!, memory, name),
      unmap(iova, bytes) {
        if (ioctl(iommu, IOMMUFD.IOAS_UNMAP, encodeIoasUnmap(ioas, iova, bytes)) === 0) iovas?.give(iova)
      },
      close: () => fs.closeSync(iommu),
    }
  } catch (error) {
    fs.closeSync(iommu)
    throw error
  }
}

function openDevice(iommu: number, ioas: number, facts: PciFacts, sysfs: SysfsOptions): number {
  const path = devicePath(facts)
  const fd = openFile(path, facts)
  try {
    if (ioctl(fd, VFIO.DEVICE_BIND_IOMMUFD, encodeBindIommufd(iommu)) !== 0) {
      throw explainBind(facts, path, sysfs)
    }
    if (ioctl(fd, VFIO.DEVICE_ATTACH_IOMMUFD_PT, encodeAttachIommufd(ioas)) !== 0) {
      const cause = systemCallError('VFIO_DEVICE_ATTACH_IOMMUFD_PT', path)
      throw new SetupError(`${facts.name}: can't be attached to an I/O address space`, { cause })
    }
    return fd
  } catch (error) {
    fs.closeSync(fd)
    throw error
  }
}

// EINVAL is the answer where another file of the same device is bound already, EBUSY where its group is open,
// and where a member of the group has a driver of the kernel's; EPERM where interrupts can't be remapped.
function explainBind(facts: PciFacts, path: string, sysfs: SysfsOptions): Error {
  const cause = systemCallError('VFIO_DEVICE_BIND_IOMMUFD', path)
  if (membersInTheWay(readGroupMembers(facts.iommuGroup ?? -1, sysfs)).length > 0) {
    return explainNotViable(facts, sysfs)
  }
  if (cause.code === 'EINVAL' || cause.code === 'EBUSY') return explainBusy(cause, path, facts)
  if (cause.code === 'EPERM') return explainSetIommu(cause, facts)
  return new SetupError(`${facts.name}: can't be bound to ${IOMMU}`, { cause })
}

function queryRanges(iommu: number, ioas: number): IovaRange[] {
  // The kernel stores the ranges at an address that the request names.
  const { address, buffer } = mapAnonymous(MAX_RANGES * RANGE_BYTES)
  try {
    const request = encodeIoasRanges(ioas, MAX_RANGES, address)
    if (ioctl(iommu, IOMMUFD.IOAS_IOVA_RANGES, request) !== 0) throw systemCallError('IOMMU_IOAS_IOVA_RANGES')
    const stored = Buffer.from(buffer)
    return Array.from({ length: decodeIoasRanges(request) }, (_, i) => ({
      first: saturate(stored.readBigUInt64LE(i * RANGE_BYTES)),
      last: saturate(stored.readBigUInt64LE(i * RANGE_BYTES + 8)),
    }))
  } finally {
    munmap(address, MAX_RANGES * RANGE_BYTES)
  }
}

function mapMemory(
  iommu: number,
  ioas: number,
  iovas: IovaSpace,
  memory: SharedMemory,
  name: string,
): number {
  const iova = takeIova(iovas, memory.bytes, name)
  const request = encodeIoasMap(ioas, memory.address, iova, memory.bytes)
  if (ioctl(iommu, IOMMUFD.IOAS_MAP, request) === 0) return iova
  const error = systemCallError('IOMMU_IOAS_MAP')
  iovas.give(iova)
  throw explainMap(error, name, memory.bytes)
}
