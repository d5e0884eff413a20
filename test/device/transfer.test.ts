import './transfer.ts'
import { runByAva } from '../support/device-ava.ts'

await runByAva()
