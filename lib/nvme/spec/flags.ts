// Bits of the words of Identify (NVMe 1.4 base, figures 245 and 247; NVMe 2.0 where later): their masks, and what each
// means, in the specification's order of bits from high to low. Words themselves stay numbers, as tools print them.

import { bitTable, count, either, oneOf, yesNo } from './codec.ts'

/** Multi-path I/O and namespace sharing (`cmic`). */
export const CMIC = bitTable({
  ANA: [3, 'Asymmetric Namespace Access Reporting'],
  SR_IOV: [2, either('PCI Function', 'SR-IOV Virtual Function')],
  CONTROLLERS: [1, either('NVM subsystem with one controller', 'NVM subsystem with several controllers')],
  PORTS: [0, either('NVM subsystem with one port', 'NVM subsystem with several ports')],
})

/** Optional asynchronous events supported (`oaes`). */
export const OAES = bitTable({
  DISCOVERY_LOG: [31, 'Discovery Log Page Change Notices'],
  ZONE_DESCRIPTOR: [27, 'Zone Descriptor Changed Notices'],
  NORMAL_SHUTDOWN: [15, 'Normal NVM Subsystem Shutdown Event'],
  ENDURANCE_GROUP: [14, 'Endurance Group Event Aggregate Log Page Change Notices'],
  LBA_STATUS: [13, 'LBA Status Information Alert Notices'],
  PREDICTABLE_LATENCY: [12, 'Predictable Latency Event Aggregate Log Change Notices'],
  ANA_CHANGE: [11, 'Asymmetric Namespace Access Change Notices'],
  FIRMWARE_ACTIVATION: [9, 'Firmware Activation Notices'],
  NAMESPACE_ATTRIBUTE: [8, 'Namespace Attribute Notices'],
})

/** Controller attributes (`ctratt`). */
export const CTRATT = bitTable({
  FLEXIBLE_DATA_PLACEMENT: [19, 'Flexible Data Placement'],
  /** More than 16 LBA formats (2.0). */
  EXTENDED_LBA_FORMATS: [15, 'Extended LBA Formats'],
  DELETE_NVM_SET: [14, 'Delete NVM Set'],
  DELETE_ENDURANCE_GROUP: [13, 'Delete Endurance Group'],
  VARIABLE_CAPACITY: [12, 'Variable Capacity Management'],
  FIXED_CAPACITY: [11, 'Fixed Capacity Management'],
  MULTI_DOMAIN: [10, 'Multi-Domain Subsystem'],
  UUID_LIST: [9, 'UUID List'],
  SQ_ASSOCIATIONS: [8, 'SQ Associations'],
  NAMESPACE_GRANULARITY: [7, 'Namespace Granularity'],
  TRAFFIC_BASED_KEEP_ALIVE: [6, 'Traffic Based Keep Alive'],
  PREDICTABLE_LATENCY: [5, 'Predictable Latency Mode'],
  ENDURANCE_GROUPS: [4, 'Endurance Groups'],
  READ_RECOVERY_LEVELS: [3, 'Read Recovery Levels'],
  NVM_SETS: [2, 'NVM Sets'],
  NON_OPERATIONAL_POWER: [1, 'Non-Operational Power State Permissive Mode'],
  HOST_IDENTIFIER_128: [0, '128-bit Host Identifier'],
})

/** Controller type (`cntrltype`). */
export const CNTRLTYPE = bitTable({
  TYPE: [7, 0, oneOf('not reported', 'I/O controller', 'Discovery controller', 'Administrative controller')],
})

/** NVM subsystem report (`nvmsr`). */
export const NVMSR = bitTable({
  ENCLOSURE: [1, yesNo('Part of an NVMe Enclosure')],
  STORAGE_DEVICE: [0, yesNo('Part of an NVMe Storage Device')],
})

/** VPD write cycle information (`vwci`). */
export const VWCI = bitTable({
  VALID: [7, either('VPD Write Cycles Remaining is not valid', 'VPD Write Cycles Remaining is valid')],
  REMAINING: [6, 0, count('VPD Write Cycles Remaining')],
})

/** Management endpoint capabilities (`mec`). */
export const MEC = bitTable({
  PCIE: [1, 'Management Endpoint on a PCIe port'],
  SMBUS: [0, 'Management Endpoint on an SMBus/I2C port'],
})

/** Optional admin command support (`oacs`). */
export const OACS = bitTable({
  LOCKDOWN: [10, 'Lockdown'],
  GET_LBA_STATUS: [9, 'Get LBA Status'],
  DOORBELL_BUFFER: [8, 'Doorbell Buffer Config'],
  VIRTUALIZATION: [7, 'Virtualization Management'],
  NVME_MI: [6, 'NVMe-MI Send and Receive'],
  DIRECTIVES: [5, 'Directives'],
  SELF_TEST: [4, 'Device Self-test'],
  NAMESPACE_MANAGEMENT: [3, 'Namespace Management and Attachment'],
  FIRMWARE: [2, 'Firmware Commit and Image Download'],
  FORMAT: [1, 'Format NVM'],
  SECURITY: [0, 'Security Send and Receive'],
})

/** Admin optional command support (`aocs`) of the NVM command set's own Identify Controller (NVM command set 1.2). */
export const AOCS = bitTable({
  /** Get LBA Status, action type 02h. */
  ALLOCATED_LBAS: [0, 'Reporting Allocated LBA'],
})

/** Firmware updates (`frmw`). */
export const FRMW = bitTable({
  MULTIPLE_UPDATE_DETECTION: [5, 'Multiple Update Detection'],
  NO_RESET: [4, 'Firmware Activation Without Reset'],
  SLOTS: [3, 1, count('Firmware slots')],
  SLOT_1_READ_ONLY: [0, either('Slot 1 can be written', 'Slot 1 is read-only')],
})

/** Log page attributes (`lpa`). */
export const LPA = bitTable({
  /** Data area 4 of the telemetry logs (2.0). */
  TELEMETRY_AREA_4: [6, 'Telemetry Data Area 4'],
  SUPPORTED_LOG_PAGES: [5, 'Supported Log Pages, and scope of each command and feature'],
  PERSISTENT_EVENT: [4, 'Persistent Event Log'],
  TELEMETRY: [3, 'Telemetry Host-Initiated and Controller-Initiated'],
  EXTENDED_DATA: [2, 'Extended data (32-bit offset and length) in Get Log Page'],
  COMMAND_EFFECTS: [1, 'Commands Supported and Effects'],
  SMART_PER_NAMESPACE: [0, 'SMART / Health Information for each namespace'],
})

/** Admin vendor specific command configuration (`avscc`). */
export const AVSCC = bitTable({
  STANDARD: [
    0,
    either('Format of vendor commands is vendor specific', 'Vendor commands have the standard format'),
  ],
})

/** Autonomous power state transition attributes (`apsta`). */
export const APSTA = bitTable({ SUPPORTED: [0, 'Autonomous Power State Transitions'] })

/** Replay protected memory block support (`rpmbs`). */
export const RPMBS = bitTable({
  ACCESS_SIZE: [31, 24, (value) => `Access size: ${(value + 1) * 512} bytes`],
  TOTAL_SIZE: [23, 16, (value) => `Total size: ${(value + 1) * 128} KiB`],
  AUTHENTICATION: [5, 3, oneOf('Authentication: HMAC SHA-256')],
  UNITS: [2, 0, count('RPMB units')],
})

/** Device self-test options (`dsto`). */
export const DSTO = bitTable({
  ONE_IN_SUBSYSTEM: [0, either('One self-test for each controller', 'One self-test in the NVM subsystem')],
})

/** Host controlled thermal management attributes (`hctma`). */
export const HCTMA = bitTable({ SUPPORTED: [0, 'Host Controlled Thermal Management'] })

/** Sanitize capabilities (`sanicap`). */
export const SANICAP = bitTable({
  MEDIA_MODIFICATION: [
    31,
    30,
    oneOf('Media modification after sanitize: not defined', 'None after sanitize', 'Modified after sanitize'),
  ],
  NO_DEALLOCATE_INHIBITED: [
    29,
    either('No-Deallocate After Sanitize can be used', 'No-Deallocate After Sanitize is inhibited'),
  ],
  OVERWRITE: [2, 'Overwrite'],
  BLOCK_ERASE: [1, 'Block Erase'],
  CRYPTO_ERASE: [0, 'Crypto Erase'],
})

/** Asymmetric namespace access capabilities (`anacap`). */
export const ANACAP = bitTable({
  GROUP_NOT_0: [
    7,
    either('ANA Group Identifier of namespaces is 0', 'ANA Group Identifier of namespaces is not 0'),
  ],
  GROUP_FIXED: [
    6,
    either('ANA Group Identifier may change', 'ANA Group Identifier does not change while attached'),
  ],
  CHANGE: [4, 'ANA Change state'],
  PERSISTENT_LOSS: [3, 'ANA Persistent Loss state'],
  INACCESSIBLE: [2, 'ANA Inaccessible state'],
  NON_OPTIMIZED: [1, 'ANA Non-Optimized state'],
  OPTIMIZED: [0, 'ANA Optimized state'],
})

const entrySize = (queue: string) =>
  bitTable({
    LARGEST: [7, 4, (value) => `Largest ${queue} queue entry: ${2 ** value} bytes`],
    REQUIRED: [3, 0, (value) => `Required ${queue} queue entry: ${2 ** value} bytes`],
  })

/** Queue entry sizes (`sqes`, `cqes`). */
export const SQES = entrySize('submission')
export const CQES = entrySize('completion')

/** Optional NVM command support (`oncs`). */
export const ONCS = bitTable({
  COPY: [8, 'Copy'],
  VERIFY: [7, 'Verify'],
  TIMESTAMP: [6, 'Timestamp'],
  RESERVATIONS: [5, 'Reservations'],
  SAVE_FEATURES: [4, 'Save and Select in Set and Get Features'],
  WRITE_ZEROES: [3, 'Write Zeroes'],
  DATASET_MANAGEMENT: [2, 'Dataset Management'],
  WRITE_UNCORRECTABLE: [1, 'Write Uncorrectable'],
  COMPARE: [0, 'Compare'],
})

/** Fused operations (`fuses`). */
export const FUSES = bitTable({ COMPARE_AND_WRITE: [0, 'Fused Compare and Write'] })

/** Format NVM attributes (`fna`). */
export const FNA = bitTable({
  /** The broadcast namespace identifier is not taken (2.0). */
  NO_BROADCAST: [
    3,
    either('All namespaces can be formatted at once', 'All namespaces can not be formatted at once'),
  ],
  CRYPTO_ERASE: [2, 'Cryptographic erase'],
  ERASE_ALL: [1, either('Secure erase is of one namespace', 'Secure erase is of all namespaces')],
  FORMAT_ALL: [0, either('Format is of one namespace', 'Format is of all namespaces')],
})

/** Volatile write cache (`vwc`). */
export const VWC = bitTable({
  FLUSH: [
    2,
    1,
    oneOf(
      'Flush of all namespaces: not reported',
      'Reserved',
      'Flush of all namespaces Not Supported',
      'Flush of all namespaces Supported',
    ),
  ],
  PRESENT: [0, either('No Volatile Write Cache', 'Volatile Write Cache Present')],
})

/** I/O command set vendor specific command configuration (`icsvscc`). */
export const ICSVSCC = bitTable({
  STANDARD: [
    0,
    either(
      'Format of vendor I/O commands is vendor specific',
      'Vendor I/O commands have the standard format',
    ),
  ],
})

/** Namespace write protection capabilities (`nwpc`). */
export const NWPC = bitTable({
  PERMANENT: [2, 'Permanent Write Protect'],
  UNTIL_POWER_CYCLE: [1, 'Write Protect Until Power Cycle'],
  WRITE_PROTECT: [0, 'No Write Protect and Write Protect'],
})

/** Optional copy formats supported (`ocfs`). */
export const OCFS = bitTable({
  FORMAT_3: [3, 'Copy format 3h'],
  FORMAT_2: [2, 'Copy format 2h'],
  FORMAT_1: [1, 'Copy format 1h'],
  FORMAT_0: [0, 'Copy format 0h'],
})

/** SGL support (`sgls`). */
export const SGLS = bitTable({
  TRANSPORT_DATA_BLOCK: [21, 'Transport SGL Data Block Descriptor'],
  OFFSET: [20, 'Address as an offset'],
  METADATA_SGL: [19, 'SGL for metadata'],
  LONGER_THAN_DATA: [18, 'SGL longer than the data'],
  BYTE_ALIGNED_METADATA: [17, 'Byte aligned metadata buffer'],
  BIT_BUCKET: [16, 'SGL Bit Bucket'],
  THRESHOLD: [15, 8, count('SGL Descriptor Threshold')],
  KEYED: [2, 'Keyed SGL Data Block Descriptor'],
  SUPPORT: [
    1,
    0,
    oneOf('SGLs Not Supported', 'SGLs Supported, any alignment', 'SGLs Supported, aligned to dwords'),
  ],
})

/** Fabrics controller attributes (`fcatt`), optional Fabrics commands (`ofcs`). */
export const FCATT = bitTable({ STATIC: [0, either('Dynamic controller model', 'Static controller model')] })
export const OFCS = bitTable({ DISCONNECT: [0, 'Disconnect'] })

/** Namespace features (`nsfeat`). */
export const NSFEAT = bitTable({
  /** npwg, npwa, npdg, npda and nows count. */
  OPTIMAL_IO: [4, 'NPWG, NPWA, NPDG, NPDA and NOWS'],
  IDENTIFIERS_NEVER_REUSED: [
    3,
    either('NGUID and EUI64 may be used again', 'NGUID and EUI64 are never used again'),
  ],
  /** Reads of deallocated blocks can fail: see the feature Error Recovery. */
  DEALLOCATED_ERROR: [2, 'Deallocated or Unwritten Logical Block error'],
  /** nawun, nawupf and nacwu count, in place of the controller's. */
  ATOMIC_WRITE_UNITS: [1, either('AWUN, AWUPF and ACWU count', 'NAWUN, NAWUPF and NACWU count')],
  THIN_PROVISIONING: [0, 'Thin Provisioning'],
})

/** Formatted LBA size (`flbas`). */
export const FLBAS = bitTable({
  FORMAT_HIGH: [6, 5, count('Format in use, high bits')],
  EXTENDED: [4, either('Metadata in a buffer of its own', 'Metadata at the end of each block')],
  FORMAT_LOW: [3, 0, count('Format in use, low bits')],
})

/** Metadata capabilities (`mc`). */
export const MC = bitTable({
  SEPARATE: [1, 'Metadata in a buffer of its own'],
  EXTENDED: [0, 'Metadata at the end of each block'],
})

/** Data protection capabilities (`dpc`). */
export const DPC = bitTable({
  LAST_BYTES: [4, 'Protection Information as last bytes of the metadata'],
  FIRST_BYTES: [3, 'Protection Information as first bytes of the metadata'],
  TYPE_3: [2, 'Protection Information Type 3'],
  TYPE_2: [1, 'Protection Information Type 2'],
  TYPE_1: [0, 'Protection Information Type 1'],
})

/** Data protection settings (`dps`). */
export const DPS = bitTable({
  FIRST_BYTES: [3, either('Protection Information is last', 'Protection Information is first')],
  TYPE: [2, 0, oneOf('Protection Information is off', 'Type 1 is on', 'Type 2 is on', 'Type 3 is on')],
})

/** Namespace sharing (`nmic`). */
export const NMIC = bitTable({
  SHARED: [0, either('Attached to one controller at a time', 'Can be attached to several controllers')],
})

/** Reservation capabilities (`rescap`). */
export const RESCAP = bitTable({
  IGNORE_EXISTING_KEY: [
    7,
    either('Ignore Existing Key as in revision 1.2.1', 'Ignore Existing Key as in revision 1.3'),
  ],
  EXCLUSIVE_ACCESS_ALL: [6, 'Exclusive Access - All Registrants'],
  WRITE_EXCLUSIVE_ALL: [5, 'Write Exclusive - All Registrants'],
  EXCLUSIVE_ACCESS_REGISTRANTS: [4, 'Exclusive Access - Registrants Only'],
  WRITE_EXCLUSIVE_REGISTRANTS: [3, 'Write Exclusive - Registrants Only'],
  EXCLUSIVE_ACCESS: [2, 'Exclusive Access'],
  WRITE_EXCLUSIVE: [1, 'Write Exclusive'],
  PERSIST: [0, 'Persist Through Power Loss'],
})

/** Format progress indicator (`fpi`). */
export const FPI = bitTable({
  SUPPORTED: [7, 'Format Progress Indicator'],
  REMAINING: [6, 0, (value) => `${value} % remain to be formatted`],
})

/** What a deallocated block reads as (NVM command set 1.0, section 3.2.3.2.1): bits 2:0 of `dlfeat`. */
export const DEALLOCATED_READS = { NOT_REPORTED: 0, ZEROES: 1, ONES: 2 } as const

/** Deallocate logical block features (`dlfeat`). */
export const DLFEAT = bitTable({
  GUARD: [
    4,
    either('Guard of deallocated blocks is FFFFh', 'Guard of deallocated blocks is the CRC of their data'),
  ],
  WRITE_ZEROES_DEALLOCATE: [3, 'Deallocate in Write Zeroes'],
  READ: [
    2,
    0,
    oneOf(
      'Reads of deallocated blocks: not reported',
      'Deallocated blocks read 00h',
      'Deallocated blocks read FFh',
    ),
  ],
})

/** Namespace attributes (`nsattr`), namespace status (`nstat`). */
export const NSATTR = bitTable({ WRITE_PROTECTED: [0, either('Not write protected', 'Write protected')] })
export const NSTAT = bitTable({ READY: [0, either('Not ready', 'Ready')] })
