// The devices that the suite in test/device runs on: every kind by default, or one address from the environment.
// Trade-off: a device's tests run one after another, since a real device is opened by one process at a time;
// the run on real devices gives ava `--serial --concurrency=1`.

import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import { type Namespace, type OpenOptions, open, type ServeOptions } from '../../src/index.ts'
import { newSocketPath, startServer } from './server.ts'

const DOORBELLS_OF = fileURLToPath(new URL('./doorbells-of.js', import.meta.url))

interface DeviceKind {
  /** In the titles of tests. */
  readonly name: string
  readonly address: string
  /** Behind a socket, in a process that is started for its first test: what is served there. */
  readonly served?: ServeOptions
}

/** Small on purpose: a test that needs more than 32 MiB would be slow in the virtual machine. */
const EMBEDDED = [
  'sim:?size=32M',
  'sim:?size=32M&lba=4096&mdts=2',
  'sim:?size=32M&mdts=0&qsize=64&dstrd=2&shadow=1',
  'sim:?size=32M&latency=50us',
  'sim:?size=32M&thread=1',
]

const SERVED: readonly ServeOptions[] = [
  { device: 'sim:?size=32M' },
  { device: 'sim:?size=32M&lba=4096&mdts=2', doorbells: 'shadow' },
]

const byAddress = (address: string): DeviceKind => ({ name: address, address })
const byService = (served: ServeOptions): DeviceKind => ({
  name: `vfio-user (${served.device}, doorbells ${served.doorbells ?? 'mapped'})`,
  address: `vfio-user:${newSocketPath()}`,
  served,
})

/** Devices under test: UNVME_TEST_ADDRESS has one address, or several with spaces between. */
const devices: readonly DeviceKind[] = process.env.UNVME_TEST_ADDRESS?.split(/\s+/)
  .filter(Boolean)
  .map(byAddress) ?? [...EMBEDDED.map(byAddress), ...SERVED.map(byService)]

const servers = new Map<string, Promise<unknown>>()

function serverOf({ address, served }: DeviceKind): Promise<unknown> {
  const known = servers.get(address)
  if (known !== undefined || served === undefined) return known ?? Promise.resolve()
  const starting = startServer(served, address.slice('vfio-user:'.length))
  servers.set(address, starting)
  return starting
}

export interface DeviceUnderTest {
  readonly address: string
  /** Opens it, and closes it after the test at the latest. */
  open(options?: OpenOptions): Promise<Namespace>
}

export type DeviceContext = ExecutionContext<{ device: DeviceUnderTest }>

const controllerOf = ({ address }: DeviceKind) => address.replace(/\/\d+$/, '')

/** Queues are the controller's, so that one of its namespaces is enough. */
const first = (kind: DeviceKind) =>
  devices.find((other) => controllerOf(other) === controllerOf(kind)) === kind

/** True where doorbells are messages of one connection, which no other thread can send: a server is asked. */
function ringsByMessage({ address, served }: DeviceKind): boolean {
  if (served !== undefined) return served.doorbells === 'shadow'
  if (!address.startsWith('vfio-user:')) return false
  return execFileSync(process.execPath, [DOORBELLS_OF, address], { encoding: 'utf8' }) === 'messages'
}

let threaded: { shareable: DeviceKind[]; others: DeviceKind[] } | undefined

function findThreaded(): { shareable: DeviceKind[]; others: DeviceKind[] } {
  const shareable: DeviceKind[] = []
  const others: DeviceKind[] = []
  for (const kind of devices.filter(first)) (ringsByMessage(kind) ? others : shareable).push(kind)
  return { shareable, others }
}

/**
 * As deviceTest, for what shares queues with worker threads: left out, and said so in the title, on those devices where
 * that can't be.
 */
export function threadedDeviceTest(title: string, body: (t: DeviceContext) => Promise<void> | void): void {
  threaded ??= findThreaded()
  testOn(threaded.shareable, title, body)
  for (const { name } of threaded.others) {
    anyTest.skip(`${name}: ${title} (left out: its doorbells are messages)`, () => {})
  }
}

/**
 * A test on each device: `t.context.device` opens it. Everything that the test opened is closed after it.
 */
export function deviceTest(title: string, body: (t: DeviceContext) => Promise<void> | void): void {
  testOn(devices, title, body)
}

function testOn(
  kinds: readonly DeviceKind[],
  title: string,
  body: (t: DeviceContext) => Promise<void> | void,
): void {
  const test = anyTest as TestFn<{ device: DeviceUnderTest }>
  for (const device of kinds) {
    const { name, address } = device
    test.serial(`${name}: ${title}`, async (t) => {
      const opened: Namespace[] = []
      await serverOf(device)
      t.context = {
        device: {
          address,
          async open(options) {
            const ns = await open(address, options)
            opened.push(ns)
            return ns
          },
        },
      }
      try {
        await body(t)
      } finally {
        for (const ns of opened.reverse()) await ns.close()
      }
    })
  }
}

export { pattern } from './pattern.ts'
