// Bits of the flag words in Identify Controller and Identify Namespace (NVMe 1.4 base, figures 245 and 247).
// Trade-off: masks to test a word with; words themselves stay numbers, as tools print them.

/** Multi-path I/O and namespace sharing (`cmic`). */
export const CMIC = { PORTS: 0x01, CONTROLLERS: 0x02, SR_IOV: 0x04, ANA: 0x08 } as const

/** Optional asynchronous events supported (`oaes`). */
export const OAES = {
  NAMESPACE_ATTRIBUTE: 0x100,
  FIRMWARE_ACTIVATION: 0x200,
  ANA_CHANGE: 0x800,
  PREDICTABLE_LATENCY: 0x1000,
  LBA_STATUS: 0x2000,
  ENDURANCE_GROUP: 0x4000,
  NORMAL_SHUTDOWN: 0x8000,
} as const

/** Controller attributes (`ctratt`). */
export const CTRATT = {
  HOST_IDENTIFIER_128: 0x01,
  NON_OPERATIONAL_POWER: 0x02,
  NVM_SETS: 0x04,
  READ_RECOVERY_LEVELS: 0x08,
  ENDURANCE_GROUPS: 0x10,
  PREDICTABLE_LATENCY: 0x20,
  TRAFFIC_BASED_KEEP_ALIVE: 0x40,
  NAMESPACE_GRANULARITY: 0x80,
  SQ_ASSOCIATIONS: 0x100,
  UUID_LIST: 0x200,
  /** Extended LBA formats: more than 16 (2.0). */
  EXTENDED_LBA_FORMATS: 0x8000,
} as const

/** Optional admin command support (`oacs`). */
export const OACS = {
  SECURITY: 0x01,
  FORMAT: 0x02,
  FIRMWARE: 0x04,
  NAMESPACE_MANAGEMENT: 0x08,
  SELF_TEST: 0x10,
  DIRECTIVES: 0x20,
  NVME_MI: 0x40,
  VIRTUALIZATION: 0x80,
  DOORBELL_BUFFER: 0x100,
  GET_LBA_STATUS: 0x200,
} as const

/** Firmware updates (`frmw`): bits 3:1 are the number of slots. */
export const FRMW = { SLOT_1_READ_ONLY: 0x01, SLOTS: 0x0e, NO_RESET: 0x10 } as const

/** Log page attributes (`lpa`). */
export const LPA = {
  SMART_PER_NAMESPACE: 0x01,
  COMMAND_EFFECTS: 0x02,
  /** Offset and length of 32 bits in Get Log Page. */
  EXTENDED_DATA: 0x04,
  TELEMETRY: 0x08,
  PERSISTENT_EVENT: 0x10,
  /** Data area 4 of the telemetry logs (2.0). */
  TELEMETRY_AREA_4: 0x40,
} as const

/** Sanitize capabilities (`sanicap`). */
export const SANICAP = {
  CRYPTO_ERASE: 0x01,
  BLOCK_ERASE: 0x02,
  OVERWRITE: 0x04,
  NO_DEALLOCATE_INHIBITED: 0x2000_0000,
} as const

/** Optional NVM command support (`oncs`). */
export const ONCS = {
  COMPARE: 0x01,
  WRITE_UNCORRECTABLE: 0x02,
  DATASET_MANAGEMENT: 0x04,
  WRITE_ZEROES: 0x08,
  /** Save in Set Features, select in Get Features. */
  SAVE_FEATURES: 0x10,
  RESERVATIONS: 0x20,
  TIMESTAMP: 0x40,
  VERIFY: 0x80,
  COPY: 0x100,
} as const

/** Fused operations (`fuses`). */
export const FUSES = { COMPARE_AND_WRITE: 0x01 } as const

/** Format NVM attributes (`fna`). */
export const FNA = {
  /** A format, or an erase, is of all namespaces. */
  FORMAT_ALL: 0x01,
  ERASE_ALL: 0x02,
  CRYPTO_ERASE: 0x04,
  /** The broadcast namespace identifier is not taken (2.0). */
  NO_BROADCAST: 0x08,
} as const

/** Volatile write cache (`vwc`). FLUSH: 0 not reported, 4 no broadcast Flush, 6 broadcast Flush. */
export const VWC = { PRESENT: 0x01, FLUSH: 0x06 } as const

/** Namespace write protection capabilities (`nwpc`). */
export const NWPC = { WRITE_PROTECT: 0x01, UNTIL_POWER_CYCLE: 0x02, PERMANENT: 0x04 } as const

/** SGL support (`sgls`): bits 1:0 are 0 none, 1 any alignment, 2 dwords. */
export const SGLS = {
  SUPPORT: 0x03,
  KEYED: 0x04,
  BIT_BUCKET: 0x1_0000,
  BYTE_ALIGNED_METADATA: 0x2_0000,
  LONGER_THAN_DATA: 0x4_0000,
  METADATA_SGL: 0x8_0000,
  OFFSET: 0x10_0000,
  TRANSPORT_DATA_BLOCK: 0x20_0000,
} as const

/** Namespace features (`nsfeat`). */
export const NSFEAT = {
  THIN_PROVISIONING: 0x01,
  /** nawun, nawupf and nacwu count, in place of the controller's. */
  ATOMIC_WRITE_UNITS: 0x02,
  /** Reads of deallocated blocks can fail: see the feature Error Recovery. */
  DEALLOCATED_ERROR: 0x04,
  IDENTIFIERS_NEVER_REUSED: 0x08,
  /** npwg, npwa, npdg, npda and nows count. */
  OPTIMAL_IO: 0x10,
} as const

/** Metadata capabilities (`mc`): at the end of each block's data, or in a buffer of its own. */
export const MC = { EXTENDED: 0x01, SEPARATE: 0x02 } as const

/** Data protection capabilities (`dpc`). */
export const DPC = { TYPE_1: 0x01, TYPE_2: 0x02, TYPE_3: 0x04, FIRST_BYTES: 0x08, LAST_BYTES: 0x10 } as const

/** Data protection settings (`dps`): bits 2:0 are the type in use, 0 none. */
export const DPS = { TYPE: 0x07, FIRST_BYTES: 0x08 } as const

/** Namespace sharing (`nmic`). */
export const NMIC = { SHARED: 0x01 } as const

/** Deallocate logical block features (`dlfeat`): READ is 0 not reported, 1 zeroes, 2 all ones. */
export const DLFEAT = { READ: 0x07, WRITE_ZEROES_DEALLOCATE: 0x08, GUARD: 0x10 } as const
