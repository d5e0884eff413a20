// Regions of a served device: BAR 0 by registers, the MSI-X table as plain memory, configuration space.
// Accesses outside a region, or of parts of a register, are refused instead of guessed at.

import { PAGE_BYTES } from '../../sys/units.ts'
import { REGION, REGIONS } from '../../vfio-abi/device.ts'
import { REGION_FLAGS } from '../../vfio-abi/region.ts'
import { MAX_DATA_BYTES, MSIX_BAR } from '../constants.ts'
import type { RegionAccess, RegionReply } from '../structs.ts'
import { CONFIG_BYTES, type ConfigModel, MSIX_ENTRY_BYTES } from './config-space.ts'
import type { ServedDevice } from './device.ts'
import { Refusal } from './refusal.ts'

const DOORBELLS = 0x1000
const { READ, WRITE, MMAP, CAPS } = REGION_FLAGS

export interface Regions {
  /** @param shared true where the doorbells can be mapped */
  describe(index: number, shared: boolean): RegionReply
  read(access: RegionAccess): Buffer
  write(access: RegionAccess, data: Buffer): void
}

export function createRegions(device: ServedDevice, config: ConfigModel): Regions {
  const table = Buffer.alloc(pages(device.vectors * MSIX_ENTRY_BYTES))
  const pending = Buffer.alloc(pages(Math.ceil(device.vectors / 8)))
  const plain = new Map<number, Buffer>([
    [MSIX_BAR.TABLE, table],
    [MSIX_BAR.PBA, pending],
  ])

  const sizeOf = (index: number): number => {
    if (index === REGION.BAR0) return device.barBytes
    if (index === REGION.CONFIG) return CONFIG_BYTES
    return plain.get(index)?.length ?? 0
  }
  const check = ({ region, offset, count }: RegionAccess) => {
    const size = sizeOf(region)
    if (count === 0 || count > MAX_DATA_BYTES || offset + count > size) {
      throw new Refusal('EINVAL', `${count} bytes at ${offset} of region ${region}, which has ${size}`)
    }
    if (region === REGION.BAR0 && (offset % 4 !== 0 || count % 4 !== 0)) {
      throw new Refusal('EINVAL', `${count} bytes at ${offset} are no registers`)
    }
  }
  return {
    describe(index, shared) {
      if (index >= REGIONS) throw new Refusal('EINVAL', `no region ${index}`)
      const size = sizeOf(index)
      if (size === 0) return { index, flags: 0, size, areas: [] }
      if (index !== REGION.BAR0 || !shared) return { index, flags: READ | WRITE, size, areas: [] }
      const areas = [{ offset: DOORBELLS, size: size - DOORBELLS }]
      return { index, flags: READ | WRITE | MMAP | CAPS, size, areas }
    },
    read(access) {
      check(access)
      const { region, offset, count } = access
      if (region === REGION.CONFIG) return config.read(offset, count)
      if (region !== REGION.BAR0) return Buffer.from(plain.get(region)!.subarray(offset, offset + count))
      const data = Buffer.alloc(count)
      for (let at = 0; at < count; at += 4) data.writeUInt32LE(device.readRegister(offset + at), at)
      return data
    },
    write(access, data) {
      check(access)
      const { region, offset, count } = access
      if (data.length !== count) throw new Refusal('EINVAL', `${data.length} bytes come for ${count}`)
      if (region === REGION.CONFIG) {
        config.write(offset, data)
        device.setBusMaster(config.busMaster)
      } else if (region === REGION.BAR0) {
        for (let at = 0; at < count; at += 4) device.writeRegister(offset + at, data.readUInt32LE(at))
      } else if (region === MSIX_BAR.TABLE) {
        data.copy(table, offset)
      }
    },
  }
}

const pages = (bytes: number): number => Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES
