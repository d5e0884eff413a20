// Linux's NBD client on a device that is served: the checks of nbd-checks.ts.

import { leaveOut } from '../support/left-out.ts'
import { withoutTool } from '../support/tools.ts'
import './nbd-checks.ts'
import { testInMachine } from './machine-test.ts'

const missing = Object.entries({ 'nbd-client': 'nbd-client', 'mkfs.ext4': 'e2fsprogs', fstrim: 'util-linux' })
  .filter(([name, from]) => withoutTool(name, from))
  .map(([name]) => name)
if (missing.length > 0) {
  leaveOut(`${missing.join(', ')} not installed`, 'the kernel’s NBD client')
} else testInMachine('nbd-checks.js', { shapes: ['lba4096'], driver: 'vfio' }, 'the kernel’s NBD client')
