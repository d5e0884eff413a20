// Asynchronous events: dword 0 of an Asynchronous Event Request's completion (NVMe 1.4 base, section 5.2, figure 146).
// Trade-off: names for what the specification names; a vendor's event is told by its numbers.

import { bits, type Encodable, u32, word } from './codec.ts'

/** Types of event. */
export const ASYNC_EVENT = {
  ERROR: 0,
  SMART: 1,
  NOTICE: 2,
  IMMEDIATE: 3,
  /** Of an I/O command set. */
  IO_COMMAND_SET: 6,
  VENDOR: 7,
} as const

/** Event information of type ERROR. */
export const ASYNC_ERROR = {
  INVALID_DOORBELL_REGISTER: 0,
  INVALID_DOORBELL_VALUE: 1,
  DIAGNOSTIC_FAILURE: 2,
  PERSISTENT_INTERNAL_ERROR: 3,
  TRANSIENT_INTERNAL_ERROR: 4,
  FIRMWARE_IMAGE_LOAD_ERROR: 5,
} as const

/** Event information of type SMART. */
export const ASYNC_SMART = { RELIABILITY: 0, TEMPERATURE: 1, SPARE: 2 } as const

/** Event information of type NOTICE. */
export const ASYNC_NOTICE = {
  NAMESPACE_ATTRIBUTE_CHANGED: 0,
  FIRMWARE_ACTIVATION_STARTING: 1,
  TELEMETRY_LOG_CHANGED: 2,
  ANA_CHANGE: 3,
  PREDICTABLE_LATENCY_CHANGE: 4,
  LBA_STATUS_ALERT: 5,
  ENDURANCE_GROUP_CHANGE: 6,
} as const

/** Event information of type IO_COMMAND_SET, for the NVM command set. */
export const ASYNC_NVM = {
  RESERVATION_LOG_AVAILABLE: 0,
  SANITIZE_COMPLETED: 1,
  SANITIZE_COMPLETED_DEALLOCATED: 2,
} as const

const TYPE_NAMES: Readonly<Record<number, string>> = {
  0: 'Error status',
  1: 'SMART / Health status',
  2: 'Notice',
  3: 'Immediate',
  6: 'I/O Command Set specific status',
  7: 'Vendor specific',
}

// Keyed by type << 8 | info.
const INFO_NAMES = new Map([
  [0x000, 'Write to Invalid Doorbell Register'],
  [0x001, 'Invalid Doorbell Write Value'],
  [0x002, 'Diagnostic Failure'],
  [0x003, 'Persistent Internal Error'],
  [0x004, 'Transient Internal Error'],
  [0x005, 'Firmware Image Load Error'],
  [0x100, 'NVM subsystem Reliability'],
  [0x101, 'Temperature Threshold'],
  [0x102, 'Spare Below Threshold'],
  [0x200, 'Namespace Attribute Changed'],
  [0x201, 'Firmware Activation Starting'],
  [0x202, 'Telemetry Log Changed'],
  [0x203, 'Asymmetric Namespace Access Change'],
  [0x204, 'Predictable Latency Event Aggregate Log Change'],
  [0x205, 'LBA Status Information Alert'],
  [0x206, 'Endurance Group Event Aggregate Log Page Change'],
  [0x300, 'Normal NVM Subsystem Shutdown'],
  [0x600, 'Reservation Log Page Available'],
  [0x601, 'Sanitize Operation Completed'],
  [0x602, 'Sanitize Operation Completed With Unexpected Deallocation'],
])

const layout = {
  type: [0, bits(u32, 0, 3)],
  info: [0, bits(u32, 8, 8)],
  lid: [0, bits(u32, 16, 8)],
} as const

const event = word('Asynchronous Event', layout)

export interface AsyncEvent {
  /** One of ASYNC_EVENT. */
  type: number
  /** What happened, by type. */
  info: number
  /** Log page to read; reading it lets the next event of its type come. */
  lid: number
  /** The specification's names of both. */
  typeName: string
  name: string
}

/** What dword 0 of a completion says. */
export function decodeAsyncEvent(dword: number): AsyncEvent {
  const { type, info, lid } = event.decode(dword)
  const typeName = TYPE_NAMES[type] ?? 'Reserved'
  const name = INFO_NAMES.get((type << 8) | info) ?? `${typeName} (${info.toString(16).padStart(2, '0')}h)`
  return { type, info, lid, typeName, name }
}

/** Dword 0 of a completion. Parts left out are zero; throws OutOfRangeError for a value that does not fit. */
export function encodeAsyncEvent(value: Encodable<typeof layout>): number {
  return event.encode(value)
}
