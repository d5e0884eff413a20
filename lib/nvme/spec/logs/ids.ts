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
  [LOG_PAGE.SUPPORTED_LOG_PAGES]: 'Supported Log Pages',
  [LOG_PAGE.ERROR_INFORMATION]: 'Error Information',
  [LOG_PAGE.SMART]: 'SMART / Health Information',
  [LOG_PAGE.FIRMWARE_SLOT]: 'Firmware Slot Information',
  [LOG_PAGE.CHANGED_NAMESPACES]: 'Changed Namespace List',
  [LOG_PAGE.COMMAND_EFFECTS]: 'Commands Supported and Effects',
  [LOG_PAGE.DEVICE_SELF_TEST]: 'Device Self-test',
  [LOG_PAGE.TELEMETRY_HOST]: 'Telemetry Host-Initiated',
  [LOG_PAGE.TELEMETRY_CONTROLLER]: 'Telemetry Controller-Initiated',
  [LOG_PAGE.ENDURANCE_GROUP]: 'Endurance Group Information',
  [LOG_PAGE.PREDICTABLE_LATENCY]: 'Predictable Latency Per NVM Set',
  [LOG_PAGE.PREDICTABLE_LATENCY_AGGREGATE]: 'Predictable Latency Event Aggregate',
  [LOG_PAGE.ASYMMETRIC_NAMESPACE_ACCESS]: 'Asymmetric Namespace Access',
  [LOG_PAGE.PERSISTENT_EVENT]: 'Persistent Event Log',
  [LOG_PAGE.LBA_STATUS]: 'LBA Status Information',
  [LOG_PAGE.ENDURANCE_GROUP_AGGREGATE]: 'Endurance Group Event Aggregate',
  [LOG_PAGE.MEDIA_UNIT_STATUS]: 'Media Unit Status',
  [LOG_PAGE.CAPACITY_CONFIGURATIONS]: 'Supported Capacity Configuration List',
  [LOG_PAGE.FEATURE_EFFECTS]: 'Feature Identifiers Supported and Effects',
  [LOG_PAGE.RESERVATION_NOTIFICATION]: 'Reservation Notification',
  [LOG_PAGE.SANITIZE_STATUS]: 'Sanitize Status',
}

/** The specification's name of a log page; `Vendor Specific` and `Reserved` included. */
export function logPageName(lid: number): string {
  return NAMES[lid] ?? (lid >= 0xc0 ? 'Vendor Specific' : 'Reserved')
}
