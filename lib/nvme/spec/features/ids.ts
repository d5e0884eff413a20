// Features: identifiers, names, and what each carries (NVMe 1.4 base, section 5.21, figure 272; 2.0 where later).
// Trade-off: one row for each feature; a feature without a row is sent as it is, with no data.

/** Feature identifiers, in bits 7:0 of dword 10 of Get Features and Set Features. */
export const FEATURE = {
  ARBITRATION: 0x01,
  POWER_MANAGEMENT: 0x02,
  LBA_RANGE_TYPE: 0x03,
  TEMPERATURE_THRESHOLD: 0x04,
  ERROR_RECOVERY: 0x05,
  VOLATILE_WRITE_CACHE: 0x06,
  NUMBER_OF_QUEUES: 0x07,
  INTERRUPT_COALESCING: 0x08,
  INTERRUPT_VECTOR_CONFIGURATION: 0x09,
  WRITE_ATOMICITY: 0x0a,
  ASYNC_EVENT_CONFIGURATION: 0x0b,
  AUTONOMOUS_POWER_STATE: 0x0c,
  HOST_MEMORY_BUFFER: 0x0d,
  TIMESTAMP: 0x0e,
  KEEP_ALIVE_TIMER: 0x0f,
  THERMAL_MANAGEMENT: 0x10,
  NON_OPERATIONAL_POWER_STATE: 0x11,
  READ_RECOVERY_LEVEL: 0x12,
  PREDICTABLE_LATENCY_CONFIG: 0x13,
  PREDICTABLE_LATENCY_WINDOW: 0x14,
  LBA_STATUS_INTERVAL: 0x15,
  HOST_BEHAVIOR: 0x16,
  SANITIZE_CONFIG: 0x17,
  ENDURANCE_GROUP_EVENT: 0x18,
  IO_COMMAND_SET_PROFILE: 0x19,
  SPINUP_CONTROL: 0x1a,
  ENHANCED_CONTROLLER_METADATA: 0x7d,
  CONTROLLER_METADATA: 0x7e,
  NAMESPACE_METADATA: 0x7f,
  SOFTWARE_PROGRESS_MARKER: 0x80,
  HOST_IDENTIFIER: 0x81,
  RESERVATION_NOTIFICATION_MASK: 0x82,
  RESERVATION_PERSISTENCE: 0x83,
  WRITE_PROTECTION: 0x84,
} as const

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

type Row = readonly [name: string, rest?: Partial<FeatureInfo>]
const both = (bytes: number) => ({ getBytes: bytes, setBytes: bytes })
const OF_NAMESPACE = { namespaceSpecific: true }

const ROWS: Readonly<Record<number, Row>> = {
  [FEATURE.ARBITRATION]: ['Arbitration'],
  [FEATURE.POWER_MANAGEMENT]: ['Power Management'],
  [FEATURE.LBA_RANGE_TYPE]: ['LBA Range Type', { ...both(4096), ...OF_NAMESPACE }],
  [FEATURE.TEMPERATURE_THRESHOLD]: ['Temperature Threshold'],
  [FEATURE.ERROR_RECOVERY]: ['Error Recovery', OF_NAMESPACE],
  [FEATURE.VOLATILE_WRITE_CACHE]: ['Volatile Write Cache'],
  [FEATURE.NUMBER_OF_QUEUES]: ['Number of Queues'],
  [FEATURE.INTERRUPT_COALESCING]: ['Interrupt Coalescing'],
  [FEATURE.INTERRUPT_VECTOR_CONFIGURATION]: ['Interrupt Vector Configuration'],
  [FEATURE.WRITE_ATOMICITY]: ['Write Atomicity Normal'],
  [FEATURE.ASYNC_EVENT_CONFIGURATION]: ['Asynchronous Event Configuration'],
  [FEATURE.AUTONOMOUS_POWER_STATE]: ['Autonomous Power State Transition', both(256)],
  [FEATURE.HOST_MEMORY_BUFFER]: ['Host Memory Buffer', { getBytes: 4096 }],
  [FEATURE.TIMESTAMP]: ['Timestamp', both(8)],
  [FEATURE.KEEP_ALIVE_TIMER]: ['Keep Alive Timer'],
  [FEATURE.THERMAL_MANAGEMENT]: ['Host Controlled Thermal Management'],
  [FEATURE.NON_OPERATIONAL_POWER_STATE]: ['Non-Operational Power State Config'],
  [FEATURE.READ_RECOVERY_LEVEL]: ['Read Recovery Level Config', { dword: 12 }],
  [FEATURE.PREDICTABLE_LATENCY_CONFIG]: ['Predictable Latency Mode Config', { ...both(512), dword: 12 }],
  [FEATURE.PREDICTABLE_LATENCY_WINDOW]: ['Predictable Latency Mode Window', { dword: 12 }],
  [FEATURE.LBA_STATUS_INTERVAL]: ['LBA Status Information Report Interval'],
  [FEATURE.HOST_BEHAVIOR]: ['Host Behavior Support', both(512)],
  [FEATURE.SANITIZE_CONFIG]: ['Sanitize Config'],
  [FEATURE.ENDURANCE_GROUP_EVENT]: ['Endurance Group Event Configuration'],
  [FEATURE.IO_COMMAND_SET_PROFILE]: ['I/O Command Set Profile'],
  [FEATURE.SPINUP_CONTROL]: ['Spinup Control'],
  [FEATURE.ENHANCED_CONTROLLER_METADATA]: ['Enhanced Controller Metadata', both(4096)],
  [FEATURE.CONTROLLER_METADATA]: ['Controller Metadata', both(4096)],
  [FEATURE.NAMESPACE_METADATA]: ['Namespace Metadata', { ...both(4096), ...OF_NAMESPACE }],
  [FEATURE.SOFTWARE_PROGRESS_MARKER]: ['Software Progress Marker'],
  // 8 bytes for a host identifier of 64 bits: see EXHID.
  [FEATURE.HOST_IDENTIFIER]: ['Host Identifier', both(16)],
  [FEATURE.RESERVATION_NOTIFICATION_MASK]: ['Reservation Notification Mask', OF_NAMESPACE],
  [FEATURE.RESERVATION_PERSISTENCE]: ['Reservation Persistence', OF_NAMESPACE],
  [FEATURE.WRITE_PROTECTION]: ['Namespace Write Protection Config', OF_NAMESPACE],
}

/** What is known of a feature: vendor specific and reserved ones carry no data as far as is known. */
export function featureInfo(fid: number): FeatureInfo {
  const [name, rest] = ROWS[fid] ?? [fid >= 0xc0 ? 'Vendor Specific' : 'Reserved']
  return { name, getBytes: 0, setBytes: 0, namespaceSpecific: false, dword: 11, ...rest }
}

/** The specification's name of a feature; `Vendor Specific` and `Reserved` included. */
export function featureName(fid: number): string {
  return featureInfo(fid).name
}
