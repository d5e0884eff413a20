// VFIO by iommufd and the device's own file: the checks of vfio-checks.ts, on a kernel that has them.
import { testInMachine } from './machine-test.ts'
import './vfio-checks.ts'

const env = { UNVME_TEST_IOMMUFD: 'always' }
testInMachine('vfio-checks.js', { shapes: ['lba512', 'group'], kernel: 'iommufd', env }, 'iommufd')
