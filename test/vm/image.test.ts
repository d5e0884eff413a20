// Sparse images on QEMU's controller with discard: the checks of image-checks.ts, and what the host has of them.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import { shapes } from '../../scripts/vm/shapes.ts'
import './image-checks.ts'
import { leftOut, registerUnless, testInMachine } from './machine-test.ts'

const MIB = 2 ** 20
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-'))
const disk = path.join(folder, 'disk')
// Full of what was there before.
fs.writeFileSync(disk, Buffer.alloc(64 * MIB, 1))
test.after.always(() => fs.rmSync(folder, { recursive: true, force: true }))

const ADDRESS = shapes.lba4096.address
testInMachine('image-checks.js', {
  disks: { lba4096: disk },
  shapes: ['lba4096'],
  driver: 'vfio',
  env: { ADDRESS },
})

const last = registerUnless(leftOut('the image on the host'))
last('the image on the host has blocks for data, and for what was not written, and for nothing else', (t) => {
  t.is(fs.readFileSync(disk).subarray(0, MIB)[0], 7)
  const used = fs.statSync(disk).blocks * 512
  t.true(used >= (24 + 2) * MIB && used < (24 + 3) * MIB, `${used} bytes`)
})
