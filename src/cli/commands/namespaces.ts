// `unvme create-ns`, `delete-ns`, `attach-ns` and `detach-ns`.
// A namespace that is created is not attached, as with nvme-cli: it is seen after attach-ns.

import { UsageError } from '../../../lib/errors.ts'
import { ALL_NAMESPACES } from '../../../lib/nvme/spec/opcodes.ts'
import type { ControllerHandle } from '../../index.ts'
import { type AdminContext, adminCommand, namespaceIdOption, timeoutOption } from '../admin/command.ts'
import { type Specs, value, valueOr } from '../define.ts'
import { print } from '../output.ts'
import { byte, dword, integer, listOf, size, word } from '../parse.ts'
import { formatOfSize, identifyFormats } from './maintenance.ts'

const commands = () => import('../../../lib/nvme/host/admin-commands.ts')
const blocks = integer({ min: 1 })
const bytes = size({ min: 512 })

const create = adminCommand({
  name: 'create-ns',
  summary: 'Create a namespace in the unused capacity of the device',
  details: `How much is unused is unvmcap in unvme id-ctrl. The new namespace is seen once it is attached \
(unvme attach-ns).`,
  options: {
    nsze: value('BLOCKS', blocks, 'size in blocks', 's'),
    ncap: value('BLOCKS', blocks, 'capacity in blocks (default: its size)', 'c'),
    nszeSi: value('SIZE', bytes, 'size in bytes, in place of --nsze: 10GB, 512MiB', 'S'),
    ncapSi: value('SIZE', bytes, 'capacity in bytes, in place of --ncap', 'C'),
    flbas: value('N', byte, 'LBA format by its number in id-ns (default: 0)', 'f'),
    blockSize: value('SIZE', bytes, 'in place of --flbas: the format with blocks of so many bytes', 'b'),
    dps: valueOr('N', byte, 0, 'data protection settings', 'd'),
    nmic: valueOr('N', byte, 0, '1: can be attached to several controllers', 'm'),
    anagrpId: valueOr('N', dword, 0, 'ANA group', 'a'),
    nvmsetId: valueOr('N', word, 0, 'NVM set', 'i'),
    endgId: valueOr('N', word, 0, 'endurance group', 'e'),
    csi: valueOr('N', byte, 0, 'command set; 0: NVM', 'y'),
    timeout: timeoutOption(),
  },
  refused: { '-l, --lbstm <N>': 'unvme creates no namespaces with storage tags' },
  examples: [
    ['create-ns 0a:00.0 -S 100GB -b 4096', '100 GB in blocks of 4096 bytes'],
    ["create-ns 'sim:disk.img?size=1G&spare=1G' -s 2048", '2048 blocks of the software controller'],
  ],
  async run({ handle, options }) {
    const { createNamespace } = await commands()
    const { dps, nmic, anagrpId: anagrpid, nvmsetId: nvmsetid, endgId: endgid, csi, timeout } = options
    const { flbas, blockBytes } = await chosenFormat(handle, options)
    const nsze = blocksOf('nsze', options.nsze, options.nszeSi, blockBytes)
    if (nsze === undefined) throw new UsageError('--nsze or --nsze-si says how large')
    const ncap = blocksOf('ncap', options.ncap, options.ncapSi, blockBytes) ?? nsze
    const nsid = await createNamespace(
      handle.controller,
      { nsze, ncap, flbas, dps, nmic, anagrpid, nvmsetid, endgid },
      { csi, ...(timeout !== undefined && { timeout }) },
    )
    print(`create-ns: Success, created nsid:${nsid}`)
  },
})

/** What all namespaces have in common says which formats there are. */
async function chosenFormat(
  handle: ControllerHandle,
  { flbas, blockSize }: { flbas: number | undefined; blockSize: number | undefined },
): Promise<{ flbas: number; blockBytes: number }> {
  if (flbas !== undefined && blockSize !== undefined) {
    throw new UsageError('--flbas and --block-size both say which format: give one')
  }
  const common = await identifyFormats(handle, ALL_NAMESPACES)
  const chosen = flbas ?? (blockSize === undefined ? 0 : formatOfSize(common, blockSize))
  return { flbas: chosen, blockBytes: 2 ** (common.lbafs[chosen & 0xf]?.lbads ?? 9) }
}

function blocksOf(
  name: string,
  count: number | undefined,
  sizeBytes: number | undefined,
  blockBytes: number,
): number | undefined {
  if (count !== undefined && sizeBytes !== undefined) {
    throw new UsageError(`--${name} and --${name}-si both say how much: give one`)
  }
  return sizeBytes === undefined ? count : Math.floor(sizeBytes / blockBytes)
}

const remove = adminCommand({
  name: 'delete-ns',
  summary: 'Delete a namespace with all of its data',
  options: {
    namespaceId: namespaceIdOption('namespace, where the address names none; 0xffffffff: all'),
    timeout: timeoutOption(),
  },
  examples: [['delete-ns 0a:00.0 -n 2', 'its capacity can be used by create-ns again']],
  destroys(context) {
    const nsid = namedNamespace(context)
    return `Delete with all of its data: ${nsid === ALL_NAMESPACES ? 'every namespace' : `namespace ${nsid}`}`
  },
  async run(context) {
    const { deleteNamespace } = await commands()
    const { timeout } = context.options
    const nsid = namedNamespace(context)
    await deleteNamespace(context.handle.controller, nsid, timeout === undefined ? {} : { timeout })
    print(`delete-ns: Success, deleted nsid:${nsid === ALL_NAMESPACES ? 'all' : nsid}`)
  },
})

const attachment = (detach: boolean) =>
  adminCommand({
    name: detach ? 'detach-ns' : 'attach-ns',
    summary: detach
      ? 'Detach a namespace from controllers: it stays, with its data, and is not seen'
      : 'Attach a namespace to controllers, which can use it from then on',
    options: {
      namespaceId: namespaceIdOption(),
      controllers: value(
        'IDS',
        listOf(word),
        'controllers by their ids (cntlid in id-ctrl), with commas between (default: this one)',
        'c',
      ),
    },
    examples: [
      detach
        ? ['detach-ns 0a:00.0 -n 2', 'namespace 2 from this controller']
        : ['attach-ns 0a:00.0 -n 2', 'namespace 2 to this controller'],
    ],
    async run(context) {
      const { attachNamespace } = await commands()
      const { handle, options } = context
      const nsid = namedNamespace(context)
      const controllers = options.controllers ?? [handle.identity.cntlid]
      await attachNamespace(handle.controller, nsid, controllers, { detach })
      print(`${detach ? 'detach-ns' : 'attach-ns'}: Success, nsid:${nsid}`)
    },
  })

/** Not guessed, as others do where only one is active: these commands are about namespaces that are not, too. */
function namedNamespace({ nsid, address }: AdminContext<Specs>): number {
  if (nsid === undefined) throw new UsageError(`--namespace-id says which namespace of ${address}`)
  return nsid
}

export const namespaceCommands = [create, remove, attachment(false), attachment(true)]
