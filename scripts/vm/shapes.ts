// The NVMe controllers that the virtual machine can have: one table, which tests and documentation go by.
// Every shape has its PCI address for good, so that a test knows it without asking; the numbers
// of Linux (nvme0, vfio group 7) change with the set of shapes and are looked up in sysfs.

import path from 'node:path'

interface NamespaceShape {
  nsid: number
  /** Bytes of an LBA's data. */
  lbaBytes: 512 | 4096
  /** Bytes of the namespace as stored, with metadata where there is any. */
  bytes: number
  /** Bytes of metadata of an LBA, in a separate buffer. */
  metadataBytes?: number
}

interface Shape {
  /** PCI address in the machine, `bus:device.function` of domain 0. */
  address: string
  /** What a test finds here and nowhere else. */
  about: string
  namespaces: readonly NamespaceShape[]
  /** Further properties of QEMU's nvme device. */
  properties?: string
  /** Reads give zeros, writes go nowhere: as fast as the machine gets. */
  null?: true
  /** Behind a root port of its own, so that it can be unplugged. */
  hotplug?: true
  /** The PCI address of a second controller in the same slot and IOMMU group. */
  sibling?: string
}

const MiB = 1024 ** 2
const GiB = 1024 ** 3

const table = {
  lba512: {
    address: '00:04.0',
    about: 'one namespace of 512-byte LBAs',
    namespaces: [{ nsid: 1, lbaBytes: 512, bytes: 256 * MiB }],
  },
  lba4096: {
    address: '00:05.0',
    about: 'one namespace of 4096-byte LBAs',
    namespaces: [{ nsid: 1, lbaBytes: 4096, bytes: 256 * MiB }],
  },
  multi: {
    address: '00:06.0',
    about: 'namespaces 1, 3 and 7, of different sizes and LBAs',
    namespaces: [
      { nsid: 1, lbaBytes: 512, bytes: 64 * MiB },
      { nsid: 3, lbaBytes: 4096, bytes: 128 * MiB },
      { nsid: 7, lbaBytes: 512, bytes: 32 * MiB },
    ],
  },
  mdts16k: {
    address: '00:07.0',
    about: 'MDTS 2: at most 16 KiB in a command',
    namespaces: [{ nsid: 1, lbaBytes: 512, bytes: 256 * MiB }],
    properties: 'mdts=2',
  },
  onequeue: {
    address: '00:08.0',
    about: 'one I/O queue pair and two MSI-X vectors',
    namespaces: [{ nsid: 1, lbaBytes: 512, bytes: 256 * MiB }],
    properties: 'max_ioqpairs=1,msix_qsize=2',
  },
  metadata: {
    address: '00:09.0',
    about: '8 bytes of metadata with each LBA of 512 bytes, in a separate buffer',
    namespaces: [{ nsid: 1, lbaBytes: 512, bytes: 64 * MiB, metadataBytes: 8 }],
  },
  null4096: {
    address: '00:0a.0',
    about: 'null-backed, 4096-byte LBAs, for speed',
    namespaces: [{ nsid: 1, lbaBytes: 4096, bytes: 64 * GiB }],
    null: true,
  },
  null512: {
    address: '00:0b.0',
    about: 'null-backed, 512-byte LBAs, for speed',
    namespaces: [{ nsid: 1, lbaBytes: 512, bytes: 64 * GiB }],
    null: true,
  },
  hot: {
    address: '01:00.0',
    about: 'behind a root port (00:0c.0): can be unplugged and plugged in again',
    namespaces: [{ nsid: 1, lbaBytes: 512, bytes: 256 * MiB }],
    hotplug: true,
  },
  group: {
    address: '00:0d.0',
    about: 'shares its IOMMU group with a second controller (00:0d.1)',
    namespaces: [{ nsid: 1, lbaBytes: 512, bytes: 64 * MiB }],
    sibling: '00:0d.1',
  },
} as const satisfies Record<string, Shape>

export type ShapeName = keyof typeof table
export const shapes: Readonly<Record<ShapeName, Shape>> = table
export const shapeNames = Object.keys(table) as ShapeName[]

export function isShapeName(name: string): name is ShapeName {
  return Object.hasOwn(table, name)
}

/** A sparse file that the machine needs before it starts. */
interface DiskFile {
  path: string
  bytes: number
}

interface Device {
  /** What the unplug and plug commands of QEMU's monitor take. */
  id: string
  arguments: string[]
  disks: DiskFile[]
}

const slot = (address: string) => address.slice(address.indexOf(':') + 1)

/**
 * QEMU's arguments for one shape.
 * @param folder where its disk files are made
 * @param image a file used as the first namespace's disk, whose size is then the namespace's
 */
export function device(name: ShapeName, folder: string, image?: string): Device {
  const shape = shapes[name]
  const disks: DiskFile[] = []
  const args: string[] = []
  const nodes = shape.namespaces.map((namespace, index) => {
    const node = `${name}-ns${namespace.nsid}`
    const given = index === 0 ? image : undefined
    const file = given ?? path.join(folder, `${node}.img`)
    if (given === undefined && !shape.null) disks.push({ path: file, bytes: namespace.bytes })
    const backing =
      shape.null && given === undefined
        ? { driver: 'null-co', size: namespace.bytes, 'read-zeroes': true }
        : { driver: 'raw', file: { driver: 'file', filename: file, aio: 'threads' } }
    const cache = { direct: false, 'no-flush': true }
    args.push('-blockdev', JSON.stringify({ 'node-name': node, discard: 'unmap', cache, ...backing }))
    return node
  })

  let place = `addr=${slot(shape.address)}`
  if (shape.hotplug) {
    args.push('-device', `pcie-root-port,id=${name}-port,addr=0c.0,chassis=1,slot=1`)
    place = `bus=${name}-port`
  }
  const controller = [`nvme,id=${name},serial=${name}`, place, shape.properties]
  if (shape.sibling) controller.push('multifunction=on')

  const [first] = shape.namespaces
  if (shape.namespaces.length === 1 && first && first.metadataBytes === undefined) {
    // A controller with one plain namespace takes the disk itself, and only then can it be plugged in later.
    controller.push(`drive=${nodes[0]}`, blockSizes(first))
    args.push('-device', controller.filter(Boolean).join(','))
  } else {
    args.push('-device', controller.filter(Boolean).join(','))
    shape.namespaces.forEach((namespace, index) => {
      const metadata = namespace.metadataBytes ? `,ms=${namespace.metadataBytes}` : ''
      args.push(
        '-device',
        `nvme-ns,bus=${name},drive=${nodes[index]},nsid=${namespace.nsid},${blockSizes(namespace)}${metadata}`,
      )
    })
  }
  if (shape.sibling) {
    args.push('-device', `nvme,id=${name}-sibling,serial=${name}-sibling,addr=${slot(shape.sibling)}`)
  }
  return { id: name, arguments: args, disks }
}

function blockSizes({ lbaBytes }: NamespaceShape): string {
  return `logical_block_size=${lbaBytes},physical_block_size=${lbaBytes}`
}

/** The argument of QMP's device_add that brings a hot-pluggable shape back. */
export function plugArguments(name: ShapeName): Record<string, unknown> {
  const lbaBytes = shapes[name].namespaces[0]?.lbaBytes
  return {
    driver: 'nvme',
    id: name,
    serial: name,
    bus: `${name}-port`,
    drive: `${name}-ns1`,
    logical_block_size: lbaBytes,
    physical_block_size: lbaBytes,
  }
}

/**
 * What the device suite runs on, as addresses of the driver (`00:06.0/3`): every namespace of these shapes,
 * but for those that keep no data, where there is another.
 */
export function suiteAddresses(names: readonly ShapeName[]): string[] {
  const keeping = names.filter((name) => !shapes[name].null)
  return (keeping.length > 0 ? keeping : names).flatMap((name) =>
    shapes[name].namespaces.map(({ nsid }) => `${shapes[name].address}/${nsid}`),
  )
}
