// The device suite against Linux's target, which runs in the virtual machine: one boot, with and without digests.

import { runByAva } from '../support/device-ava.ts'
import { leaveOut } from '../support/left-out.ts'
import { startNvmet } from '../support/nvmet.ts'
import { leftOutWithoutNetwork } from './machine-test.ts'

const missing = leftOutWithoutNetwork('Linux’s NVMe/TCP target')
if (missing !== null) {
  leaveOut(missing, 'the device suite on Linux’s NVMe/TCP target')
} else {
  const target = await startNvmet()
  // Its threads connect in either way.
  const queries = ['', 'hdgst=1&ddgst=1&link=raw']
  process.env.UNVME_TEST_ADDRESS = queries.map((query) => target.address(query)).join(' ')
  for (const suite of ['raw', 'bad-input', 'plain-buffers', 'transfer', 'streams', 'random', 'threads']) {
    await import(`../device/${suite}.js`)
  }
  await runByAva(() => target.end())
}
