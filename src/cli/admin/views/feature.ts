// `get-feature`: a feature's value, and with -H what its fields mean.
// Trade-off: fields are those of lib/nvme's tables; here stands only how each is called and counted.

import {
  decodeHostBehavior,
  decodeLbaRanges,
  decodePowerStateTransitions,
} from '../../../../lib/nvme/spec/features/data.ts'
import { decodeFeature, FEATURE_VALUE } from '../../../../lib/nvme/spec/features/dwords.ts'
import { decodeHostIdentifier } from '../../../../lib/nvme/spec/features/host.ts'
import { FEATURE, featureInfo, featureName } from '../../../../lib/nvme/spec/features/ids.ts'
import { decodeFeatureCapabilities, FEATURE_SELECT } from '../../../../lib/nvme/spec/features/select.ts'
import { decodeTimestamp, TIMESTAMP_ORIGIN } from '../../../../lib/nvme/spec/timestamp.ts'
import type { Shown } from '../show.ts'
import { dumpText, dwordText, hexText, temperatureText } from '../text.ts'

export const SELECT_WORDS = ['current', 'default', 'saved', 'supported'] as const

const SELECT_NAMES = ['Current', 'Default', 'Saved', 'Supported capabilities'] as const

export interface FeatureShown {
  fid: number
  select: number
  /** Dword 0 of the completion. */
  value: number
  data: Buffer
}

/** The features' data, or their values as four bytes, one after the other. */
export function featureBytes(features: readonly FeatureShown[]): Buffer {
  return Buffer.concat(features.map(({ value, data }) => (data.length > 0 ? data : dwordBytes(value))))
}

export function viewFeatures(features: readonly FeatureShown[], single: boolean): Shown {
  return {
    text: (human) => features.map((feature) => featureText(feature, human)).join('\n'),
    json() {
      const all = features.map(featureJson)
      return single ? all[0] : { features: all }
    },
  }
}

function dwordBytes(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function featureText(feature: FeatureShown, human: boolean): string {
  const { fid, select, value, data } = feature
  const line = `get-feature:${fidText(fid)} (${featureName(fid)}), ${SELECT_NAMES[select]} value:${dwordText(value)}`
  if (select === FEATURE_SELECT.SUPPORTED) {
    const { saveable, namespaceSpecific, changeable } = decodeFeatureCapabilities(value)
    const can = [saveable && 'saveable', namespaceSpecific && 'per namespace', changeable && 'changeable']
    return human ? [line, `  ${can.filter(Boolean).join(', ') || 'not changeable'}`].join('\n') : line
  }
  if (human)
    return [line, ...indent([...fieldLines(fid, value, data), ...dataLines(fid, value, data)])].join('\n')
  return data.length > 0 ? `${line}\n${dumpText(data)}` : line
}

const fidText = (fid: number) => `0x${fid.toString(16).padStart(2, '0')}`
const indent = (lines: readonly string[]) => lines.map((line) => `  ${line}`)

/** Our own keys: nvme-cli 2.3 has no JSON here. */
function featureJson({ fid, select, value, data }: FeatureShown) {
  const fields =
    select === FEATURE_SELECT.SUPPORTED ? decodeFeatureCapabilities(value) : decodeFeature(fid, value)
  return {
    feature: fid,
    name: featureName(fid),
    select: SELECT_WORDS[select],
    value,
    fields,
    ...(data.length > 0 && { data: data.toString('hex') }),
  }
}

type Meaning = readonly [label: string, text?: (value: number) => string]

const onOff = (value: number) => (value === 0 ? 'Disabled' : 'Enabled')
const sends = (value: number) => (value === 0 ? 'No event' : 'Event')
const plusOne = (value: number) => String(value + 1)
const tenths = (value: number) => (value === 0 ? 'no limit' : `${value * 100} ms`)

// By feature and field. A field that is not here is shown by its name and number.
const MEANINGS: Readonly<Record<number, Readonly<Record<string, Meaning>>>> = {
  [FEATURE.ARBITRATION]: {
    hpw: ['High Priority Weight', plusOne],
    mpw: ['Medium Priority Weight', plusOne],
    lpw: ['Low Priority Weight', plusOne],
    ab: ['Arbitration Burst', (value) => (value === 7 ? 'No limit' : String(2 ** value))],
  },
  [FEATURE.POWER_MANAGEMENT]: { wh: ['Workload Hint'], ps: ['Power State'] },
  [FEATURE.LBA_RANGE_TYPE]: { num: ['Number of LBA Ranges', plusOne] },
  [FEATURE.TEMPERATURE_THRESHOLD]: {
    thsel: [
      'Threshold Type Select',
      (value) => ['Over Temperature Threshold', 'Under Temperature Threshold'][value] ?? 'Reserved',
    ],
    tmpsel: [
      'Threshold Temperature Select',
      (value) =>
        value === 0 ? 'Composite Temperature' : value === 15 ? 'All' : `Temperature Sensor ${value}`,
    ],
    tmpth: ['Temperature Threshold', temperatureText],
  },
  [FEATURE.ERROR_RECOVERY]: {
    dulbe: ['Deallocated or Unwritten Logical Block Error', onOff],
    tler: ['Time Limited Error Recovery', tenths],
  },
  [FEATURE.VOLATILE_WRITE_CACHE]: { wce: ['Volatile Write Cache', onOff] },
  [FEATURE.NUMBER_OF_QUEUES]: {
    ncq: ['I/O Completion Queues Allocated', plusOne],
    nsq: ['I/O Submission Queues Allocated', plusOne],
  },
  [FEATURE.INTERRUPT_COALESCING]: {
    time: ['Aggregation Time', (value) => `${value * 100} us`],
    thr: ['Aggregation Threshold', plusOne],
  },
  [FEATURE.INTERRUPT_VECTOR_CONFIGURATION]: {
    cd: ['Coalescing', (value) => onOff(value === 0 ? 1 : 0)],
    iv: ['Interrupt Vector'],
  },
  [FEATURE.WRITE_ATOMICITY]: {
    dn: ['Atomic Write Unit Normal', (value) => (value === 0 ? 'Honored' : 'Not honored')],
  },
  [FEATURE.ASYNC_EVENT_CONFIGURATION]: {
    nnsshdn: ['Normal NVM Subsystem Shutdown', sends],
    egealcn: ['Endurance Group Event Aggregate Log Change', sends],
    lsian: ['LBA Status Information Alert', sends],
    plealcn: ['Predictable Latency Event Aggregate Log Change', sends],
    anacn: ['Asymmetric Namespace Access Change', sends],
    tln: ['Telemetry Log', sends],
    fan: ['Firmware Activation', sends],
    nan: ['Namespace Attribute', sends],
    smart: [
      'SMART / Health Critical Warnings',
      (value) => (value === 0 ? 'No event' : `Events of ${hexText(value)}`),
    ],
  },
  [FEATURE.AUTONOMOUS_POWER_STATE]: { apste: ['Autonomous Power State Transition', onOff] },
  [FEATURE.HOST_MEMORY_BUFFER]: { ehm: ['Host Memory', onOff], mr: ['Memory Return'] },
  [FEATURE.KEEP_ALIVE_TIMER]: { kato: ['Keep Alive Timeout', (value) => `${value} ms`] },
  [FEATURE.THERMAL_MANAGEMENT]: {
    tmt1: ['Thermal Management Temperature 1', temperatureText],
    tmt2: ['Thermal Management Temperature 2', temperatureText],
  },
  [FEATURE.NON_OPERATIONAL_POWER_STATE]: { noppme: ['Non-Operational Power State Permissive Mode', onOff] },
  [FEATURE.READ_RECOVERY_LEVEL]: { rrl: ['Read Recovery Level'] },
  [FEATURE.PREDICTABLE_LATENCY_CONFIG]: { ple: ['Predictable Latency Mode', onOff] },
  [FEATURE.SANITIZE_CONFIG]: {
    nodrm: [
      'No-Deallocate Response Mode',
      (value) => (value === 0 ? 'Command fails' : 'Done, with a warning'),
    ],
  },
  [FEATURE.SOFTWARE_PROGRESS_MARKER]: { pbslc: ['Pre-boot Software Load Count'] },
  [FEATURE.HOST_IDENTIFIER]: {
    exhid: ['Host Identifier size', (value) => (value === 0 ? '64 bits' : '128 bits')],
  },
  [FEATURE.WRITE_PROTECTION]: {
    wps: [
      'Write Protection State',
      (value) =>
        ['Not protected', 'Protected', 'Protected until power cycle', 'Protected for good'][value] ??
        'Reserved',
    ],
  },
}

function fieldLines(fid: number, value: number, data: Buffer): string[] {
  // Of some the data is all.
  if (data.length > 0 && !Object.hasOwn(FEATURE_VALUE, fid)) return []
  const values = Object.entries(decodeFeature(fid, value))
  const meanings = MEANINGS[fid] ?? {}
  const order = Object.keys(meanings)
  const rank = ([name]: readonly [string, unknown]) =>
    order.includes(name) ? order.indexOf(name) : order.length
  return values
    .sort((a, b) => rank(a) - rank(b))
    .map(([name, item]) => {
      const [label, text = String] = meanings[name] ?? [name.toUpperCase()]
      const known = meanings[name] === undefined ? label : `${label} (${name.toUpperCase()})`
      return `${known}: ${text(Number(item))}`
    })
}

const ORIGINS: Readonly<Record<number, string>> = {
  [TIMESTAMP_ORIGIN.RESET]: 'counted from 0 at the last reset',
  [TIMESTAMP_ORIGIN.HOST]: 'set by the host',
}

function leastBytes(fid: number, value: number): number {
  return fid === FEATURE.HOST_IDENTIFIER ? ((value & 1) === 0 ? 8 : 16) : featureInfo(fid).getBytes
}

function dataLines(fid: number, value: number, data: Buffer): string[] {
  if (data.length === 0) return []
  // Less than the feature has was asked for, or is there.
  if (data.length < leastBytes(fid, value)) return dumpText(data).split('\n')
  switch (fid) {
    case FEATURE.TIMESTAMP: {
      const { timestamp, synch, origin } = decodeTimestamp(data)
      const date = new Date(timestamp).toISOString()
      const stopped = synch ? ', not counted at times' : ''
      return [`Timestamp: ${timestamp} ms (${date}), ${ORIGINS[origin] ?? 'reserved'}${stopped}`]
    }
    case FEATURE.AUTONOMOUS_POWER_STATE:
      return decodePowerStateTransitions(data).flatMap(({ itps, itpt }, n) =>
        itpt === 0 ? [] : [`Power state ${n}: to ${itps} after ${itpt} ms`],
      )
    case FEATURE.LBA_RANGE_TYPE:
      return decodeLbaRanges(data, (value & 0x3f) + 1).map(
        ({ type, slba, nlb, guid }, n) =>
          `Range ${n}: type ${hexText(type)}, slba ${slba}, nlb ${nlb + 1n}, guid ${guid}`,
      )
    case FEATURE.HOST_BEHAVIOR:
      return Object.entries(decodeHostBehavior(data)).map(([name, item]) => `${name.toUpperCase()}: ${item}`)
    case FEATURE.HOST_IDENTIFIER:
      return [`Host Identifier: ${decodeHostIdentifier(data, (value & 1) !== 0)}`]
    default:
      return dumpText(data).split('\n')
  }
}
