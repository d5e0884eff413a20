// NVMe over TCP on a bad network, in the virtual machine: network-checks.ts.
import './network-checks.ts'
import { leftOutUnlessAsked, testInMachine } from './machine-test.ts'

testInMachine(
  'network-checks.js',
  {
    driver: 'none',
    iommu: false,
    programs: ['ip', 'tc'],
    module: 'kernel/net/sched/sch_netem.ko',
    timeLimit: 600,
  },
  'NVMe over TCP on a bad network',
  leftOutUnlessAsked,
)
