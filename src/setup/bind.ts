// Which devices to bind to vfio-pci, why others are left alone, and the steps that bind one.
// Trade-off: driver_override only, one device at a time. new_id would be a line shorter and takes every device
// of the same id, those that hold somebody's file system among them.

import fs from 'node:fs'
import path from 'node:path'
import { AddressError, InUseError, SetupError } from '../../lib/errors.ts'
// Not by index.ts: setup works, and is quick, without koffi.
import { canonicalPciName } from '../../lib/pci/bdf.ts'
import { CLASS_NVME, type GroupMember, isVfioDriver, readPciFacts } from '../../lib/pci/sysfs.ts'
import type { Account, Machine } from '../system/machine.ts'
import { claimUse } from '../system/uses.ts'
import { checkIommu, missingModules, noIommuAllowed } from './checks.ts'
import { listDevices, type NvmeDevice } from './inventory.ts'
import type { Step } from './steps.ts'

export interface Refusal {
  device: NvmeDevice
  /** What is in the way, each a sentence part. */
  reasons: string[]
}

export interface Plan {
  /** Devices to change. */
  chosen: NvmeDevice[]
  /** Devices that are already as asked for. */
  done: NvmeDevice[]
  refused: Refusal[]
}

export interface PlanOptions {
  /** Takes devices that the system uses, and those whose IOMMU group VFIO won't have. */
  force?: boolean
}

/**
 * The devices to bind: those named, or all that the system does not use.
 * Throws AddressError for a name that this machine does not have, SetupError for a function that is no NVMe
 * controller and where there is no IOMMU.
 */
export function planBind(
  machine: Machine,
  devices: readonly NvmeDevice[],
  names: readonly string[],
  { force = false }: PlanOptions = {},
): Plan {
  const iommu = checkIommu(machine)
  if (iommu.state === 'bad') throw new SetupError(`${iommu.finding}; ${iommu.mend}`)
  const asked = names.length > 0 ? select(machine, devices, names) : devices
  const done = asked.filter(({ driver }) => isVfioDriver(driver))
  const reasons = new Map<NvmeDevice, string[]>()
  for (const device of asked) {
    if (!done.includes(device)) reasons.set(device, ownReasons(machine, device, force))
  }
  const free = () => [...reasons].filter(([, list]) => list.length === 0).map(([device]) => device)
  // A group needs all its members: who is refused stands in the way of the rest, until nothing changes.
  for (let before = -1; !force && before !== free().length; ) {
    before = free().length
    const chosen = free()
    for (const device of chosen) reasons.get(device)!.push(...groupReasons(device, chosen))
  }
  const refused = [...reasons]
    .filter(([, list]) => list.length > 0)
    .map(([device, list]) => ({ device, reasons: list }))
  return { chosen: free(), done, refused }
}

/** The devices of these names, in their order; each once. */
export function select(
  machine: Machine,
  devices: readonly NvmeDevice[],
  names: readonly string[],
): NvmeDevice[] {
  return [...new Set(names.map(canonicalPciName))].map((name) => {
    const device = devices.find((one) => one.name === name)
    if (device) return device
    const { class: pciClass } = readPciFacts(name, { root: machine.sys })
    throw new AddressError(`${name} is no NVMe device: its PCI class is ${hex(pciClass, 6)}, not 0108xx`)
  })
}

function ownReasons(machine: Machine, device: NvmeDevice, force: boolean): string[] {
  const reasons = force ? [] : device.uses.map(({ text }) => text)
  // With force either: vfio-pci does not take a device without a group.
  if (device.iommuGroup === null && !noIommuAllowed(machine)) reasons.push('it has no IOMMU group')
  return reasons
}

/** Members of the group that keep VFIO from having it, beside the devices that are bound with it. */
export function groupReasons(device: NvmeDevice, chosen: readonly NvmeDevice[]): string[] {
  return device.inTheWay
    .filter(({ name }) => !chosen.some((one) => one.name === name))
    .map((member) => {
      const { name, driver } = member
      return `IOMMU group ${device.iommuGroup} also has ${name} (${driver}), which VFIO needs free: ${freeText(device, member)}`
    })
}

/** How to get another member of the group out of the way, as a command. */
function freeText(device: NvmeDevice, { name, class: pciClass }: GroupMember): string {
  if (pciClass >>> 8 === CLASS_NVME) return `unvme setup ${device.name} ${name}`
  return `echo ${name} > /sys/bus/pci/devices/${name}/driver/unbind`
}

// A kernel driver flushes and removes its block devices while it is unbound, which a busy disk can draw out.
const UNBIND_TIMEOUT = 60_000
const BIND_TIMEOUT = 10_000

/** What has to be loaded before the first device is bound. */
export function loadSteps(machine: Machine): Step[] {
  return missingModules(machine).map((module) => ({ kind: 'load', module }))
}

/** The steps that bind one device to vfio-pci. In use by the time that it is unbound, it is refused, unless `force`. */
export function bindSteps(machine: Machine, device: NvmeDevice, { force = false }: PlanOptions = {}): Step[] {
  const { name } = device
  const facts = () => readPciFacts(name, { root: machine.sys })
  const groupNode = () => {
    const { iommuGroup, noIommuGroup } = facts()
    return path.join(machine.dev, 'vfio', noIommuGroup === null ? `${iommuGroup}` : `noiommu-${noIommuGroup}`)
  }
  return [
    { kind: 'write', file: deviceFile(machine, name, 'driver_override'), value: 'vfio-pci' },
    ...unbindSteps(machine, device, { force }),
    { kind: 'write', file: path.join(machine.sys, 'bus/pci/drivers_probe'), value: name },
    {
      kind: 'wait',
      what: `${name} is bound to vfio-pci`,
      timeout: BIND_TIMEOUT,
      ready: () => facts().driver === 'vfio-pci',
      problem: () =>
        `${name}: vfio-pci did not take it (driver: ${facts().driver ?? 'none'}); dmesg says why`,
    },
    {
      kind: 'wait',
      what: `its group is in ${path.join(machine.dev, 'vfio')}`,
      timeout: BIND_TIMEOUT,
      ready: () => fs.existsSync(groupNode()),
      problem: () => `${name}: it is bound, but there is no ${groupNode()}`,
    },
  ]
}

/** The steps that undo a binding that failed half-way. */
export function undoSteps(machine: Machine, { name }: NvmeDevice): Step[] {
  return [
    { kind: 'write', file: deviceFile(machine, name, 'driver_override'), value: '\n' },
    { kind: 'write', file: path.join(machine.sys, 'bus/pci/drivers_probe'), value: name },
  ]
}

/**
 * The steps that take the present driver off a device; none where it has none. The plan may be old by then: so it is
 * looked once more whether the device is in use, and it is held from the look to the unbinding. With `force` it is not.
 */
export function unbindSteps(
  machine: Machine,
  { name, driver }: NvmeDevice,
  { force = false }: PlanOptions = {},
): Step[] {
  if (driver === null) return []
  const hold = () => holdUnused(machine, name)
  const current = () => readPciFacts(name, { root: machine.sys }).driver
  return [
    { kind: 'write', file: deviceFile(machine, name, 'driver/unbind'), value: name, ...(!force && { hold }) },
    {
      kind: 'wait',
      what: `${driver} has let go of ${name}`,
      timeout: UNBIND_TIMEOUT,
      ready: () => current() !== driver,
      problem: () => `${name}: the driver ${driver} does not let go of it`,
    },
  ]
}

/**
 * Holds all block devices of a device for this process alone, so that none is mounted any more, and returns what lets go
 * of them. Throws InUseError where the system uses one by now.
 */
function holdUnused(machine: Machine, name: string): () => void {
  const device = listDevices(machine).find((one) => one.name === name)
  const uses = device?.uses ?? []
  const held: (() => void)[] = []
  const release = () => {
    for (const letGo of held) letGo()
  }
  for (const { block } of uses.length > 0 ? [] : (device?.namespaces ?? [])) {
    const letGo = machine.claim(path.join(machine.dev, block))
    if (letGo === null) uses.push(claimUse(block))
    else held.push(letGo)
  }
  if (uses.length === 0) return release
  release()
  throw new InUseError(`${name}: ${uses.map(({ text }) => text).join('; ')}`)
}

/** The steps that give a bound device's nodes to a user; read again, since binding makes the nodes. */
export function handOverSteps(machine: Machine, name: string, account: Account): Step[] {
  const { iommuGroup, noIommuGroup, vfioDevice } = readPciFacts(name, { root: machine.sys })
  const nodes = [
    noIommuGroup === null ? `vfio/${iommuGroup}` : `vfio/noiommu-${noIommuGroup}`,
    // Kernels from 6.1 on have its name in sysfs, and a node for it only where they were built so.
    ...[`vfio/devices/${vfioDevice}`].filter((node) => fs.existsSync(path.join(machine.dev, node))),
  ]
  return nodes.map((node) => ({ kind: 'chown', file: path.join(machine.dev, node), account }))
}

export function deviceFile({ sys }: Machine, name: string, file: string): string {
  return path.join(sys, 'bus/pci/devices', name, file)
}

export function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0')
}
