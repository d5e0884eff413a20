// A device of the kernel's driver that is taken away while it works: kernel-unplug-checks.ts.
import './kernel-unplug-checks.ts'
import { testInMachine } from './machine-test.ts'

testInMachine(
  'kernel-unplug-checks.js',
  { shapes: ['hot'], driver: 'nvme', iommu: false },
  "unplugging the kernel's devices",
)
