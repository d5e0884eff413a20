// A device that is taken away while it works: the checks of unplug-checks.ts.
import './unplug-checks.ts'
import { testInMachine } from './machine-test.ts'

testInMachine('unplug-checks.js', { shapes: ['hot'] }, 'unplugging')
