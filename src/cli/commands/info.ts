// `unvme info`: the attributes of a namespace, in UNVMe's order.
// Trade-off: what the driver uses, and no more; Identify data is for the commands that decode it.

import type { Namespace } from '../../namespace/namespace.ts'
import { argument, defineCommand, outputOption } from '../define.ts'
import { bytesText, fields, print, printJson } from '../output.ts'
import { text } from '../parse.ts'
import { namespaceOption } from '../transfer.ts'

export const info = defineCommand({
  name: 'info',
  group: 'System',
  summary: 'Show the attributes of a namespace: model, sizes, limits of a transfer, queues',
  arguments: { address: argument('ADDR', text, 'address of the device') },
  options: { namespaceId: namespaceOption(), output: outputOption() },
  examples: [
    ['info 0a:00.0', 'the first namespace of a device'],
    ['info sim: -o json', 'the software controller, for programs, by the names of the API'],
  ],
  async run({ args, options }) {
    const { open } = await import('../../index.ts')
    const { namespaceId: nsid } = options
    const ns = await open(args.address, nsid === undefined ? {} : { nsid })
    try {
      if (options.output === 'json') printJson(attributes(ns))
      else print(fields(describe(ns)))
    } finally {
      await ns.close()
    }
  },
})

function describe(ns: Namespace): [string, string | number][] {
  return [
    ['device', ns.device],
    ['namespace', `${ns.id} (of ${ns.nscount})`],
    ['vendor id', `0x${ns.vid.toString(16).padStart(4, '0')}`],
    ['model number', ns.mn],
    ['serial number', ns.sn],
    ['firmware revision', ns.fr],
    ['block count', `${ns.blockcount} (${bytesText(ns.blockcount * ns.blocksize)})`],
    ['page count', ns.pagecount],
    ['block size', ns.blocksize],
    ['page size', ns.pagesize],
    ['blocks per page', ns.nbpp],
    ['max blocks per I/O', ns.maxbpio],
    ['max pages per I/O', ns.maxppio],
    ['max I/Os per queue', ns.maxiopq],
    ['queue count', ns.qcount],
    ['max queue count', ns.maxqcount],
    ['queue size', ns.qsize],
    ['max queue size', ns.maxqsize],
    ['NVMe version', ns.controller.version],
    ['transport', ns.controller.transport.kind],
  ]
}

function attributes(ns: Namespace) {
  const { device, id, nscount, vid, mn, sn, fr } = ns
  const { blockcount, pagecount, blocksize, pagesize, blockshift, pageshift, bpshift, nbpp } = ns
  const { maxbpio, maxppio, maxiopq, qcount, maxqcount, qsize, maxqsize } = ns
  return {
    ...{ device, id, nscount, vid, mn, sn, fr },
    ...{ blockcount, pagecount, blocksize, pagesize, blockshift, pageshift, bpshift, nbpp },
    ...{ maxbpio, maxppio, maxiopq, qcount, maxqcount, qsize, maxqsize },
    version: ns.controller.version,
    transport: ns.controller.transport.kind,
  }
}
