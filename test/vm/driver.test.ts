// The whole driver on a real kernel: the checks of driver-checks.ts. Minutes under emulation, so asked for by
// UNVME_TEST_SUITE=1, and always in CI.
import './driver-checks.ts'
import { leftOutUnlessAsked, testInMachine } from './machine-test.ts'

testInMachine('driver-checks.js', { shapes: ['lba512'], timeLimit: 1500 }, 'the driver', leftOutUnlessAsked)
