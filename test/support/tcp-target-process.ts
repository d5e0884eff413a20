// A target in a process of its own: device, port and limits are its arguments. It says its port, and ends with its parent.

import { startTarget } from './tcp-target.ts'

const [device, port, limits] = process.argv.slice(2)
const target = await startTarget(device, { ...JSON.parse(limits!), port: Number(port) })
process.send!(target.port)
process.on('disconnect', () => process.exit())
