// Runs in the virtual machine: images on QEMU's controllers, whose namespaces are files of the host.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import { compare, copy, open } from '../../src/index.ts'
import { check, runChecks } from './checks.ts'

const MIB = 2 ** 20
const IMAGE = '/run/image'
const { ADDRESS = '' } = process.env

check('copy: holes of an image are deallocated, and read back as zeroes from the medium', async () => {
  const fd = fs.openSync(IMAGE, 'w')
  for (const at of [0, 20]) fs.writeSync(fd, Buffer.alloc(MIB, 7), 0, MIB, at * MIB)
  fs.ftruncateSync(fd, 40 * MIB)
  fs.closeSync(fd)
  await using ns = await open(ADDRESS)
  const result = await copy(IMAGE, ns, { verify: true })
  assert.equal(result.written, 2 * MIB)
  assert.equal(result.skipped, 38 * MIB)
  assert.equal(result.targets[0]!.verified, 40 * MIB)
  assert.equal((await compare(IMAGE, ns)).difference, null)
})

await runChecks()
