// Finds what the virtual machine is made of: QEMU, a kernel with its modules, busybox.
// It looks, and says what to install; it installs nothing (scripts/vm/install and setup do).

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'

export interface Parts {
  qemu: string
  /** The kernel image, uncompressed where scripts/vm/setup made it. */
  kernel: string
  /** Folder of the kernel's modules; undefined where everything is built in. */
  modules: string | undefined
  busybox: string
}

/** The folder that scripts/vm/setup and build-kernel fill. */
export function cacheFolder(env = process.env): string {
  if (env.UNVME_VM_CACHE) return env.UNVME_VM_CACHE
  return path.join(env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache'), 'unvme', 'vm')
}

export interface KernelChoice {
  /** An image, or the name of a folder of the cache, for instance `iommufd`. */
  kernel?: string | undefined
  /** Its modules; by default the folder `modules` beside the image, if there is one. */
  modules?: string | undefined
  /** Programs of the host that the command needs: the machine has the host's root file system. */
  programs?: readonly (keyof typeof PACKAGES)[]
}

/** Debian's package of each program that a command may need. */
const PACKAGES = { nvme: 'nvme-cli', strace: 'strace', ip: 'iproute2', tc: 'iproute2', fio: 'fio' } as const

/** The parts, or what is missing in one line. Never throws. */
export function findParts(choice: KernelChoice = {}): { parts: Parts } | { missing: string } {
  const cache = cacheFolder()
  const qemu = findInPath('qemu-system-x86_64')
  const named = choice.kernel ?? process.env.UNVME_VM_KERNEL ?? 'kernel'
  const kernel = named.includes('/') ? path.resolve(named) : path.join(cache, named, 'vmlinux')
  const busybox = path.join(cache, 'busybox')
  const modules = choice.modules ?? path.join(path.dirname(kernel), 'modules')

  const missing: string[] = []
  if (process.arch !== 'x64' || process.platform !== 'linux') missing.push('Linux on x86-64')
  if (findInPath('setpriv') === undefined) missing.push('setpriv (Debian package util-linux)')
  if (qemu === undefined) missing.push('QEMU (Debian package qemu-system-x86)')
  if (!fs.existsSync(kernel)) missing.push(`a kernel at ${kernel} (${maker(named)})`)
  if (!fs.existsSync(busybox)) missing.push('a static busybox (scripts/vm/setup)')
  for (const name of choice.programs ?? []) {
    if (findInPath(name) === undefined) missing.push(`${name} (Debian package ${PACKAGES[name]})`)
  }
  if (choice.modules !== undefined && !fs.existsSync(modules)) missing.push(`modules at ${modules}`)
  if (qemu === undefined || missing.length > 0) {
    return { missing: `the virtual machine needs ${missing.join(', ')}; scripts/vm/install does all of it` }
  }
  return { parts: { qemu, kernel, busybox, modules: fs.existsSync(modules) ? modules : undefined } }
}

/** True where the tests in the machine must run: in CI, or with UNVME_REQUIRE_VM=1. */
export function partsRequired(env = process.env): boolean {
  const given = env.UNVME_REQUIRE_VM ?? env.CI ?? ''
  return !['', '0', 'false'].includes(given)
}

function maker(kernel: string): string {
  return kernel === 'iommufd' ? 'scripts/vm/build-kernel' : 'scripts/vm/setup'
}

function findInPath(name: string): string | undefined {
  // Not every user's path has the folders of system programs.
  for (const folder of `${process.env.PATH ?? ''}:/usr/sbin:/sbin`.split(':')) {
    const file = path.join(folder, name)
    try {
      fs.accessSync(file, fs.constants.X_OK)
      return file
    } catch {
      // not in this folder
    }
  }
  return undefined
}
