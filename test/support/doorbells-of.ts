// A program that says how a device's doorbells are rung: `messages` or `memory`.
// Trade-off: a process of its own, since tests are declared before anything asynchronous can end.

import { openController } from '../../src/index.ts'

const handle = await openController(process.argv[2]!)
process.stdout.write(handle.controller.pci.notify === null ? 'memory' : 'messages')
await handle.close()
