// VFIO by container and group, with the type1v2 IOMMU: works on every kernel that has VFIO.
// Trade-off: a container for each group. Sharing one would save page tables, but tie the address spaces of
// unrelated devices together.

import fs from 'node:fs'
import { InUseError, OutOfMemoryError, SetupError, UnsupportedError } from '../errors.ts'
import { type IovaRange, IovaSpace } from '../memory/iova.ts'
import { MAX_VIEW_BYTES, type SharedMemory } from '../memory/mapping.ts'
import { type PciFacts, readPciMemory, type SysfsOptions } from '../pci/sysfs.ts'
import { ioctl, ioctlAsync, systemCallError } from '../sys/libc.ts'
import { HUGE_PAGE_BYTES } from '../sys/units.ts'
import { INFO_BYTES } from '../vfio-abi/device.ts'
import { readIovaRanges } from './capabilities.ts'
import { API_VERSION, GROUP_FLAGS, IOMMU_INFO_FLAGS, IOMMU_TYPE, VFIO } from './constants.ts'
import { explainMap, explainNotViable, explainSetIommu, openFile } from './explain.ts'
import type { IommuGroup } from './group.ts'
import {
  decodeGroupStatus,
  decodeIommuInfo,
  encodeDmaMap,
  encodeDmaUnmap,
  encodeGroupStatus,
  encodeIommuInfo,
  wantedBytes,
} from './structs.ts'

const CONTAINER = '/dev/vfio/vfio'

// What an IOMMU of 39 bits allows, less the window of message-signalled interrupts: assumed of a kernel before
// 5.4, which does not tell.
const ASSUMED_RANGES: readonly IovaRange[] = [
  { first: 0, last: 0xfedf_ffff },
  { first: 0xfef0_0000, last: 2 ** 39 - 1 },
]

/** Opens the function's group and puts it into a container of its own. */
export function openType1(facts: PciFacts, sysfs: SysfsOptions): IommuGroup {
  const path = `/dev/vfio/${facts.iommuGroup}`
  const { container, group } = openContainer(facts, path, IOMMU_TYPE.TYPE1V2, sysfs)
  try {
    const iovas = new IovaSpace(queryRanges(container), readPciMemory(sysfs))
    return {
      kind: 'type1',
      maxArenaBytes: MAX_VIEW_BYTES,
      needsHugePage: false,
      openDevice: (device) => getDevice(group, device, path),
      map: (memory, name) => mapMemory(container, iovas, memory, name),
      unmap(iova, bytes) {
        // Can only fail where nothing is mapped; the addresses must not be handed out again then.
        if (ioctl(container, VFIO.IOMMU_UNMAP_DMA, encodeDmaUnmap(iova, bytes)) === 0) iovas.give(iova)
      },
      close() {
        fs.closeSync(group)
        fs.closeSync(container)
      },
    }
  } catch (error) {
    fs.closeSync(group)
    fs.closeSync(container)
    throw error
  }
}

/** Opens container and group, joins them, and chooses the type of IOMMU. */
export function openContainer(
  facts: PciFacts,
  path: string,
  type: number,
  sysfs: SysfsOptions,
): { container: number; group: number } {
  const container = openFile(CONTAINER, facts)
  let group: number | undefined
  try {
    checkContainer(container, type, facts)
    group = openFile(path, facts)
    joinGroup(container, group, facts, sysfs)
    if (ioctl(container, VFIO.SET_IOMMU, type) !== 0) {
      throw explainSetIommu(systemCallError('VFIO_SET_IOMMU'), facts)
    }
    return { container, group }
  } catch (error) {
    if (group !== undefined) fs.closeSync(group)
    fs.closeSync(container)
    throw error
  }
}

function checkContainer(container: number, type: number, { name }: PciFacts): void {
  const version = ioctl(container, VFIO.GET_API_VERSION, 0)
  if (version !== API_VERSION) {
    throw new UnsupportedError(`${name}: the kernel's VFIO has version ${version}, ${API_VERSION} is needed`)
  }
  if (ioctl(container, VFIO.CHECK_EXTENSION, type) > 0) return
  throw type === IOMMU_TYPE.NOIOMMU
    ? new SetupError(`${name}: VFIO's no-IOMMU mode is off; load vfio with enable_unsafe_noiommu_mode=1`)
    : new SetupError(`${name}: VFIO has no IOMMU of type 1 (version 2); load the module vfio_iommu_type1`)
}

function joinGroup(container: number, group: number, facts: PciFacts, sysfs: SysfsOptions): void {
  const status = encodeGroupStatus()
  if (ioctl(group, VFIO.GROUP_GET_STATUS, status) !== 0) throw systemCallError('VFIO_GROUP_GET_STATUS')
  const { flags } = decodeGroupStatus(status)
  if ((flags & GROUP_FLAGS.VIABLE) === 0) throw explainNotViable(facts, sysfs)
  const request = Buffer.alloc(4)
  request.writeInt32LE(container)
  if (ioctl(group, VFIO.GROUP_SET_CONTAINER, request) !== 0) {
    const error = systemCallError('VFIO_GROUP_SET_CONTAINER')
    throw new SetupError(`${facts.name}: its IOMMU group can't be used`, { cause: error })
  }
}

/** The device's file. The kernel resets the function first, which takes some 100 ms. */
export async function getDevice(group: number, { name }: PciFacts, path: string): Promise<number> {
  let fd = await ioctlAsync(group, VFIO.GROUP_GET_DEVICE_FD, name)
  // The first errno was another thread's: repeated for the error's sake, and it may succeed.
  if (fd < 0) fd = ioctl(group, VFIO.GROUP_GET_DEVICE_FD, name)
  if (fd >= 0) return fd
  const error = systemCallError('VFIO_GROUP_GET_DEVICE_FD', path)
  if (error.code === 'EBUSY') throw new InUseError(`${name} is in use`, { cause: error })
  throw new SetupError(`${name}: VFIO does not hand out the device`, { cause: error })
}

function queryRanges(container: number): readonly IovaRange[] {
  let info = encodeIommuInfo()
  if (ioctl(container, VFIO.IOMMU_GET_INFO, info) !== 0) throw systemCallError('VFIO_IOMMU_GET_INFO')
  if (wantedBytes(info) > INFO_BYTES) {
    info = encodeIommuInfo(wantedBytes(info))
    if (ioctl(container, VFIO.IOMMU_GET_INFO, info) !== 0) throw systemCallError('VFIO_IOMMU_GET_INFO')
  }
  const { flags, capOffset } = decodeIommuInfo(info)
  if ((flags & IOMMU_INFO_FLAGS.CAPS) === 0) return ASSUMED_RANGES
  return readIovaRanges(info, capOffset) ?? ASSUMED_RANGES
}

function mapMemory(container: number, iovas: IovaSpace, memory: SharedMemory, name: string): number {
  const iova = takeIova(iovas, memory.bytes, name)
  if (ioctl(container, VFIO.IOMMU_MAP_DMA, encodeDmaMap(memory.address, iova, memory.bytes)) === 0)
    return iova
  const error = systemCallError('VFIO_IOMMU_MAP_DMA')
  iovas.give(iova)
  throw explainMap(error, name, memory.bytes)
}

/** An IOVA for memory of this length, on a huge page's boundary where it is as large. */
export function takeIova(iovas: IovaSpace, bytes: number, name: string): number {
  const iova = iovas.take(bytes, bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : undefined)
  if (iova >= 0) return iova
  throw new OutOfMemoryError(`${name}: no IOVA range of ${bytes} bytes is free (${iovas.available} in all)`)
}
