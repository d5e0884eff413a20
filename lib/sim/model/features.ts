// Features that Get and Set Features know (NVMe 1.4 base, section 5.21.1): which there are, and their values.
// Values are the raw dword 11 that the host sets; those with more to them (data, one for each
// namespace or vector) have a key of their own in the same map.

import { FEATURE } from '../../nvme/spec/features.ts'
import type { SimConfig } from '../address.ts'

export interface FeatureKind {
  readonly saveable: boolean
  readonly changeable: boolean
  readonly perNamespace: boolean
  /** Bits of dword 11 that are kept; the others are reserved or select an instance. */
  readonly mask: number
  readonly byDefault: number
  /** Bytes of its data buffer; 0 for those that are a dword alone. */
  readonly dataBytes: number
}

/** Two warnings: 343 K is 70 degrees Celsius. */
export const OVER_TEMPERATURE = 343
export const CRITICAL_TEMPERATURE = 353

const dword = (mask: number, byDefault = 0, more: Partial<FeatureKind> = {}): FeatureKind => ({
  saveable: false,
  changeable: true,
  perNamespace: false,
  mask,
  byDefault,
  dataBytes: 0,
  ...more,
})

const KINDS = new Map<number, FeatureKind>([
  // Bursts of 2^4 commands.
  [FEATURE.ARBITRATION, dword(0xffff_ff07, 4, { saveable: true })],
  [FEATURE.POWER_MANAGEMENT, dword(0xff)],
  [FEATURE.LBA_RANGE_TYPE, dword(0x3f, 0, { perNamespace: true, dataBytes: 4096 })],
  [FEATURE.TEMPERATURE_THRESHOLD, dword(0xffff, OVER_TEMPERATURE, { saveable: true })],
  [FEATURE.ERROR_RECOVERY, dword(0xffff, 0, { saveable: true, perNamespace: true })],
  [FEATURE.VOLATILE_WRITE_CACHE, dword(1, 1, { saveable: true })],
  [FEATURE.NUMBER_OF_QUEUES, dword(0xffff_ffff)],
  // A recommendation, which this controller has no use for: its interrupts are as few as its steps.
  [FEATURE.INTERRUPT_COALESCING, dword(0xffff, 0, { saveable: true })],
  [FEATURE.INTERRUPT_VECTOR_CONFIGURATION, dword(0x1_0000, 0, { saveable: true })],
  [FEATURE.WRITE_ATOMICITY, dword(1, 0, { saveable: true })],
  [FEATURE.ASYNC_EVENT_CONFIGURATION, dword(0x1ff, 0x1ff, { saveable: true })],
  [FEATURE.TIMESTAMP, dword(0, 0, { dataBytes: 8 })],
  [FEATURE.SANITIZE_CONFIG, dword(1, 0, { saveable: true })],
  [FEATURE.SOFTWARE_PROGRESS_MARKER, dword(0xff, 0, { saveable: true })],
  [FEATURE.HOST_IDENTIFIER, dword(1, 0, { dataBytes: 8 })],
])

export interface Features {
  /** Values that differ from their default: now, and after the next power on. */
  readonly current: Map<string, number>
  readonly saved: Map<string, number>
  /** Data buffers of those that have one. */
  readonly data: Map<string, Uint8Array>
  /** What 07h was granted: I/O queues of each kind. */
  queues: number
  /** Of 06h and 01h, in the form in which every command needs them: in use, and commands in a burst. */
  writeCache: boolean
  burst: number
  readonly maxQueues: number
  /** Timestamp that the host set, and the clock's time when it did. */
  timestamp: { readonly value: number; readonly setAt: number; readonly byHost: boolean }
}

export function createFeatures({ qcount }: Pick<SimConfig, 'qcount'>): Features {
  return {
    current: new Map(),
    saved: new Map(),
    data: new Map(),
    queues: qcount,
    writeCache: true,
    burst: 16,
    maxQueues: qcount,
    timestamp: { value: 0, setAt: 0, byHost: false },
  }
}

/** What a controller reset leaves: saved values. */
export function resetFeatures(features: Features): void {
  features.current.clear()
  for (const [key, value] of features.saved) features.current.set(key, value)
  features.data.clear()
  features.queues = features.maxQueues
  applyFeatures(features)
}

/** Brings what is derived from values up to date. */
export function applyFeatures(features: Features): void {
  features.writeCache = (featureValue(features, FEATURE.VOLATILE_WRITE_CACHE) & 1) !== 0
  const ab = featureValue(features, FEATURE.ARBITRATION) & 7
  features.burst = ab === 7 ? Number.POSITIVE_INFINITY : 2 ** ab
}

export function featureKind(fid: number): FeatureKind | undefined {
  return KINDS.get(fid)
}

/** @param instance namespace, vector or threshold of a feature that has several values */
export function featureKey(fid: number, instance = 0): string {
  return `${fid}/${instance}`
}

/** The value in use of a feature without instances, or of one of them. */
export function featureValue(features: Features, fid: number, instance = 0): number {
  return features.current.get(featureKey(fid, instance)) ?? defaultValue(fid, instance)
}

export function defaultValue(fid: number, instance = 0): number {
  // Instance 1 of the temperature threshold is the lower one: off.
  if (fid === FEATURE.TEMPERATURE_THRESHOLD && instance !== 0) return 0
  return KINDS.get(fid)?.byDefault ?? 0
}
