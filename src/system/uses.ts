// Who uses a device: mounts, swap, RAID, LVM and device-mapper, processes that have it open, and parts of the
// kernel that do. It is looked for in several ways (mount table, holders, open files, exclusive open),
// since a device in use that is missed is data lost, and a false alarm only needs --force.

import fs from 'node:fs'
import path from 'node:path'
import { type Machine, readFolder, readText } from './machine.ts'

export interface Use {
  /** `reader`: a process that has it open and can't write it, as udev has for a moment after each change. */
  kind: 'mount' | 'swap' | 'holder' | 'export' | 'process' | 'reader' | 'claim'
  /** A sentence part: `nvme0n1p1 is mounted on /boot`. */
  text: string
  /** The process, where it is one. */
  pid?: number
}

interface Process {
  pid: number
  command: string
  /** It has the device open, all times for reading alone. */
  reads: boolean
}

/** What is asked about every device, read once for all of them. */
export interface UseTables {
  machine: Machine
  /** Mount points by device number (`259:1`) and by name of the device. */
  mounts: Map<string, string[]>
  /** Names of the devices that are swap. */
  swaps: Set<string>
  /** What parts of the kernel do with a device that they open as a process would, by name of the device. */
  exports: Map<string, string>
  /** Processes by the path below /dev that they have open. */
  processes: Map<string, Process[]>
}

export function readUseTables(machine: Machine): UseTables {
  return {
    machine,
    mounts: readMounts(machine),
    swaps: readSwaps(machine),
    exports: readExports(machine),
    processes: readOpenDevices(machine),
  }
}

/** Uses of a disk, of its partitions, and of what is built on them. */
export function usesOfDisk(tables: UseTables, disk: string, partitions: readonly string[]): Use[] {
  const uses = usesOfAll(tables, [disk, ...partitions])
  if (uses.length > 0) return uses
  const release = tables.machine.claim(path.join(tables.machine.dev, disk))
  if (release === null) return [claimUse(disk)]
  release()
  return []
}

/**
 * Uses of a block device by its number (`259:1`): of a disk and its partitions, or of a partition and its disk, but not
 * of the disk's other partitions. Who holds it for itself alone is found by opening it: see `claimUse`.
 */
export function usesOfDevice(tables: UseTables, number: string): Use[] {
  const { sys } = tables.machine
  const blocks = readFolder(sys, 'class/block')
  const name = blocks.find((block) => readText(sys, 'class/block', block, 'dev') === number)
  if (name === undefined) return []
  const disk = blocks.find((block) => isPartition(path.join(sys, 'class/block', block, name)))
  return usesOfAll(tables, [name, ...(disk === undefined ? partitionsOf(tables.machine, name) : [disk])])
}

/** Names of the partitions of a disk. */
export function partitionsOf({ sys }: Machine, disk: string): string[] {
  const folder = path.join(sys, 'class/block', disk)
  return readFolder(folder).filter((entry) => isPartition(path.join(folder, entry)))
}

function isPartition(folder: string): boolean {
  return fs.existsSync(path.join(folder, 'partition'))
}

/** The use of a device that is held so that O_EXCL is refused, where none of the tables says by what. */
export function claimUse(device: string): Use {
  return { kind: 'claim', text: `${device} is held by the kernel or by a process for itself alone` }
}

/** Uses of a regular file as a block device: by a loop device. */
export function usesOfFile({ sys }: Machine, { dev, ino }: Pick<fs.BigIntStats, 'dev' | 'ino'>): Use[] {
  const loops = readFolder(sys, 'class/block').filter((block) => block.startsWith('loop'))
  return loops.flatMap((loop): Use[] => {
    const file = readText(sys, 'class/block', loop, 'loop/backing_file')
    const stats = file === null ? undefined : fs.statSync(file, { bigint: true, throwIfNoEntry: false })
    if (stats?.dev !== dev || stats.ino !== ino) return []
    return [{ kind: 'export', text: `${file} is behind ${loop}` }]
  })
}

function usesOfAll(tables: UseTables, names: readonly string[]): Use[] {
  const seen = new Set<string>()
  return names.flatMap((name) => usesOfBlockDevice(tables, name, seen))
}

/** Processes that have a device node open, by its path below /dev. */
export function usesOfNode({ processes }: UseTables, node: string): Use[] {
  return (processes.get(node) ?? []).map(({ pid, command, reads }) => ({
    kind: reads ? 'reader' : 'process',
    text: `${node} is open in process ${pid} (${command})`,
    pid,
  }))
}

function usesOfBlockDevice(tables: UseTables, name: string, seen: Set<string>): Use[] {
  if (seen.has(name)) return []
  seen.add(name)
  const { machine, mounts, swaps, exports } = tables
  const folder = path.join(machine.sys, 'class/block', name)
  const uses: Use[] = []
  const points = new Set([...(mounts.get(readText(folder, 'dev') ?? '') ?? []), ...(mounts.get(name) ?? [])])
  if (points.size > 0) uses.push({ kind: 'mount', text: `${name} is mounted on ${[...points].join(', ')}` })
  if (swaps.has(name)) uses.push({ kind: 'swap', text: `${name} is swap` })
  for (const holder of readFolder(folder, 'holders')) {
    uses.push({ kind: 'holder', text: `${name} is part of ${describeHolder(machine, holder)}` })
    uses.push(...usesOfBlockDevice(tables, holder, seen))
  }
  const exported = exports.get(name)
  if (exported !== undefined) uses.push({ kind: 'export', text: `${name} is ${exported}` })
  return [...uses, ...usesOfNode(tables, name)]
}

// The prefix of a device-mapper UUID says which tool made it.
function describeHolder({ sys }: Machine, holder: string): string {
  const folder = path.join(sys, 'class/block', holder)
  const name = readText(folder, 'dm/name')
  if (name !== null) {
    const uuid = readText(folder, 'dm/uuid') ?? ''
    const kind = uuid.startsWith('LVM-')
      ? 'LVM volume'
      : uuid.startsWith('CRYPT-')
        ? 'encrypted device'
        : 'device-mapper device'
    return `${kind} ${name} (${holder})`
  }
  const level = readText(folder, 'md/level')
  return level === null ? holder : `RAID ${holder}${level && ` (${level})`}`
}

function readMounts(machine: Machine): Map<string, string[]> {
  const mounts = new Map<string, string[]>()
  const add = (key: string, point: string) => {
    const points = mounts.get(key) ?? []
    if (!points.includes(point)) mounts.set(key, [...points, point])
  }
  // Process 1's as well: this one may run in a mount namespace of its own.
  for (const process of ['self', '1']) {
    for (const line of (readText(machine.proc, process, 'mountinfo') ?? '').split('\n')) {
      const words = line.split(' ')
      const separator = words.indexOf('-')
      if (separator < 6) continue
      const point = unescapeOctal(words[4]!)
      add(words[2]!, point)
      // btrfs shows a device number of its own; its source is the device.
      const name = deviceName(machine, unescapeOctal(words[separator + 2] ?? ''))
      if (name !== null) add(name, point)
    }
  }
  return mounts
}

function readSwaps(machine: Machine): Set<string> {
  const lines = (readText(machine.proc, 'swaps') ?? '').split('\n').slice(1)
  const names = lines.map((line) => deviceName(machine, unescapeOctal(line.split(/\s/)[0]!)))
  return new Set(names.filter((name) => name !== null))
}

// Loop devices and the NVMe target hold a device without a claim, and no process has it open.
function readExports(machine: Machine): Map<string, string> {
  const exports = new Map<string, string>()
  const add = (file: string | null, what: string) => {
    const name = file === null ? null : deviceName(machine, file)
    if (name !== null) exports.set(name, what)
  }
  for (const loop of readFolder(machine.sys, 'class/block')) {
    if (!loop.startsWith('loop')) continue
    add(readText(machine.sys, 'class/block', loop, 'loop/backing_file'), `behind ${loop}`)
  }
  const subsystems = path.join(machine.sys, 'kernel/config/nvmet/subsystems')
  for (const subsystem of readFolder(subsystems)) {
    for (const nsid of readFolder(subsystems, subsystem, 'namespaces')) {
      const folder = path.join(subsystems, subsystem, 'namespaces', nsid)
      if (readText(folder, 'enable') !== '1') continue
      add(readText(folder, 'device_path'), `exported by the NVMe target ${subsystem}`)
    }
  }
  return exports
}

function readOpenDevices({ proc }: Machine): Map<string, Process[]> {
  const processes = new Map<string, Process[]>()
  for (const entry of readFolder(proc)) {
    const pid = Number(entry)
    if (!Number.isInteger(pid) || pid === process.pid) continue
    const nodes = new Map<string, boolean>()
    for (const fd of readFolder(proc, entry, 'fd')) {
      const target = linkText(path.join(proc, entry, 'fd', fd))
      if (!target?.startsWith('/dev/')) continue
      const node = target.slice('/dev/'.length)
      nodes.set(node, (nodes.get(node) ?? true) && isReadOnly(readText(proc, entry, 'fdinfo', fd)))
    }
    for (const [node, reads] of nodes) {
      const command = readText(proc, entry, 'comm') ?? '?'
      processes.set(node, [...(processes.get(node) ?? []), { pid, command, reads }])
    }
  }
  return processes
}

// The flags of open(2) in octal: the last two bits are 0 for reading alone.
function isReadOnly(fdinfo: string | null): boolean {
  const flags = /^flags:\s+([0-7]+)/m.exec(fdinfo ?? '')?.[1]
  return flags !== undefined && (Number.parseInt(flags, 8) & 3) === 0
}

/** The kernel's name of a device node: `dm-0` for `/dev/mapper/vg-root`; null for another path. */
function deviceName({ dev }: Machine, file: string): string | null {
  if (!file.startsWith('/dev/')) return null
  const node = path.join(dev, file.slice('/dev/'.length))
  try {
    return path.basename(fs.realpathSync(node))
  } catch {
    return path.basename(node)
  }
}

function linkText(link: string): string | null {
  try {
    return fs.readlinkSync(link)
  } catch {
    return null
  }
}

// /proc writes blanks, tabs and backslashes in paths as three octal digits.
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}
