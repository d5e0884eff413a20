// What may be overwritten by its path, on a real kernel's block devices: the checks of overwrite-checks.ts.
import './overwrite-checks.ts'
import { testInMachine } from './machine-test.ts'

testInMachine(
  'overwrite-checks.js',
  { shapes: ['lba512', 'lba4096'], driver: 'nvme' },
  'overwriting block devices',
)
