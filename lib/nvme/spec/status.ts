// Completion status: the 16-bit status field of a completion queue entry (NVMe 1.4 base, section 4.6.1), and the names of
// its codes. A status is one number, sct << 8 | sc, wherever it is compared; the decoded form is for reports.

import { named } from './codec.ts'

// Codes 80h and up are those of the NVM, Key Value and Zoned command sets; Fabrics reuses some of them.
const STATUSES = named({
  // Generic Command Status (0h)
  SUCCESS: [0x000, 'Successful Completion'],
  INVALID_OPCODE: [0x001, 'Invalid Command Opcode'],
  INVALID_FIELD: [0x002, 'Invalid Field in Command'],
  COMMAND_ID_CONFLICT: [0x003, 'Command ID Conflict'],
  DATA_TRANSFER_ERROR: [0x004, 'Data Transfer Error'],
  ABORTED_POWER_LOSS: [0x005, 'Commands Aborted due to Power Loss Notification'],
  INTERNAL_ERROR: [0x006, 'Internal Error'],
  ABORT_REQUESTED: [0x007, 'Command Abort Requested'],
  ABORTED_SQ_DELETION: [0x008, 'Command Aborted due to SQ Deletion'],
  ABORTED_FAILED_FUSED: [0x009, 'Command Aborted due to Failed Fused Command'],
  ABORTED_MISSING_FUSED: [0x00a, 'Command Aborted due to Missing Fused Command'],
  INVALID_NAMESPACE_OR_FORMAT: [0x00b, 'Invalid Namespace or Format'],
  COMMAND_SEQUENCE_ERROR: [0x00c, 'Command Sequence Error'],
  INVALID_SGL_SEGMENT_DESCRIPTOR: [0x00d, 'Invalid SGL Segment Descriptor'],
  INVALID_NUMBER_OF_SGL_DESCRIPTORS: [0x00e, 'Invalid Number of SGL Descriptors'],
  DATA_SGL_LENGTH_INVALID: [0x00f, 'Data SGL Length Invalid'],
  METADATA_SGL_LENGTH_INVALID: [0x010, 'Metadata SGL Length Invalid'],
  SGL_DESCRIPTOR_TYPE_INVALID: [0x011, 'SGL Descriptor Type Invalid'],
  INVALID_USE_OF_CMB: [0x012, 'Invalid Use of Controller Memory Buffer'],
  PRP_OFFSET_INVALID: [0x013, 'PRP Offset Invalid'],
  ATOMIC_WRITE_UNIT_EXCEEDED: [0x014, 'Atomic Write Unit Exceeded'],
  OPERATION_DENIED: [0x015, 'Operation Denied'],
  SGL_OFFSET_INVALID: [0x016, 'SGL Offset Invalid'],
  HOST_IDENTIFIER_INCONSISTENT_FORMAT: [0x018, 'Host Identifier Inconsistent Format'],
  KEEP_ALIVE_TIMER_EXPIRED: [0x019, 'Keep Alive Timer Expired'],
  KEEP_ALIVE_TIMEOUT_INVALID: [0x01a, 'Keep Alive Timeout Invalid'],
  ABORTED_PREEMPT: [0x01b, 'Command Aborted due to Preempt and Abort'],
  SANITIZE_FAILED: [0x01c, 'Sanitize Failed'],
  SANITIZE_IN_PROGRESS: [0x01d, 'Sanitize In Progress'],
  SGL_DATA_BLOCK_GRANULARITY_INVALID: [0x01e, 'SGL Data Block Granularity Invalid'],
  COMMAND_NOT_SUPPORTED_FOR_QUEUE_IN_CMB: [0x01f, 'Command Not Supported for Queue in CMB'],
  NAMESPACE_WRITE_PROTECTED: [0x020, 'Namespace is Write Protected'],
  COMMAND_INTERRUPTED: [0x021, 'Command Interrupted'],
  TRANSIENT_TRANSPORT_ERROR: [0x022, 'Transient Transport Error'],
  COMMAND_PROHIBITED_BY_LOCKDOWN: [0x023, 'Command Prohibited by Command and Feature Lockdown'],
  ADMIN_COMMAND_MEDIA_NOT_READY: [0x024, 'Admin Command Media Not Ready'],
  LBA_OUT_OF_RANGE: [0x080, 'LBA Out of Range'],
  CAPACITY_EXCEEDED: [0x081, 'Capacity Exceeded'],
  NAMESPACE_NOT_READY: [0x082, 'Namespace Not Ready'],
  RESERVATION_CONFLICT: [0x083, 'Reservation Conflict'],
  FORMAT_IN_PROGRESS: [0x084, 'Format In Progress'],

  // Command Specific Status (1h)
  COMPLETION_QUEUE_INVALID: [0x100, 'Completion Queue Invalid'],
  INVALID_QUEUE_IDENTIFIER: [0x101, 'Invalid Queue Identifier'],
  INVALID_QUEUE_SIZE: [0x102, 'Invalid Queue Size'],
  ABORT_COMMAND_LIMIT_EXCEEDED: [0x103, 'Abort Command Limit Exceeded'],
  ASYNC_EVENT_REQUEST_LIMIT_EXCEEDED: [0x105, 'Asynchronous Event Request Limit Exceeded'],
  INVALID_FIRMWARE_SLOT: [0x106, 'Invalid Firmware Slot'],
  INVALID_FIRMWARE_IMAGE: [0x107, 'Invalid Firmware Image'],
  INVALID_INTERRUPT_VECTOR: [0x108, 'Invalid Interrupt Vector'],
  INVALID_LOG_PAGE: [0x109, 'Invalid Log Page'],
  INVALID_FORMAT: [0x10a, 'Invalid Format'],
  FIRMWARE_NEEDS_CONVENTIONAL_RESET: [0x10b, 'Firmware Activation Requires Conventional Reset'],
  INVALID_QUEUE_DELETION: [0x10c, 'Invalid Queue Deletion'],
  FEATURE_NOT_SAVEABLE: [0x10d, 'Feature Identifier Not Saveable'],
  FEATURE_NOT_CHANGEABLE: [0x10e, 'Feature Not Changeable'],
  FEATURE_NOT_NAMESPACE_SPECIFIC: [0x10f, 'Feature Not Namespace Specific'],
  FIRMWARE_NEEDS_SUBSYSTEM_RESET: [0x110, 'Firmware Activation Requires NVM Subsystem Reset'],
  FIRMWARE_NEEDS_CONTROLLER_RESET: [0x111, 'Firmware Activation Requires Controller Level Reset'],
  FIRMWARE_MAXIMUM_TIME_VIOLATION: [0x112, 'Firmware Activation Requires Maximum Time Violation'],
  FIRMWARE_ACTIVATION_PROHIBITED: [0x113, 'Firmware Activation Prohibited'],
  OVERLAPPING_RANGE: [0x114, 'Overlapping Range'],
  NAMESPACE_INSUFFICIENT_CAPACITY: [0x115, 'Namespace Insufficient Capacity'],
  NAMESPACE_IDENTIFIER_UNAVAILABLE: [0x116, 'Namespace Identifier Unavailable'],
  NAMESPACE_ALREADY_ATTACHED: [0x118, 'Namespace Already Attached'],
  NAMESPACE_IS_PRIVATE: [0x119, 'Namespace Is Private'],
  NAMESPACE_NOT_ATTACHED: [0x11a, 'Namespace Not Attached'],
  THIN_PROVISIONING_NOT_SUPPORTED: [0x11b, 'Thin Provisioning Not Supported'],
  CONTROLLER_LIST_INVALID: [0x11c, 'Controller List Invalid'],
  SELF_TEST_IN_PROGRESS: [0x11d, 'Device Self-test In Progress'],
  BOOT_PARTITION_WRITE_PROHIBITED: [0x11e, 'Boot Partition Write Prohibited'],
  INVALID_CONTROLLER_IDENTIFIER: [0x11f, 'Invalid Controller Identifier'],
  INVALID_SECONDARY_CONTROLLER_STATE: [0x120, 'Invalid Secondary Controller State'],
  INVALID_NUMBER_OF_CONTROLLER_RESOURCES: [0x121, 'Invalid Number of Controller Resources'],
  INVALID_RESOURCE_IDENTIFIER: [0x122, 'Invalid Resource Identifier'],
  SANITIZE_PROHIBITED_BY_PMR: [0x123, 'Sanitize Prohibited While Persistent Memory Region is Enabled'],
  ANA_GROUP_IDENTIFIER_INVALID: [0x124, 'ANA Group Identifier Invalid'],
  ANA_ATTACH_FAILED: [0x125, 'ANA Attach Failed'],
  INSUFFICIENT_CAPACITY: [0x126, 'Insufficient Capacity'],
  NAMESPACE_ATTACHMENT_LIMIT_EXCEEDED: [0x127, 'Namespace Attachment Limit Exceeded'],
  PROHIBITION_NOT_SUPPORTED: [0x128, 'Prohibition of Command Execution Not Supported'],
  IO_COMMAND_SET_NOT_SUPPORTED: [0x129, 'I/O Command Set Not Supported'],
  IO_COMMAND_SET_NOT_ENABLED: [0x12a, 'I/O Command Set Not Enabled'],
  IO_COMMAND_SET_COMBINATION_REJECTED: [0x12b, 'I/O Command Set Combination Rejected'],
  INVALID_IO_COMMAND_SET: [0x12c, 'Invalid I/O Command Set'],
  IDENTIFIER_UNAVAILABLE: [0x12d, 'Identifier Unavailable'],
  CONFLICTING_ATTRIBUTES: [0x180, 'Conflicting Attributes'],
  INVALID_PROTECTION_INFORMATION: [0x181, 'Invalid Protection Information'],
  WRITE_TO_READ_ONLY_RANGE: [0x182, 'Attempted Write to Read Only Range'],
  COMMAND_SIZE_LIMIT_EXCEEDED: [0x183, 'Command Size Limit Exceeded'],

  // Media and Data Integrity Errors (2h)
  WRITE_FAULT: [0x280, 'Write Fault'],
  UNRECOVERED_READ_ERROR: [0x281, 'Unrecovered Read Error'],
  GUARD_CHECK_ERROR: [0x282, 'End-to-end Guard Check Error'],
  APPLICATION_TAG_CHECK_ERROR: [0x283, 'End-to-end Application Tag Check Error'],
  REFERENCE_TAG_CHECK_ERROR: [0x284, 'End-to-end Reference Tag Check Error'],
  COMPARE_FAILURE: [0x285, 'Compare Failure'],
  ACCESS_DENIED: [0x286, 'Access Denied'],
  DEALLOCATED_OR_UNWRITTEN: [0x287, 'Deallocated or Unwritten Logical Block'],
  STORAGE_TAG_CHECK_ERROR: [0x288, 'End-to-End Storage Tag Check Error'],

  // Path Related Status (3h)
  INTERNAL_PATH_ERROR: [0x300, 'Internal Path Error'],
  ANA_PERSISTENT_LOSS: [0x301, 'Asymmetric Access Persistent Loss'],
  ANA_INACCESSIBLE: [0x302, 'Asymmetric Access Inaccessible'],
  ANA_TRANSITION: [0x303, 'Asymmetric Access Transition'],
  CONTROLLER_PATHING_ERROR: [0x360, 'Controller Pathing Error'],
  HOST_PATHING_ERROR: [0x370, 'Host Pathing Error'],
  ABORTED_BY_HOST: [0x371, 'Command Aborted By Host'],
})

/**
 * Status codes as `sct << 8 | sc`, with the names of NVMe 2.0. Shifted left by one, each is the status field
 * of a completion without phase tag, Command Retry Delay, More and Do Not Retry.
 */
export const STATUS = STATUSES.codes

// Those of NVMe 2.0 and later, and of other command sets, that no code compares with.
const LATER_NAMES = new Map([
  [0x025, 'Invalid Key Tag'],
  [0x026, 'Host Dispersed Namespace Support Not Enabled'],
  [0x027, 'Host Identifier Not Initialized'],
  [0x028, 'Incorrect Key'],
  [0x029, 'FDP Disabled'],
  [0x02a, 'Invalid Placement Handle List'],
  [0x085, 'Invalid Value Size'],
  [0x086, 'Invalid Key Size'],
  [0x087, 'KV Key Does Not Exist'],
  [0x088, 'Unrecovered Error'],
  [0x089, 'Key Exists'],
  [0x12e, 'Namespace Is Dispersed'],
  [0x12f, 'Invalid Discovery Information'],
  [0x130, 'Zoning Data Structure Locked'],
  [0x131, 'Zoning Data Structure Not Found'],
  [0x132, 'Insufficient Discovery Resources'],
  [0x133, 'Requested Function Disabled'],
  [0x134, 'ZoneGroup Originator Invalid'],
  [0x135, 'Invalid Host'],
  [0x136, 'Invalid NVM Subsystem'],
  [0x137, 'Invalid Controller Data Queue'],
  [0x138, 'Not Enough Resources'],
  [0x139, 'Controller Suspended'],
  [0x13a, 'Controller Not Suspended'],
  [0x13b, 'Controller Data Queue Full'],
  [0x17f, 'Stream Resource Allocation Failed'],
  [0x185, 'Incompatible Namespace or Format'],
  [0x186, 'Fast Copy Not Possible'],
  [0x187, 'Overlapping I/O Range'],
  [0x188, 'Namespace Not Reachable'],
  [0x189, 'Insufficient Resources'],
  [0x1b8, 'Zoned Boundary Error'],
  [0x1b9, 'Zone Is Full'],
  [0x1ba, 'Zone Is Read Only'],
  [0x1bb, 'Zone Is Offline'],
  [0x1bc, 'Zone Invalid Write'],
  [0x1bd, 'Too Many Active Zones'],
  [0x1be, 'Too Many Open Zones'],
  [0x1bf, 'Invalid Zone State Transition'],
])

const TYPES = [
  'Generic Command Status',
  'Command Specific Status',
  'Media and Data Integrity Error',
  'Path Related Status',
]

/**
 * The specification's name of a status. Codes without one read as `Vendor Specific` or `Reserved` with the
 * type and code, so that a report always says what the device answered.
 * @param sct status code type, 0 to 7
 * @param sc status code, 0 to 255
 */
export function statusName(sct: number, sc: number): string {
  const known = STATUSES.names.get((sct << 8) | sc) ?? LATER_NAMES.get((sct << 8) | sc)
  if (known !== undefined) return known
  const code = `${sc.toString(16).padStart(2, '0')}h`
  if (sct === 7) return `Vendor Specific (${code})`
  const type = TYPES[sct]
  if (type === undefined) return `Reserved Status Code Type (${sct}, ${code})`
  return sc >= 0xc0 ? `Vendor Specific ${type} (${code})` : `Reserved ${type} (${code})`
}

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
