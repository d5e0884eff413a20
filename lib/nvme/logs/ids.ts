// Log pages: identifiers and names (NVMe 1.4 base, figure 191; 2.0 where later).
// Trade-off: vendor specific and Fabrics pages are left to who knows them; a raw read takes any identifier.

/** Log page identifiers, in bits 7:0 of a Get Log Page command's dword 10. */
export const LOG_PAGE = {
  SUPPORTED_LOG_PAGES: 0x00,
  ERROR_INFORMATION: 0x01,
  SMART: 0x02,
  FIRMWARE_SLOT: 0x03,
  CHANGED_NAMESPACES: 0x04,
  COMMAND_EFFECTS: 0x05,
  DEVICE_SELF_TEST: 0x06,
  TELEMETRY_HOST: 0x07,
  TELEMETRY_CONTROLLER: 0x08,
  ENDURANCE_GROUP: 0x09,
  PREDICTABLE_LATENCY: 0x0a,
  PREDICTABLE_LATENCY_AGGREGATE: 0x0b,
  ASYMMETRIC_NAMESPACE_ACCESS: 0x0c,
  PERSISTENT_EVENT: 0x0d,
  LBA_STATUS: 0x0e,
  ENDURANCE_GROUP_AGGREGATE: 0x0f,
  MEDIA_UNIT_STATUS: 0x10,
  CAPACITY_CONFIGURATIONS: 0x11,
  FEATURE_EFFECTS: 0x12,
  RESERVATION_NOTIFICATION: 0x80,
  SANITIZE_STATUS: 0x81,
} as const

const NAMES: Readonly<Record<number, string>> = {
  0: 'Supported Log Pages',
  1: 'Error Information',
  2: 'SMART / Health Information',
  3: 'Firmware Slot Information',
  4: 'Changed Namespace List',
  5: 'Commands Supported and Effects',
  6: 'Device Self-test',
  7: 'Telemetry Host-Initiated',
  8: 'Telemetry Controller-Initiated',
  9: 'Endurance Group Information',
  10: 'Predictable Latency Per NVM Set',
  11: 'Predictable Latency Event Aggregate',
  12: 'Asymmetric Namespace Access',
  13: 'Persistent Event Log',
  14: 'LBA Status Information',
  15: 'Endurance Group Event Aggregate',
  16: 'Media Unit Status',
  17: 'Supported Capacity Configuration List',
  18: 'Feature Identifiers Supported and Effects',
  128: 'Reservation Notification',
  129: 'Sanitize Status',
}

/** The specification's name of a log page; `Vendor Specific` and `Reserved` included. */
export function logPageName(lid: number): string {
  return NAMES[lid] ?? (lid >= 0xc0 ? 'Vendor Specific' : 'Reserved')
}
