// The same controller seen by nvme-cli under the kernel's driver and by `unvme` under VFIO: nvme-cli-checks.ts.
import './nvme-cli-checks.ts'
import { testInMachine } from './machine-test.ts'

testInMachine('nvme-cli-checks.js', { shapes: ['lba512'], driver: 'nvme', programs: ['nvme'] }, 'nvme-cli')
