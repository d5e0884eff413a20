// Turns a failed system call of VFIO into an error that says what is wrong and how to mend it.
// Trade-off: looks at /proc and sysfs to name who is in the way; that takes time, but only where something failed.

import fs from 'node:fs'
import { basename } from 'node:path'
import {
  InUseError,
  OutOfMemoryError,
  SetupError,
  type SystemCallError,
  UnsupportedError,
} from '../errors.ts'
import {
  isVfioDriver,
  membersInTheWay,
  type PciFacts,
  readGroupMembers,
  type SysfsOptions,
} from '../pci/sysfs.ts'
import { roomText } from '../sys/units.ts'

const errorCode = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code

/** Opens a file of VFIO for reading and writing, or says what is wrong. */
export function openFile(path: string, facts: PciFacts): number {
  try {
    return fs.openSync(path, 'r+')
  } catch (error) {
    throw explainOpen(error, path, facts)
  }
}

/** Opening a file of VFIO failed: another user, no rights, no module. */
export function explainOpen(error: unknown, path: string, facts: PciFacts): Error {
  const { name } = facts
  const cause = { cause: error }
  switch (errorCode(error)) {
    case 'EBUSY':
      return explainBusy(error, path, facts)
    case 'EACCES':
    case 'EPERM':
      return new SetupError(
        `${name}: no permission to open ${path}; as root, 'unvme setup --user ${userName()} ${name}' grants it`,
        cause,
      )
    case 'ENOENT':
    case 'ENODEV':
      return new SetupError(
        `${name}: ${path} is missing; 'modprobe vfio-pci' and 'unvme setup ${name}' make it`,
        cause,
      )
    default:
      return new SetupError(`${name}: can't open ${path} (${(error as Error).message})`, cause)
  }
}

/** The device or its group is held by another process. */
export function explainBusy(error: unknown, path: string, facts: PciFacts): InUseError {
  const { name, iommuGroup, vfioDevice } = facts
  // Held by either of the kernel's interfaces, it can't be had by the other.
  const holder = findHolder([path, `/dev/vfio/${iommuGroup}`, `/dev/vfio/devices/${vfioDevice}`])
  return new InUseError(`${name} is in use by ${holder ?? 'another process'}`, { cause: error })
}

const TURN_IOMMU_ON = 'turn the IOMMU on in the firmware, and boot with intel_iommu=on or amd_iommu=on'

/** The function is not bound to VFIO's driver, or there is no IOMMU to protect memory from it. */
export function checkBinding(facts: PciFacts, noIommu: boolean): void {
  const { name, driver, iommuGroup, noIommuGroup } = facts
  if (!isVfioDriver(driver)) {
    const has = driver === null ? 'no driver has it' : `the driver '${driver}' has it`
    // vfio-pci refuses a device without IOMMU: binding comes second.
    const how = iommuGroup === null ? `${TURN_IOMMU_ON}, then ` : ''
    const other = driver === 'nvme' ? '; as it is, it opens by its path below /dev (unvme list)' : ''
    throw new SetupError(
      `${name} is not bound to vfio-pci: ${has}; ${how}'unvme setup ${name}' binds it${other}`,
    )
  }
  if (iommuGroup !== null) return
  if (!noIommu) {
    throw new SetupError(
      `${name} has no IOMMU: ${TURN_IOMMU_ON}; where that can't be, the option noIommu drives it without protection`,
    )
  }
  if (noIommuGroup === null) {
    throw new SetupError(
      `${name} has no group of the no-IOMMU mode: load the module vfio with enable_unsafe_noiommu_mode=1 and bind it again`,
    )
  }
}

/** The group has members with drivers of their own. */
export function explainNotViable(facts: PciFacts, sysfs: SysfsOptions): SetupError {
  const members = membersInTheWay(readGroupMembers(facts.iommuGroup ?? -1, sysfs))
  const list = members.map(({ name, driver }) => `${name} (${driver})`).join(', ')
  return new SetupError(
    `${facts.name} shares IOMMU group ${facts.iommuGroup} with devices that the kernel drives: ` +
      `${list || 'none that sysfs shows'}; bind these to vfio-pci, too, or to no driver`,
  )
}

/** VFIO_SET_IOMMU failed. */
export function explainSetIommu(error: SystemCallError, { name, iommuGroup }: PciFacts): Error {
  if (error.code !== 'EPERM') {
    return new SetupError(`${name}: the IOMMU can't be used for group ${iommuGroup}`, { cause: error })
  }
  return new SetupError(
    `${name}: the kernel refuses the IOMMU since interrupts can't be remapped; turn interrupt remapping on ` +
      `(firmware, no intremap=off), or load vfio_iommu_type1 with allow_unsafe_interrupts=1 if every device is trusted`,
    { cause: error },
  )
}

/** Mapping memory for the device failed. */
export function explainMap(error: SystemCallError, name: string, bytes: number): Error {
  const cause = { cause: error }
  if (error.code === 'ENOMEM') {
    const { limit, used } = readMemlock()
    return new OutOfMemoryError(
      `${name}: ${roomText(bytes)} of DMA memory can't be locked: ${roomText(used)} are locked and RLIMIT_MEMLOCK is ${limit === null ? 'unlimited (so memory itself ran out)' : roomText(limit)}; ` +
        `raise it to at least ${roomText(used + bytes)} (ulimit -l ${Math.ceil((used + bytes) / 1024)}, LimitMEMLOCK= of systemd, or /etc/security/limits.conf)`,
      cause,
    )
  }
  if (error.code === 'ENOSPC') {
    return new OutOfMemoryError(
      `${name}: the IOMMU container takes no more mappings (65535 unless vfio_iommu_type1 was loaded with another dma_entry_limit); ` +
        'free buffers, or allocate fewer and larger ones',
      cause,
    )
  }
  return new UnsupportedError(`${name}: ${roomText(bytes)} of memory can't be mapped for the device`, cause)
}

/** RLIMIT_MEMLOCK of this process and what counts towards it, in bytes; null: no limit. */
export function readMemlock(proc = '/proc/self'): { limit: number | null; used: number } {
  const limits = fs.readFileSync(`${proc}/limits`, 'utf8')
  const soft = /^Max locked memory\s+(\S+)/m.exec(limits)?.[1] ?? 'unlimited'
  const status = fs.readFileSync(`${proc}/status`, 'utf8')
  // Type 1 counts what it locks under VmLck, iommufd under VmPin.
  const kib = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0)
  return {
    limit: soft === 'unlimited' ? null : Number(soft),
    used: (kib('VmLck') + kib('VmPin')) * 1024,
  }
}

/** `process 123 (node)` for the first process that has one of the files open; null where none can be seen. */
export function findHolder(paths: readonly string[], proc = '/proc'): string | null {
  for (const pid of fs.readdirSync(proc)) {
    if (!/^[0-9]+$/.test(pid) || !hasOpen(`${proc}/${pid}/fd`, paths)) continue
    if (Number(pid) === process.pid) return 'this process, in another thread or copy of the module'
    return `process ${pid} (${commandName(`${proc}/${pid}/cmdline`)})`
  }
  return null
}

// Processes end while they are looked at, and those of other users can't be looked at.
function hasOpen(folder: string, paths: readonly string[]): boolean {
  try {
    return fs.readdirSync(folder).some((fd) => paths.includes(fs.readlinkSync(`${folder}/${fd}`)))
  } catch {
    return false
  }
}

// By its command line: the name in `comm` is the main thread's, which Node.js changes.
function commandName(file: string): string {
  try {
    const [command = ''] = fs.readFileSync(file, 'utf8').split('\0')
    return basename(command) || 'unnamed'
  } catch {
    return 'ended by now'
  }
}

function userName(): string {
  return process.env.USER ?? String(process.getuid?.() ?? '')
}
