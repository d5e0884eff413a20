// Devices of the kernel's own driver: the checks of kernel-checks.ts.
import './kernel-checks.ts'
import { testInMachine } from './machine-test.ts'

testInMachine(
  'kernel-checks.js',
  { shapes: ['lba512', 'lba4096'], driver: 'nvme', programs: ['strace'] },
  "the kernel's devices",
)
