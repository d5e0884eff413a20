// Get and Set Features (NVMe 1.4 base, sections 5.13 and 5.21).
// The general rules stand here once (save, scope, reserved bits); only what a feature adds is its own.

import {
  decodeFeature,
  decodeGetFeatures,
  decodeSetFeatures,
  decodeTimestamp,
  encodeFeature,
  encodeFeatureCapabilities,
  encodeTimestamp,
  FEATURE,
  FEATURE_SELECT,
  TIMESTAMP_ORIGIN,
} from '../../../nvme/spec/features.ts'
import { VWC } from '../../../nvme/spec/flags.ts'
import { ALL_NAMESPACES } from '../../../nvme/spec/opcodes.ts'
import { STATUS } from '../../../nvme/spec/status.ts'
import { saveState } from '../../media/nonvolatile.ts'
import { type Controller, vectorsOf } from '../controller.ts'
import { announceWarnings, criticalWarnings } from '../events.ts'
import {
  applyFeatures,
  defaultValue,
  type FeatureKind,
  featureKey,
  featureKind,
  featureValue,
} from '../features.ts'
import { fetchData, sendData } from '../prp.ts'

function kindOf({ backed }: Controller, fid: number): FeatureKind | undefined {
  const kind = featureKind(fid)
  if (backed === null || kind === undefined) return kind
  const cached = ((backed.backing.identity.vwc ?? 0) & VWC.PRESENT) !== 0
  if (fid === FEATURE.SANITIZE_CONFIG || (fid === FEATURE.VOLATILE_WRITE_CACHE && !cached)) return undefined
  // Nothing of it outlives the server.
  return { ...kind, saveable: false }
}

export function getFeatures(c: Controller, sqe: Uint32Array, e: number): number {
  const { fid, sel: select } = decodeGetFeatures(sqe[e + 10]!)
  const kind = kindOf(c, fid)
  if (kind === undefined || select > FEATURE_SELECT.SUPPORTED) return STATUS.INVALID_FIELD
  const nsid = sqe[e + 1]!
  // Whatever is selected: a namespace's feature is asked for of one namespace.
  if (kind.perNamespace && !c.namespaces.has(nsid)) return STATUS.INVALID_NAMESPACE_OR_FORMAT
  if (select === FEATURE_SELECT.SUPPORTED) {
    const { saveable, perNamespace: namespaceSpecific, changeable } = kind
    c.result = encodeFeatureCapabilities({ saveable, namespaceSpecific, changeable })
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
    return queuesValue(select === FEATURE_SELECT.CURRENT ? features.queues : features.maxQueues)
  }
  // A feature that is selected by its value tells which it is.
  const selector = fid === FEATURE.INTERRUPT_VECTOR_CONFIGURATION ? instance : 0
  const byDefault = defaultValue(fid, instance)
  if (select === FEATURE_SELECT.DEFAULT) return byDefault | selector
  if (select === FEATURE_SELECT.SAVED)
    return (features.saved.get(featureKey(fid, instance)) ?? byDefault) | selector
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
  const data = select === FEATURE_SELECT.CURRENT ? c.features.data.get(featureKey(fid, instance)) : undefined
  return data ?? new Uint8Array(kind.dataBytes)
}

export function setFeatures(c: Controller, sqe: Uint32Array, e: number): number {
  const { fid, sv: save } = decodeSetFeatures(sqe[e + 10]!)
  const nsid = sqe[e + 1]!
  const dw11 = sqe[e + 11]!
  const kind = kindOf(c, fid)
  if (kind === undefined) return STATUS.INVALID_FIELD
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
    const { iv } = decodeFeature(fid, dw11)
    return iv < vectorsOf(c.config) ? iv : -1
  }
  if (fid !== FEATURE.TEMPERATURE_THRESHOLD) return 0
  // The composite temperature is all there is: by its number, or as one of all sensors.
  const { tmpsel, thsel } = decodeFeature(fid, dw11)
  return (tmpsel === 0 || tmpsel === 0xf) && thsel <= 1 ? thsel : -1
}

function isInvalid(fid: number, dw11: number): boolean {
  switch (fid) {
    case FEATURE.POWER_MANAGEMENT:
      // One power state.
      return decodeFeature(fid, dw11).ps !== 0
    case FEATURE.ERROR_RECOVERY:
      // Reads of deallocated blocks never fail.
      return decodeFeature(fid, dw11).dulbe
    case FEATURE.HOST_IDENTIFIER:
      // Extended host identifiers belong to Fabrics.
      return decodeFeature(fid, dw11).exhid
    default:
      return false
  }
}

const queuesValue = (queues: number) =>
  encodeFeature(FEATURE.NUMBER_OF_QUEUES, { nsq: queues - 1, ncq: queues - 1 })

function setQueues(c: Controller, dw11: number): number {
  const { nsq, ncq } = decodeFeature(FEATURE.NUMBER_OF_QUEUES, dw11)
  if (nsq === 0xffff || ncq === 0xffff) return STATUS.INVALID_FIELD
  const created = [...c.sqs, ...c.cqs].some((queue) => queue !== undefined && queue.id !== 0)
  if (created) return STATUS.COMMAND_SEQUENCE_ERROR
  c.features.queues = Math.min(c.features.maxQueues, Math.max(nsq, ncq) + 1)
  c.result = queuesValue(c.features.queues)
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
