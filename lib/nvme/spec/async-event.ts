// Asynchronous events: dword 0 of an Asynchronous Event Request's completion (NVMe 1.4 base, section 5.2, figure 146).
// An event of a vendor has the numbers of its type and information as its name.

import { bits, codesOf, named, u32, word } from './codec.ts'

const TYPES = named({
  ERROR: [0, 'Error status'],
  SMART: [1, 'SMART / Health status'],
  NOTICE: [2, 'Notice'],
  IMMEDIATE: [3, 'Immediate'],
  IO_COMMAND_SET: [6, 'I/O Command Set specific status'],
  VENDOR: [7, 'Vendor specific'],
})

/** Types of event. */
export const ASYNC_EVENT = TYPES.codes

const INFO = {
  [ASYNC_EVENT.ERROR]: {
    INVALID_DOORBELL_REGISTER: [0, 'Write to Invalid Doorbell Register'],
    INVALID_DOORBELL_VALUE: [1, 'Invalid Doorbell Write Value'],
    DIAGNOSTIC_FAILURE: [2, 'Diagnostic Failure'],
    PERSISTENT_INTERNAL_ERROR: [3, 'Persistent Internal Error'],
    TRANSIENT_INTERNAL_ERROR: [4, 'Transient Internal Error'],
    FIRMWARE_IMAGE_LOAD_ERROR: [5, 'Firmware Image Load Error'],
  },
  [ASYNC_EVENT.SMART]: {
    RELIABILITY: [0, 'NVM subsystem Reliability'],
    TEMPERATURE: [1, 'Temperature Threshold'],
    SPARE: [2, 'Spare Below Threshold'],
  },
  [ASYNC_EVENT.NOTICE]: {
    NAMESPACE_ATTRIBUTE_CHANGED: [0, 'Namespace Attribute Changed'],
    FIRMWARE_ACTIVATION_STARTING: [1, 'Firmware Activation Starting'],
    TELEMETRY_LOG_CHANGED: [2, 'Telemetry Log Changed'],
    ANA_CHANGE: [3, 'Asymmetric Namespace Access Change'],
    PREDICTABLE_LATENCY_CHANGE: [4, 'Predictable Latency Event Aggregate Log Change'],
    LBA_STATUS_ALERT: [5, 'LBA Status Information Alert'],
    ENDURANCE_GROUP_CHANGE: [6, 'Endurance Group Event Aggregate Log Page Change'],
  },
  [ASYNC_EVENT.IMMEDIATE]: { NORMAL_SHUTDOWN: [0, 'Normal NVM Subsystem Shutdown'] },
  // Of the NVM command set.
  [ASYNC_EVENT.IO_COMMAND_SET]: {
    RESERVATION_LOG_AVAILABLE: [0, 'Reservation Log Page Available'],
    SANITIZE_COMPLETED: [1, 'Sanitize Operation Completed'],
    SANITIZE_COMPLETED_DEALLOCATED: [2, 'Sanitize Operation Completed With Unexpected Deallocation'],
  },
} as const

/** Event information of type ERROR, SMART, NOTICE and IO_COMMAND_SET. */
export const ASYNC_ERROR = codesOf(INFO[ASYNC_EVENT.ERROR])
export const ASYNC_SMART = codesOf(INFO[ASYNC_EVENT.SMART])
export const ASYNC_NOTICE = codesOf(INFO[ASYNC_EVENT.NOTICE])
export const ASYNC_NVM = codesOf(INFO[ASYNC_EVENT.IO_COMMAND_SET])

const INFO_NAMES: Readonly<Record<number, ReadonlyMap<number, string>>> = Object.fromEntries(
  Object.entries(INFO).map(([type, table]) => [type, new Map<number, string>(Object.values(table))]),
)

const event = word('Asynchronous Event', {
  type: [0, bits(u32, 0, 3)],
  info: [0, bits(u32, 8, 8)],
  lid: [0, bits(u32, 16, 8)],
})

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
  const typeName = TYPES.names.get(type) ?? 'Reserved'
  const name = INFO_NAMES[type]?.get(info) ?? `${typeName} (${info.toString(16).padStart(2, '0')}h)`
  return { type, info, lid, typeName, name }
}

/** Dword 0 of a completion. Parts left out are zero; throws OutOfRangeError for a value that does not fit. */
export const encodeAsyncEvent = event.encode
