import './plain-buffers.ts'
import { runByAva } from '../support/device-ava.ts'

await runByAva()
