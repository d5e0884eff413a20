// Linux's NBD client on a device that is served: the checks of nbd-checks.ts.

import test from 'ava'
import { withoutTool } from '../support/tools.ts'
import './nbd-checks.ts'
import { testInMachine } from './machine-test.ts'

const missing = [
  withoutTool('nbd-client', 'nbd-client'),
  withoutTool('mkfs.ext4', 'e2fsprogs'),
  withoutTool('fstrim', 'util-linux'),
].includes(true)
if (missing) test.skip('the kernel’s NBD client (left out: a program is missing)', () => {})
else testInMachine('nbd-checks.js', { shapes: ['lba4096'], driver: 'vfio' }, 'the kernel’s NBD client')
