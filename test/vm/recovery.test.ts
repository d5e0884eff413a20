// A controller that is reset by others, or stops, under load: the checks of recovery-checks.ts.
import './recovery-checks.ts'
import { testInMachine } from './machine-test.ts'

testInMachine('recovery-checks.js', { shapes: ['lba512', 'hot'] }, 'recovery')
