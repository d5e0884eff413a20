// `get-feature`: a feature's value, and with -H what its fields mean, by the tables of lib/nvme.

import { adminDataBytes } from '../../../../lib/nvme/spec/commands.ts'
import {
  decodeFeature,
  decodeFeatureCapabilities,
  decodeHostBehavior,
  decodeHostIdentifier,
  decodeLbaRanges,
  decodePowerStateTransitions,
  decodeTimestamp,
  FEATURE,
  FEATURE_SELECT,
  FEATURE_VALUE,
  featureName,
  TIMESTAMP_ORIGIN,
} from '../../../../lib/nvme/spec/features.ts'
import { ADMIN } from '../../../../lib/nvme/spec/opcodes.ts'
import type { Shown } from '../show.ts'
import { dumpText, dwordText, hexText, labelLines } from '../text.ts'

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

function fieldLines(fid: number, value: number, data: Buffer): string[] {
  const word = FEATURE_VALUE.get(fid)
  if (word !== undefined) return labelLines(word.layout, word.decode(value))
  // Of some the data is all.
  return data.length > 0 ? [] : [`VALUE: ${value}`]
}

const ORIGINS: Readonly<Record<number, string>> = {
  [TIMESTAMP_ORIGIN.RESET]: 'counted from 0 at the last reset',
  [TIMESTAMP_ORIGIN.HOST]: 'set by the host',
}

function dataLines(fid: number, value: number, data: Buffer): string[] {
  if (data.length === 0) return []
  // Less than the feature has was asked for, or is there.
  if (data.length < adminDataBytes({ opcode: ADMIN.GET_FEATURES, cdw10: fid, cdw11: value }))
    return dumpText(data).split('\n')
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
