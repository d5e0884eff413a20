// A program that says how a device's doorbells are rung: `messages` or `memory`.
// Trade-off: a process of its own, since tests are declared before anything asynchronous can end.

import type { PcieTransport } from '../../lib/nvme/pcie/transport.ts'
import { openController } from '../../src/index.ts'

const handle = await openController(process.argv[2]!)
const { pci } = handle.controller.transport as PcieTransport
process.stdout.write(pci.notify === null ? 'memory' : 'messages')
await handle.close()
