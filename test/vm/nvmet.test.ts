// The device suite against Linux's target, which runs in the virtual machine: one boot, with and without digests.

import fs from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { findParts, partsRequired } from '../../scripts/vm/parts.ts'
import { runByAva } from '../support/device-ava.ts'
import { startNvmet } from '../support/nvmet.ts'
import { leftOut } from './machine-test.ts'

/** What is missing, in one line. A cache of before has no network card's modules. */
function missingParts(): string | null {
  const missing = leftOut('Linux’s NVMe/TCP target')
  const found = findParts()
  if (missing !== null || 'missing' in found) return missing
  const { modules } = found.parts
  const card = 'kernel/drivers/net/virtio_net.ko'
  if (modules !== undefined && fs.existsSync(path.join(modules, card))) return null
  const line = `the kernel in the cache has no ${card}: remove its folder and run scripts/vm/setup`
  if (partsRequired()) throw new Error(line)
  process.stdout.write(`left out, Linux’s NVMe/TCP target in the virtual machine: ${line}\n`)
  return line
}

const missing = missingParts()
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
