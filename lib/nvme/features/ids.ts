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
  1: ['Arbitration'],
  2: ['Power Management'],
  3: ['LBA Range Type', { ...both(4096), ...OF_NAMESPACE }],
  4: ['Temperature Threshold'],
  5: ['Error Recovery', OF_NAMESPACE],
  6: ['Volatile Write Cache'],
  7: ['Number of Queues'],
  8: ['Interrupt Coalescing'],
  9: ['Interrupt Vector Configuration'],
  10: ['Write Atomicity Normal'],
  11: ['Asynchronous Event Configuration'],
  12: ['Autonomous Power State Transition', both(256)],
  13: ['Host Memory Buffer', { getBytes: 4096 }],
  14: ['Timestamp', both(8)],
  15: ['Keep Alive Timer'],
  16: ['Host Controlled Thermal Management'],
  17: ['Non-Operational Power State Config'],
  18: ['Read Recovery Level Config', { dword: 12 }],
  19: ['Predictable Latency Mode Config', { ...both(512), dword: 12 }],
  20: ['Predictable Latency Mode Window', { dword: 12 }],
  21: ['LBA Status Information Report Interval'],
  22: ['Host Behavior Support', both(512)],
  23: ['Sanitize Config'],
  24: ['Endurance Group Event Configuration'],
  25: ['I/O Command Set Profile'],
  26: ['Spinup Control'],
  125: ['Enhanced Controller Metadata', both(4096)],
  126: ['Controller Metadata', both(4096)],
  127: ['Namespace Metadata', { ...both(4096), ...OF_NAMESPACE }],
  128: ['Software Progress Marker'],
  // 8 bytes for a host identifier of 64 bits: see EXHID.
  129: ['Host Identifier', both(16)],
  130: ['Reservation Notification Mask', OF_NAMESPACE],
  131: ['Reservation Persistence', OF_NAMESPACE],
  132: ['Namespace Write Protection Config', OF_NAMESPACE],
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
