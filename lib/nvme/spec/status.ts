// Completion status: the 16-bit status field of a completion queue entry (NVMe 1.4 base, section 4.6.1).
// Trade-off: a status is one number, sct << 8 | sc, wherever it is compared; the decoded form is for reports.

import { statusName } from './status-names.ts'

export { statusName }

/**
 * Status codes as `sct << 8 | sc`, with the names of NVMe 2.0. Shifted left by one, each is the status field
 * of a completion without phase tag, Command Retry Delay, More and Do Not Retry.
 */
export const STATUS = {
  // Generic Command Status (0h)
  SUCCESS: 0x000,
  INVALID_OPCODE: 0x001,
  INVALID_FIELD: 0x002,
  COMMAND_ID_CONFLICT: 0x003,
  DATA_TRANSFER_ERROR: 0x004,
  ABORTED_POWER_LOSS: 0x005,
  INTERNAL_ERROR: 0x006,
  ABORT_REQUESTED: 0x007,
  ABORTED_SQ_DELETION: 0x008,
  ABORTED_FAILED_FUSED: 0x009,
  ABORTED_MISSING_FUSED: 0x00a,
  INVALID_NAMESPACE_OR_FORMAT: 0x00b,
  COMMAND_SEQUENCE_ERROR: 0x00c,
  INVALID_SGL_SEGMENT_DESCRIPTOR: 0x00d,
  INVALID_NUMBER_OF_SGL_DESCRIPTORS: 0x00e,
  DATA_SGL_LENGTH_INVALID: 0x00f,
  METADATA_SGL_LENGTH_INVALID: 0x010,
  SGL_DESCRIPTOR_TYPE_INVALID: 0x011,
  INVALID_USE_OF_CMB: 0x012,
  PRP_OFFSET_INVALID: 0x013,
  ATOMIC_WRITE_UNIT_EXCEEDED: 0x014,
  OPERATION_DENIED: 0x015,
  SGL_OFFSET_INVALID: 0x016,
  HOST_IDENTIFIER_INCONSISTENT_FORMAT: 0x018,
  KEEP_ALIVE_TIMER_EXPIRED: 0x019,
  KEEP_ALIVE_TIMEOUT_INVALID: 0x01a,
  ABORTED_PREEMPT: 0x01b,
  SANITIZE_FAILED: 0x01c,
  SANITIZE_IN_PROGRESS: 0x01d,
  SGL_DATA_BLOCK_GRANULARITY_INVALID: 0x01e,
  COMMAND_NOT_SUPPORTED_FOR_QUEUE_IN_CMB: 0x01f,
  NAMESPACE_WRITE_PROTECTED: 0x020,
  COMMAND_INTERRUPTED: 0x021,
  TRANSIENT_TRANSPORT_ERROR: 0x022,
  COMMAND_PROHIBITED_BY_LOCKDOWN: 0x023,
  ADMIN_COMMAND_MEDIA_NOT_READY: 0x024,
  LBA_OUT_OF_RANGE: 0x080,
  CAPACITY_EXCEEDED: 0x081,
  NAMESPACE_NOT_READY: 0x082,
  RESERVATION_CONFLICT: 0x083,
  FORMAT_IN_PROGRESS: 0x084,

  // Command Specific Status (1h)
  COMPLETION_QUEUE_INVALID: 0x100,
  INVALID_QUEUE_IDENTIFIER: 0x101,
  INVALID_QUEUE_SIZE: 0x102,
  ABORT_COMMAND_LIMIT_EXCEEDED: 0x103,
  ASYNC_EVENT_REQUEST_LIMIT_EXCEEDED: 0x105,
  INVALID_FIRMWARE_SLOT: 0x106,
  INVALID_FIRMWARE_IMAGE: 0x107,
  INVALID_INTERRUPT_VECTOR: 0x108,
  INVALID_LOG_PAGE: 0x109,
  INVALID_FORMAT: 0x10a,
  FIRMWARE_NEEDS_CONVENTIONAL_RESET: 0x10b,
  INVALID_QUEUE_DELETION: 0x10c,
  FEATURE_NOT_SAVEABLE: 0x10d,
  FEATURE_NOT_CHANGEABLE: 0x10e,
  FEATURE_NOT_NAMESPACE_SPECIFIC: 0x10f,
  FIRMWARE_NEEDS_SUBSYSTEM_RESET: 0x110,
  FIRMWARE_NEEDS_CONTROLLER_RESET: 0x111,
  FIRMWARE_MAXIMUM_TIME_VIOLATION: 0x112,
  FIRMWARE_ACTIVATION_PROHIBITED: 0x113,
  OVERLAPPING_RANGE: 0x114,
  NAMESPACE_INSUFFICIENT_CAPACITY: 0x115,
  NAMESPACE_IDENTIFIER_UNAVAILABLE: 0x116,
  NAMESPACE_ALREADY_ATTACHED: 0x118,
  NAMESPACE_IS_PRIVATE: 0x119,
  NAMESPACE_NOT_ATTACHED: 0x11a,
  THIN_PROVISIONING_NOT_SUPPORTED: 0x11b,
  CONTROLLER_LIST_INVALID: 0x11c,
  SELF_TEST_IN_PROGRESS: 0x11d,
  BOOT_PARTITION_WRITE_PROHIBITED: 0x11e,
  INVALID_CONTROLLER_IDENTIFIER: 0x11f,
  INVALID_SECONDARY_CONTROLLER_STATE: 0x120,
  INVALID_NUMBER_OF_CONTROLLER_RESOURCES: 0x121,
  INVALID_RESOURCE_IDENTIFIER: 0x122,
  SANITIZE_PROHIBITED_BY_PMR: 0x123,
  ANA_GROUP_IDENTIFIER_INVALID: 0x124,
  ANA_ATTACH_FAILED: 0x125,
  INSUFFICIENT_CAPACITY: 0x126,
  NAMESPACE_ATTACHMENT_LIMIT_EXCEEDED: 0x127,
  PROHIBITION_NOT_SUPPORTED: 0x128,
  IO_COMMAND_SET_NOT_SUPPORTED: 0x129,
  IO_COMMAND_SET_NOT_ENABLED: 0x12a,
  IO_COMMAND_SET_COMBINATION_REJECTED: 0x12b,
  INVALID_IO_COMMAND_SET: 0x12c,
  IDENTIFIER_UNAVAILABLE: 0x12d,
  CONFLICTING_ATTRIBUTES: 0x180,
  INVALID_PROTECTION_INFORMATION: 0x181,
  WRITE_TO_READ_ONLY_RANGE: 0x182,
  COMMAND_SIZE_LIMIT_EXCEEDED: 0x183,

  // Media and Data Integrity Errors (2h)
  WRITE_FAULT: 0x280,
  UNRECOVERED_READ_ERROR: 0x281,
  GUARD_CHECK_ERROR: 0x282,
  APPLICATION_TAG_CHECK_ERROR: 0x283,
  REFERENCE_TAG_CHECK_ERROR: 0x284,
  COMPARE_FAILURE: 0x285,
  ACCESS_DENIED: 0x286,
  DEALLOCATED_OR_UNWRITTEN: 0x287,
  STORAGE_TAG_CHECK_ERROR: 0x288,

  // Path Related Status (3h)
  INTERNAL_PATH_ERROR: 0x300,
  ANA_PERSISTENT_LOSS: 0x301,
  ANA_INACCESSIBLE: 0x302,
  ANA_TRANSITION: 0x303,
  CONTROLLER_PATHING_ERROR: 0x360,
  HOST_PATHING_ERROR: 0x370,
  ABORTED_BY_HOST: 0x371,
} as const

/** Status code types (section 4.6.1.1). */
export const SCT = { GENERIC: 0, COMMAND_SPECIFIC: 1, MEDIA: 2, PATH: 3, VENDOR: 7 } as const

/** What a completion reports. */
export interface Status {
  /** Status code type, 0 to 7. */
  sct: number
  /** Status code, 0 to 255. */
  sc: number
  /** Command Retry Delay: 0 retry at once, 1 to 3 after the controller's CRDT1 to CRDT3. */
  crd: number
  /** There is more in the error log. */
  more: boolean
  /** Do Not Retry: the same command would fail again. */
  dnr: boolean
  /** The specification's name. */
  name: string
}

/**
 * The status as one number, `sct << 8 | sc`, to compare with STATUS; 0 is success.
 * @param field bits 31:16 of the completion's last dword (`dw3 >>> 16`), phase tag in bit 0 included
 */
export function statusCode(field: number): number {
  return (field >>> 1) & 0x7ff
}

/**
 * Everything that a status field says.
 * @param field bits 31:16 of the completion's last dword (`dw3 >>> 16`); the phase tag in bit 0 is ignored
 */
export function decodeStatus(field: number): Status {
  const sc = (field >>> 1) & 0xff
  const sct = (field >>> 9) & 7
  return {
    sct,
    sc,
    crd: (field >>> 12) & 3,
    more: (field & 0x4000) !== 0,
    dnr: (field & 0x8000) !== 0,
    name: statusName(sct, sc),
  }
}

/**
 * The status field as it stands in bits 31:16 of a completion's last dword, phase tag 0 unless given.
 * Out-of-range parts are cut to their widths.
 */
export function encodeStatus(
  status: { sct: number; sc: number; crd?: number; more?: boolean; dnr?: boolean },
  phase: 0 | 1 = 0,
): number {
  const { sct, sc, crd = 0, more = false, dnr = false } = status
  const code = ((sct & 7) << 9) | ((sc & 0xff) << 1)
  return code | ((crd & 3) << 12) | (more ? 0x4000 : 0) | (dnr ? 0x8000 : 0) | phase
}

/** Whether a failed command may succeed when it is sent again: Do Not Retry (DNR) is clear in its status field. */
export function mayPass(field: number): boolean {
  return (field & 0x8000) === 0
}

// A controller can ask for up to 109 minutes.
const MOST_DELAY_MS = 10_000

/**
 * Milliseconds to wait before a failed command is sent again, as Command Retry Delay (CRD) of its status field says;
 * at most 10 s.
 * @param delays CRDT1 to 3 of Identify Controller, in units of 100 ms
 */
export function retryDelay(field: number, delays: readonly number[]): number {
  const crd = (field >> 12) & 3
  return crd === 0 ? 0 : Math.min((delays[crd - 1] ?? 0) * 100, MOST_DELAY_MS)
}
