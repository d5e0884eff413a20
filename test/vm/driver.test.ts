// The whole driver on a real kernel: the checks of driver-checks.ts.
import './driver-checks.ts'
import { testInMachine } from './machine-test.ts'

testInMachine('driver-checks.js', { shapes: ['lba512'], timeLimit: 1500 }, 'the driver')
