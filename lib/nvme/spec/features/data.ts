// Data structures that features carry (NVMe 1.4 base, section 5.21.1); Timestamp has a file of its own.
// Trade-off: LBAs of ranges are bigints here, as all 64-bit fields: hosts wrote them, no controller checked them.

import {
  bits,
  type Decoded,
  type Encodable,
  flag,
  hex,
  list,
  structure,
  u8,
  u16,
  u32,
  u64,
} from '../codec.ts'

const lbaRangeLayout = {
  /** 0 general, 1 filesystem, 2 RAID, 3 cache, 4 swap; 80h and up vendor specific. */
  type: [0, u8],
  /** May be overwritten; hidden from the operating system. */
  overwriteable: [1, flag(u8, 0)],
  hidden: [1, flag(u8, 1)],
  slba: [16, u64],
  /** Number of blocks: zero-based. */
  nlb: [24, u64],
  /** What the type stands for, as hexadecimal digits. */
  guid: [32, hex(16)],
} as const

const lbaRanges = structure('LBA Range Type', 4096, {
  ranges: [0, list(64, structure('LBA Range Type entry', 64, lbaRangeLayout))],
})

export interface LbaRange extends Decoded<typeof lbaRangeLayout> {}

/**
 * The ranges of LBA Range Type (03h), 4096 bytes; throws DecodeError on fewer.
 * @param num how many: the value's `num` + 1; all 64 unless given
 */
export function decodeLbaRanges(bytes: Uint8Array, num = 64): LbaRange[] {
  return lbaRanges.decode(bytes).ranges.slice(0, num)
}

/** Encodes 4096 bytes. Throws OutOfRangeError on more than 64 ranges. */
export function encodeLbaRanges(
  ranges: readonly Encodable<typeof lbaRangeLayout>[],
  target?: Uint8Array,
): Uint8Array {
  return lbaRanges.encode({ ranges }, target)
}

const apstLayout = {
  /** Idle transition power state: the state to go to. */
  itps: [0, bits(u32, 3, 5)],
  /** Idle time prior to transition in milliseconds; 0 never. */
  itpt: [0, bits(u32, 8, 24)],
} as const

const apst = structure('Autonomous Power State Transition', 256, {
  entries: [0, list(32, structure('APST entry', 8, apstLayout))],
})

export interface PowerStateTransition extends Decoded<typeof apstLayout> {}

/** The 32 entries of Autonomous Power State Transition (0Ch), 256 bytes: entry n is of power state n. */
export function decodePowerStateTransitions(bytes: Uint8Array): PowerStateTransition[] {
  return apst.decode(bytes).entries
}

/** Encodes 256 bytes; states left out at the end never go elsewhere. */
export function encodePowerStateTransitions(
  entries: readonly Encodable<typeof apstLayout>[],
  target?: Uint8Array,
): Uint8Array {
  return apst.encode({ entries }, target)
}

const hostMemoryLayout = {
  /** Size in memory pages (CC.MPS). */
  hsize: [0, u32],
  /** Address of the descriptor list, in two halves, and its entries. */
  hmdlal: [4, u32],
  hmdlau: [8, u32],
  hmdlec: [12, u32],
} as const

const hostMemory = structure('Host Memory Buffer Attributes', 4096, hostMemoryLayout)

export interface HostMemoryBuffer extends Decoded<typeof hostMemoryLayout> {}

/** What Get Features returns of Host Memory Buffer (0Dh), 4096 bytes; Set Features has the same in dwords 12 to 15. */
export function decodeHostMemoryBuffer(bytes: Uint8Array): HostMemoryBuffer {
  return hostMemory.decode(bytes)
}

export function encodeHostMemoryBuffer(
  value: Encodable<typeof hostMemoryLayout>,
  target?: Uint8Array,
): Uint8Array {
  return hostMemory.encode(value, target)
}

const latencyLayout = {
  /** Enabled events: bit 0 reads, 1 writes, 2 time, 14 window exceeded, 15 excursion. */
  ee: [0, u16],
  /** Thresholds of the deterministic window: reads in 4 KiB, writes in the optimal size, time in milliseconds. */
  dtwinrt: [32, u64],
  dtwinwt: [40, u64],
  dtwintt: [48, u64],
} as const

const latency = structure('Predictable Latency Mode Config', 512, latencyLayout)

export interface PredictableLatency extends Decoded<typeof latencyLayout> {}

/** Data of Predictable Latency Mode Config (13h), 512 bytes; throws DecodeError on fewer. */
export function decodePredictableLatency(bytes: Uint8Array): PredictableLatency {
  return latency.decode(bytes)
}

export function encodePredictableLatency(
  value: Encodable<typeof latencyLayout>,
  target?: Uint8Array,
): Uint8Array {
  return latency.encode(value, target)
}

const behaviorLayout = {
  /** Advanced command retry enable: commands may fail with a Command Retry Delay. */
  acre: [0, u8],
  /** Extended telemetry data area 4 supported, LBA format extension enable (2.0). */
  etdas: [1, u8],
  lbafee: [2, u8],
} as const

const behavior = structure('Host Behavior Support', 512, behaviorLayout)

export interface HostBehavior extends Decoded<typeof behaviorLayout> {}

/** Data of Host Behavior Support (16h), 512 bytes; throws DecodeError on fewer. */
export function decodeHostBehavior(bytes: Uint8Array): HostBehavior {
  return behavior.decode(bytes)
}

export function encodeHostBehavior(value: Encodable<typeof behaviorLayout>, target?: Uint8Array): Uint8Array {
  return behavior.encode(value, target)
}
