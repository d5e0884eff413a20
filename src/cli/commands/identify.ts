// `unvme id-ctrl`, `id-ns`, `list-ns` and `show-regs`: what a controller and its namespaces say of themselves.
// Views are loaded when a command runs, so that help needs none of them.

import { NvmeError } from '../../../lib/errors.ts'
import type { IdentifyOptions } from '../../../lib/nvme/host/identify-commands.ts'
import { CNS, encodeNamespaceList, NAMESPACE_LIST_ENTRIES } from '../../../lib/nvme/spec/identify.ts'
import { LBA_STATUS_ACTION } from '../../../lib/nvme/spec/lba-status.ts'
import { MAX_NSID } from '../../../lib/nvme/spec/opcodes.ts'
import {
  type AdminContext,
  adminCommand,
  chosenNamespace,
  namespaceIdOption,
  timeoutOption,
} from '../admin/command.ts'
import { type ShowDefinition, type Shown, type ShowOptions, showCommand } from '../admin/show.ts'
import { flag, type Specs, value, valueOr } from '../define.ts'
import { note, print } from '../output.ts'
import { byte, integer, namedNumber, word } from '../parse.ts'

type Views = typeof import('../admin/views/identify.ts')
const views = (): Promise<Views> => import('../admin/views/identify.ts')

interface IdentifyDefinition<O extends Specs> extends Omit<ShowDefinition<O>, 'read'> {
  /** What is asked for. */
  ask(context: AdminContext<ShowOptions<O>>): Promise<readonly [cns: number, options?: IdentifyOptions]>
  view(views: Views, bytes: Buffer, options: AdminContext<ShowOptions<O>>['options']): Shown
}

/** A command that shows one of the structures of Identify. */
function identifyCommand<const O extends Specs>({ ask, view, ...definition }: IdentifyDefinition<O>) {
  return showCommand<O>({
    ...definition,
    async read(context) {
      const [cns, options] = await ask(context)
      const bytes = await context.handle.controller.identify(cns, options)
      if (cns === CNS.NAMESPACE || cns === CNS.ALLOCATED_NAMESPACE) noteInactive(bytes, options?.nsid)
      return { bytes, show: async () => view(await views(), bytes, context.options) }
    },
  })
}

function noteInactive(bytes: Buffer, nsid: number | undefined): void {
  if (bytes.every((byte) => byte === 0)) note(`namespace ${nsid} is not active`)
}

const vendorSpecific = () => flag('dump the vendor specific bytes too', { short: 'v', also: ['-V'] })

const idCtrl = identifyCommand({
  name: 'id-ctrl',
  summary: 'Show Identify Controller: model, limits, what is supported, power states',
  options: { vendorSpecific: vendorSpecific() },
  examples: [
    ['id-ctrl 0a:00.0', 'every field by its name in the specification'],
    ['id-ctrl sim: -H', 'with the words of flags taken apart'],
    ['id-ctrl 0a:00.0 -o json', "for programs, by nvme-cli's keys"],
  ],
  ask: async () => [CNS.CONTROLLER],
  view: ({ viewController }, bytes, { vendorSpecific }) => viewController(bytes, { vendor: vendorSpecific }),
})

const idNs = identifyCommand({
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
  ask: async (context) => [
    context.options.force ? CNS.ALLOCATED_NAMESPACE : CNS.NAMESPACE,
    { nsid: await chosenNamespace(context) },
  ],
  view: ({ viewNamespace }, bytes, { vendorSpecific }) => viewNamespace(bytes, { vendor: vendorSpecific }),
})

const listNs = showCommand({
  name: 'list-ns',
  summary: 'List the namespaces of a controller by their ids',
  options: {
    namespaceId: valueOr('NSID', integer({ min: 1, max: MAX_NSID }), 1, 'the first id to list', 'n'),
    csi: value('N', byte, 'those of one I/O command set (NVMe 2.0)', 'y'),
    all: flag('also those that exist and are not attached', 'a'),
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
    return { bytes, show: async () => (await views()).viewNamespaceList(bytes) }
  },
})

const nsDescs = identifyCommand({
  name: 'ns-descs',
  summary: 'Show the identification descriptors of a namespace: EUI64, NGUID, UUID, command set',
  options: { namespaceId: namespaceIdOption() },
  examples: [['ns-descs 0a:00.0', 'of the only namespace']],
  ask: async (context) => [CNS.NAMESPACE_DESCRIPTORS, { nsid: await chosenNamespace(context) }],
  view: ({ viewDescriptors }, bytes) => viewDescriptors(bytes),
})

const listCtrl = identifyCommand({
  name: 'list-ctrl',
  summary: 'List the controllers of the NVM subsystem, or those that a namespace is attached to',
  options: {
    cntid: valueOr('ID', word, 0, 'the first id to list', 'c'),
    namespaceId: namespaceIdOption('namespace (default: all controllers)'),
  },
  examples: [['list-ctrl 0a:00.0 -n 1', 'those that can use namespace 1']],
  ask: async ({ nsid, options }) => [
    nsid === undefined ? CNS.CONTROLLERS : CNS.ATTACHED_CONTROLLERS,
    { nsid: nsid ?? 0, cdw10: options.cntid * 0x1_0000 },
  ],
  view: ({ viewControllers }, bytes) => viewControllers(bytes),
})

const independent = identifyCommand({
  name: 'cmdset-ind-id-ns',
  summary: 'Show what Identify Namespace says for any I/O command set (NVMe 2.0)',
  options: { namespaceId: namespaceIdOption() },
  examples: [['cmdset-ind-id-ns 0a:00.0 -H', 'with the words of flags taken apart']],
  ask: async (context) => [CNS.INDEPENDENT_NAMESPACE, { nsid: await chosenNamespace(context) }],
  view: ({ viewIndependent }, bytes) => viewIndependent(bytes),
})

const showRegs = showCommand({
  name: 'show-regs',
  summary: 'Show the registers of a controller',
  details: 'They are those of the controller as this driver has set it up, enabled and ready.',
  options: {},
  examples: [['show-regs 0a:00.0 -H', 'with their fields']],
  async read({ handle }) {
    const { readRegisters, viewRegisters } = await import('../admin/views/registers.ts')
    const { transport } = handle.controller
    const fabrics = transport.kind === 'tcp'
    const bytes = await readRegisters((offset) => transport.readProperty(offset), fabrics)
    return { bytes, show: () => viewRegisters(bytes, fabrics) }
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

const getLbaStatus = showCommand({
  name: 'get-lba-status',
  summary: 'Show which blocks are allocated, or can be unreadable (Get LBA Status)',
  details: `Few devices tell which blocks are allocated, of NVM command set 1.1 and later; those before know only of \
blocks that may be unreadable. Lists end where they are full: the next begins behind the last entry. \
Counts of blocks are as in the device's list: zero-based, with 0 for one block.`,
  options: {
    namespaceId: namespaceIdOption(),
    startLba: valueOr('LBA', integer({ max: Number.MAX_SAFE_INTEGER }), 0, 'first block', 's'),
    maxDw: valueOr('N', integer({ min: 1, max: 2 ** 20 }), 1023, 'most dwords of the list, less one', 'm'),
    action: valueOr(
      'TYPE',
      namedNumber({
        allocated: LBA_STATUS_ACTION.ALLOCATED,
        scan: LBA_STATUS_ACTION.SCAN,
        tracked: LBA_STATUS_ACTION.TRACKED,
      }),
      LBA_STATUS_ACTION.ALLOCATED,
      'allocated (2); scan (0x10) or tracked (0x11): what may be unreadable, after a scan or as it is known',
      { short: 'a', fallbackText: 'allocated' },
    ),
    rangeLen: valueOr('N', word, 0, 'blocks to look at; 0: up to the end of the namespace', 'l'),
    timeout: timeoutOption('as of other commands'),
  },
  examples: [
    ['get-lba-status sim:disk.img', 'blocks that an image has'],
    ['get-lba-status 0a:00.0 -a tracked -o json', 'blocks that the device knows to be bad'],
  ],
  async read(context) {
    const { readLbaStatus } = await import('../../../lib/nvme/host/lba-status.ts')
    const { startLba: slba, maxDw, action, rangeLen: nlb, timeout } = context.options
    const nsid = await chosenNamespace(context)
    const range = { slba, nlb, action, bytes: (maxDw + 1) * 4, timeout }
    const bytes = await readLbaStatus(context.handle.controller, nsid, range)
    return { bytes, show: async () => (await views()).viewLbaStatus(bytes) }
  },
})

export const identifyCommands = [
  getNsId,
  idCtrl,
  idNs,
  listNs,
  nsDescs,
  listCtrl,
  independent,
  getLbaStatus,
  showRegs,
]
