// VFIO on a real kernel: the checks of vfio-checks.ts.
import './vfio-checks.ts'
import { testInMachine } from './machine-test.ts'

testInMachine('vfio-checks.js', { shapes: ['lba512', 'group'] })
