// `unvme id-ctrl`, `id-ns`, `list-ns` and `show-regs`: what a controller and its namespaces say of themselves.
// Trade-off: views are loaded when a command runs, so that help needs none of them.

import { CNS } from '../../../lib/nvme/identify/cns.ts'
import { decodeNamespaceList } from '../../../lib/nvme/identify/lists.ts'
import { readRegister } from '../../../lib/pci/index.ts'
import { chosenNamespace, namespaceIdOption } from '../admin/command.ts'
import { showCommand } from '../admin/show.ts'
import { flag, valueOr } from '../define.ts'
import { note } from '../output.ts'
import { integer } from '../parse.ts'

const vendorSpecific = () => flag('dump the vendor specific bytes too', { short: 'v' })

const idCtrl = showCommand({
  name: 'id-ctrl',
  summary: 'Show Identify Controller: model, limits, what is supported, power states',
  options: { vendorSpecific: vendorSpecific() },
  examples: [
    ['id-ctrl 0a:00.0', 'every field by its name in the specification'],
    ['id-ctrl sim: -H', 'with the words of flags taken apart'],
    ['id-ctrl 0a:00.0 -o json', "for programs, by nvme-cli's keys"],
  ],
  async read({ handle, options }) {
    const { viewController } = await import('../admin/views/controller.ts')
    const bytes = await handle.controller.identify(CNS.CONTROLLER)
    return viewController(bytes, { vendor: options.vendorSpecific })
  },
})

const idNs = showCommand({
  name: 'id-ns',
  summary: 'Show Identify Namespace: sizes, LBA formats, metadata, protection',
  options: {
    namespaceId: namespaceIdOption(),
    force: flag('show a namespace that exists and is not attached'),
    vendorSpecific: vendorSpecific(),
  },
  examples: [
    ['id-ns 0a:00.0/2', 'of namespace 2'],
    ["id-ns 'sim:?ns=3' -n 3 -H", 'with the words of flags taken apart'],
  ],
  async read(context) {
    const { viewNamespace } = await import('../admin/views/namespace.ts')
    const { handle, options } = context
    const nsid = await chosenNamespace(context)
    const cns = options.force ? CNS.ALLOCATED_NAMESPACE : CNS.NAMESPACE
    const bytes = await handle.controller.identify(cns, { nsid })
    if (bytes.every((byte) => byte === 0)) note(`namespace ${nsid} is not active`)
    return viewNamespace(bytes, { vendor: options.vendorSpecific })
  },
})

const listNs = showCommand({
  name: 'list-ns',
  summary: 'List the namespaces of a controller by their ids',
  options: {
    namespaceId: valueOr('NSID', integer({ min: 1, max: 0xffff_fffe }), 1, 'the first id to list', {
      short: 'n',
    }),
    all: flag('also those that exist and are not attached', { short: 'a' }),
  },
  examples: [
    ['list-ns 0a:00.0', 'the active namespaces'],
    ['list-ns 0a:00.0 --all -o json', 'all that exist, for programs'],
  ],
  async read({ handle, options }) {
    const cns = options.all ? CNS.ALLOCATED_NAMESPACES : CNS.ACTIVE_NAMESPACES
    // The list begins after the id that the command names.
    const bytes = await handle.controller.identify(cns, { nsid: options.namespaceId - 1 })
    const nsids = decodeNamespaceList(bytes)
    const { numberedList } = await import('../admin/views/lists.ts')
    return {
      bytes,
      text: () => numberedList(nsids),
      json: () => ({ nsid_list: nsids.map((nsid) => ({ nsid })) }),
    }
  },
})

const nsDescs = showCommand({
  name: 'ns-descs',
  summary: 'Show the identification descriptors of a namespace: EUI64, NGUID, UUID, command set',
  options: { namespaceId: namespaceIdOption() },
  examples: [['ns-descs 0a:00.0', 'of the only namespace']],
  async read(context) {
    const { viewDescriptors } = await import('../admin/views/lists.ts')
    const nsid = await chosenNamespace(context)
    return viewDescriptors(await context.handle.controller.identify(CNS.NAMESPACE_DESCRIPTORS, { nsid }))
  },
})

const listCtrl = showCommand({
  name: 'list-ctrl',
  summary: 'List the controllers of the NVM subsystem, or those that a namespace is attached to',
  options: {
    cntid: valueOr('ID', integer({ max: 0xffff }), 0, 'the first id to list', { short: 'c' }),
    namespaceId: namespaceIdOption('namespace (default: all controllers)'),
  },
  examples: [['list-ctrl 0a:00.0 -n 1', 'those that can use namespace 1']],
  async read({ handle, nsid, options }) {
    const { viewControllers } = await import('../admin/views/lists.ts')
    const cns = nsid === undefined ? CNS.CONTROLLERS : CNS.ATTACHED_CONTROLLERS
    const cdw10 = options.cntid * 0x1_0000
    return viewControllers(await handle.controller.identify(cns, { nsid: nsid ?? 0, cdw10 }))
  },
})

const independent = showCommand({
  name: 'cmdset-ind-id-ns',
  summary: 'Show what Identify Namespace says for any I/O command set (NVMe 2.0)',
  options: { namespaceId: namespaceIdOption() },
  examples: [['cmdset-ind-id-ns 0a:00.0 -H', 'with the words of flags taken apart']],
  async read(context) {
    const { viewIndependent } = await import('../admin/views/lists.ts')
    const nsid = await chosenNamespace(context)
    return viewIndependent(await context.handle.controller.identify(CNS.INDEPENDENT_NAMESPACE, { nsid }))
  },
})

const showRegs = showCommand({
  name: 'show-regs',
  summary: 'Show the registers of a controller',
  details: 'They are those of the controller as this driver has set it up, enabled and ready.',
  options: {},
  examples: [['show-regs 0a:00.0 -H', 'with their fields']],
  async read({ handle }) {
    const { viewRegisters } = await import('../admin/views/registers.ts')
    return viewRegisters((offset) => readRegister(handle.controller.pci, offset))
  },
})

export const identifyCommands = [idCtrl, idNs, listNs, nsDescs, listCtrl, independent, showRegs]
