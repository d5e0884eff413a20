// Discovery with Linux's target, beside nvme-cli, in the virtual machine: discovery-checks.ts.
import './discovery-checks.ts'
import { testInMachine } from './machine-test.ts'

testInMachine(
  'discovery-checks.js',
  { driver: 'none', iommu: false, programs: ['nvme'] },
  'discovery with Linux’s NVMe/TCP target',
)
