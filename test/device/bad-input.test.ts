import './bad-input.ts'
import { runByAva } from '../support/device-ava.ts'

await runByAva()
