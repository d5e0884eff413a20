// VFIO's no-IOMMU mode: the checks of noiommu-checks.ts. Debian's kernel is built without it.
import { testInMachine } from './machine-test.ts'
import './noiommu-checks.ts'

testInMachine(
  'noiommu-checks.js',
  { shapes: ['lba512'], iommu: false, kernel: 'iommufd' },
  'the no-IOMMU mode',
)
