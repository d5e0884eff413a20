// Features (NVMe 1.4 base, sections 5.13 and 5.21; 2.0 where later): one row for each with its identifier, its name, its
// value's fields and its data. A feature without a row is sent as it is, with no data.

import { OutOfRangeError } from '../../errors.ts'
import {
  bits,
  codesOf,
  type Decoded,
  type Encodable,
  flag,
  hex,
  type Layout,
  label,
  list,
  structure,
  temperatureText,
  u8,
  u16,
  u32,
  u48,
  u64,
  viewOf,
  type Word,
  word,
} from './codec.ts'

/** What is known of a feature before it is asked for. */
export interface FeatureInfo {
  /** The specification's name. */
  name: string
  /** Bytes of data that Get Features returns and Set Features sends; 0 where the dwords are all. */
  getBytes: number
  setBytes: number
  /** It is a namespace's, not the controller's. */
  namespaceSpecific: boolean
  /** The dword of Set Features that holds its value; 12 where dword 11 says which NVM set is meant. */
  dword: 11 | 12
}

const DWORD = {}
const OF_NAMESPACE = { namespaceSpecific: true }
const OF_NVM_SET = { dword: 12 } as const
const both = (bytes: number) => ({ getBytes: bytes, setBytes: bytes })
const PAGE_OF_NAMESPACE = { ...both(4096), ...OF_NAMESPACE }
const GET_PAGE = { getBytes: 4096 }
const WINDOW_OF_NVM_SET = { ...both(512), ...OF_NVM_SET }

function feature<const F extends number, const L extends Layout | undefined = undefined>(
  fid: F,
  name: string,
  rest: Partial<FeatureInfo>,
  value?: L,
) {
  return [fid, name, rest, value as L] as const
}

const onOff = (value: number) => (value === 0 ? 'Disabled' : 'Enabled')
const sends = (value: number) => (value === 0 ? 'No event' : 'Event')
const plusOne = (value: number) => String(value + 1)
const tenths = (value: number) => (value === 0 ? 'no limit' : `${value * 100} ms`)

// Identifier and name; the fields of its value, zero-based ones as they are, with what they are for a person; its data.
const FEATURES = {
  ARBITRATION: feature(0x01, 'Arbitration', DWORD, {
    /** Arbitration burst: a power of two in commands; 7 no limit. */
    ab: [
      0,
      bits(u32, 0, 3),
      label('Arbitration Burst', (value) => (value === 7 ? 'No limit' : String(2 ** value))),
    ],
    /** Weights of low, medium and high priority: zero-based. */
    lpw: [0, bits(u32, 8, 8), label('Low Priority Weight', plusOne)],
    mpw: [0, bits(u32, 16, 8), label('Medium Priority Weight', plusOne)],
    hpw: [0, bits(u32, 24, 8), label('High Priority Weight', plusOne)],
  }),
  POWER_MANAGEMENT: feature(0x02, 'Power Management', DWORD, {
    /** Power state, workload hint. */
    ps: [0, bits(u32, 0, 5), label('Power State')],
    wh: [0, bits(u32, 5, 3), label('Workload Hint')],
  }),
  LBA_RANGE_TYPE: feature(0x03, 'LBA Range Type', PAGE_OF_NAMESPACE, {
    /** Number of ranges in the data: zero-based. */
    num: [0, bits(u32, 0, 6), label('Number of LBA Ranges', plusOne)],
  }),
  TEMPERATURE_THRESHOLD: feature(0x04, 'Temperature Threshold', DWORD, {
    /** Threshold in kelvin. */
    tmpth: [0, bits(u32, 0, 16), label('Temperature Threshold', temperatureText)],
    /** Sensor: 0 composite, 1 to 8, Fh all of them in Set Features. */
    tmpsel: [
      0,
      bits(u32, 16, 4),
      label('Threshold Temperature Select', (value) =>
        value === 0 ? 'Composite Temperature' : value === 15 ? 'All' : `Temperature Sensor ${value}`,
      ),
    ],
    /** 0 over temperature, 1 under temperature. */
    thsel: [
      0,
      bits(u32, 20, 2),
      label(
        'Threshold Type Select',
        (value) => ['Over Temperature Threshold', 'Under Temperature Threshold'][value] ?? 'Reserved',
      ),
    ],
  }),
  ERROR_RECOVERY: feature(0x05, 'Error Recovery', OF_NAMESPACE, {
    /** Time limited error recovery in 100 ms; 0 no limit. */
    tler: [0, bits(u32, 0, 16), label('Time Limited Error Recovery', tenths)],
    /** Reads of deallocated or unwritten blocks are an error. */
    dulbe: [0, flag(u32, 16), label('Deallocated or Unwritten Logical Block Error', onOff)],
  }),
  VOLATILE_WRITE_CACHE: feature(0x06, 'Volatile Write Cache', DWORD, {
    /** Volatile write cache enable. */
    wce: [0, flag(u32, 0), label('Volatile Write Cache', onOff)],
  }),
  NUMBER_OF_QUEUES: feature(0x07, 'Number of Queues', DWORD, {
    /** I/O submission and completion queues, requested or allocated: zero-based. */
    nsq: [0, bits(u32, 0, 16), label('I/O Submission Queues Allocated', plusOne)],
    ncq: [0, bits(u32, 16, 16), label('I/O Completion Queues Allocated', plusOne)],
  }),
  INTERRUPT_COALESCING: feature(0x08, 'Interrupt Coalescing', DWORD, {
    /** Aggregation threshold in entries: zero-based. */
    thr: [0, bits(u32, 0, 8), label('Aggregation Threshold', plusOne)],
    /** Aggregation time in 100 microseconds; 0 none. */
    time: [0, bits(u32, 8, 8), label('Aggregation Time', (value) => `${value * 100} us`)],
  }),
  INTERRUPT_VECTOR_CONFIGURATION: feature(0x09, 'Interrupt Vector Configuration', DWORD, {
    iv: [0, bits(u32, 0, 16), label('Interrupt Vector')],
    /** Coalescing disable. */
    cd: [0, flag(u32, 16), label('Coalescing', (value) => onOff(value === 0 ? 1 : 0))],
  }),
  WRITE_ATOMICITY: feature(0x0a, 'Write Atomicity Normal', DWORD, {
    /** Disable normal: only the power-fail unit is kept. */
    dn: [
      0,
      flag(u32, 0),
      label('Atomic Write Unit Normal', (value) => (value === 0 ? 'Honored' : 'Not honored')),
    ],
  }),
  ASYNC_EVENT_CONFIGURATION: feature(0x0b, 'Asynchronous Event Configuration', DWORD, {
    /** SMART / health critical warnings: bits of CRITICAL_WARNING. */
    smart: [
      0,
      bits(u32, 0, 8),
      label('SMART / Health Critical Warnings', (value) =>
        value === 0 ? 'No event' : `Events of 0x${value.toString(16)}`,
      ),
    ],
    /** Notices: namespace attributes, firmware activation, telemetry log, ANA change. */
    nan: [0, flag(u32, 8), label('Namespace Attribute', sends)],
    fan: [0, flag(u32, 9), label('Firmware Activation', sends)],
    tln: [0, flag(u32, 10), label('Telemetry Log', sends)],
    anacn: [0, flag(u32, 11), label('Asymmetric Namespace Access Change', sends)],
    /** Predictable latency aggregate log, LBA status, endurance group aggregate log, normal shutdown (2.0). */
    plealcn: [0, flag(u32, 12), label('Predictable Latency Event Aggregate Log Change', sends)],
    lsian: [0, flag(u32, 13), label('LBA Status Information Alert', sends)],
    egealcn: [0, flag(u32, 14), label('Endurance Group Event Aggregate Log Change', sends)],
    nnsshdn: [0, flag(u32, 15), label('Normal NVM Subsystem Shutdown', sends)],
  }),
  AUTONOMOUS_POWER_STATE: feature(0x0c, 'Autonomous Power State Transition', both(256), {
    apste: [0, flag(u32, 0), label('Autonomous Power State Transition', onOff)],
  }),
  HOST_MEMORY_BUFFER: feature(0x0d, 'Host Memory Buffer', GET_PAGE, {
    /** Enable host memory. */
    ehm: [0, flag(u32, 0), label('Host Memory', onOff)],
    /** Memory return: the buffer is the one from before, with its contents. */
    mr: [0, flag(u32, 1), label('Memory Return')],
  }),
  TIMESTAMP: feature(0x0e, 'Timestamp', both(8)),
  KEEP_ALIVE_TIMER: feature(0x0f, 'Keep Alive Timer', DWORD, {
    /** Timeout in milliseconds; 0 off. */
    kato: [0, u32, label('Keep Alive Timeout', (value) => `${value} ms`)],
  }),
  THERMAL_MANAGEMENT: feature(0x10, 'Host Controlled Thermal Management', DWORD, {
    /** Thermal management temperatures in kelvin; 0 off. */
    tmt2: [0, bits(u32, 0, 16), label('Thermal Management Temperature 2', temperatureText)],
    tmt1: [0, bits(u32, 16, 16), label('Thermal Management Temperature 1', temperatureText)],
  }),
  NON_OPERATIONAL_POWER_STATE: feature(0x11, 'Non-Operational Power State Config', DWORD, {
    /** Permissive mode: background work may pass a non-operational state's power. */
    noppme: [0, flag(u32, 0), label('Non-Operational Power State Permissive Mode', onOff)],
  }),
  READ_RECOVERY_LEVEL: feature(0x12, 'Read Recovery Level Config', OF_NVM_SET, {
    /** Level, 0 to 15: 15 gives up soonest. */
    rrl: [0, bits(u32, 0, 4), label('Read Recovery Level')],
  }),
  PREDICTABLE_LATENCY_CONFIG: feature(0x13, 'Predictable Latency Mode Config', WINDOW_OF_NVM_SET, {
    /** Predictable latency enable. */
    ple: [0, flag(u32, 0), label('Predictable Latency Mode', onOff)],
  }),
  PREDICTABLE_LATENCY_WINDOW: feature(0x14, 'Predictable Latency Mode Window', OF_NVM_SET, {
    /** Window select: 1 deterministic, 2 non-deterministic. */
    ws: [0, bits(u32, 0, 3)],
  }),
  LBA_STATUS_INTERVAL: feature(0x15, 'LBA Status Information Report Interval', DWORD, {
    /** Report and poll interval in 100 ms. */
    lsiri: [0, bits(u32, 0, 16)],
    lsipi: [0, bits(u32, 16, 16)],
  }),
  HOST_BEHAVIOR: feature(0x16, 'Host Behavior Support', both(512)),
  SANITIZE_CONFIG: feature(0x17, 'Sanitize Config', DWORD, {
    /** No-deallocate response mode: 0 the command fails, 1 it is done with deallocation and a warning. */
    nodrm: [
      0,
      flag(u32, 0),
      label('No-Deallocate Response Mode', (value) =>
        value === 0 ? 'Command fails' : 'Done, with a warning',
      ),
    ],
  }),
  ENDURANCE_GROUP_EVENT: feature(0x18, 'Endurance Group Event Configuration', DWORD, {
    endgid: [0, bits(u32, 0, 16)],
    /** Endurance group critical warnings. */
    egcw: [0, bits(u32, 16, 8)],
  }),
  IO_COMMAND_SET_PROFILE: feature(0x19, 'I/O Command Set Profile', DWORD, {
    /** Index of a combination in Identify I/O Command Set. */
    iocsci: [0, bits(u32, 0, 9)],
  }),
  SPINUP_CONTROL: feature(0x1a, 'Spinup Control', DWORD, {
    spinup: [0, flag(u32, 0)],
  }),
  ENHANCED_CONTROLLER_METADATA: feature(0x7d, 'Enhanced Controller Metadata', both(4096)),
  CONTROLLER_METADATA: feature(0x7e, 'Controller Metadata', both(4096)),
  NAMESPACE_METADATA: feature(0x7f, 'Namespace Metadata', PAGE_OF_NAMESPACE),
  SOFTWARE_PROGRESS_MARKER: feature(0x80, 'Software Progress Marker', DWORD, {
    /** Pre-boot software load count. */
    pbslc: [0, bits(u32, 0, 8), label('Pre-boot Software Load Count')],
  }),
  // 8 bytes for a host identifier of 64 bits: see EXHID.
  HOST_IDENTIFIER: feature(0x81, 'Host Identifier', both(16), {
    /** The data is 16 bytes, not 8. */
    exhid: [
      0,
      flag(u32, 0),
      label('Host Identifier size', (value) => (value === 0 ? '64 bits' : '128 bits')),
    ],
  }),
  RESERVATION_NOTIFICATION_MASK: feature(0x82, 'Reservation Notification Mask', OF_NAMESPACE, {
    /** No notice of registration preempted, reservation released, reservation preempted. */
    regpre: [0, flag(u32, 1)],
    resrel: [0, flag(u32, 2)],
    respre: [0, flag(u32, 3)],
  }),
  RESERVATION_PERSISTENCE: feature(0x83, 'Reservation Persistence', OF_NAMESPACE, {
    /** Persist through power loss. */
    ptpl: [0, flag(u32, 0)],
  }),
  WRITE_PROTECTION: feature(0x84, 'Namespace Write Protection Config', OF_NAMESPACE, {
    /** One of WRITE_PROTECTION. */
    wps: [
      0,
      bits(u32, 0, 3),
      label(
        'Write Protection State',
        (value) =>
          ['Not protected', 'Protected', 'Protected until power cycle', 'Protected for good'][value] ??
          'Reserved',
      ),
    ],
  }),
}

type Row = (typeof FEATURES)[keyof typeof FEATURES]
type ValueRow = Extract<Row, readonly [number, string, unknown, Layout]>

/** Feature identifiers, in bits 7:0 of dword 10 of Get Features and Set Features. */
export const FEATURE = codesOf(FEATURES)

const ROWS = new Map<number, Row>(Object.values(FEATURES).map((row) => [row[0], row]))

/** What is known of a feature: vendor specific and reserved ones carry no data as far as is known. */
export function featureInfo(fid: number): FeatureInfo {
  const [, name, rest] = ROWS.get(fid) ?? [fid, fid >= 0xc0 ? 'Vendor Specific' : 'Reserved']
  return { name, getBytes: 0, setBytes: 0, namespaceSpecific: false, dword: 11, ...rest }
}

/** The specification's name of a feature; `Vendor Specific` and `Reserved` included. */
export function featureName(fid: number): string {
  return featureInfo(fid).name
}

/** Features whose value is a dword with fields. */
export type DwordFeature = ValueRow[0]
/** The fields of a feature's value. */
export type FeatureValue<F extends DwordFeature> = Decoded<Extract<ValueRow, readonly [F, ...unknown[]]>[3]>

type AnyValue = Readonly<Record<string, number | boolean>>
type ValueWord = Word<AnyValue, AnyValue>

/** By feature identifier: the word of its value, where that has fields. */
export const FEATURE_VALUE: ReadonlyMap<number, ValueWord> = new Map(
  [...ROWS.values()].flatMap(([fid, name, , value]) =>
    value ? [[fid, word<Layout>(name, value) as unknown as ValueWord]] : [],
  ),
)

const UNKNOWN: ValueWord = word('Feature', { value: [0, u32] })

/**
 * The fields of a feature's value: of dword 0 of a Get Features completion (current, default or saved), or of the
 * dword of Set Features that `featureInfo` names. An unknown feature's is `{ value }`.
 */
export function decodeFeature<F extends DwordFeature>(fid: F, dword: number): FeatureValue<F>
export function decodeFeature(fid: number, dword: number): AnyValue
export function decodeFeature(fid: number, dword: number): AnyValue {
  return (FEATURE_VALUE.get(fid) ?? UNKNOWN).decode(dword)
}

/** The dword of a feature's fields; those left out are zero. Throws OutOfRangeError for one that does not fit. */
export function encodeFeature<F extends DwordFeature>(fid: F, value: Partial<FeatureValue<F>>): number
export function encodeFeature(fid: number, value: AnyValue): number
export function encodeFeature(fid: number, value: AnyValue): number {
  return (FEATURE_VALUE.get(fid) ?? UNKNOWN).encode(value)
}

/** States of a namespace's write protection. */
export const WRITE_PROTECTION = { NONE: 0, PROTECTED: 1, UNTIL_POWER_CYCLE: 2, PERMANENT: 3 } as const

// Timestamp (section 5.21.1.14, figure 302): a feature, and a field of logs.

/** Where a timestamp comes from. */
export const TIMESTAMP_ORIGIN = {
  /** Zero at the last controller level reset. */
  RESET: 0,
  /** Set by the host. */
  HOST: 1,
} as const

const timestampLayout = {
  /** Milliseconds since midnight, 1 January 1970 UTC, or since the reset. */
  timestamp: [0, u48],
  /** The controller may have stopped counting at times. */
  synch: [6, flag(u8, 0)],
  /** One of TIMESTAMP_ORIGIN. */
  origin: [6, bits(u8, 1, 3)],
} as const

export const timestampField = structure('Timestamp', 8, timestampLayout)

export interface Timestamp extends Decoded<typeof timestampLayout> {}

export const { decode: decodeTimestamp, encode: encodeTimestamp } = timestampField

// Data structures that features carry.

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

/** What Get Features returns of Host Memory Buffer (0Dh), 4096 bytes; Set Features has the same in dwords 12 to 15. */
export const { decode: decodeHostMemoryBuffer, encode: encodeHostMemoryBuffer } = structure(
  'Host Memory Buffer Attributes',
  4096,
  hostMemoryLayout,
)

export interface HostMemoryBuffer extends Decoded<typeof hostMemoryLayout> {}

const latencyLayout = {
  /** Enabled events: bit 0 reads, 1 writes, 2 time, 14 window exceeded, 15 excursion. */
  ee: [0, u16],
  /** Thresholds of the deterministic window: reads in 4 KiB, writes in the optimal size, time in milliseconds. */
  dtwinrt: [32, u64],
  dtwinwt: [40, u64],
  dtwintt: [48, u64],
} as const

/** Data of Predictable Latency Mode Config (13h), 512 bytes; throws DecodeError on fewer. */
export const { decode: decodePredictableLatency, encode: encodePredictableLatency } = structure(
  'Predictable Latency Mode Config',
  512,
  latencyLayout,
)

export interface PredictableLatency extends Decoded<typeof latencyLayout> {}

const behaviorLayout = {
  /** Advanced command retry enable: commands may fail with a Command Retry Delay. */
  acre: [0, u8],
  /** Extended telemetry data area 4 supported, LBA format extension enable (2.0). */
  etdas: [1, u8],
  lbafee: [2, u8],
} as const

/** Data of Host Behavior Support (16h), 512 bytes; throws DecodeError on fewer. */
export const { decode: decodeHostBehavior, encode: encodeHostBehavior } = structure(
  'Host Behavior Support',
  512,
  behaviorLayout,
)

export interface HostBehavior extends Decoded<typeof behaviorLayout> {}

// Features that only keep what the host gave: host identifier (81h), and host metadata (7Dh to 7Fh, NVMe 2.0).

/** A host identifier as hexadecimal digits: 16 bytes where `exhid` is set, else 8. Throws DecodeError on fewer. */
export function decodeHostIdentifier(bytes: Uint8Array, exhid: boolean): string {
  const field = hex(exhid ? 16 : 8)
  return field.read(viewOf('Host Identifier', bytes, field.bytes), 0)
}

/** The bytes of a host identifier of 16 or 32 hexadecimal digits. */
export function encodeHostIdentifier(hostid: string): Uint8Array {
  const field = hex(hostid.length > 16 ? 16 : 8)
  const bytes = new Uint8Array(field.bytes)
  field.write(viewOf('Host Identifier', bytes, field.bytes), 0, hostid, 'hostid')
  return bytes
}

const HOST_METADATA_BYTES = 4096
const HOST_METADATA = 'Host Metadata'

export interface HostMetadataElement {
  /** Element type: what it names, by feature. */
  type: number
  revision: number
  value: Uint8Array
}

/**
 * The elements of a host metadata feature, up to one that passes the 4096 bytes, of which there is what is in them.
 * Throws DecodeError on fewer bytes.
 */
export function decodeHostMetadata(bytes: Uint8Array): HostMetadataElement[] {
  const view = viewOf(HOST_METADATA, bytes, HOST_METADATA_BYTES)
  const elements: HostMetadataElement[] = []
  let at = 2
  for (let left = view.getUint8(0); left > 0 && at + 4 <= HOST_METADATA_BYTES; left--) {
    const start = at + 4
    const end = Math.min(HOST_METADATA_BYTES, start + view.getUint16(at + 2, true))
    elements.push({
      type: view.getUint8(at) & 0x3f,
      revision: view.getUint8(at + 1) & 0x0f,
      value: bytes.slice(start, end),
    })
    at = end
  }
  return elements
}

/** Encodes 4096 bytes. Throws OutOfRangeError on more than fits. */
export function encodeHostMetadata(elements: readonly HostMetadataElement[]): Uint8Array {
  const bytes = new Uint8Array(HOST_METADATA_BYTES)
  const needed = elements.reduce((sum, { value }) => sum + 4 + value.length, 2)
  if (elements.length > 255 || needed > HOST_METADATA_BYTES) {
    throw new OutOfRangeError(
      `${HOST_METADATA}: ${elements.length} elements of ${needed} bytes do not fit in 4096`,
    )
  }
  bytes[0] = elements.length
  let at = 2
  for (const { type, revision, value } of elements) {
    bytes.set([type & 0x3f, revision & 0x0f, value.length & 0xff, value.length >>> 8], at)
    bytes.set(value, at + 4)
    at += 4 + value.length
  }
  return bytes
}

// Dword 10 of Get Features and Set Features, and the answer to "supported capabilities".

/** What Get Features answers with. */
export const FEATURE_SELECT = { CURRENT: 0, DEFAULT: 1, SAVED: 2, SUPPORTED: 3 } as const

const getLayout = {
  fid: [0, bits(u32, 0, 8)],
  /** One of FEATURE_SELECT. */
  sel: [0, bits(u32, 8, 3)],
} as const

const setLayout = {
  fid: [0, bits(u32, 0, 8)],
  /** Save: keep the value over resets and power cycles. */
  sv: [0, flag(u32, 31)],
} as const

const supportedLayout = {
  /** The value can be saved, is a namespace's, can be changed. */
  saveable: [0, flag(u32, 0)],
  namespaceSpecific: [0, flag(u32, 1)],
  changeable: [0, flag(u32, 2)],
} as const

/** Dword 10 of Get Features. */
export const { decode: decodeGetFeatures, encode: encodeGetFeatures } = word(
  'Get Features dword 10',
  getLayout,
)
/** Dword 10 of Set Features. */
export const { decode: decodeSetFeatures, encode: encodeSetFeatures } = word(
  'Set Features dword 10',
  setLayout,
)
/** Dword 0 of the completion of Get Features with FEATURE_SELECT.SUPPORTED. */
export const { decode: decodeFeatureCapabilities, encode: encodeFeatureCapabilities } = word(
  'Supported capabilities',
  supportedLayout,
)

/** What a feature can do: dword 0 of Get Features with FEATURE_SELECT.SUPPORTED. */
export interface FeatureCapabilities extends Decoded<typeof supportedLayout> {}
