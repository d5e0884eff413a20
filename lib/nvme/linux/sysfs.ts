// What sysfs says of the devices that the kernel's nvme driver has: found by the path of a file below /dev, by name, or
// all of them.

import fs from 'node:fs'
import path from 'node:path'

/** A controller as the kernel names it. */
export interface KernelController {
  /** `nvme0` */
  readonly name: string
  /** What moves its data: `pcie`, `tcp`, `rdma`, `fc`, `loop`. */
  readonly transport: string
  /** PCI name, or `traddr=…,trsvcid=…`. */
  readonly address: string
  /** `live`, `resetting`, `connecting`, `deleting`, `dead`; empty where it is gone. */
  readonly state: string
  readonly namespaces: readonly KernelNamespace[]
}

/** A namespace as the kernel names it. */
export interface KernelNamespace {
  readonly nsid: number
  /** The block device's name, `nvme0n1`. */
  readonly block: string
  /** The character device's name, `ng0n1`; null before Linux 5.13. */
  readonly generic: string | null
  /** Bytes of one command, and pieces of memory that it may have. */
  readonly maxBytes: number
  readonly maxSegments: number
}

const CLASS = 'class/nvme'
const NAMESPACE = /^nvme(\d+)(?:c\d+)?n(\d+)$/

/** Controllers of the kernel's driver, by number. */
export function listKernelControllers(sys = '/sys'): KernelController[] {
  return entries(path.join(sys, CLASS))
    .filter((name) => /^nvme\d+$/.test(name))
    .sort(byNumber)
    .flatMap((name) => findKernelController(name, sys) ?? [])
}

/** Undefined where the kernel has no controller of this name. */
export function findKernelController(name: string, sys = '/sys'): KernelController | undefined {
  const folder = path.join(sys, CLASS, name)
  if (!fs.existsSync(folder)) return undefined
  const text = (file: string) => readText(path.join(folder, file))
  return {
    name,
    transport: text('transport'),
    address: text('address'),
    state: text('state'),
    namespaces: namespacesOf(folder, sys),
  }
}

// With the kernel's own multipath a namespace's devices (`nvme0n1`) are the subsystem's, and the controller has a hidden one
// for its path to it (`nvme0c1n1`).
function namespacesOf(folder: string, sys: string): KernelNamespace[] {
  const own = entries(folder).filter((name) => NAMESPACE.test(name))
  const blocks = new Set(own.map((name) => name.replace(/c\d+/, '')))
  return [...blocks].sort(byNumber).flatMap((block) => namespaceOf(block, sys) ?? [])
}

function namespaceOf(block: string, sys: string): KernelNamespace | undefined {
  const folder = path.join(sys, 'class/block', block)
  const number = (file: string) => Number(readText(path.join(folder, file)) || Number.NaN)
  const nsid = number('nsid')
  if (!Number.isInteger(nsid)) return undefined
  const generic = block.replace(NAMESPACE, 'ng$1n$2')
  return {
    nsid,
    block,
    generic: fs.existsSync(path.join(sys, 'class/nvme-generic', generic)) ? generic : null,
    maxBytes: number('queue/max_hw_sectors_kb') * 1024,
    maxSegments: number('queue/max_segments'),
  }
}

/** What a file below /dev is of the kernel's nvme driver: a controller, or a namespace of one; null for anything else. */
export function lookUpNode(
  node: Pick<fs.Stats, 'rdev' | 'isBlockDevice' | 'isCharacterDevice'>,
  deviceNumber: string,
  sys = '/sys',
): { controller: string; block?: string; partition?: string } | null {
  const kind = node.isBlockDevice() ? 'block' : node.isCharacterDevice() ? 'char' : null
  if (kind === null) return null
  const folder = realPath(path.join(sys, 'dev', kind, deviceNumber))
  if (folder === null) return null
  const name = path.basename(folder)
  if (/^nvme\d+$/.test(name)) return { controller: name }
  const disk = path.basename(path.dirname(folder))
  if (kind === 'block' && NAMESPACE.test(disk)) return { ...ownerOf(disk, sys), partition: name }
  const block = kind === 'block' ? name : name.replace(/^ng(\d+)n(\d+)$/, 'nvme$1n$2')
  return NAMESPACE.test(block) ? { ...ownerOf(block, sys), block } : null
}

// The controller that has a namespace: the first one that works, where several lead to it.
function ownerOf(block: string, sys: string): { controller: string } {
  const parent = realPath(path.join(sys, 'class/block', block, 'device')) ?? ''
  const name = path.basename(parent)
  if (/^nvme\d+$/.test(name)) return { controller: name }
  const paths = entries(parent).filter((entry) => /^nvme\d+$/.test(entry))
  const live = paths.find((entry) => readText(path.join(parent, entry, 'state')) === 'live')
  return { controller: live ?? paths[0] ?? name }
}

/** A file's text without blanks around it; empty where it can't be read. */
export function readText(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8').trim()
  } catch {
    return ''
  }
}

function entries(folder: string): string[] {
  try {
    return fs.readdirSync(folder)
  } catch {
    return []
  }
}

function realPath(file: string): string | null {
  try {
    return fs.realpathSync(file)
  } catch {
    return null
  }
}

const byNumber = (a: string, b: string) => a.localeCompare(b, 'en', { numeric: true })
