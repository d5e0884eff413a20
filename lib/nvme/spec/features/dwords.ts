// Feature values that are a dword: of Set Features, and dword 0 of Get Features' completion (NVMe 1.4, section 5.21.1).
// Trade-off: one table for each feature, read both ways; zero-based fields stay zero-based, and say so.

import { bits, flag, u32, type Word, word } from '../codec.ts'
import { FEATURE } from './ids.ts'

/** By feature identifier: the fields of its value, by the specification's names. */
export const FEATURE_VALUE = {
  [FEATURE.ARBITRATION]: word('Arbitration', {
    /** Arbitration burst: a power of two in commands; 7 no limit. */
    ab: [0, bits(u32, 0, 3)],
    /** Weights of low, medium and high priority: zero-based. */
    lpw: [0, bits(u32, 8, 8)],
    mpw: [0, bits(u32, 16, 8)],
    hpw: [0, bits(u32, 24, 8)],
  }),
  [FEATURE.POWER_MANAGEMENT]: word('Power Management', {
    /** Power state, workload hint. */
    ps: [0, bits(u32, 0, 5)],
    wh: [0, bits(u32, 5, 3)],
  }),
  [FEATURE.LBA_RANGE_TYPE]: word('LBA Range Type', {
    /** Number of ranges in the data: zero-based. */
    num: [0, bits(u32, 0, 6)],
  }),
  [FEATURE.TEMPERATURE_THRESHOLD]: word('Temperature Threshold', {
    /** Threshold in kelvin. */
    tmpth: [0, bits(u32, 0, 16)],
    /** Sensor: 0 composite, 1 to 8, Fh all of them in Set Features. */
    tmpsel: [0, bits(u32, 16, 4)],
    /** 0 over temperature, 1 under temperature. */
    thsel: [0, bits(u32, 20, 2)],
  }),
  [FEATURE.ERROR_RECOVERY]: word('Error Recovery', {
    /** Time limited error recovery in 100 ms; 0 no limit. */
    tler: [0, bits(u32, 0, 16)],
    /** Reads of deallocated or unwritten blocks are an error. */
    dulbe: [0, flag(u32, 16)],
  }),
  [FEATURE.VOLATILE_WRITE_CACHE]: word('Volatile Write Cache', {
    /** Volatile write cache enable. */
    wce: [0, flag(u32, 0)],
  }),
  [FEATURE.NUMBER_OF_QUEUES]: word('Number of Queues', {
    /** I/O submission and completion queues, requested or allocated: zero-based. */
    nsq: [0, bits(u32, 0, 16)],
    ncq: [0, bits(u32, 16, 16)],
  }),
  [FEATURE.INTERRUPT_COALESCING]: word('Interrupt Coalescing', {
    /** Aggregation threshold in entries: zero-based. */
    thr: [0, bits(u32, 0, 8)],
    /** Aggregation time in 100 microseconds; 0 none. */
    time: [0, bits(u32, 8, 8)],
  }),
  [FEATURE.INTERRUPT_VECTOR_CONFIGURATION]: word('Interrupt Vector Configuration', {
    iv: [0, bits(u32, 0, 16)],
    /** Coalescing disable. */
    cd: [0, flag(u32, 16)],
  }),
  [FEATURE.WRITE_ATOMICITY]: word('Write Atomicity Normal', {
    /** Disable normal: only the power-fail unit is kept. */
    dn: [0, flag(u32, 0)],
  }),
  [FEATURE.ASYNC_EVENT_CONFIGURATION]: word('Asynchronous Event Configuration', {
    /** SMART / health critical warnings: bits of CRITICAL_WARNING. */
    smart: [0, bits(u32, 0, 8)],
    /** Notices: namespace attributes, firmware activation, telemetry log, ANA change. */
    nan: [0, flag(u32, 8)],
    fan: [0, flag(u32, 9)],
    tln: [0, flag(u32, 10)],
    anacn: [0, flag(u32, 11)],
    /** Predictable latency aggregate log, LBA status, endurance group aggregate log, normal shutdown (2.0). */
    plealcn: [0, flag(u32, 12)],
    lsian: [0, flag(u32, 13)],
    egealcn: [0, flag(u32, 14)],
    nnsshdn: [0, flag(u32, 15)],
  }),
  [FEATURE.AUTONOMOUS_POWER_STATE]: word('Autonomous Power State Transition', {
    apste: [0, flag(u32, 0)],
  }),
  [FEATURE.HOST_MEMORY_BUFFER]: word('Host Memory Buffer', {
    /** Enable host memory. */
    ehm: [0, flag(u32, 0)],
    /** Memory return: the buffer is the one from before, with its contents. */
    mr: [0, flag(u32, 1)],
  }),
  [FEATURE.KEEP_ALIVE_TIMER]: word('Keep Alive Timer', {
    /** Timeout in milliseconds; 0 off. */
    kato: [0, u32],
  }),
  [FEATURE.THERMAL_MANAGEMENT]: word('Host Controlled Thermal Management', {
    /** Thermal management temperatures in kelvin; 0 off. */
    tmt2: [0, bits(u32, 0, 16)],
    tmt1: [0, bits(u32, 16, 16)],
  }),
  [FEATURE.NON_OPERATIONAL_POWER_STATE]: word('Non-Operational Power State Config', {
    /** Permissive mode: background work may pass a non-operational state's power. */
    noppme: [0, flag(u32, 0)],
  }),
  [FEATURE.READ_RECOVERY_LEVEL]: word('Read Recovery Level Config', {
    /** Level, 0 to 15: 15 gives up soonest. */
    rrl: [0, bits(u32, 0, 4)],
  }),
  [FEATURE.PREDICTABLE_LATENCY_CONFIG]: word('Predictable Latency Mode Config', {
    /** Predictable latency enable. */
    ple: [0, flag(u32, 0)],
  }),
  [FEATURE.PREDICTABLE_LATENCY_WINDOW]: word('Predictable Latency Mode Window', {
    /** Window select: 1 deterministic, 2 non-deterministic. */
    ws: [0, bits(u32, 0, 3)],
  }),
  [FEATURE.LBA_STATUS_INTERVAL]: word('LBA Status Information Report Interval', {
    /** Report and poll interval in 100 ms. */
    lsiri: [0, bits(u32, 0, 16)],
    lsipi: [0, bits(u32, 16, 16)],
  }),
  [FEATURE.SANITIZE_CONFIG]: word('Sanitize Config', {
    /** No-deallocate response mode: 0 the command fails, 1 it is done with deallocation and a warning. */
    nodrm: [0, flag(u32, 0)],
  }),
  [FEATURE.ENDURANCE_GROUP_EVENT]: word('Endurance Group Event Configuration', {
    endgid: [0, bits(u32, 0, 16)],
    /** Endurance group critical warnings. */
    egcw: [0, bits(u32, 16, 8)],
  }),
  [FEATURE.IO_COMMAND_SET_PROFILE]: word('I/O Command Set Profile', {
    /** Index of a combination in Identify I/O Command Set. */
    iocsci: [0, bits(u32, 0, 9)],
  }),
  [FEATURE.SPINUP_CONTROL]: word('Spinup Control', {
    spinup: [0, flag(u32, 0)],
  }),
  [FEATURE.SOFTWARE_PROGRESS_MARKER]: word('Software Progress Marker', {
    /** Pre-boot software load count. */
    pbslc: [0, bits(u32, 0, 8)],
  }),
  [FEATURE.HOST_IDENTIFIER]: word('Host Identifier', {
    /** The data is 16 bytes, not 8. */
    exhid: [0, flag(u32, 0)],
  }),
  [FEATURE.RESERVATION_NOTIFICATION_MASK]: word('Reservation Notification Mask', {
    /** No notice of registration preempted, reservation released, reservation preempted. */
    regpre: [0, flag(u32, 1)],
    resrel: [0, flag(u32, 2)],
    respre: [0, flag(u32, 3)],
  }),
  [FEATURE.RESERVATION_PERSISTENCE]: word('Reservation Persistence', {
    /** Persist through power loss. */
    ptpl: [0, flag(u32, 0)],
  }),
  [FEATURE.WRITE_PROTECTION]: word('Namespace Write Protection Config', {
    /** One of WRITE_PROTECTION. */
    wps: [0, bits(u32, 0, 3)],
  }),
} as const

/** States of a namespace's write protection. */
export const WRITE_PROTECTION = { NONE: 0, PROTECTED: 1, UNTIL_POWER_CYCLE: 2, PERMANENT: 3 } as const

/** Features whose value is a dword with fields. */
export type DwordFeature = keyof typeof FEATURE_VALUE
/** The fields of a feature's value. */
export type FeatureValue<F extends DwordFeature> = ReturnType<(typeof FEATURE_VALUE)[F]['decode']>

type AnyValue = Readonly<Record<string, number | boolean>>

/**
 * The fields of a feature's value: of dword 0 of a Get Features completion (current, default or saved), or of the
 * dword of Set Features that `featureInfo` names. An unknown feature's is `{ value }`.
 */
export function decodeFeature<F extends DwordFeature>(fid: F, dword: number): FeatureValue<F>
export function decodeFeature(fid: number, dword: number): AnyValue
export function decodeFeature(fid: number, dword: number): AnyValue {
  return wordOf(fid)?.decode(dword) ?? { value: dword }
}

/** The dword of a feature's fields; those left out are zero. Throws OutOfRangeError for one that does not fit. */
export function encodeFeature<F extends DwordFeature>(fid: F, value: Partial<FeatureValue<F>>): number
export function encodeFeature(fid: number, value: AnyValue): number
export function encodeFeature(fid: number, value: AnyValue): number {
  return (wordOf(fid) ?? UNKNOWN).encode(value)
}

const UNKNOWN: Word<AnyValue, AnyValue> = word('Feature', { value: [0, u32] })

function wordOf(fid: number): Word<AnyValue, AnyValue> | undefined {
  return Object.hasOwn(FEATURE_VALUE, fid) ? FEATURE_VALUE[fid as DwordFeature] : undefined
}
