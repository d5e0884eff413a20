// The whole driver on a real kernel: the checks of driver-checks.ts. Minutes under emulation, so asked for by
// UNVME_TEST_SUITE=1, and always in CI.
import './driver-checks.ts'
import test from 'ava'
import { testInMachine } from './machine-test.ts'

if (process.env.CI || process.env.UNVME_TEST_SUITE) {
  testInMachine('driver-checks.js', { shapes: ['lba512'], timeLimit: 1500 }, 'the driver')
} else {
  process.stdout.write('left out, the driver in the virtual machine: set UNVME_TEST_SUITE=1\n')
  test.skip('the driver in the virtual machine, left out since it takes minutes: set UNVME_TEST_SUITE=1', (t) =>
    t.fail())
}
