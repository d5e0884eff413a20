// `unvme get-feature` and `set-feature`.
// Trade-off: values are the specification's dwords, as nvme-cli takes them; -H tells what is in one.

import { NvmeError } from '../../../lib/errors.ts'
import { FEATURE, featureInfo, featureName } from '../../../lib/nvme/features/ids.ts'
import { STATUS } from '../../../lib/nvme/status.ts'
import { adminCommand, namespaceIdOption } from '../admin/command.ts'
import { showCommand } from '../admin/show.ts'
import { dwordText } from '../admin/text.ts'
import type { FeatureShown } from '../admin/views/feature.ts'
import { readData } from '../data.ts'
import { flag, required, value, valueOr } from '../define.ts'
import { print } from '../output.ts'
import { choiceParser, integer, text } from '../parse.ts'

const MAX_DATA_BYTES = 2 ** 20

const dword = integer({ max: 0xffff_ffff })
const SELECTIONS = ['current', 'default', 'saved', 'supported'] as const
const parseSelection = choiceParser(SELECTIONS)
const selection = (word: string) =>
  /^[0-3]$/.test(word) ? Number(word) : SELECTIONS.indexOf(parseSelection(word))

const getFeature = showCommand({
  name: 'get-feature',
  group: 'Admin',
  summary: 'Show a feature of the controller, or all that it has',
  options: {
    featureId: value('ID', integer({ max: 255 }), 'feature identifier (default: every one that is known)', {
      short: 'f',
    }),
    namespaceId: namespaceIdOption("namespace, for features that are a namespace's"),
    sel: valueOr('WHICH', selection, 0, 'current, default, saved or supported (or 0 to 3)', {
      short: 's',
      fallbackText: 'current',
    }),
    dataLen: value('BYTES', integer({ max: 2 ** 20 }), 'bytes of data (default: what the feature has)', {
      short: 'l',
    }),
    cdw11: valueOr('DWORD', dword, 0, 'dword 11: which sensor, which vector', { short: 'c' }),
    uuidIndex: valueOr('N', integer({ max: 127 }), 0, 'UUID index', { short: 'U' }),
  },
  examples: [
    ['get-feature 0a:00.0 -f 7 -H', 'the number of queues, in words'],
    ['get-feature 0a:00.0 -f 4 -s default', 'the default of the temperature threshold'],
    ['get-feature sim: -H', 'every feature'],
  ],
  async read({ handle, nsid, options }) {
    const commands = await import('../../../lib/nvme/admin-commands.ts')
    const { viewFeatures } = await import('../admin/views/feature.ts')
    const { featureId, sel: select, cdw11, uuidIndex: uuid, dataLen } = options
    const read = async (fid: number): Promise<FeatureShown> => {
      const bytes = dataLen !== undefined && { bytes: dataLen }
      const asked = { nsid: nsid ?? (await scope(fid)), select, cdw11, uuid, ...bytes }
      return { fid, select, ...(await commands.getFeature(handle.controller, fid, asked)) }
    }
    // A namespace's feature of nobody is refused; the first namespace is as good as any.
    const scope = async (fid: number) => {
      return featureInfo(fid).namespaceSpecific ? ((await handle.namespaces())[0] ?? 0) : 0
    }
    if (featureId !== undefined) return viewFeatures([await read(featureId)], true)
    const found: FeatureShown[] = []
    for (const fid of Object.values(FEATURE)) {
      try {
        found.push(await read(fid))
      } catch (error) {
        if (!isRefused(error)) throw error
      }
    }
    return viewFeatures(found, false)
  },
})

// What a controller answers for a feature that it does not have.
function isRefused(error: unknown): boolean {
  return error instanceof NvmeError && ((error.sct << 8) | error.sc) === STATUS.INVALID_FIELD
}

const setFeature = adminCommand({
  name: 'set-feature',
  summary: 'Set a feature of the controller',
  details: `The value lasts until the controller is reset, which every command does that opens it: what shall last \
is saved (--save), where the device can.`,
  options: {
    featureId: required('ID', integer({ max: 255 }), 'feature identifier', { short: 'f' }),
    value: required('DWORD', dword, 'new value: dword 11', { short: 'v' }),
    cdw12: valueOr('DWORD', dword, 0, 'dword 12, for features that have one', { short: 'c' }),
    namespaceId: namespaceIdOption("namespace, for features that are a namespace's"),
    data: value('FILE', text, "file with the feature's data", { short: 'd' }),
    dataLen: value('BYTES', integer({ min: 1, max: MAX_DATA_BYTES }), 'bytes of it to send (default: all)', {
      short: 'l',
    }),
    uuidIndex: valueOr('N', integer({ max: 127 }), 0, 'UUID index', { short: 'U' }),
    save: flag('keep the value over resets and power cycles', { short: 's' }),
  },
  examples: [
    ['set-feature 0a:00.0 -f 6 -v 0 --save', 'turn the volatile write cache off for good'],
    ['set-feature sim: -f 4 -v 0x160', 'warn at 352 kelvin'],
  ],
  async run({ handle, nsid = 0, options }) {
    const commands = await import('../../../lib/nvme/admin-commands.ts')
    const { featureId, value, cdw12, uuidIndex: uuid, save, dataLen } = options
    const file =
      options.data === undefined ? undefined : await readData(options.data, MAX_DATA_BYTES, dataLen)
    const data = file && { data: file }
    await commands.setFeature(handle.controller, featureId, value, { nsid, save, cdw12, uuid, ...data })
    const id = `0x${featureId.toString(16).padStart(2, '0')}`
    print(
      `set-feature:${id} (${featureName(featureId)}), value:${dwordText(value)}, cdw12:${dwordText(cdw12)}, save:${save ? 1 : 0}`,
    )
  },
})

export const featureCommands = [getFeature, setFeature]
