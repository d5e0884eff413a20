// The same controller seen by nvme-cli and by `unvme`, both through the kernel's driver, in one boot: nvme-cli-checks.ts.
import './nvme-cli-checks.ts'
import { testInMachine } from './machine-test.ts'

testInMachine(
  'nvme-cli-checks.js',
  { shapes: ['lba512'], driver: 'nvme', programs: ['nvme'], env: { UNVME_CHECK_ADDRESS: '/dev/nvme0' } },
  'nvme-cli',
)
