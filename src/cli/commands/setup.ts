// `unvme setup`: shows NVMe devices and checks the system, binds devices to vfio-pci, and gives them back to the kernel.
// Its words are UNVMe's (none, BB:DD.F…, show, reset, help), not subcommands of a subcommand.

import { InUseError, SetupError, UsageError } from '../../../lib/errors.ts'
import { canonicalPciName } from '../../../lib/pci/bdf.ts'
import { isVfioDriver } from '../../../lib/pci/sysfs.ts'
import {
  type Account,
  bindSteps,
  blockDevices,
  type Check,
  checkSystem,
  groupReasons,
  handOverSteps,
  listDevices,
  loadSteps,
  type Machine,
  mendMemlock,
  type NvmeDevice,
  type Plan,
  perform,
  planBind,
  planReset,
  type Refusal,
  resetSteps,
  type Step,
  stepText,
  thisMachine,
  undoSteps,
} from '../../setup/index.ts'
import { defineCommand, flag, outputOption, sysrootOption, value, variadicArgument } from '../define.ts'
import { bad, bytesText, confirm, good, note, print, printJson, table } from '../output.ts'
import { suggestion, text } from '../parse.ts'

const ACTIONS = ['show', 'reset', 'help'] as const
type Action = 'bind' | (typeof ACTIONS)[number]

interface Job {
  machine: Machine
  devices: readonly NvmeDevice[]
  names: readonly string[]
  force: boolean
  dryRun: boolean
  yes: boolean
  account: Account | undefined
  signal: AbortSignal
}

export const setup = defineCommand({
  name: 'setup',
  group: 'System',
  summary: 'Bind NVMe devices to VFIO, give them back to the kernel, or show how they stand',
  details: `Without a name, every NVMe device that the system does not use is bound, after a question; those left \
out are listed with the reason. A device that is mounted, swap, part of RAID, LVM or device-mapper, or open is refused. Only \
devices that are named (or all, where none is) are ever touched, never others of the same id. A binding lasts \
until reset or until the machine restarts. A device that stays the kernel's needs none of this: it opens by its path \
below /dev (docs/devices.md says which way is for what).

\`show\` lists every NVMe device and checks the system. \`reset\` gives the devices named, or all that VFIO has, \
back to the kernel and waits for their block devices. \`help\` prints this.`,
  arguments: {
    words: variadicArgument('show|reset|help|BB:DD.F', text, 'what to do, or the PCI names of devices'),
  },
  options: {
    dryRun: flag('print what would be done, as shell commands, and do nothing', 'n'),
    force: flag('take devices that the system uses', 'f'),
    yes: flag('bind without being asked, where no name is given', 'y'),
    user: value('NAME', text, 'give the bound devices to this user, who then needs no root', 'u'),
    output: outputOption(),
    sysroot: sysrootOption(),
  },
  examples: [
    ['setup', 'bind every NVMe device that the system does not use, after a question'],
    ['setup 0a:00.0 0b:00.0', 'bind these two'],
    ['setup 0a:00.0 --user alice', 'bind one and let alice drive it'],
    ['setup show', 'every device with driver, IOMMU group and users, and what the system lacks'],
    ['setup reset', 'back to the kernel driver'],
  ],
  async run({ args, options, help, signal }) {
    const { action, names } = parseWords(args.words)
    if (action === 'help') return help()
    if (options.sysroot !== undefined && action !== 'show' && !options.dryRun) {
      throw new UsageError('--sysroot is for show and --dry-run: another machine can only be looked at')
    }
    const machine = thisMachine(options.sysroot)
    const devices = listDevices(machine)
    if (action === 'show') return showDevices(machine, devices, options.output)
    if (options.output !== 'normal') throw new UsageError(`-o ${options.output} is for show`)
    const { force, dryRun, yes, user } = options
    const job: Job = { machine, devices, names, force, dryRun, yes, account: findUser(machine, user), signal }
    if (devices.length === 0 && names.length === 0) throw new SetupError('this machine has no NVMe device')
    if (action === 'reset') return reset(job)
    const bound = await bind(job)
    if (user !== undefined && bound > 0)
      note(`If ${user} lacks locked memory (ulimit -l): ${mendMemlock(user)}`)
    return bound > 0 ? 0 : 1
  },
})

function parseWords(words: readonly string[]): { action: Action; names: readonly string[] } {
  const [first, ...rest] = words
  const action = ACTIONS.find((word) => word === first)
  const names = action ? rest : words
  for (const word of names) {
    if (/^[\da-f]+:/i.test(word)) continue
    const near = action ? '' : suggestion(word, ACTIONS)
    const expected = action ? 'a PCI name (BB:DD.F)' : `a PCI name (BB:DD.F) or ${ACTIONS.join(', ')}`
    throw new UsageError(`'${word}' is not ${expected}${near}`)
  }
  if (names.length > 0 && (action === 'show' || action === 'help')) {
    throw new UsageError(`${action} takes no names`)
  }
  return { action: action ?? 'bind', names: names.map(canonicalPciName) }
}

function findUser(machine: Machine, user: string | undefined): Account | undefined {
  if (user === undefined) return undefined
  const account = machine.findAccount(user)
  if (!account) throw new UsageError(`there is no user '${user}'`)
  return account
}

/** Returns how many of the devices asked for VFIO has now. */
async function bind(job: Job): Promise<number> {
  const { machine, devices, names, force, account } = job
  const plan = planBind(machine, devices, names, { force })
  reportRefused(plan, names)
  if (names.length === 0) await consent(job, plan.chosen)
  if (plan.chosen.length > 0) await run(job, loadSteps(machine))
  const chosen: NvmeDevice[] = []
  for (const device of plan.chosen) {
    if (!(await bindOne(job, device))) continue
    chosen.push(device)
    report(job, device, `bound to vfio-pci${group(device)}`)
  }
  for (const device of plan.done) report(job, device, `already bound to ${device.driver}${group(device)}`)
  const bound = [...chosen, ...plan.done]
  for (const { name } of account ? bound : []) await run(job, handOverSteps(machine, name, account!))
  return bound.length
}

/** Asks before every device that the system does not use is taken from it. */
async function consent({ dryRun, yes }: Job, chosen: readonly NvmeDevice[]): Promise<void> {
  if (dryRun || chosen.length === 0) return
  const devices = chosen.map(deviceText).join(', ')
  await confirm(`Take ${devices} from the kernel and bind ${chosen.length > 1 ? 'them' : 'it'} to VFIO?`, yes)
}

function deviceText({ name, model, serial, namespaces, uses }: NvmeDevice): string {
  const blocks = namespaces.map(({ block }) => `/dev/${block}`)
  const used = uses.map(({ text }) => `in use: ${text}`)
  const facts = [[model, serial].filter(Boolean).join(' '), ...blocks, ...used].filter(Boolean)
  return facts.length === 0 ? name : `${name} (${facts.join(', ')})`
}

/** False where the device was not named by the user, and the system has begun to use it meanwhile. */
async function bindOne(job: Job, device: NvmeDevice): Promise<boolean> {
  const { machine, names, force } = job
  try {
    await run(job, bindSteps(machine, device, { force }))
    return true
  } catch (error) {
    // What failed is what the user needs to know, whether or not the way back works.
    await perform(machine, undoSteps(machine, device)).catch(() => {})
    if (names.length > 0 || !(error instanceof InUseError)) throw error
    note(`left out: ${error.message}`)
    return false
  }
}

async function reset(job: Job): Promise<void> {
  const { machine, devices, names, force } = job
  const plan = planReset(machine, devices, names, { force })
  reportRefused(plan, names)
  for (const device of plan.chosen) {
    await run(job, resetSteps(machine, device, { force }))
    const blocks = blockDevices(machine, device.name)
    report(
      job,
      device,
      `back with the kernel: ${blocks.map((name) => `/dev/${name}`).join(', ') || 'no namespace'}`,
    )
  }
  if (plan.chosen.length === 0) print('Nothing to give back: VFIO has no NVMe device of these.')
}

async function run({ machine, dryRun, signal }: Job, steps: readonly Step[]): Promise<void> {
  if (!dryRun) return perform(machine, steps, signal)
  for (const step of steps) print(stepText(step))
}

function report({ dryRun }: Job, { name }: NvmeDevice, what: string): void {
  if (!dryRun) print(`${name}  ${what}`)
}

/** Of devices that were named one refusal is an error, before anything is done; others are left out. */
function reportRefused({ refused }: Plan, names: readonly string[]): void {
  if (names.length > 0 && refused.length > 0) throw refusal(refused)
  for (const { device, reasons } of refused) note(`${device.name}  left out: ${reasons.join('; ')}`)
}

function refusal(refused: readonly Refusal[]): Error {
  const message = refused.map(({ device, reasons }) => `${device.name}: ${reasons.join('; ')}`).join('; ')
  const Kind = refused.some(({ device }) => device.uses.length > 0) ? InUseError : SetupError
  const possible = refused.every(({ device }) => device.iommuGroup !== null)
  return new Kind(`${message}${possible ? ' (--force takes it all the same)' : ''}`)
}

const group = ({ iommuGroup }: NvmeDevice) =>
  iommuGroup === null ? ', without an IOMMU' : `, IOMMU group ${iommuGroup}`

export function showDevices(
  machine: Machine,
  devices: readonly NvmeDevice[],
  output: 'normal' | 'json',
): void {
  const checks = checkSystem(machine)
  if (output === 'json') {
    printJson({ Devices: devices.map(deviceJson), Checks: checks.map(checkJson) })
    return
  }
  if (devices.length === 0) print('This machine has no NVMe device.')
  else print(table(columns, devices))
  print()
  for (const { state, finding, mend } of checks) {
    print(`${state === 'ok' ? good('ok  ') : bad(state.padEnd(4))}  ${finding}${mend ? `: ${mend}` : ''}`)
  }
  for (const device of devices) {
    // Others that are free would be bound with it.
    const free = isVfioDriver(device.driver) ? [] : devices.filter(({ uses }) => uses.length === 0)
    for (const reason of groupReasons(device, [device, ...free]))
      print(`${bad('warn')}  ${device.name}: ${reason}`)
  }
  if (process.getuid?.() !== 0) note('Not root: what processes of other users have open is not seen.')
}

const columns = [
  { title: 'Device', text: ({ name }: NvmeDevice) => name },
  { title: 'Driver', text: ({ driver }: NvmeDevice) => driver ?? '-' },
  { title: 'Group', text: groupText, right: true },
  { title: 'Id', text: idText },
  { title: 'Model', text: ({ model }: NvmeDevice) => model ?? '-' },
  { title: 'Block devices', text: blocksText },
  { title: 'Used', text: ({ uses }: NvmeDevice) => uses.map((use) => use.text).join('; ') || 'no' },
]

export function groupText({
  iommuGroup = null,
  noIommuGroup = null,
}: Partial<Pick<NvmeDevice, 'iommuGroup' | 'noIommuGroup'>>): string {
  if (iommuGroup !== null) return String(iommuGroup)
  return noIommuGroup === null ? '-' : `noiommu-${noIommuGroup}`
}

function idText({ vendor, device }: NvmeDevice): string {
  return `${vendor.toString(16).padStart(4, '0')}:${device.toString(16).padStart(4, '0')}`
}

function blocksText({ namespaces }: NvmeDevice): string {
  return namespaces.map(({ block, size }) => `${block} (${bytesText(size)})`).join(', ') || '-'
}

function deviceJson(device: NvmeDevice) {
  return {
    Address: device.name,
    Driver: device.driver,
    DriverOverride: device.driverOverride,
    IOMMUGroup: device.iommuGroup,
    GroupMembers: device.members.map(({ name, driver }) => ({ Address: name, Driver: driver })),
    VendorID: device.vendor,
    DeviceID: device.device,
    Controller: device.controller,
    ModelNumber: device.model,
    SerialNumber: device.serial,
    Firmware: device.firmware,
    Namespaces: device.namespaces.map(({ nsid, block, size, lbaSize }) => ({
      NameSpace: nsid,
      DevicePath: `/dev/${block}`,
      PhysicalSize: size,
      SectorSize: lbaSize,
    })),
    UsedBy: device.uses.map(({ text }) => text),
  }
}

function checkJson({ name, state, finding, mend }: Check) {
  return { Name: name, State: state, Finding: finding, Mend: mend }
}
