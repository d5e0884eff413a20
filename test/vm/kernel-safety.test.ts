// Devices of the kernel's own driver, and what could harm data there: kernel-safety-checks.ts.
import './kernel-safety-checks.ts'
import { testInMachine } from './machine-test.ts'

const LIMIT = 'limit'
const backing = {
  ...{ driver: 'throttle', 'node-name': 'slow-ns1', 'throttle-group': LIMIT },
  file: { driver: 'null-co', size: 2 ** 30, 'read-zeroes': true },
}
const zeroes = { driver: 'null-co', 'node-name': 'paths-ns1', size: 2 ** 28, 'read-zeroes': true }

testInMachine(
  'kernel-safety-checks.js',
  {
    shapes: ['multi'],
    driver: 'nvme',
    // 400 commands in a second.
    qemu: [
      ...['-object', `throttle-group,id=${LIMIT},x-iops-total=400`, '-blockdev', JSON.stringify(backing)],
      ...['-device', 'nvme,serial=slow,id=slow', '-device', 'nvme-ns,bus=slow,drive=slow-ns1,nsid=1'],
      // Of a subsystem that may have several controllers: the kernel's own multipath.
      ...['-blockdev', JSON.stringify(zeroes), '-device', 'nvme-subsys,id=subsystem'],
      ...['-device', 'nvme,serial=paths,id=paths,subsys=subsystem'],
      ...['-device', 'nvme-ns,bus=paths,drive=paths-ns1,nsid=1'],
      ...['-blockdev', JSON.stringify({ ...zeroes, 'node-name': 'paths-ns2' })],
      ...['-device', 'nvme-ns,bus=paths,drive=paths-ns2,nsid=2'],
    ],
  },
  "the kernel's devices and what could harm data",
)
