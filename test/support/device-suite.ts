// The tests of test/device: plain functions, each for every device, which ava runs (device-ava.ts), and in the
// virtual machine a loop (device-loop.ts).

import { type Namespace, type OpenOptions, open } from '../../src/index.ts'
import { type Assertions, makeAssertions } from './assertions.ts'
import { type Capabilities, controllerOf, type Device, findDevices, LACKS, serve } from './devices.ts'
import { endWorkers } from './workers.ts'

interface DeviceUnderTest extends Pick<Device, 'address' | 'randomRuns'> {
  /** Opens it, and closes it after the test at the latest. */
  open(options?: OpenOptions): Promise<Namespace>
}

export interface DeviceContext extends Assertions {
  readonly device: DeviceUnderTest
  log(line: string): void
  /** Calls `end` after the test. */
  teardown(end: () => void): void
}

export type Body = (t: DeviceContext) => Promise<void> | void

interface Requirements {
  /** What it needs of a device: where that is missing it is left out, with the reason in its title. */
  readonly needs?: readonly (keyof Capabilities)[]
  /** What it is run for: each namespace, or the first of each controller. */
  readonly each?: 'namespace' | 'controller'
}

interface Declared {
  readonly title: string
  readonly requirements: Requirements
  readonly body: Body
}

interface SuiteTest {
  readonly title: string
  /** What the device lacks of what the test needs; null where it can run. */
  readonly lacks: string | null
  run(log: (line: string) => void): Promise<void>
}

const declared: Declared[] = []

/** Declares a test of each device. */
export function deviceTest(title: string, body: Body): void
export function deviceTest(title: string, requirements: Requirements, body: Body): void
export function deviceTest(title: string, ...rest: [Body] | [Requirements, Body]): void {
  const [requirements, body] = rest.length === 1 ? [{}, rest[0]] : rest
  declared.push({ title, requirements, body })
}

/** The tests declared since the last call, on every device, in the order in which they are run. */
export async function takeTests(): Promise<SuiteTest[]> {
  const devices = await findDevices()
  const isFirst = (device: Device) =>
    devices.find((other) => controllerOf(other) === controllerOf(device)) === device
  return declared
    .splice(0)
    .flatMap((test) =>
      devices
        .filter((device) => test.requirements.each !== 'controller' || isFirst(device))
        .map((device) => onDevice(device, test)),
    )
}

function onDevice(device: Device, { title, requirements, body }: Declared): SuiteTest {
  const lacking = requirements.needs?.find((need) => !device.supports[need])
  return {
    title: `${device.name}: ${title}`,
    lacks: lacking === undefined ? null : LACKS[lacking],
    run: (log) => runTest(device, body, log),
  }
}

async function runTest(device: Device, body: Body, log: (line: string) => void): Promise<void> {
  const { address, randomRuns } = device
  const opened: Namespace[] = []
  const teardowns: (() => void)[] = []
  const { verdict, ...assertions } = makeAssertions()
  await serve(device)
  try {
    await body({
      ...assertions,
      log,
      teardown: (end) => void teardowns.push(end),
      device: {
        address,
        randomRuns,
        async open(options) {
          const ns = await open(address, options)
          opened.push(ns)
          return ns
        },
      },
    })
  } finally {
    for (const ns of opened.reverse()) await ns.close()
    for (const end of teardowns.reverse()) end()
    await endWorkers()
  }
  verdict()
}
