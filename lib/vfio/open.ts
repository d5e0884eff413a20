// Opens a PCI function by whichever of VFIO's interfaces the kernel has.
// What is wrong with the set-up is looked for before and after, so that the error can say it.

import fs from 'node:fs'
import { InUseError } from '../errors.ts'
import { canonicalPciName } from '../pci/bdf.ts'
import { type PciFacts, readPciFacts, type SysfsOptions } from '../pci/sysfs.ts'
import { checkBinding } from './explain.ts'
import { VfioFunction } from './function.ts'
import { acquireGroup, claimFunction, type IommuGroup, releaseFunction, releaseGroup } from './group.ts'
import { hasIommufd, openIommufd } from './iommufd.ts'
import { openNoIommu } from './noiommu.ts'
import { openType1 } from './type1.ts'

export interface VfioOptions {
  /**
   * Drives the function by physical addresses where there is no IOMMU: nothing then keeps the device from
   * overwriting any memory. Without effect where there is an IOMMU. Default: false.
   */
  noIommu?: boolean | undefined
  /** Whether to use iommufd and the device's own file: where the kernel has them ('auto'), or not. */
  iommufd?: 'auto' | 'always' | 'never' | undefined
  /** Where sysfs is; for tests. */
  sysfs?: string | undefined
}

/**
 * Opens the PCI function of this name (`BB:DD.F`, `DDDD:BB:DD.F`): memory and bus master on, INTx off.
 *
 * Throws AddressError (no such function), SetupError (wrong driver, no IOMMU, no rights, group not viable: the
 * message says what to do), InUseError (open elsewhere, or here already) and UnsupportedError.
 */
export async function openVfio(address: string, options: VfioOptions = {}): Promise<VfioFunction> {
  const name = canonicalPciName(address)
  const sysfs: SysfsOptions = options.sysfs === undefined ? {} : { root: options.sysfs }
  if (!(await claimFunction(name))) throw new InUseError(`${name} is open in this process already`)
  let group: { key: string; group: IommuGroup } | undefined
  let fd: number | undefined
  try {
    const facts = readPciFacts(name, sysfs)
    checkBinding(facts, options.noIommu ?? false)
    group = joinGroup(facts, options, sysfs)
    fd = await group.group.openDevice(facts)
    const { key } = group
    const leave = async (closed: Promise<void>) => {
      const left = closed.finally(() => releaseGroup(key))
      await releaseFunction(name, left)
      await left
    }
    return new VfioFunction(fd, facts, group.group, leave)
  } catch (error) {
    if (fd !== undefined) fs.closeSync(fd)
    if (group !== undefined) releaseGroup(group.key)
    await releaseFunction(name)
    throw error
  }
}

function joinGroup(facts: PciFacts, options: VfioOptions, sysfs: SysfsOptions) {
  const { iommuGroup, noIommuGroup } = facts
  if (iommuGroup === null) {
    const key = `noiommu-${noIommuGroup}`
    return { key, group: acquireGroup(key, () => openNoIommu(facts, sysfs)) }
  }
  const { iommufd = 'auto' } = options
  const byIommufd = iommufd === 'always' || (iommufd === 'auto' && hasIommufd(facts))
  const key = `group-${iommuGroup}`
  return {
    key,
    group: acquireGroup(key, () => (byIommufd ? openIommufd(facts, sysfs) : openType1(facts, sysfs))),
  }
}
