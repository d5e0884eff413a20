// `unvme id-ctrl`, `id-ns`, `list-ns` and `show-regs`: what a controller and its namespaces say of themselves.
// Trade-off: views are loaded when a command runs, so that help needs none of them.

import { NvmeError } from '../../../lib/errors.ts'
import { CNS, encodeNamespaceList, NAMESPACE_LIST_ENTRIES } from '../../../lib/nvme/spec/identify.ts'
import { MAX_NSID } from '../../../lib/nvme/spec/opcodes.ts'
import { adminCommand, chosenNamespace, namespaceIdOption } from '../admin/command.ts'
import { showCommand } from '../admin/show.ts'
import { flag, value, valueOr } from '../define.ts'
import { note, print } from '../output.ts'
import { integer } from '../parse.ts'

const lists = () => import('../admin/views/identify.ts')

const vendorSpecific = () => flag('dump the vendor specific bytes too', { short: 'v', also: ['-V'] })

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
    const bytes = await handle.controller.identify(CNS.CONTROLLER)
    const show = async () => {
      const { viewController } = await import('../admin/views/identify.ts')
      return viewController(bytes, { vendor: options.vendorSpecific })
    }
    return { bytes, show }
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
    const { handle, options } = context
    const nsid = await chosenNamespace(context)
    const cns = options.force ? CNS.ALLOCATED_NAMESPACE : CNS.NAMESPACE
    const bytes = await handle.controller.identify(cns, { nsid })
    if (bytes.every((byte) => byte === 0)) note(`namespace ${nsid} is not active`)
    const show = async () => {
      const { viewNamespace } = await import('../admin/views/identify.ts')
      return viewNamespace(bytes, { vendor: options.vendorSpecific })
    }
    return { bytes, show }
  },
})

const listNs = showCommand({
  name: 'list-ns',
  summary: 'List the namespaces of a controller by their ids',
  options: {
    namespaceId: valueOr('NSID', integer({ min: 1, max: MAX_NSID }), 1, 'the first id to list', {
      short: 'n',
    }),
    csi: value('N', integer({ max: 255 }), 'those of one I/O command set (NVMe 2.0)', { short: 'y' }),
    all: flag('also those that exist and are not attached', { short: 'a' }),
  },
  examples: [
    ['list-ns 0a:00.0', 'the active namespaces'],
    ['list-ns 0a:00.0 --all -o json', 'all that exist, for programs'],
  ],
  async read({ handle, options }) {
    const { namespaceId: first, csi, all } = options
    const [active, allocated] =
      csi === undefined
        ? [CNS.ACTIVE_NAMESPACES, CNS.ALLOCATED_NAMESPACES]
        : [CNS.COMMAND_SET_ACTIVE_NAMESPACES, CNS.COMMAND_SET_ALLOCATED_NAMESPACES]
    // The list begins after the id that the command names.
    const from = { nsid: first - 1, cdw11: ((csi ?? 0) << 24) >>> 0 }
    const asked = handle.controller.identify(all ? allocated : active, from)
    const bytes = await asked.catch(async (error: unknown) => {
      if (!(error instanceof NvmeError) || all || csi !== undefined) throw error
      // A controller without lists: the driver knows another way.
      const nsids = (await handle.namespaces()).filter((nsid) => nsid >= first)
      return Buffer.from(encodeNamespaceList(nsids.slice(0, NAMESPACE_LIST_ENTRIES)))
    })
    return { bytes, show: async () => (await lists()).viewNamespaceList(bytes) }
  },
})

const nsDescs = showCommand({
  name: 'ns-descs',
  summary: 'Show the identification descriptors of a namespace: EUI64, NGUID, UUID, command set',
  options: { namespaceId: namespaceIdOption() },
  examples: [['ns-descs 0a:00.0', 'of the only namespace']],
  async read(context) {
    const nsid = await chosenNamespace(context)
    const bytes = await context.handle.controller.identify(CNS.NAMESPACE_DESCRIPTORS, { nsid })
    return { bytes, show: async () => (await lists()).viewDescriptors(bytes) }
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
    const cns = nsid === undefined ? CNS.CONTROLLERS : CNS.ATTACHED_CONTROLLERS
    const cdw10 = options.cntid * 0x1_0000
    const bytes = await handle.controller.identify(cns, { nsid: nsid ?? 0, cdw10 })
    return { bytes, show: async () => (await lists()).viewControllers(bytes) }
  },
})

const independent = showCommand({
  name: 'cmdset-ind-id-ns',
  summary: 'Show what Identify Namespace says for any I/O command set (NVMe 2.0)',
  options: { namespaceId: namespaceIdOption() },
  examples: [['cmdset-ind-id-ns 0a:00.0 -H', 'with the words of flags taken apart']],
  async read(context) {
    const nsid = await chosenNamespace(context)
    const bytes = await context.handle.controller.identify(CNS.INDEPENDENT_NAMESPACE, { nsid })
    return { bytes, show: async () => (await lists()).viewIndependent(bytes) }
  },
})

const showRegs = showCommand({
  name: 'show-regs',
  summary: 'Show the registers of a controller',
  details: 'They are those of the controller as this driver has set it up, enabled and ready.',
  options: {},
  examples: [['show-regs 0a:00.0 -H', 'with their fields']],
  async read({ handle }) {
    const { readRegisters, viewRegisters } = await import('../admin/views/registers.ts')
    const bytes = await readRegisters((offset) => handle.controller.transport.readProperty(offset))
    return { bytes, show: () => viewRegisters(bytes) }
  },
})

const getNsId = adminCommand({
  name: 'get-ns-id',
  group: 'Identify and logs',
  summary: 'Print the namespace id of an address: the one it names, or the only one',
  options: { namespaceId: namespaceIdOption() },
  examples: [['get-ns-id 0a:00.0', 'of the only namespace']],
  async run(context) {
    print(`${context.address}: namespace-id:${await chosenNamespace(context)}`)
  },
})

export const identifyCommands = [getNsId, idCtrl, idNs, listNs, nsDescs, listCtrl, independent, showRegs]
