// The two files that tell the machine what to do: settings for its start, and the command as a shell script.
// The machine reads them from the host's file system like any other file, so that nothing limits
// their length and a shell's quoting is the only encoding.

import path from 'node:path'
import { loadOrder } from './initramfs.ts'
import type { MachineOptions } from './machine.ts'
import type { Parts } from './parts.ts'
import { type ShapeName, shapes, suiteAddresses } from './shapes.ts'

/** Variables of this process that the command gets too, with all that begin with UNVME_. */
const PASSED = [
  'PATH',
  'HOME',
  'LANG',
  'TERM',
  'TZ',
  'DEBUG',
  'CI',
  'FORCE_COLOR',
  'NO_COLOR',
  'NODE_OPTIONS',
]

/** Quotes a word for the shell. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}

/** What guest/start reads before anything else. */
export function settings(options: MachineOptions, parts: Parts): string {
  const guest = path.join(import.meta.dirname, '../../../scripts/vm/guest')
  const order = (names: string[]) => (parts.modules ? loadOrder(parts.modules, names).join(' ') : '')
  const values = {
    driver: options.driver ?? 'vfio',
    modules: parts.modules ?? '',
    guest,
    vfio_modules: order(['vfio_iommu_type1', 'vfio-pci']),
    // The checksums first: nvme would have the kernel call modprobe for them, which takes longer.
    nvme_modules: order(['crct10dif_generic', 'crc64_rocksoft_generic', 'nvme']),
  }
  return Object.entries(values)
    .map(([name, value]) => `${name}=${quote(value)}\n`)
    .join('')
}

/** The command with its environment and working folder. */
export function commandScript(options: MachineOptions): string {
  const lines = Object.entries({ ...environment(options.shapes ?? []), ...options.env }).map(
    ([name, value]) => `export ${name}=${quote(value)}`,
  )
  lines.push(`export PATH="/run/unvme-vm/bin:$PATH"`, `cd ${quote(options.cwd ?? process.cwd())} || exit`)
  const command = options.command.map(quote).join(' ')
  const { user } = options
  const as = user ? `setpriv --reuid=${quote(user)} --regid=$(id -g ${quote(user)}) --init-groups ` : ''
  return `${lines.join('\n')}\nexec ${as}${command}\n`
}

function environment(names: readonly ShapeName[]): Record<string, string> {
  const variables: Record<string, string> = {
    UNVME_VM: '1',
    // All controllers, as name=address, for instance `multi=00:06.0 hot=01:00.0`.
    UNVME_VM_CONTROLLERS: names.map((name) => `${name}=${shapes[name].address}`).join(' '),
  }
  const tested = suiteAddresses(names)
  if (tested.length > 0) variables.UNVME_TEST_ADDRESS = tested.join(' ')
  for (const [name, value] of Object.entries(process.env)) {
    if (value !== undefined && (PASSED.includes(name) || name.startsWith('UNVME_'))) variables[name] ??= value
  }
  return variables
}
