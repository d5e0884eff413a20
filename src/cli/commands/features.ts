// `unvme get-feature` and `set-feature`.
// Values are the specification's dwords, as nvme-cli takes them; -H tells what is in one.

import { NvmeError, UsageError } from '../../../lib/errors.ts'
import type { FeatureReply } from '../../../lib/nvme/host/admin-commands.ts'
import {
  decodeFeatureCapabilities,
  decodeTimestamp,
  encodeTimestamp,
  FEATURE,
  FEATURE_SELECT,
  featureInfo,
  featureName,
  TIMESTAMP_ORIGIN,
} from '../../../lib/nvme/spec/features.ts'
import { ONCS } from '../../../lib/nvme/spec/flags.ts'
import { ALL_NAMESPACES } from '../../../lib/nvme/spec/opcodes.ts'
import { STATUS } from '../../../lib/nvme/spec/status.ts'
import type { ControllerHandle } from '../../index.ts'
import { adminCommand, namespaceIdOption } from '../admin/command.ts'
import { showCommand } from '../admin/show.ts'
import { dwordText } from '../admin/text.ts'
import type { FeatureShown } from '../admin/views/feature.ts'
import { readData } from '../data.ts'
import { flag, required, value, valueOr } from '../define.ts'
import { print } from '../output.ts'
import { byte, dword, integer, namedNumber, text } from '../parse.ts'

const MAX_DATA_BYTES = 2 ** 20

const selection = namedNumber({
  current: FEATURE_SELECT.CURRENT,
  default: FEATURE_SELECT.DEFAULT,
  saved: FEATURE_SELECT.SAVED,
  supported: FEATURE_SELECT.SUPPORTED,
})

const getFeature = showCommand({
  name: 'get-feature',
  group: 'Admin',
  summary: 'Show a feature of the controller, or all that it has',
  options: {
    featureId: value('ID', byte, 'feature identifier (default: every one that is known)', 'f'),
    namespaceId: namespaceIdOption("namespace, for features that are a namespace's"),
    sel: valueOr('WHICH', selection, 0, 'current, default, saved or supported (or 0 to 3)', {
      short: 's',
      fallbackText: 'current',
    }),
    dataLen: value('BYTES', integer({ max: 2 ** 20 }), 'bytes of data (default: what the feature has)', 'l'),
    cdw11: valueOr('DWORD', dword, 0, 'dword 11: which sensor, which vector', 'c'),
    uuidIndex: valueOr('N', integer({ max: 127 }), 0, 'UUID index', 'U'),
  },
  examples: [
    ['get-feature 0a:00.0 -f 7 -H', 'the number of queues, in words'],
    ['get-feature 0a:00.0 -f 4 -s default', 'the default of the temperature threshold'],
    ['get-feature sim: -H', 'every feature'],
  ],
  async read({ handle, nsid, options }) {
    const commands = await import('../../../lib/nvme/host/admin-commands.ts')
    const { featureBytes, viewFeatures } = await import('../admin/views/feature.ts')
    const { featureId, sel: select, cdw11, uuidIndex: uuid, dataLen } = options
    const read = async (fid: number): Promise<FeatureShown> => {
      const bytes = dataLen !== undefined && { bytes: dataLen }
      const asked = { nsid: nsid ?? (await scope(fid)), select, cdw11, uuid, ...bytes }
      return { fid, select, ...(await commands.getFeature(handle.controller, fid, asked)) }
    }
    // A namespace's feature is refused without a namespace; the first one is as good as any.
    const scope = async (fid: number) => {
      return featureInfo(fid).namespaceSpecific ? ((await handle.namespaces())[0] ?? 0) : 0
    }
    const shown = (features: readonly FeatureShown[], single: boolean) => ({
      bytes: featureBytes(features),
      show: () => viewFeatures(features, single),
    })
    if (featureId !== undefined) return shown([await read(featureId)], true)
    const found: FeatureShown[] = []
    for (const fid of Object.values(FEATURE)) {
      try {
        found.push(await read(fid))
      } catch (error) {
        if (!isRefused(error)) throw error
      }
    }
    return shown(found, false)
  },
})

// What a controller answers for a feature that it does not have.
function isRefused(error: unknown): boolean {
  return error instanceof NvmeError && ((error.sct << 8) | error.sc) === STATUS.INVALID_FIELD
}

const setFeature = adminCommand({
  name: 'set-feature',
  summary: 'Set a feature of the controller',
  details: `Every command resets the controller when it ends, and what a feature has then is the controller's choice: \
the saved value, the default, or still the new one. So without --save the controller is reset at once, asked again, and \
the output says whether the value has lasted.

Data that is shorter than the feature's is filled up with zeroes, of longer data the beginning counts, and the output \
says so.`,
  options: {
    featureId: required('ID', byte, 'feature identifier', 'f'),
    value: required('DWORD', integer(), 'new value: dword 11; of Timestamp the milliseconds', {
      short: 'v',
      also: ['-V'],
    }),
    cdw12: valueOr('DWORD', dword, 0, 'dword 12, for features that have one', 'c'),
    namespaceId: namespaceIdOption("namespace, for features that are a namespace's"),
    data: value('FILE', text, "file with the feature's data, or `-` for standard input", 'd'),
    dataLen: value(
      'BYTES',
      integer({ min: 1, max: MAX_DATA_BYTES }),
      'bytes of it to send (default: all)',
      'l',
    ),
    uuidIndex: valueOr('N', integer({ max: 127 }), 0, 'UUID index', 'U'),
    save: flag('keep the value over resets and power cycles', 's'),
  },
  examples: [
    ['set-feature 0a:00.0 -f 6 -v 0 --save', 'turn the volatile write cache off for good'],
    ['set-feature sim: -f 4 -v 0x160', 'warn at 352 kelvin'],
  ],
  async run({ handle, nsid = 0, options }) {
    const { setFeature } = await import('../../../lib/nvme/host/admin-commands.ts')
    const { featureId, value, cdw12, uuidIndex: uuid, save } = options
    const isTime = featureId === FEATURE.TIMESTAMP
    if (value > (isTime ? MAX_TIMESTAMP : 0xffff_ffff)) {
      throw new UsageError(`--value ${value} does not fit in ${isTime ? 'a timestamp' : 'a dword'}`)
    }
    const { data, remark } = await dataOf(options)
    const cdw11 = isTime ? 0 : value
    await setFeature(handle.controller, featureId, cdw11, { nsid, save, cdw12, uuid, ...(data && { data }) })
    const id = `0x${featureId.toString(16).padStart(2, '0')}`
    const written = isTime ? value : dwordText(value)
    print(
      `set-feature:${id} (${featureName(featureId)}), value:${written}, cdw12:${dwordText(cdw12)}, save:${save ? 1 : 0}`,
    )
    if (remark !== undefined) print(remark)
    if (!save) print(await fateText(handle, { fid: featureId, nsid, cdw11, uuid }))
  },
})

const MAX_TIMESTAMP = 2 ** 48 - 1

interface DataOptions {
  featureId: number
  value: number
  data: string | undefined
  dataLen: number | undefined
}

/** The data of Set Features, as long as the feature's, and what there is to say about that. */
async function dataOf(options: DataOptions): Promise<{ data?: Buffer; remark?: string }> {
  const { featureId, value, data: file, dataLen } = options
  const needed = dataBytes(featureId, value)
  const name = featureName(featureId)
  if (file === undefined && dataLen === undefined) {
    if (needed === 0) return {}
    if (featureId === FEATURE.TIMESTAMP) return { data: Buffer.from(encodeTimestamp({ timestamp: value })) }
    throw new UsageError(`${name} has ${needed} bytes of data: --data says which`)
  }
  const given = await readData(file ?? '-', MAX_DATA_BYTES, dataLen)
  const length = Math.max(needed, dataLen ?? given.length)
  const data = Buffer.alloc(length)
  given.copy(data)
  if (needed === 0 && isKnown(featureId))
    return { data, remark: `data: ${name} has none, so it does not count` }
  const counted = needed === 0 ? length : needed
  if (given.length < counted) {
    return { data, remark: `data: ${given.length} bytes of ${counted}, the others were sent as zeroes` }
  }
  return given.length > counted
    ? { data, remark: `data: the first ${counted} bytes count, of ${given.length}` }
    : { data }
}

const isKnown = (fid: number) => (Object.values(FEATURE) as number[]).includes(fid)

/** Bytes of data that Set Features sends with a feature: of a host identifier the value says how many. */
function dataBytes(fid: number, value: number): number {
  if (fid === FEATURE.HOST_IDENTIFIER) return (value & 1) === 0 ? 8 : 16
  return featureInfo(fid).setBytes
}

interface Setting {
  fid: number
  nsid: number
  cdw11: number
  uuid: number
}

/** Resets the controller, as the end of the command does, and says what has become of a value that was not saved. */
async function fateText(handle: ControllerHandle, setting: Setting): Promise<string> {
  const before = await readBack(handle, setting)
  await handle.reset()
  const after = await readBack(handle, setting)
  if (before === undefined || after === undefined) {
    return 'Not saved: the end of the command resets the controller, which does not tell whether the value lasts'
  }
  if (isSame(setting.fid, before, after)) {
    // Its power goes with the process.
    return handle.controller.transport.emulated
      ? 'Not saved: the value lasts over a reset of the controller, but the software controller ends with this command'
      : 'Not saved: the value lasts over the reset of the controller that ends this command, a power cycle may undo it'
  }
  const is =
    before.value === after.value ? 'its data is another again' : `it is ${dwordText(after.value)} again`
  return `Not saved: the reset of the controller that ends this command undoes it, ${is}; ${await savingText(handle, setting)}`
}

/** Bits of dword 11 of Set Features that choose one of several values, and are the same in Get Features. */
const SELECTORS: Readonly<Record<number, number>> = {
  [FEATURE.TEMPERATURE_THRESHOLD]: 0x3f_0000,
  [FEATURE.INTERRUPT_VECTOR_CONFIGURATION]: 0xffff,
  [FEATURE.READ_RECOVERY_LEVEL]: 0xffff,
  [FEATURE.PREDICTABLE_LATENCY_CONFIG]: 0xffff,
  [FEATURE.PREDICTABLE_LATENCY_WINDOW]: 0xffff,
  [FEATURE.ENDURANCE_GROUP_EVENT]: 0xffff,
}
/** Of the temperature threshold: all sensors at once, which can be set and not asked for. */
const ALL_SENSORS = 0x0f_0000

/** The value as it is; undefined where the controller does not tell. */
async function readBack(handle: ControllerHandle, setting: Setting): Promise<FeatureReply | undefined> {
  const { getFeature } = await import('../../../lib/nvme/host/admin-commands.ts')
  const { fid, uuid } = setting
  const selected = setting.cdw11 & (SELECTORS[fid] ?? 0)
  const all = fid === FEATURE.TEMPERATURE_THRESHOLD && (selected & ALL_SENSORS) === ALL_SENSORS
  const cdw11 = all ? selected & ~ALL_SENSORS : selected
  const [first = setting.nsid] = setting.nsid === ALL_NAMESPACES ? await handle.namespaces() : []
  const nsid = featureInfo(fid).namespaceSpecific ? first : setting.nsid
  return getFeature(handle.controller, fid, { nsid, cdw11, uuid }).catch((error: unknown) => {
    if (error instanceof NvmeError) return undefined
    throw error
  })
}

function isSame(fid: number, before: FeatureReply, after: FeatureReply): boolean {
  // A clock that goes on.
  if (fid === FEATURE.TIMESTAMP) return decodeTimestamp(after.data).origin === TIMESTAMP_ORIGIN.HOST
  return before.value === after.value && before.data.equals(after.data)
}

async function savingText({ controller, identity }: ControllerHandle, setting: Setting): Promise<string> {
  const { getFeature } = await import('../../../lib/nvme/host/admin-commands.ts')
  const never = 'the controller can not save this feature'
  if ((identity.oncs & ONCS.SAVE_FEATURES) === 0) return never
  const { fid, nsid } = setting
  try {
    const { value } = await getFeature(controller, fid, { nsid, select: FEATURE_SELECT.SUPPORTED })
    return decodeFeatureCapabilities(value).saveable ? '--save keeps it' : never
  } catch (error) {
    if (error instanceof NvmeError) return '--save keeps it where the controller can'
    throw error
  }
}

export const featureCommands = [getFeature, setFeature]
