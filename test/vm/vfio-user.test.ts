// A device of the kernel's driver behind a vfio-user socket: the checks of vfio-user-checks.ts.

import './vfio-user-checks.ts'
import { testInMachine } from './machine-test.ts'

testInMachine('vfio-user-checks.js', { shapes: ['lba4096'], driver: 'nvme' }, 'a device behind vfio-user')
