// Log pages (NVMe 1.4 base, section 5.14.1; fields of 2.0 included): identifiers, and the data structure of each page.

import { DecodeError, OutOfRangeError } from '../../errors.ts'
import { bytesText } from '../../sys/units.ts'
import {
  ascii,
  bits,
  bitTable,
  type Decoded,
  type Encodable,
  entries,
  flag,
  label,
  list,
  named,
  oneOf,
  raw,
  structure,
  temperatureText,
  u8,
  u16,
  u24,
  u32,
  u64,
  u128,
  utf8,
  word,
  yesNo,
} from './codec.ts'
import { timestampField } from './features.ts'
import { decodeNamespaceList, encodeNamespaceList } from './identify.ts'
import { ALL_NAMESPACES } from './opcodes.ts'

const LOG_PAGES = named({
  SUPPORTED_LOG_PAGES: [0x00, 'Supported Log Pages'],
  ERROR_INFORMATION: [0x01, 'Error Information'],
  SMART: [0x02, 'SMART / Health Information'],
  FIRMWARE_SLOT: [0x03, 'Firmware Slot Information'],
  CHANGED_NAMESPACES: [0x04, 'Changed Namespace List'],
  COMMAND_EFFECTS: [0x05, 'Commands Supported and Effects'],
  DEVICE_SELF_TEST: [0x06, 'Device Self-test'],
  TELEMETRY_HOST: [0x07, 'Telemetry Host-Initiated'],
  TELEMETRY_CONTROLLER: [0x08, 'Telemetry Controller-Initiated'],
  ENDURANCE_GROUP: [0x09, 'Endurance Group Information'],
  PREDICTABLE_LATENCY: [0x0a, 'Predictable Latency Per NVM Set'],
  PREDICTABLE_LATENCY_AGGREGATE: [0x0b, 'Predictable Latency Event Aggregate'],
  ASYMMETRIC_NAMESPACE_ACCESS: [0x0c, 'Asymmetric Namespace Access'],
  PERSISTENT_EVENT: [0x0d, 'Persistent Event Log'],
  LBA_STATUS: [0x0e, 'LBA Status Information'],
  ENDURANCE_GROUP_AGGREGATE: [0x0f, 'Endurance Group Event Aggregate'],
  MEDIA_UNIT_STATUS: [0x10, 'Media Unit Status'],
  CAPACITY_CONFIGURATIONS: [0x11, 'Supported Capacity Configuration List'],
  FEATURE_EFFECTS: [0x12, 'Feature Identifiers Supported and Effects'],
  RESERVATION_NOTIFICATION: [0x80, 'Reservation Notification'],
  SANITIZE_STATUS: [0x81, 'Sanitize Status'],
})

/** Log page identifiers, in bits 7:0 of a Get Log Page command's dword 10. */
export const LOG_PAGE = LOG_PAGES.codes

/** The specification's name of a log page; `Vendor Specific` and `Reserved` included. */
export function logPageName(lid: number): string {
  return LOG_PAGES.names.get(lid) ?? (lid >= 0xc0 ? 'Vendor Specific' : 'Reserved')
}

// Error Information (section 5.14.1.1, figure 195). Keys are nvme-cli's.

export const ERROR_LOG_ENTRY_BYTES = 64

const errorLayout = {
  /** Counts errors over the controller's life; 0 means that the entry is not used. */
  error_count: [0, u64],
  /** Submission queue and command; FFFFh where the error belongs to no command. */
  sqid: [8, u16],
  cmdid: [10, u16],
  /** Status without its phase tag: `decodeStatus(status_field << 1)` tells what it says. */
  status_field: [12, bits(u16, 1, 15)],
  phase_tag: [12, bits(u16, 0, 1)],
  /** Where the command is wrong: byte in bits 7:0, bit in 10:8; FFFFh where it is not known. */
  parm_error_location: [14, u16],
  /** First LBA that had the error. A bigint: controllers put all-ones there where it means nothing. */
  lba: [16, u64],
  nsid: [24, u32],
  /** Log page with more information, vendor specific; 0 none. */
  vs: [28, u8],
  /** Transport type; 0 for PCI Express. */
  trtype: [29, u8],
  /** Command set and opcode (2.0). */
  csi: [30, u8],
  opcode: [31, u8],
  /** Command specific information. */
  cs: [32, u64],
  trtype_spec_info: [40, u16],
  log_page_version: [63, u8],
} as const

const entry = structure('Error Information Log Entry', ERROR_LOG_ENTRY_BYTES, errorLayout)
const errors = entries(entry)

export interface ErrorLogEntry extends Decoded<typeof errorLayout> {}

/**
 * The entries of an error log, newest first: as many as there are whole ones.
 * Throws DecodeError where there is not even one.
 */
export function decodeErrorLog(bytes: Uint8Array): ErrorLogEntry[] {
  if (bytes.length < entry.bytes) {
    throw new DecodeError(`${entry.name}: 64 bytes are needed, there are ${bytes.length}`)
  }
  return errors.decode(bytes)
}

/** Encodes entries one after the other, 64 bytes each. Fields left out are zero. */
export const encodeErrorLog = errors.encode

// SMART / Health Information (section 5.14.1.2, figure 196). Keys are nvme-cli's.

export const SMART_LOG_BYTES = 512

/** Bits of `critical_warning`. */
export const CRITICAL_WARNING = bitTable({
  PMR: [5, yesNo('Persistent Memory Region read-only or unreliable')],
  VOLATILE_BACKUP: [4, yesNo('Volatile memory backup failed')],
  READ_ONLY: [3, yesNo('Media read-only')],
  RELIABILITY: [2, yesNo('NVM subsystem reliability degraded')],
  TEMPERATURE: [1, yesNo('Temperature over or under a threshold')],
  SPARE: [0, yesNo('Available spare below its threshold')],
})

const percent = (value: number | bigint) => `${value}%`
const minutes = (value: number | bigint) => `${value} minutes`
const seconds = (value: number | bigint) => `${value} s`
const dataUnits = (value: number | bigint) => `${value} (${bytesText(dataUnitsToBytes(BigInt(value)))})`

export const smartLayout = {
  /** See CRITICAL_WARNING. */
  critical_warning: [0, u8, 'hex', CRITICAL_WARNING],
  /** Composite temperature in kelvin: see `celsius`. */
  temperature: [1, u16, label('temperature', temperatureText)],
  /** Spare capacity that is left, its threshold, and life that is used, in per cent; used may pass 100. */
  avail_spare: [3, u8, label('available_spare', percent)],
  spare_thresh: [4, u8, label('available_spare_threshold', percent)],
  percent_used: [5, u8, label('percentage_used', percent)],
  endurance_grp_critical_warning_summary: [6, u8, 'hex', label('endurance_group_critical_warning')],
  /** In units of 1000 times 512 bytes, rounded up: see `dataUnitsToBytes`. */
  data_units_read: [32, u128, label('Data Units Read', dataUnits)],
  data_units_written: [48, u128, label('Data Units Written', dataUnits)],
  host_read_commands: [64, u128],
  host_write_commands: [80, u128],
  /** In minutes. */
  controller_busy_time: [96, u128, label('controller_busy_time', minutes)],
  power_cycles: [112, u128],
  power_on_hours: [128, u128],
  unsafe_shutdowns: [144, u128],
  media_errors: [160, u128],
  num_err_log_entries: [176, u128],
  /** Minutes above the warning and the critical composite temperature. */
  warning_temp_time: [192, u32, label('Warning Temperature Time', minutes)],
  critical_comp_time: [196, u32, label('Critical Composite Temperature Time', minutes)],
  /** Temperature sensors 1 to 8 in kelvin; 0 where there is none. */
  temperature_sensors: [200, list(8, u16)],
  /** Thermal management temperatures 1 and 2: transitions, and seconds. */
  thm_temp1_trans_count: [216, u32, label('Thermal Management T1 Trans Count')],
  thm_temp2_trans_count: [220, u32, label('Thermal Management T2 Trans Count')],
  thm_temp1_total_time: [224, u32, label('Thermal Management T1 Total Time', seconds)],
  thm_temp2_total_time: [228, u32, label('Thermal Management T2 Total Time', seconds)],
} as const

export const { decode: decodeSmartLog, encode: encodeSmartLog } = structure(
  'SMART / Health Information Log',
  SMART_LOG_BYTES,
  smartLayout,
)

export interface SmartLog extends Decoded<typeof smartLayout> {}

/** Data units of the SMART log in bytes. */
export function dataUnitsToBytes(units: bigint): bigint {
  return units * 512_000n
}

// Firmware Slot Information (section 5.14.1.3, figure 197).

export const FIRMWARE_SLOT_LOG_BYTES = 512

const activeInfo = structure('Active Firmware Info', 1, {
  /** Slot, from 1, whose firmware runs. */
  active: [0, bits(u8, 0, 3)],
  /** Slot that becomes active at the next controller level reset; 0 none is announced. */
  next: [0, bits(u8, 4, 3)],
})

const firmwareLayout = {
  afi: [0, activeInfo],
  /** Firmware revisions of slots 1 to 7 at index 0 to 6; empty where a slot has none. */
  frs: [8, list(7, ascii(8, 0))],
} as const

/** Slots left out are empty. */
export const { decode: decodeFirmwareSlotLog, encode: encodeFirmwareSlotLog } = structure(
  'Firmware Slot Information Log',
  FIRMWARE_SLOT_LOG_BYTES,
  firmwareLayout,
)

export interface FirmwareSlotLog extends Decoded<typeof firmwareLayout> {}

// Changed Namespace List (section 5.14.1.4).

export const CHANGED_NAMESPACES_LOG_BYTES = 4096

export interface ChangedNamespaces {
  /** Namespaces that changed since the log was last read, ascending. */
  nsids: number[]
  /** More than 1024 changed: look at all of them. */
  overflow: boolean
}

/** Decodes 4096 bytes; throws DecodeError on fewer. */
export function decodeChangedNamespaces(bytes: Uint8Array): ChangedNamespaces {
  const nsids = decodeNamespaceList(bytes)
  return nsids[0] === ALL_NAMESPACES ? { nsids: [], overflow: true } : { nsids, overflow: false }
}

/** Encodes 4096 bytes. More than 1024 identifiers are encoded as an overflow, as the specification has it. */
export function encodeChangedNamespaces(
  { nsids, overflow = false }: { nsids: readonly number[]; overflow?: boolean },
  target?: Uint8Array,
): Uint8Array {
  return encodeNamespaceList(overflow || nsids.length > 1024 ? [ALL_NAMESPACES] : nsids, target)
}

// Commands Supported and Effects (section 5.14.1.5, figures 198 and 199; 2.0 included).

export const EFFECTS_LOG_BYTES = 4096

/** Bits of the word of a command. */
export const EFFECTS = bitTable({
  UUID_SELECTION: [19, 'UUID selection'],
  EXECUTION: [
    18,
    16,
    oneOf(
      'No limit on what else runs',
      'No other command to the namespace',
      'No other command to any namespace',
    ),
  ],
  CONTROLLER: [4, yesNo('Controller capability change')],
  NAMESPACE_INVENTORY: [3, yesNo('Namespace inventory change')],
  NAMESPACE_CAPABILITY: [2, yesNo('Namespace capability change')],
  CONTENT: [1, yesNo('Logical block content change')],
  SUPPORTED: [0, 'Command'],
})

const effectsLayout = {
  csupp: [0, flag(u32, 0)],
  lbcc: [0, flag(u32, 1)],
  ncc: [0, flag(u32, 2)],
  nic: [0, flag(u32, 3)],
  ccc: [0, flag(u32, 4)],
  /** Command submission and execution relaxations (2.0). */
  cser: [0, bits(u32, 14, 2)],
  cse: [0, bits(u32, 16, 3)],
  uss: [0, flag(u32, 19)],
  /** Command scope (2.0): bit 0 namespace, 1 controller, 2 NVM set, 3 endurance group, 4 domain, 5 subsystem. */
  csp: [0, bits(u32, 20, 12)],
} as const

const effects = word('Commands Supported and Effects Data Structure', effectsLayout)
/** What one word of the log says of its command. */
export const { decode: decodeCommandEffects } = effects

const effectsLogLayout = {
  /** Of the admin command with each opcode, and of the I/O command: see `decodeCommandEffects`. */
  acs: [0, list(256, u32)],
  iocs: [1024, list(256, u32)],
} as const

/** Commands left out at the end of a list are not supported. */
export const { decode: decodeEffectsLog, encode: encodeEffectsLog } = structure(
  'Commands Supported and Effects Log',
  EFFECTS_LOG_BYTES,
  effectsLogLayout,
)

export interface EffectsLog extends Decoded<typeof effectsLogLayout> {}
export interface CommandEffects extends Decoded<typeof effectsLayout> {}

/** The word of a command, with `csupp` set unless given. */
export function encodeCommandEffects(value: Encodable<typeof effectsLayout> = {}): number {
  return effects.encode({ csupp: true, ...value })
}

// Device Self-test (section 5.14.1.6, figures 200 and 201).

export const SELF_TEST_LOG_BYTES = 564

/** Self-test codes: what a Device Self-test command starts, and what the log says runs or ran. */
export const SELF_TEST = { NONE: 0x0, SHORT: 0x1, EXTENDED: 0x2, VENDOR: 0xe, ABORT: 0xf } as const

const SELF_TEST_RESULTS = named({
  NO_ERROR: [0x0, 'Operation completed without error'],
  ABORTED_BY_COMMAND: [0x1, 'Operation aborted by a Device Self-test command'],
  ABORTED_BY_RESET: [0x2, 'Operation aborted by a Controller Level Reset'],
  ABORTED_BY_NAMESPACE_REMOVAL: [0x3, 'Operation aborted due to removal of a namespace'],
  ABORTED_BY_FORMAT: [0x4, 'Operation aborted due to a Format NVM command'],
  FATAL_ERROR: [0x5, 'A fatal error or unknown test error occurred'],
  UNKNOWN_SEGMENT_FAILED: [0x6, 'Operation completed with a segment that failed, not known which'],
  SEGMENT_FAILED: [0x7, 'Operation completed with one or more failed segments'],
  ABORTED: [0x8, 'Operation aborted for an unknown reason'],
  ABORTED_BY_SANITIZE: [0x9, 'Operation aborted due to a sanitize operation'],
  /** The entry is not used. */
  UNUSED: [0xf, 'Entry not used'],
})

/** Results of a self-test. */
export const SELF_TEST_RESULT = SELF_TEST_RESULTS.codes

/** What a result of the log means. */
export function selfTestResultName(result: number): string {
  return SELF_TEST_RESULTS.names.get(result) ?? 'Reserved'
}

const resultLayout = {
  /** One of SELF_TEST_RESULT. */
  result: [0, bits(u8, 0, 4)],
  /** One of SELF_TEST. */
  code: [0, bits(u8, 4, 4)],
  /** First segment that failed; counts only with result 7h. */
  segment: [1, u8],
  /** Which of the four fields below hold something. */
  nsid_valid: [2, flag(u8, 0)],
  flba_valid: [2, flag(u8, 1)],
  sct_valid: [2, flag(u8, 2)],
  sc_valid: [2, flag(u8, 3)],
  /** Power on hours when the operation ended. */
  poh: [4, u64],
  nsid: [12, u32],
  /** Failing LBA. */
  flba: [16, u64],
  sct: [24, bits(u8, 0, 3)],
  sc: [25, u8],
  /** Vendor specific. */
  vs: [26, raw(2)],
} as const

const selfTestLayout = {
  /** One of SELF_TEST: what runs now. */
  current_operation: [0, bits(u8, 0, 4)],
  /** Per cent of it that are done. */
  completion: [1, bits(u8, 0, 7)],
  results: [4, list(20, structure('Self-test Result', 28, resultLayout))],
} as const

const selfTestLog = structure('Device Self-test Log', SELF_TEST_LOG_BYTES, selfTestLayout)
export const { decode: decodeSelfTestLog } = selfTestLog

export interface SelfTestResult extends Decoded<typeof resultLayout> {}
export interface SelfTestLog extends Decoded<typeof selfTestLayout> {}

/** Encodes 564 bytes. Results left out are marked as not used. */
export function encodeSelfTestLog(value: Encodable<typeof selfTestLayout>, target?: Uint8Array): Uint8Array {
  const { results = [] } = value
  const unused = Array.from({ length: Math.max(0, 20 - results.length) }, () => ({
    result: SELF_TEST_RESULT.UNUSED,
  }))
  return selfTestLog.encode({ ...value, results: [...results, ...unused] }, target)
}

// Telemetry Host-Initiated and Controller-Initiated (sections 5.14.1.7 and .8): the header; the areas are the vendor's.

/** Bytes of the header, and of each block that it counts in. */
export const TELEMETRY_BLOCK_BYTES = 512

const telemetryLayout = {
  /** Log identifier: 7 host-initiated, 8 controller-initiated. */
  lid: [0, u8],
  /** IEEE OUI of who made the data. */
  ieee: [5, u24],
  /** Last block of data areas 1 to 3: each area starts behind the one before; 0 where all up to it are empty. */
  dalb1: [8, u16],
  dalb2: [10, u16],
  dalb3: [12, u16],
  /** Last block of data area 4 (2.0). */
  dalb4: [16, u32],
  /** Generation number of the host-initiated data (2.0). */
  hostdgn: [381, u8],
  /** Controller-initiated data available, and its generation number. */
  ctrlavail: [382, u8],
  ctrldgn: [383, u8],
  /** Reason identifier, vendor specific. */
  rsnident: [384, raw(128)],
} as const

export const { decode: decodeTelemetryHeader, encode: encodeTelemetryHeader } = structure(
  'Telemetry Log Header',
  TELEMETRY_BLOCK_BYTES,
  telemetryLayout,
)

export interface TelemetryHeader extends Decoded<typeof telemetryLayout> {}

/**
 * Bytes of the log, header included, up to the end of a data area: an area that is empty has no last block (0), and
 * those before it still count.
 */
export function telemetryBytes(log: TelemetryHeader, area: 1 | 2 | 3 | 4): number {
  const { dalb1, dalb2, dalb3, dalb4 } = log
  return (Math.max(...[dalb1, dalb2, dalb3, dalb4].slice(0, area)) + 1) * TELEMETRY_BLOCK_BYTES
}

// Persistent Event Log (section 5.14.1.13, figures 214 and 215; 2.0 included).

export const PERSISTENT_EVENT_HEADER_BYTES = 512

/** What to do with the log's reporting context: the log specific field of the Get Log Page command. */
export const PERSISTENT_EVENT_ACTION = { READ: 0, ESTABLISH_AND_READ: 1, RELEASE: 2 } as const

const PERSISTENT_EVENTS = named({
  SMART: [0x01, 'SMART / Health Log Snapshot'],
  FIRMWARE_COMMIT: [0x02, 'Firmware Commit'],
  TIMESTAMP_CHANGE: [0x03, 'Timestamp Change'],
  POWER_ON_OR_RESET: [0x04, 'Power-on or Reset'],
  HARDWARE_ERROR: [0x05, 'NVM Subsystem Hardware Error'],
  CHANGE_NAMESPACE: [0x06, 'Change Namespace'],
  FORMAT_START: [0x07, 'Format NVM Start'],
  FORMAT_COMPLETION: [0x08, 'Format NVM Completion'],
  SANITIZE_START: [0x09, 'Sanitize Start'],
  SANITIZE_COMPLETION: [0x0a, 'Sanitize Completion'],
  SET_FEATURE: [0x0b, 'Set Feature'],
  TELEMETRY_CREATED: [0x0c, 'Telemetry Log Created'],
  THERMAL_EXCURSION: [0x0d, 'Thermal Excursion'],
  VENDOR: [0xde, 'Vendor Specific'],
  TCG: [0xdf, 'TCG Defined'],
})

/** Event types. */
export const PERSISTENT_EVENT = PERSISTENT_EVENTS.codes

/** The specification's name of a type of event. */
export function persistentEventName(type: number): string {
  return PERSISTENT_EVENTS.names.get(type) ?? 'Reserved'
}

const eventLogLayout = {
  lid: [0, u8],
  /** Total number of events. */
  tnev: [4, u32],
  /** Total log length in bytes, header included. */
  tll: [8, u64],
  /** Log revision. */
  rv: [16, u8],
  /** Log header length: bytes that follow this field. */
  lhl: [18, u16],
  ts: [20, timestampField],
  /** Power on hours, power cycle count. */
  poh: [28, u128],
  pcc: [44, u64],
  vid: [52, u16],
  ssvid: [54, u16],
  sn: [56, ascii(20)],
  mn: [76, ascii(40)],
  subnqn: [116, utf8(256)],
  /** Generation number, reporting context information (2.0). */
  gen_number: [372, u16],
  rci: [374, u32],
  /** Supported events: bit n of the map is event type n. */
  seb: [480, raw(32)],
} as const

const eventLayout = {
  /** One of PERSISTENT_EVENT, and its revision. */
  etype: [0, u8],
  etype_rev: [1, u8],
  /** Event header length: bytes that follow this field. */
  ehl: [2, u8],
  /** Event header additional information, and port identifier (2.0). */
  ehai: [3, u8],
  cntlid: [4, u16],
  ets: [6, timestampField],
  pelpid: [14, u16],
  /** Bytes of vendor specific information, and of it and the event's data together. */
  vsil: [20, u16],
  el: [22, u16],
} as const

const eventLogHeader = structure('Persistent Event Log Header', PERSISTENT_EVENT_HEADER_BYTES, eventLogLayout)
export const { decode: decodePersistentEventHeader } = eventLogHeader
const eventHeader = structure('Persistent Event', 24, eventLayout)
// EHL and LHL count from behind themselves.
const EHL_END = 3
const LHL_END = 20

export interface PersistentEventHeader extends Decoded<typeof eventLogLayout> {}

export interface PersistentEvent extends Decoded<typeof eventLayout> {
  /** Vendor specific information. */
  vsi: Uint8Array
  /** Event data, whose layout is its type's. */
  data: Uint8Array
}

export interface PersistentEventLog extends PersistentEventHeader {
  /** The events that are whole in the bytes given; `tnev` says how many there are. */
  events: PersistentEvent[]
}

/** Decodes the header and as many whole events as follow; throws DecodeError on fewer than 512 bytes. */
export function decodePersistentEventLog(bytes: Uint8Array): PersistentEventLog {
  const log = eventLogHeader.decode(bytes)
  const events: PersistentEvent[] = []
  let at = Math.max(eventLogHeader.bytes, log.lhl + LHL_END)
  while (events.length < log.tnev && at + eventHeader.bytes <= bytes.length) {
    const event = eventHeader.decode(bytes.subarray(at))
    const body = at + Math.max(eventHeader.bytes, event.ehl + EHL_END)
    const data = body + Math.min(event.vsil, event.el)
    const end = body + event.el
    if (end > bytes.length) break
    events.push({ ...event, vsi: bytes.slice(body, data), data: bytes.slice(data, end) })
    at = end
  }
  return { ...log, events }
}

type EventToEncode = Omit<Encodable<typeof eventLayout>, 'ehl' | 'vsil' | 'el'> & {
  vsi?: Uint8Array
  data?: Uint8Array
}

/** Encodes a whole log. Lengths and counts are computed; fields left out are zero. */
export function encodePersistentEventLog({
  events,
  ...value
}: Encodable<typeof eventLogLayout> & { events: readonly EventToEncode[] }): Uint8Array {
  const chunks = events.map(encodeEvent)
  const tll = chunks.reduce((sum, chunk) => sum + chunk.length, eventLogHeader.bytes)
  const counted = {
    lid: 0x0d,
    lhl: eventLogHeader.bytes - LHL_END,
    ...value,
    tnev: events.length,
    tll: BigInt(tll),
  }
  return Buffer.concat([eventLogHeader.encode(counted), ...chunks])
}

function encodeEvent({
  vsi = new Uint8Array(),
  data = new Uint8Array(),
  ...value
}: EventToEncode): Uint8Array {
  const el = vsi.length + data.length
  if (el > 0xffff) throw new OutOfRangeError(`Persistent event: ${el} bytes, where 65535 are the most`)
  const lengths = { ehl: eventHeader.bytes - EHL_END, vsil: vsi.length, el }
  return Buffer.concat([eventHeader.encode({ ...value, ...lengths }), vsi, data])
}

// Sanitize Status (section 5.14.1.16.2, figure 222).

export const SANITIZE_LOG_BYTES = 512

const SANITIZE_STATES = named({
  NEVER: [0, 'Never sanitized'],
  COMPLETED: [1, 'Completed successfully'],
  IN_PROGRESS: [2, 'In progress'],
  FAILED: [3, 'Failed'],
  /** Completed, with user data deallocated although no deallocation was asked for. */
  COMPLETED_DEALLOCATED: [4, 'Completed successfully, with forced deallocation'],
})

/** States of the most recent sanitize operation. */
export const SANITIZE_STATE = SANITIZE_STATES.codes

/** What a state means. */
export function sanitizeStateName(state: number): string {
  return SANITIZE_STATES.names.get(state) ?? 'Reserved'
}

const sanitizeStatus = structure('Sanitize Status', 2, {
  /** One of SANITIZE_STATE. */
  status: [0, bits(u16, 0, 3)],
  /** Overwrite passes that are done. nvme-cli calls it `no_cmplted_passes`. */
  passes: [0, bits(u16, 3, 5)],
  /** Nothing was written since the sanitize operation, or since manufacture. */
  global_erased: [0, flag(u16, 8)],
})

const sanitizeLayout = {
  /** Progress in 65 536ths; FFFFh where none is in progress. */
  sprog: [0, u16],
  sstat: [2, sanitizeStatus],
  /** Dword 10 of the command that started it. nvme-cli calls it `cdw10_info`. */
  scdw10: [4, u32],
  /** Estimated seconds for overwrite, block erase, crypto erase; FFFFFFFFh not reported. */
  eto: [8, u32],
  etbe: [12, u32],
  etce: [16, u32],
  /** The same with No-Deallocate and the media modification after it. */
  etond: [20, u32],
  etbend: [24, u32],
  etcend: [28, u32],
} as const

const sanitizeLog = structure('Sanitize Status Log', SANITIZE_LOG_BYTES, sanitizeLayout)
export const { decode: decodeSanitizeLog } = sanitizeLog

export interface SanitizeLog extends Decoded<typeof sanitizeLayout> {}

/** Encodes 512 bytes. Progress and estimates left out say that there is none. */
export function encodeSanitizeLog(value: Encodable<typeof sanitizeLayout>, target?: Uint8Array): Uint8Array {
  const none = 0xffff_ffff
  const times = { eto: none, etbe: none, etce: none, etond: none, etbend: none, etcend: none }
  return sanitizeLog.encode({ sprog: 0xffff, ...times, ...value }, target)
}
