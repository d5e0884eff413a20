// Checks of the system: IOMMU, kernel modules, locked memory. Each finding says how to mend it in one line.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { type Machine, readFolder, readText } from '../system/machine.ts'

export interface Check {
  name: 'iommu' | 'modules' | 'memlock'
  /** `warn`: works, or setup mends it by itself; `bad`: nothing can be bound. */
  state: 'ok' | 'warn' | 'bad'
  finding: string
  /** What to do about it; null where there is nothing to do. */
  mend: string | null
}

/** Less than this is too little for the queues and buffers of one device. */
const MEMLOCK_LEAST = 64 << 20

export function checkSystem(machine: Machine): Check[] {
  return [checkIommu(machine), checkModules(machine), checkMemlock(machine)]
}

export function checkIommu(machine: Machine): Check {
  const groups = readFolder(machine.sys, 'kernel/iommu_groups').length
  if (groups > 0) return { name: 'iommu', state: 'ok', finding: `IOMMU is on (${groups} groups)`, mend: null }
  if (noIommuAllowed(machine)) {
    const finding = "no IOMMU, and VFIO's no-IOMMU mode is allowed: a device can reach all memory"
    return { name: 'iommu', state: 'warn', finding, mend: null }
  }
  return {
    name: 'iommu',
    state: 'bad',
    finding: 'no IOMMU: /sys/kernel/iommu_groups is empty',
    mend: mendIommu(machine),
  }
}

/** True where the module parameter that allows VFIO without an IOMMU is set. */
export function noIommuAllowed({ sys }: Machine): boolean {
  return /^[Y1]$/.test(readText(sys, 'module/vfio/parameters/enable_unsafe_noiommu_mode') ?? '')
}

function mendIommu({ proc }: Machine): string {
  const amd = /AuthenticAMD|HygonGenuine/.test(readText(proc, 'cpuinfo') ?? '')
  const words = (readText(proc, 'cmdline') ?? '').split(/\s+/)
  const off = words.find((word) => /^((intel|amd)_)?iommu=off$/.test(word))
  if (off) return `take ${off} off the kernel command line and reboot`
  if (amd) return 'turn on IOMMU (AMD-Vi) in the firmware setup; AMD kernels need no word on the command line'
  if (words.some((word) => /^intel_iommu=on(,|$)/.test(word))) {
    return 'turn on VT-d in the firmware setup (in a virtual machine: give it an IOMMU)'
  }
  return 'add intel_iommu=on to the kernel command line (GRUB_CMDLINE_LINUX), turn on VT-d in the firmware setup, reboot'
}

/** The modules that are needed and not there. */
export function missingModules({ sys, dev }: Machine): string[] {
  const missing: string[] = []
  if (!fs.existsSync(path.join(sys, 'bus/pci/drivers/vfio-pci'))) missing.push('vfio-pci')
  // With iommufd the kernel can offer the same interface without the module.
  const type1 = fs.existsSync(path.join(sys, 'module/vfio_iommu_type1'))
  if (!type1 && !fs.existsSync(path.join(dev, 'iommu'))) missing.push('vfio_iommu_type1')
  return missing
}

function checkModules(machine: Machine): Check {
  const missing = missingModules(machine)
  if (missing.length === 0) {
    return { name: 'modules', state: 'ok', finding: 'vfio-pci and vfio_iommu_type1 are loaded', mend: null }
  }
  return {
    name: 'modules',
    state: 'warn',
    finding: `not loaded: ${missing.join(', ')}`,
    mend: `modprobe -a ${missing.join(' ')} (binding a device does it)`,
  }
}

function checkMemlock({ proc }: Machine): Check {
  const limits = readText(proc, 'self/limits') ?? ''
  const soft = /^Max locked memory\s+(\S+)/m.exec(limits)?.[1] ?? 'unlimited'
  const name = 'memlock'
  if (soft === 'unlimited') return { name, state: 'ok', finding: 'locked memory is unlimited', mend: null }
  const size = `locked memory is limited to ${Math.floor(Number(soft) / 1024)} KiB (RLIMIT_MEMLOCK)`
  // CAP_IPC_LOCK: the limit is not looked at.
  if (hasLockCapability(proc)) return { name, state: 'ok', finding: `${size}, not for root`, mend: null }
  if (Number(soft) >= MEMLOCK_LEAST) return { name, state: 'ok', finding: size, mend: null }
  return { name, state: 'warn', finding: `${size}: too little for DMA memory`, mend: mendMemlock(userName()) }
}

function userName(): string {
  try {
    return os.userInfo().username
  } catch {
    // A user without an entry in the passwd file.
    return 'USER'
  }
}

/** How a user gets more locked memory. */
export function mendMemlock(user: string): string {
  return `put "${user} - memlock unlimited" into /etc/security/limits.d/unvme.conf and log in again`
}

const CAP_IPC_LOCK = 14n

function hasLockCapability(proc: string): boolean {
  const mask = /^CapEff:\s+([0-9a-f]+)/m.exec(readText(proc, 'self/status') ?? '')?.[1]
  return mask !== undefined && ((BigInt(`0x${mask}`) >> CAP_IPC_LOCK) & 1n) === 1n
}
