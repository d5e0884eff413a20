// Identifies a controller and a namespace of it, on the modules of lib/ alone: decoded, by the specification's names.
//
//   node dist/examples/admin/identify.js [ADDRESS]

import { CNS, decodeIdentifyController, decodeIdentifyNamespace, formattedLba } from 'unvme/nvme'
import { openAddress } from './open.ts'

const [address = 'sim:?size=64M'] = process.argv.slice(2)
const { controller, nsid } = await openAddress(address)

function show(structure: object): void {
  for (const [name, value] of Object.entries(structure)) {
    if (typeof value !== 'object') console.log(`${name.padEnd(10)}: ${value}`)
  }
}

try {
  console.log(`${address}: NVMe ${controller.version}, namespaces ${await controller.activeNamespaces()}`)
  // Identify is one admin command with 4096 bytes of data; CNS says of what.
  show(decodeIdentifyController(await controller.identify(CNS.CONTROLLER)))

  console.log(`\nnamespace ${nsid}`)
  const id = decodeIdentifyNamespace(await controller.identify(CNS.NAMESPACE, { nsid }))
  show(id)
  const { bytes, ms } = formattedLba(id)
  console.log(`${id.nsze} blocks of ${bytes} bytes, with ${ms} bytes of metadata`)
} finally {
  await controller.close()
}
