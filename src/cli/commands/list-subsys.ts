// `unvme list-subsys`: NVM subsystems by their NQN, with the controllers that lead to each.
// Trade-off: without an address it looks at what the kernel's driver has, and opens nothing, as `unvme list`; what
// VFIO has tells its subsystem only when it is opened, so that one is shown by its address.

import path from 'node:path'
import { listDevices, thisMachine } from '../../setup/index.ts'
import { readText } from '../../system/machine.ts'
import { defineCommand, optionalArgument, outputOption, sysrootOption } from '../define.ts'
import { print, printJson } from '../output.ts'
import { text } from '../parse.ts'

interface Path {
  /** `nvme0`; null where the kernel's driver does not have it. */
  name: string | null
  transport: string
  address: string
  state: string
}

interface Subsystem {
  /** Null where it can't be known without opening the device. */
  nqn: string | null
  paths: Path[]
}

export const listSubsys = defineCommand({
  name: 'list-subsys',
  group: 'System',
  summary: 'List the NVM subsystems by their NQN, with the controllers of each',
  details: `A device that VFIO has tells its subsystem only when it is opened: without ADDR it is listed with '-' \
(null in JSON), with ADDR that device is opened.`,
  arguments: { address: optionalArgument('ADDR', text, 'address of a device (default: all of the machine)') },
  options: { output: outputOption(), sysroot: sysrootOption() },
  ignored: ['-v, --verbose'],
  examples: [
    ['list-subsys', 'of all devices of the machine'],
    ['list-subsys sim: -o json', 'of one device, for programs'],
  ],
  async run({ args: { address }, options }) {
    const subsystems = address === undefined ? ofMachine(options.sysroot) : [await ofAddress(address)]
    if (options.output === 'json') printJson({ Subsystems: subsystems.map(subsystemJson) })
    else print(subsystems.map(subsystemText).join('\n') || 'This machine has no NVMe device.')
  },
})

function ofMachine(sysroot: string | undefined): Subsystem[] {
  const machine = thisMachine(sysroot)
  const subsystems: Subsystem[] = []
  for (const { name: address, controller, driver } of listDevices(machine)) {
    const attribute = (file: string) =>
      controller === null
        ? null
        : readText(path.join(machine.sys, 'bus/pci/devices', address), 'nvme', controller, file)
    const nqn = attribute('subsysnqn')
    const transport = attribute('transport') ?? 'pcie'
    const one = { name: controller, transport, address, state: attribute('state') ?? driver ?? 'unbound' }
    const known = nqn === null ? undefined : subsystems.find((subsystem) => subsystem.nqn === nqn)
    if (known) known.paths.push(one)
    else subsystems.push({ nqn, paths: [one] })
  }
  return subsystems
}

async function ofAddress(address: string): Promise<Subsystem> {
  const { openController } = await import('../../index.ts')
  await using handle = await openController(address)
  const { kind, address: name } = handle.controller.transport
  const transport = kind.startsWith('vfio') ? 'pcie' : kind
  return {
    nqn: handle.identity.subnqn || null,
    paths: [{ name: null, transport, address: name, state: 'live' }],
  }
}

function subsystemText({ nqn, paths }: Subsystem, n: number): string {
  const lines = paths.map(({ name, transport, address, state }) =>
    [' +-', name, transport, address, state].filter((word) => word !== null).join(' '),
  )
  return [`subsys${n} - NQN=${nqn ?? '-'}`, '\\', ...lines].join('\n')
}

/** nvme-cli's keys. */
function subsystemJson({ nqn, paths }: Subsystem, n: number) {
  return {
    Name: `subsys${n}`,
    NQN: nqn,
    Paths: paths.map(({ name, transport, address, state }) => ({
      Name: name,
      Transport: transport,
      Address: address,
      State: state,
    })),
  }
}
