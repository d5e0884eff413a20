// Prints what UNVMe calls the attributes of a namespace.
//
//   node dist/examples/unvme/unvme-info.js ADDR
//
// Only what the driver works with; `unvme id-ctrl` and `unvme id-ns` print all that the device says.

import { fields, print, program } from './support/program.ts'

await program({
  name: 'unvme-info',
  summary: 'Print the attributes of a namespace',
  options: {},
  examples: [
    ['0a:00.0/1', 'namespace 1 of a device'],
    ['sim:', 'the software controller'],
  ],
  quiet: true,
  run({ ns }) {
    const vid = `0x${ns.vid.toString(16).padStart(4, '0')}`
    print(`${ns.device}: namespace ${ns.id} (of ${ns.nscount})`)
    print(
      fields([
        ['vendor id', vid],
        ['model number', ns.mn],
        ['serial number', ns.sn],
        ['firmware revision', ns.fr],
        ['block count', ns.blockcount],
        ['page count', ns.pagecount],
        ['block size', ns.blocksize],
        ['page size', ns.pagesize],
        ['blocks per page', ns.nbpp],
        ['max blocks per I/O', ns.maxbpio],
        ['max queue count', ns.maxqcount],
        ['max queue size', ns.maxqsize],
      ]),
    )
  },
})
