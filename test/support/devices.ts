// The devices that the suite in test/device runs on, and what each transport supports. UNVME_TEST_ADDRESS names
// others: one address, or several with spaces between.

import type { PcieTransport } from '../../lib/nvme/pcie/transport.ts'
import { ONCS } from '../../lib/nvme/spec/flags.ts'
import { openController } from '../../src/index.ts'
import { forkServer, SERVED_NQN } from './nvme-tcp-server.ts'
import { newSocketPath, type ServedOptions, startServer } from './server.ts'
import { HOST, NQN, startTarget, type TargetLimits } from './tcp-target.ts'
import { forkTarget } from './tcp-target-child.ts'

/** What a test can need. */
export interface Capabilities {
  /** Worker threads can have its queues: they are memory, or connections, not messages of one connection. */
  readonly threads: boolean
  /** Memory of one thread can be another's, too. */
  readonly sharedMemory: boolean
  readonly compare: boolean
  readonly verify: boolean
  readonly writeZeroes: boolean
  readonly deallocate: boolean
}

/** In titles of tests that are left out. */
export const LACKS: Readonly<Record<keyof Capabilities, string>> = {
  threads: 'its queues are of one thread',
  sharedMemory: 'its memory is of one thread',
  compare: 'it has no Compare',
  verify: 'it has no Verify',
  writeZeroes: 'it has no Write Zeroes',
  deallocate: 'it has no Dataset Management',
}

interface Transport {
  readonly supports: Capabilities
  /** Of random operations: as many as there is time for. */
  readonly randomRuns: number
}

/** Of the software controller, which has every command. */
const EVERYTHING: Capabilities = {
  threads: true,
  sharedMemory: true,
  compare: true,
  verify: true,
  writeZeroes: true,
  deallocate: true,
}

/** Commands of a device from outside are those that its identity names. */
const TRANSPORTS = {
  sim: { supports: EVERYTHING, randomRuns: 40 },
  vfioUser: { supports: EVERYTHING, randomRuns: 40 },
  vfioUserByMessages: { supports: { ...EVERYTHING, threads: false, sharedMemory: false }, randomRuns: 40 },
  tcp: { supports: { ...EVERYTHING, sharedMemory: false }, randomRuns: 20 },
  tcpPaths: { supports: { ...EVERYTHING, threads: false, sharedMemory: false }, randomRuns: 10 },
  // Most often in the virtual machine, which is some thirteen times slower.
  vfio: { supports: EVERYTHING, randomRuns: 4 },
} as const satisfies Record<string, Transport>

export interface Device extends Transport {
  /** In the titles of tests. */
  readonly name: string
  readonly address: string
  /** Behind a socket, in a process that is started for its first test: what is served there. */
  readonly served?: ServedOptions
}

/** Small on purpose: a test that needs more than 32 MiB would be slow in the virtual machine. */
const EMBEDDED = [
  'sim:?size=32M',
  'sim:?size=32M&lba=4096&mdts=2',
  'sim:?size=32M&mdts=0&qsize=64&dstrd=2&shadow=1',
  'sim:?size=32M&latency=50us',
  'sim:?size=32M&thread=1&sgl=1',
]

const SERVED = [
  { served: { device: 'sim:?size=32M' }, transport: TRANSPORTS.vfioUser },
  {
    served: { device: 'sim:?size=32M&lba=4096&mdts=2', doorbells: 'shadow' },
    transport: TRANSPORTS.vfioUserByMessages,
  },
  // Namespaces of other controllers: commands are copied twice, and end when those say so.
  { served: { namespaces: ['sim:?size=32M'] }, transport: { ...TRANSPORTS.vfioUser, randomRuns: 20 } },
  {
    served: { namespaces: ['sim:?size=32M&lba=4096&mdts=2&latency=20us'], doorbells: 'shadow' },
    transport: { ...TRANSPORTS.vfioUserByMessages, randomRuns: 20 },
  },
] as const satisfies readonly { served: ServedOptions; transport: Transport }[]

/** Targets in this process, on the loopback. */
const NETWORKED: readonly { device: string; query: string; limits: TargetLimits }[] = [
  { device: 'sim:?size=32M', query: '', limits: {} },
  {
    device: 'sim:?size=32M&lba=4096&mdts=2',
    query: 'hdgst=1&ddgst=1',
    limits: { inCapsule: 0, maxH2cData: 4096, maxR2t: 12_288, maxC2hData: 4096, success: true },
  },
]

/** One in a process of its own: calls that block are answered, too. */
const POLLED = { device: 'sim:?size=32M', query: 'link=raw' } as const

async function polledDevice(): Promise<Device> {
  const { device, query } = POLLED
  const { port } = await forkTarget(device)
  return {
    name: `nvme+tcp (${device}, ${query})`,
    address: `nvme+tcp://127.0.0.1:${port}/${NQN}?${HOST}&${query}`,
    ...TRANSPORTS.tcp,
  }
}

/** Two paths to a server in a process of its own. */
async function severalPaths(): Promise<Device> {
  const { device, query } = POLLED
  const { ports, unref } = await forkServer([device], [0, 0])
  unref()
  const hosts = ports.map((port) => `127.0.0.1:${port}`).join(',')
  return {
    name: `nvme+tcp (${device}, two paths, ${query})`,
    address: `nvme+tcp://${hosts}/${SERVED_NQN}?${HOST}&${query}`,
    ...TRANSPORTS.tcpPaths,
  }
}

async function networkedDevices(): Promise<Device[]> {
  return Promise.all([
    polledDevice(),
    severalPaths(),
    ...NETWORKED.map(async ({ device, query, limits }) => {
      const target = await startTarget(device, limits)
      target.server.unref()
      return {
        name: `nvme+tcp (${device}, ${query || 'no digests'})`,
        address: target.address(query),
        ...TRANSPORTS.tcp,
      }
    }),
  ])
}

const nameOf = ({ device = 'sim:', namespaces }: ServedOptions) =>
  namespaces === undefined ? device : `a namespace of ${namespaces.join(', ')}`

async function ownDevices(): Promise<Device[]> {
  return [
    ...EMBEDDED.map((address) => ({ name: address, address, ...TRANSPORTS.sim })),
    ...SERVED.map(({ served, transport }) => ({
      name: `vfio-user (${nameOf(served)}, doorbells ${'doorbells' in served ? served.doorbells : 'mapped'})`,
      address: `vfio-user:${newSocketPath()}`,
      served,
      ...transport,
    })),
    ...(await networkedDevices()),
  ]
}

/** What a controller from outside is: it is asked, since a server chooses how doorbells are rung. */
async function ask(address: string): Promise<Transport> {
  const handle = await openController(address)
  try {
    const { transport, identity } = handle.controller
    const several = 'paths' in handle.controller
    const { supports, randomRuns } = several ? TRANSPORTS.tcpPaths : transportOf(transport as PcieTransport)
    const { oncs } = identity
    const commands = {
      compare: (oncs & ONCS.COMPARE) !== 0,
      verify: (oncs & ONCS.VERIFY) !== 0,
      writeZeroes: (oncs & ONCS.WRITE_ZEROES) !== 0,
      deallocate: (oncs & ONCS.DATASET_MANAGEMENT) !== 0,
    }
    return { supports: { ...supports, ...commands }, randomRuns }
  } finally {
    await handle.close()
  }
}

function transportOf({ kind, pci }: PcieTransport): Transport {
  if (kind === 'sim') return TRANSPORTS.sim
  if (kind === 'tcp') return TRANSPORTS.tcp
  if (kind !== 'vfio-user') return TRANSPORTS.vfio
  return pci.notify === null ? TRANSPORTS.vfioUser : TRANSPORTS.vfioUserByMessages
}

/** Namespaces of one controller have its address in common. */
export const controllerOf = ({ address }: { address: string }) => address.replace(/\/\d+$/, '')

let found: Promise<Device[]> | undefined

/** The devices under test. */
export function findDevices(): Promise<Device[]> {
  found ??= lookForDevices()
  return found
}

async function lookForDevices(): Promise<Device[]> {
  const addresses = process.env.UNVME_TEST_ADDRESS?.split(/\s+/).filter(Boolean)
  if (addresses === undefined) return ownDevices()
  const transports = new Map<string, Transport>()
  const devices: Device[] = []
  for (const address of addresses) {
    const controller = controllerOf({ address })
    const transport = transports.get(controller) ?? (await ask(controller))
    transports.set(controller, transport)
    devices.push({ name: address, address, ...transport })
  }
  return devices
}

const servers = new Map<string, Promise<unknown>>()

/** Starts the process that serves it, where there is one. */
export async function serve({ address, served }: Device): Promise<void> {
  if (served === undefined) return
  const starting = servers.get(address) ?? startServer(served, address.slice('vfio-user:'.length))
  servers.set(address, starting)
  await starting
}
