// What the kernel knows of a PCI function, read from sysfs: ids, driver, IOMMU group, resources, configuration space.
// Read again with each call, since drivers and groups change while a program runs.

import fs from 'node:fs'
import path from 'node:path'
import { AddressError, DecodeError } from '../errors.ts'
import type { IovaRange } from '../memory/iova.ts'
import { canonicalPciName } from './bdf.ts'

/** Where sysfs is mounted; tests put a made-up tree there. */
export interface SysfsOptions {
  root?: string
}

export interface PciResource {
  /** Bytes; 0 where the function does not have this BAR. */
  size: number
  /** The kernel's IORESOURCE flags: 100h I/O ports, 200h memory. */
  flags: number
}

export interface PciFacts {
  /** With the domain: `0000:0a:00.0`. */
  name: string
  vendor: number
  device: number
  subsystemVendor: number
  subsystemDevice: number
  /** Base class, subclass and programming interface: 010802h for NVMe. */
  class: number
  /** Name of the bound driver; null where there is none. */
  driver: string | null
  /** The only driver that may bind to it; null where any may. */
  driverOverride: string | null
  /** Number of its IOMMU group; null where no IOMMU is on, or the group is of VFIO's no-IOMMU mode. */
  iommuGroup: number | null
  /** Number of its group of VFIO's no-IOMMU mode, `/dev/vfio/noiommu-N`. */
  noIommuGroup: number | null
  /** Name of its VFIO character device, `/dev/vfio/devices/vfioN`; null on kernels without. */
  vfioDevice: string | null
  /** BARs 0 to 5 and the expansion ROM. */
  resources: PciResource[]
}

/** A member of an IOMMU group. */
export interface GroupMember {
  name: string
  class: number
  driver: string | null
}

/** PCI class of NVM Express controllers, without the programming interface. */
export const CLASS_NVME = 0x0108
/** PCI class of bridges: they do no DMA of their own. */
const BASE_CLASS_BRIDGE = 0x06

const deviceFolder = (name: string, root: string) => path.join(root, 'bus/pci/devices', name)

/** Everything sysfs says of one function. Throws AddressError where the machine has no such function. */
export function readPciFacts(pciName: string, { root = '/sys' }: SysfsOptions = {}): PciFacts {
  const name = canonicalPciName(pciName)
  const folder = deviceFolder(name, root)
  if (!fs.existsSync(folder)) throw new AddressError(`${name}: this machine has no such PCI function`)
  const number = (file: string) => readNumber(path.join(folder, file))
  const group = linkName(path.join(folder, 'iommu_group'))
  const noIommu = groupIsNoIommu(folder)
  return {
    name,
    vendor: number('vendor'),
    device: number('device'),
    subsystemVendor: number('subsystem_vendor'),
    subsystemDevice: number('subsystem_device'),
    class: number('class'),
    driver: linkName(path.join(folder, 'driver')),
    driverOverride: readOverride(folder),
    iommuGroup: group === null || noIommu ? null : Number(group),
    noIommuGroup: group !== null && noIommu ? Number(group) : null,
    vfioDevice: readVfioDevice(folder),
    resources: readResources(folder),
  }
}

/** PCI names of all functions of class 0108xxh, sorted. */
export function listNvmeFunctions({ root = '/sys' }: SysfsOptions = {}): string[] {
  const folder = path.join(root, 'bus/pci/devices')
  if (!fs.existsSync(folder)) return []
  return fs
    .readdirSync(folder)
    .filter((name) => readNumber(path.join(folder, name, 'class')) >>> 8 === CLASS_NVME)
    .sort()
}

/**
 * The memory that PCI functions and bridges of this machine answer to. DMA to the same number, even where an IOMMU
 * would translate it, may be taken for theirs: by a switch without access control, or by QEMU's NVMe controller,
 * which refuses its own BAR's address.
 */
export function readPciMemory({ root = '/sys' }: SysfsOptions = {}): IovaRange[] {
  const folder = path.join(root, 'bus/pci/devices')
  return fs.readdirSync(folder).flatMap((name) =>
    readResourceLines(path.join(folder, name)).flatMap(({ first, last, flags }) => {
      if ((flags & 0x200) === 0 || last === 0n || last > Number.MAX_SAFE_INTEGER) return []
      return [{ first: Number(first), last: Number(last) }]
    }),
  )
}

/** All functions of an IOMMU group, sorted. */
export function readGroupMembers(group: number, { root = '/sys' }: SysfsOptions = {}): GroupMember[] {
  const folder = path.join(root, 'kernel/iommu_groups', String(group), 'devices')
  if (!fs.existsSync(folder)) return []
  return fs
    .readdirSync(folder)
    .sort()
    .map((name) => ({
      name,
      class: readNumber(path.join(folder, name, 'class')),
      driver: linkName(path.join(folder, name, 'driver')),
    }))
}

/**
 * The members that keep VFIO from having the group: those bound to a driver that does DMA of its own.
 * No driver, VFIO's, pci-stub and bridges are in no one's way.
 */
export function membersInTheWay(members: readonly GroupMember[]): GroupMember[] {
  return members.filter(
    ({ driver, class: pciClass }) =>
      driver !== null &&
      !isVfioDriver(driver) &&
      driver !== 'pci-stub' &&
      pciClass >>> 16 !== BASE_CLASS_BRIDGE,
  )
}

/** True for vfio-pci and for its variants by vendor. */
export function isVfioDriver(driver: string | null): boolean {
  return driver !== null && /(^|[-_])vfio([-_]|$)/.test(driver)
}

/** Bits of the configuration space's command register (PCI 3.0, 6.2.2). */
export interface PciCommand {
  memory: boolean
  busMaster: boolean
  intxDisabled: boolean
}

/** The command register of a function that no one needs to have open. */
export function readPciCommand(pciName: string, { root = '/sys' }: SysfsOptions = {}): PciCommand {
  const config = fs.readFileSync(path.join(deviceFolder(canonicalPciName(pciName), root), 'config'))
  if (config.length < 6) throw new DecodeError(`${pciName}: configuration space of ${config.length} bytes`)
  const command = config.readUInt16LE(4)
  return {
    memory: (command & 0x2) !== 0,
    busMaster: (command & 0x4) !== 0,
    intxDisabled: (command & 0x400) !== 0,
  }
}

/**
 * An attribute's text without blanks around it, or null where it can't be read. It ends at the first NUL: sysfs says
 * that every attribute has 4096 bytes, and a copy by tar is filled up to them.
 */
export function readAttribute(file: string): string | null {
  try {
    return fs.readFileSync(file, 'utf8').split('\0', 1)[0]!.trim()
  } catch {
    return null
  }
}

// Files that an old kernel or another device does not have read as 0.
function readNumber(file: string): number {
  const value = Number(readAttribute(file) ?? 0)
  return Number.isSafeInteger(value) ? value : 0
}

function linkName(link: string): string | null {
  try {
    return path.basename(fs.readlinkSync(link))
  } catch {
    return null
  }
}

function readOverride(folder: string): string | null {
  const text = readAttribute(path.join(folder, 'driver_override'))
  return text === null || text === '' || text === '(null)' ? null : text
}

// VFIO names the groups that it makes for functions without an IOMMU.
function groupIsNoIommu(folder: string): boolean {
  return readAttribute(path.join(folder, 'iommu_group/name')) === 'vfio-noiommu'
}

function readVfioDevice(folder: string): string | null {
  try {
    return fs.readdirSync(path.join(folder, 'vfio-dev')).find((name) => /^vfio[0-9]+$/.test(name)) ?? null
  } catch {
    return null
  }
}

// BARs 0 to 5 and the expansion ROM come first, then what a bridge forwards.
function readResources(folder: string): PciResource[] {
  return readResourceLines(folder)
    .slice(0, 7)
    .map(({ first, last, flags }) => ({ size: last === 0n ? 0 : Number(last - first + 1n), flags }))
}

// A line for each resource: first and last address, and flags. Kernel addresses need BigInt until subtracted.
function readResourceLines(folder: string): { first: bigint; last: bigint; flags: number }[] {
  const lines = (readAttribute(path.join(folder, 'resource')) ?? '').split('\n')
  return lines.map((line) => {
    const [start, end, flags] = line.split(' ')
    if (!start || !end || !flags) return { first: 0n, last: 0n, flags: 0 }
    return { first: BigInt(start), last: BigInt(end), flags: Number(BigInt(flags) & 0xffff_ffffn) }
  })
}
