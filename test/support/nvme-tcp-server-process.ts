// A server in a process of its own: devices and options are its argument. It says its ports, takes commands, and ends
// with its parent.

import { type Namespace, type NvmeTcpServerOptions, open, serveNvmeTcp } from '../../src/index.ts'
import type { ServerCall, ServerSetUp } from './nvme-tcp-server.ts'

const { devices, options } = JSON.parse(process.argv[2]!) as ServerSetUp
const namespaces: Namespace[] = []
for (const device of devices) namespaces.push(await open(device, { qcount: 0 }))
const server = await serveNvmeTcp(namespaces, options as NvmeTcpServerOptions)
process.send!(server.listeners.map(({ port }) => port))
process.on('disconnect', () => process.exit())
process.on('message', async (call: ServerCall) => {
  if (call.do === 'ana') server.setAnaState(call.listener, call.state)
  else if (call.do === 'close-listener') await server.listeners[call.listener]!.close()
  else if (call.do === 'reset') await namespaces[0]!.reset()
  else if (call.do === 'close') {
    await server.close()
    for (const namespace of namespaces) await namespace.close()
  }
  process.send!(server.stats)
  if (call.do === 'close') process.disconnect()
})
