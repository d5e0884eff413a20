// Every NVMe function of the machine: PCI facts, what the kernel's driver knows of it, and who uses it.
// Read from sysfs alone, so that looking never touches a device; what VFIO has can't be read so.

import fs from 'node:fs'
import path from 'node:path'
import {
  type GroupMember,
  listNvmeFunctions,
  membersInTheWay,
  type PciFacts,
  readGroupMembers,
  readPciFacts,
} from '../../lib/pci/sysfs.ts'
import { type Machine, readFolder, readText } from '../system/machine.ts'
import {
  partitionsOf,
  readUseTables,
  type Use,
  type UseTables,
  usesOfDisk,
  usesOfNode,
} from '../system/uses.ts'

/** A namespace that the kernel shows as a block device. */
export interface KernelNamespace {
  nsid: number
  /** `nvme0n1`, in /dev. */
  block: string
  /** `ng0n1`, the node for pass-through commands; null on old kernels. */
  generic: string | null
  partitions: string[]
  /** Bytes. */
  size: number
  /** Bytes in an LBA. */
  lbaSize: number
  /** Bytes in use as the namespace counts them (NUSE); null on kernels that do not show it. */
  used: number | null
}

export interface NvmeDevice extends PciFacts {
  /** All functions of the IOMMU group, this one included. */
  members: GroupMember[]
  /** Those of them that keep VFIO from having the group, this one included while it has a kernel driver. */
  inTheWay: GroupMember[]
  /** `nvme0`; null where the kernel's driver does not have it. */
  controller: string | null
  /** From the kernel's driver; null where it does not have the device. */
  model: string | null
  serial: string | null
  firmware: string | null
  namespaces: KernelNamespace[]
  /** Empty where the system does not use the device. */
  uses: Use[]
}

/** All NVMe functions, by PCI name. */
export function listDevices(machine: Machine): NvmeDevice[] {
  const tables = readUseTables(machine)
  return listNvmeFunctions({ root: machine.sys }).map((name) => readDevice(machine, tables, name))
}

function readDevice(machine: Machine, tables: UseTables, name: string): NvmeDevice {
  const facts = readPciFacts(name, { root: machine.sys })
  const folder = path.join(machine.sys, 'bus/pci/devices', name)
  const members = facts.iommuGroup === null ? [] : readGroupMembers(facts.iommuGroup, { root: machine.sys })
  const controller = readFolder(folder, 'nvme').find((entry) => /^nvme\d+$/.test(entry)) ?? null
  const attribute = (file: string) =>
    controller === null ? null : readText(folder, 'nvme', controller, file)
  const namespaces = controller === null ? [] : readNamespaces(machine, folder, controller)
  return {
    ...facts,
    members,
    inTheWay: membersInTheWay(members),
    controller,
    model: attribute('model'),
    serial: attribute('serial'),
    firmware: attribute('firmware_rev'),
    namespaces,
    uses: [
      ...namespaces.flatMap(({ block, partitions }) => usesOfDisk(tables, block, partitions)),
      ...nodesOf(folder, facts, controller, namespaces).flatMap((node) => usesOfNode(tables, node)),
    ],
  }
}

/** A controller of the kernel's driver that is no PCI function of this machine: over TCP, RDMA, Fibre Channel. */
export interface RemoteController {
  /** `nvme1` */
  readonly controller: string
  /** `tcp`, `rdma`, `fc`, `loop`. */
  readonly transport: string
  /** `traddr=…,trsvcid=…` */
  readonly address: string
  readonly model: string | null
  readonly serial: string | null
  readonly firmware: string | null
  readonly namespaces: readonly KernelNamespace[]
}

/** Controllers that the kernel has over a network, by name. */
export function listRemoteControllers(machine: Machine): RemoteController[] {
  const folder = path.join(machine.sys, 'class/nvme')
  const names = readFolder(folder).filter((name) => /^nvme\d+$/.test(name))
  return names.flatMap((controller) => {
    const attribute = (file: string) => readText(folder, controller, file)
    const transport = attribute('transport')
    if (transport === null || transport === 'pcie') return []
    const namespaces = namespacesIn(machine, path.join(folder, controller))
    const [model, serial, firmware] = ['model', 'serial', 'firmware_rev'].map(attribute)
    const facts = { model: model ?? null, serial: serial ?? null, firmware: firmware ?? null }
    return [{ controller, transport, address: attribute('address') ?? '', namespaces, ...facts }]
  })
}

/** Its device nodes that are no block devices, as paths below /dev. */
function nodesOf(
  folder: string,
  facts: PciFacts,
  controller: string | null,
  namespaces: readonly KernelNamespace[],
): string[] {
  const nodes = [
    controller,
    ...namespaces.map(({ generic }) => generic),
    // Other user-space drivers (SPDK and UNVMe of old among them) take devices through UIO.
    ...readFolder(folder, 'uio'),
    facts.iommuGroup === null ? null : `vfio/${facts.iommuGroup}`,
    facts.noIommuGroup === null ? null : `vfio/noiommu-${facts.noIommuGroup}`,
    facts.vfioDevice === null ? null : `vfio/devices/${facts.vfioDevice}`,
  ]
  return nodes.filter((node) => node !== null)
}

// With several paths to a namespace the controller's folder has `nvme0c1n1`, hidden, in place of `nvme0n1`.
const BLOCK_DEVICE = /^nvme(\d+)(?:c\d+)?n(\d+)$/

function readNamespaces(machine: Machine, folder: string, controller: string): KernelNamespace[] {
  return namespacesIn(machine, path.join(folder, 'nvme', controller))
}

function namespacesIn(machine: Machine, folder: string): KernelNamespace[] {
  const blocks = readFolder(folder)
    .map((entry) => BLOCK_DEVICE.exec(entry))
    .filter((match) => match !== null)
    .map((match) => ({ block: `nvme${match[1]}n${match[2]}`, generic: `ng${match[1]}n${match[2]}` }))
  return blocks.map(({ block, generic }) => readNamespace(machine, block, generic))
}

function readNamespace(machine: Machine, block: string, generic: string): KernelNamespace {
  const { sys, dev } = machine
  const folder = path.join(sys, 'class/block', block)
  const number = (file: string) => Number(readText(folder, file) ?? 0)
  const lbaSize = number('queue/logical_block_size')
  const used = readText(folder, 'nuse')
  return {
    nsid: number('nsid'),
    block,
    generic: fs.existsSync(path.join(dev, generic)) ? generic : null,
    partitions: partitionsOf(machine, block),
    // The kernel counts in 512 bytes, whatever the LBA size.
    size: number('size') * 512,
    lbaSize,
    used: used === null ? null : Number(used) * lbaSize,
  }
}
