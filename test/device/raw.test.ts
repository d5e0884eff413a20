import './raw.ts'
import { runByAva } from '../support/device-ava.ts'

await runByAva()
