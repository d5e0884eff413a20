// The devices that the suite in test/device runs on: every kind by default, or one address from the environment.
// Trade-off: a device's tests run one after another, since a real device is opened by one process at a time;
// the run on real devices gives ava `--serial --concurrency=1`.

import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import { type Namespace, type OpenOptions, open } from '../../src/index.ts'

/** Small on purpose: a test that needs more than 32 MiB would be slow in the virtual machine. */
const EMBEDDED = [
  'sim:?size=32M',
  'sim:?size=32M&lba=4096&mdts=2',
  'sim:?size=32M&mdts=0&qsize=64&dstrd=2&shadow=1',
  'sim:?size=32M&latency=50us',
  'sim:?size=32M&thread=1',
]

/** Addresses under test: UNVME_TEST_ADDRESS has one, or several with spaces between. */
export const addresses = process.env.UNVME_TEST_ADDRESS?.split(/\s+/).filter(Boolean) ?? EMBEDDED

export interface DeviceUnderTest {
  readonly address: string
  /** Opens it, and closes it after the test at the latest. */
  open(options?: OpenOptions): Promise<Namespace>
}

export type DeviceContext = ExecutionContext<{ device: DeviceUnderTest }>

/**
 * A test on each device: `t.context.device` opens it. Everything that the test opened is closed after it.
 */
export function deviceTest(title: string, body: (t: DeviceContext) => Promise<void> | void): void {
  const test = anyTest as TestFn<{ device: DeviceUnderTest }>
  for (const address of addresses) {
    test.serial(`${address}: ${title}`, async (t) => {
      const opened: Namespace[] = []
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
