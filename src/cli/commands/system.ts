// `unvme list`, `list-subsys`, `info` and `version`. The first two open nothing, so that listing disturbs no one: of
// what VFIO has, only the PCI facts are known, unless list-subsys is given its address.

import path from 'node:path'
import { UsageError } from '../../../lib/errors.ts'
import type { Namespace } from '../../namespace/namespace.ts'
import {
  type KernelNamespace,
  listDevices,
  listRemoteControllers,
  type NvmeDevice,
  thisMachine,
} from '../../setup/index.ts'
import { readText } from '../../system/machine.ts'
import { withOpen } from '../data.ts'
import { argument, defineCommand, optionalArgument, outputOption, sysrootOption } from '../define.ts'
import { bytesText, fields, note, print, printJson, table, visible } from '../output.ts'
import { text } from '../parse.ts'
import { version as versionText } from '../program.ts'
import { namespaceOption } from '../transfer.ts'
import { groupText } from './setup.ts'

interface Row {
  device: Pick<NvmeDevice, 'name' | 'driver' | 'serial' | 'model' | 'firmware'> &
    Partial<Pick<NvmeDevice, 'iommuGroup' | 'noIommuGroup'>>
  /** Null where no namespace can be seen. */
  namespace: KernelNamespace | null
}

export const list = defineCommand({
  name: 'list',
  group: 'System',
  summary: 'List every NVMe device with its driver, IOMMU group, model and size',
  details: `A device that VFIO has shows its model and sizes only when it is opened (unvme info): here they are \
'-', null in JSON. A device of the kernel's driver is opened by the path below Node.

With the address of a discovery service, nvme+tcp://HOST[:PORT], the NVM subsystems are listed that it offers, and those of \
the services that it refers to, by the addresses that open them. unvme discover shows all of its log.`,
  arguments: { address: optionalArgument('ADDR', text, 'a discovery service (default: the machine)') },
  options: { output: outputOption(), sysroot: sysrootOption() },
  ignored: ['-v, --verbose'],
  examples: [
    ['list', 'a table of all devices'],
    ['list -o json', 'the same for programs, with the key names of nvme-cli'],
    ['list nvme+tcp://10.0.0.5', 'what a discovery service offers'],
  ],
  async run({ args: { address }, options, signal }) {
    if (address !== undefined) {
      if (options.sysroot !== undefined) throw new UsageError('--sysroot is for the devices of a machine')
      return listOffers(address, options.output === 'json', signal)
    }
    const machine = thisMachine(options.sysroot)
    // The kernel's name stands for what has no PCI name here.
    const remote = listRemoteControllers(machine).map((one) => ({
      ...one,
      name: one.controller,
      driver: `nvme-${one.transport}`,
    }))
    const rows = [...listDevices(machine), ...remote].flatMap((device): Row[] =>
      device.namespaces.length === 0
        ? [{ device, namespace: null }]
        : device.namespaces.map((namespace) => ({ device, namespace })),
    )
    if (options.output === 'json') printJson({ Devices: rows.map(rowJson) })
    else print(rows.length === 0 ? 'This machine has no NVMe device.' : table(columns, rows))
  },
})

/** The subsystems that a service offers, and those that it refers to. */
async function listOffers(address: string, json: boolean, signal: AbortSignal): Promise<void> {
  const { asker, parseService } = await import('./discover.ts')
  const { followReferrals, portalAddress, subsystemAddress } = await import(
    '../../../lib/nvme/tcp/discover.ts'
  )
  const ask = asker({ hdrDigest: false, dataDigest: false, tls: false }, signal)
  const { services, left } = await followReferrals(parseService(address), ask)
  const offers = new Map<string, Offer>()
  for (const { log, ...portal } of services) {
    for (const record of log?.records ?? []) {
      const address = subsystemAddress(record)
      if (address === null || offers.has(address)) continue
      offers.set(address, { address, nqn: record.subnqn, service: portalAddress(portal) })
    }
  }
  const missed = services.filter(({ error }) => error !== null)
  for (const { error } of missed) note(`not asked: ${error!.message}`)
  if (left > 0) note(`${left} more services were referred to, and not asked`)
  if (json) {
    const Subsystems = [...offers.values()].map(({ address, nqn, service }) => ({
      ...{ Address: address, NQN: nqn, Service: service },
    }))
    printJson({ Subsystems })
  } else print(offers.size === 0 ? 'No subsystem is offered.' : table(offerColumns, [...offers.values()]))
}

interface Offer {
  readonly address: string
  readonly nqn: string
  readonly service: string
}

const offerColumns = [
  { title: 'Address', text: ({ address }: Offer) => visible(address) },
  { title: 'Service', text: ({ service }: Offer) => visible(service) },
]

const columns = [
  {
    title: 'Device',
    text: ({ device, namespace }: Row) => `${device.name}${namespace ? `/${namespace.nsid}` : ''}`,
  },
  { title: 'Driver', text: ({ device }: Row) => device.driver ?? '-' },
  { title: 'Group', text: ({ device }: Row) => groupText(device), right: true },
  { title: 'Node', text: ({ namespace }: Row) => (namespace ? `/dev/${namespace.block}` : '-') },
  { title: 'SN', text: ({ device }: Row) => device.serial ?? '-' },
  { title: 'Model', text: ({ device }: Row) => device.model ?? '-' },
  { title: 'Size', text: ({ namespace }: Row) => (namespace ? bytesText(namespace.size) : '-'), right: true },
  {
    title: 'Format',
    text: ({ namespace }: Row) => (namespace ? `${namespace.lbaSize} B` : '-'),
    right: true,
  },
  { title: 'FW Rev', text: ({ device }: Row) => device.firmware ?? '-' },
]

/** nvme-cli's keys in its order; Address, Driver and IOMMUGroup are ours. */
function rowJson({ device, namespace }: Row) {
  return {
    NameSpace: namespace?.nsid ?? null,
    DevicePath: namespace ? `/dev/${namespace.block}` : null,
    GenericPath: namespace?.generic ? `/dev/${namespace.generic}` : null,
    Firmware: device.firmware,
    ModelNumber: device.model,
    SerialNumber: device.serial,
    UsedBytes: namespace?.used ?? null,
    MaximumLBA: namespace ? namespace.size / namespace.lbaSize : null,
    PhysicalSize: namespace?.size ?? null,
    SectorSize: namespace?.lbaSize ?? null,
    Address: device.name,
    Driver: device.driver,
    IOMMUGroup: device.iommuGroup ?? null,
  }
}

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

export const info = defineCommand({
  name: 'info',
  group: 'System',
  summary: 'Show the attributes of a namespace: model, sizes, limits of a transfer, queues',
  arguments: { address: argument('ADDR', text, 'address of the device') },
  options: { namespaceId: namespaceOption(), output: outputOption() },
  examples: [
    ['info 0a:00.0', 'the first namespace of a device'],
    ['info sim: -o json', 'the software controller, for programs, by the names of the API'],
  ],
  async run({ args, options }) {
    const { open } = await import('../../index.ts')
    const { namespaceId: nsid } = options
    return withOpen(await open(args.address, nsid === undefined ? {} : { nsid }), async (ns) => {
      if (options.output === 'json') printJson(attributes(ns))
      else print(fields(describe(ns)))
    })
  },
})

function describe(ns: Namespace): [string, string | number][] {
  const { kind, how } = ns.controller.transport
  return [
    ['device', ns.device],
    ['namespace', `${ns.id} (of ${ns.nscount})`],
    ['vendor id', `0x${ns.vid.toString(16).padStart(4, '0')}`],
    ['model number', ns.mn],
    ['serial number', ns.sn],
    ['firmware revision', ns.fr],
    ['block count', `${ns.blockcount} (${bytesText(ns.blockcount * ns.blocksize)})`],
    ['page count', ns.pagecount],
    ['block size', ns.blocksize],
    ['page size', ns.pagesize],
    ['blocks per page', ns.nbpp],
    ['max blocks per I/O', ns.maxbpio],
    ['max pages per I/O', ns.maxppio],
    ['max I/Os per queue', ns.maxiopq],
    ['queue count', ns.qcount],
    ['max queue count', ns.maxqcount],
    ['queue size', ns.qsize],
    ['max queue size', ns.maxqsize],
    ['NVMe version', ns.controller.version],
    ['transport', [kind, how].filter(Boolean).join(', ')],
    ...Object.entries(ns.controller.transport.negotiated ?? {}).map(([name, value]): [string, string] => [
      NEGOTIATED[name] ?? name,
      value === null || value === false ? 'off' : value === true ? 'on' : visible(String(value)),
    ]),
    ...ns.paths.map(({ address, state, ana }, i): [string, string] => [
      `path ${i}`,
      [`${endpointOf(address)}: ${state}`, ana].filter(Boolean).join(', '),
    ]),
  ]
}

/** How `info` names what a transport has agreed on. */
const NEGOTIATED: Readonly<Record<string, string>> = {
  ...{ cntlid: 'controller id', hostnqn: 'host NQN', hostid: 'host id' },
  ...{ hdgst: 'header digest', ddgst: 'data digest', kato: 'keep alive timeout (ms)' },
  ...{ link: 'I/O connections', queues: 'connected I/O queues', entries: 'I/O queue entries' },
  ...{ inCapsule: 'in-capsule data (bytes)', maxH2cData: 'MAXH2CDATA (bytes)' },
  ...{ tls: 'TLS', dhchap: 'DH-HMAC-CHAP' },
}

// What tells paths apart: the rest of the address is the same for all.
function endpointOf(address: string): string {
  return /^[^/]*\/\/([^/]*)/.exec(address)?.[1] ?? address
}

function attributes(ns: Namespace) {
  const { device, id, nscount, vid, mn, sn, fr } = ns
  const { blockcount, pagecount, blocksize, pagesize, blockshift, pageshift, bpshift, nbpp } = ns
  const { maxbpio, maxppio, maxiopq, qcount, maxqcount, qsize, maxqsize } = ns
  return {
    ...{ device, id, nscount, vid, mn, sn, fr },
    ...{ blockcount, pagecount, blocksize, pagesize, blockshift, pageshift, bpshift, nbpp },
    ...{ maxbpio, maxppio, maxiopq, qcount, maxqcount, qsize, maxqsize },
    version: ns.controller.version,
    transport: ns.controller.transport.kind,
    transportDetails: ns.controller.transport.how ?? null,
    negotiated: ns.controller.transport.negotiated ?? null,
    ...(ns.paths.length > 0 && { paths: ns.paths }),
  }
}

export const version = defineCommand({
  name: 'version',
  group: 'System',
  summary: 'Print the version',
  arguments: {},
  options: {},
  examples: [['version', 'as unvme --version']],
  run() {
    print(versionText())
  },
})
