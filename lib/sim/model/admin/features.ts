// Get and Set Features (NVMe 1.4 base, sections 5.13 and 5.21).
// Trade-off: the general rules stand here once (save, scope, reserved bits); only what a feature adds is its own.

import { decodeTimestamp, encodeTimestamp, FEATURE, TIMESTAMP_ORIGIN } from '../../../nvme/spec/features.ts'
import { ALL_NAMESPACES } from '../../../nvme/spec/opcodes.ts'
import { STATUS } from '../../../nvme/spec/status.ts'
import { saveState } from '../../media/nonvolatile.ts'
import { type Controller, vectorsOf } from '../controller.ts'
import {
  applyFeatures,
  defaultValue,
  type FeatureKind,
  featureKey,
  featureKind,
  featureValue,
} from '../features.ts'
import { fetchData, sendData } from '../transfer.ts'
import { announceWarnings, criticalWarnings } from '../warnings.ts'

const SAVE = 0x8000_0000
const SELECT = { CURRENT: 0, DEFAULT: 1, SAVED: 2, CAPABILITIES: 3 } as const

export function getFeatures(c: Controller, sqe: Uint32Array, e: number): number {
  const dw10 = sqe[e + 10]!
  const fid = dw10 & 0xff
  const select = (dw10 >>> 8) & 7
  const kind = featureKind(fid)
  if (kind === undefined || select > SELECT.CAPABILITIES) return STATUS.INVALID_FIELD
  const nsid = sqe[e + 1]!
  // Whatever is selected: a namespace's feature is asked for of one namespace.
  if (kind.perNamespace && !c.namespaces.has(nsid)) return STATUS.INVALID_NAMESPACE_OR_FORMAT
  if (select === SELECT.CAPABILITIES) {
    c.result = (kind.saveable ? 1 : 0) | (kind.perNamespace ? 2 : 0) | (kind.changeable ? 4 : 0)
    return 0
  }
  const instance = instanceOf(c, fid, kind, nsid, sqe[e + 11]!)
  if (instance < 0) return STATUS.INVALID_FIELD
  c.result = selectedValue(c, fid, instance, select)
  return kind.dataBytes === 0 ? 0 : sendData(c, sqe, e, selectedData(c, fid, kind, instance, select))
}

function selectedValue(c: Controller, fid: number, instance: number, select: number): number {
  const { features } = c
  if (fid === FEATURE.NUMBER_OF_QUEUES) {
    const queues = select === SELECT.CURRENT ? features.queues : features.maxQueues
    return ((queues - 1) << 16) | (queues - 1)
  }
  // A feature that is selected by its value tells which it is.
  const selector = fid === FEATURE.INTERRUPT_VECTOR_CONFIGURATION ? instance : 0
  const byDefault = defaultValue(fid, instance)
  if (select === SELECT.DEFAULT) return byDefault | selector
  if (select === SELECT.SAVED) return (features.saved.get(featureKey(fid, instance)) ?? byDefault) | selector
  return featureValue(features, fid, instance) | selector
}

function selectedData(
  c: Controller,
  fid: number,
  kind: FeatureKind,
  instance: number,
  select: number,
): Uint8Array {
  if (fid === FEATURE.TIMESTAMP) {
    const { value, setAt, byHost } = c.features.timestamp
    return encodeTimestamp({
      timestamp: Math.floor(value + c.clock() - setAt),
      origin: byHost ? TIMESTAMP_ORIGIN.HOST : TIMESTAMP_ORIGIN.RESET,
    })
  }
  const data = select === SELECT.CURRENT ? c.features.data.get(featureKey(fid, instance)) : undefined
  return data ?? new Uint8Array(kind.dataBytes)
}

export function setFeatures(c: Controller, sqe: Uint32Array, e: number): number {
  const dw10 = sqe[e + 10]!
  const fid = dw10 & 0xff
  const nsid = sqe[e + 1]!
  const dw11 = sqe[e + 11]!
  const kind = featureKind(fid)
  if (kind === undefined) return STATUS.INVALID_FIELD
  const save = (dw10 & SAVE) !== 0
  if (save && !kind.saveable) return STATUS.FEATURE_NOT_SAVEABLE
  if (!kind.changeable) return STATUS.FEATURE_NOT_CHANGEABLE
  if (kind.perNamespace) {
    if (nsid !== ALL_NAMESPACES && !c.namespaces.has(nsid)) return STATUS.INVALID_NAMESPACE_OR_FORMAT
  } else if (nsid !== 0 && nsid !== ALL_NAMESPACES) {
    return c.namespaces.has(nsid) ? STATUS.FEATURE_NOT_NAMESPACE_SPECIFIC : STATUS.INVALID_NAMESPACE_OR_FORMAT
  }
  const instance = instanceOf(c, fid, kind, nsid, dw11)
  if (instance < 0) return STATUS.INVALID_FIELD
  if (fid === FEATURE.NUMBER_OF_QUEUES) return setQueues(c, dw11)
  if (isInvalid(fid, dw11)) return STATUS.INVALID_FIELD
  const instances = kind.perNamespace && nsid === ALL_NAMESPACES ? [...c.namespaces.keys()] : [instance]
  if (kind.dataBytes !== 0) {
    const status = setData(c, sqe, e, fid, kind, instances)
    if (status !== 0) return status
  }
  const before = criticalWarnings(c)
  for (const each of instances) {
    const key = featureKey(fid, each)
    const value = (dw11 & kind.mask) >>> 0
    c.features.current.set(key, value)
    if (save) c.features.saved.set(key, value)
  }
  applyFeatures(c.features)
  announceWarnings(c, before)
  return save ? saveState(c) : 0
}

/** Which of several values dword 11 or the namespace selects; -1 where it selects none that exists. */
function instanceOf(c: Controller, fid: number, kind: FeatureKind, nsid: number, dw11: number): number {
  if (kind.perNamespace) return nsid
  if (fid === FEATURE.INTERRUPT_VECTOR_CONFIGURATION) {
    const vector = dw11 & 0xffff
    return vector < vectorsOf(c.config) ? vector : -1
  }
  if (fid !== FEATURE.TEMPERATURE_THRESHOLD) return 0
  // The composite temperature is all there is: by its number, or as one of all sensors.
  const sensor = (dw11 >>> 16) & 0xf
  const side = (dw11 >>> 20) & 3
  return (sensor === 0 || sensor === 0xf) && side <= 1 ? side : -1
}

function isInvalid(fid: number, dw11: number): boolean {
  switch (fid) {
    case FEATURE.POWER_MANAGEMENT:
      // One power state.
      return (dw11 & 0x1f) !== 0
    case FEATURE.ERROR_RECOVERY:
      // Reads of deallocated blocks never fail.
      return (dw11 & 0x1_0000) !== 0
    case FEATURE.HOST_IDENTIFIER:
      // Extended host identifiers belong to Fabrics.
      return (dw11 & 1) !== 0
    default:
      return false
  }
}

function setQueues(c: Controller, dw11: number): number {
  const submission = dw11 & 0xffff
  const completion = dw11 >>> 16
  if (submission === 0xffff || completion === 0xffff) return STATUS.INVALID_FIELD
  const created = [...c.sqs, ...c.cqs].some((queue) => queue !== undefined && queue.id !== 0)
  if (created) return STATUS.COMMAND_SEQUENCE_ERROR
  c.features.queues = Math.min(c.features.maxQueues, Math.max(submission, completion) + 1)
  c.result = ((c.features.queues - 1) << 16) | (c.features.queues - 1)
  return 0
}

function setData(
  c: Controller,
  sqe: Uint32Array,
  e: number,
  fid: number,
  kind: FeatureKind,
  instances: readonly number[],
): number {
  const data = new Uint8Array(kind.dataBytes)
  const status = fetchData(c, sqe, e, data)
  if (status !== 0) return status
  if (fid === FEATURE.TIMESTAMP) {
    const { timestamp } = decodeTimestamp(data)
    c.features.timestamp = { value: timestamp, setAt: c.clock(), byHost: true }
  } else for (const instance of instances) c.features.data.set(featureKey(fid, instance), data)
  return 0
}
