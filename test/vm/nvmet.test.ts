// The device suite against Linux's target, which runs in the virtual machine: one boot, with and without digests.

import test from 'ava'
import { runByAva } from '../support/device-ava.ts'
import { startNvmet } from '../support/nvmet.ts'
import { leftOutWithoutNetwork } from './machine-test.ts'

const missing = leftOutWithoutNetwork('Linux’s NVMe/TCP target')
if (missing !== null) {
  test.skip(`the device suite on Linux’s NVMe/TCP target (left out: ${missing})`, () => {})
} else {
  const target = await startNvmet()
  process.env.UNVME_TEST_ADDRESS = [target.address(), target.address('hdgst=1&ddgst=1')].join(' ')
  for (const suite of ['raw', 'bad-input', 'transfer', 'streams', 'random']) {
    await import(`../device/${suite}.js`)
  }
  await runByAva(() => target.end())
}
