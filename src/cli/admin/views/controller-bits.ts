// Bits of the words of Identify Controller, for -H (NVMe 1.4 base, figure 247; NVMe 2.0 where later).
// Trade-off: names as the specification has them, in its order of bits from high to low.

import { type BitRow, either, oneOf, yesNo } from '../text.ts'

const supported = (first: number, ...names: readonly string[]): BitRow[] =>
  names.map((name, i): BitRow => [first - i, first - i, name])

const number = (what: string) => (value: number) => `${what}: ${value}`

/** By field. */
export const CONTROLLER_BITS: Readonly<Record<string, readonly BitRow[]>> = {
  cmic: [
    [3, 3, 'Asymmetric Namespace Access Reporting'],
    [2, 2, either('PCI Function', 'SR-IOV Virtual Function')],
    [1, 1, either('NVM subsystem with one controller', 'NVM subsystem with several controllers')],
    [0, 0, either('NVM subsystem with one port', 'NVM subsystem with several ports')],
  ],
  oaes: [
    [31, 31, 'Discovery Log Page Change Notices'],
    [27, 27, 'Zone Descriptor Changed Notices'],
    ...supported(
      15,
      'Normal NVM Subsystem Shutdown Event',
      'Endurance Group Event Aggregate Log Page Change Notices',
      'LBA Status Information Alert Notices',
      'Predictable Latency Event Aggregate Log Change Notices',
      'Asymmetric Namespace Access Change Notices',
    ),
    ...supported(9, 'Firmware Activation Notices', 'Namespace Attribute Notices'),
  ],
  ctratt: [
    [19, 19, 'Flexible Data Placement'],
    ...supported(
      15,
      'Extended LBA Formats',
      'Delete NVM Set',
      'Delete Endurance Group',
      'Variable Capacity Management',
      'Fixed Capacity Management',
      'Multi-Domain Subsystem',
      'UUID List',
      'SQ Associations',
      'Namespace Granularity',
      'Traffic Based Keep Alive',
      'Predictable Latency Mode',
      'Endurance Groups',
      'Read Recovery Levels',
      'NVM Sets',
      'Non-Operational Power State Permissive Mode',
      '128-bit Host Identifier',
    ),
  ],
  cntrltype: [
    [7, 0, oneOf('not reported', 'I/O controller', 'Discovery controller', 'Administrative controller')],
  ],
  nvmsr: [
    [1, 1, yesNo('Part of an NVMe Enclosure')],
    [0, 0, yesNo('Part of an NVMe Storage Device')],
  ],
  vwci: [
    [7, 7, either('VPD Write Cycles Remaining is not valid', 'VPD Write Cycles Remaining is valid')],
    [6, 0, number('VPD Write Cycles Remaining')],
  ],
  mec: supported(1, 'Management Endpoint on a PCIe port', 'Management Endpoint on an SMBus/I2C port'),
  oacs: supported(
    10,
    'Lockdown',
    'Get LBA Status',
    'Doorbell Buffer Config',
    'Virtualization Management',
    'NVMe-MI Send and Receive',
    'Directives',
    'Device Self-test',
    'Namespace Management and Attachment',
    'Firmware Commit and Image Download',
    'Format NVM',
    'Security Send and Receive',
  ),
  frmw: [
    ...supported(5, 'Multiple Update Detection', 'Firmware Activation Without Reset'),
    [3, 1, number('Firmware slots')],
    [0, 0, either('Slot 1 can be written', 'Slot 1 is read-only')],
  ],
  lpa: supported(
    6,
    'Telemetry Data Area 4',
    'Supported Log Pages, and scope of each command and feature',
    'Persistent Event Log',
    'Telemetry Host-Initiated and Controller-Initiated',
    'Extended data (32-bit offset and length) in Get Log Page',
    'Commands Supported and Effects',
    'SMART / Health Information for each namespace',
  ),
  avscc: [
    [
      0,
      0,
      either('Format of vendor commands is vendor specific', 'Vendor commands have the standard format'),
    ],
  ],
  apsta: [[0, 0, 'Autonomous Power State Transitions']],
  rpmbs: [
    [31, 24, (value) => `Access size: ${(value + 1) * 512} bytes`],
    [23, 16, (value) => `Total size: ${(value + 1) * 128} KiB`],
    [5, 3, oneOf('Authentication: HMAC SHA-256')],
    [2, 0, number('RPMB units')],
  ],
  dsto: [[0, 0, either('One self-test for each controller', 'One self-test in the NVM subsystem')]],
  hctma: [[0, 0, 'Host Controlled Thermal Management']],
  sanicap: [
    [
      31,
      30,
      oneOf(
        'Media modification after sanitize: not defined',
        'None after sanitize',
        'Modified after sanitize',
      ),
    ],
    [29, 29, either('No-Deallocate After Sanitize can be used', 'No-Deallocate After Sanitize is inhibited')],
    ...supported(2, 'Overwrite', 'Block Erase', 'Crypto Erase'),
  ],
  anacap: [
    [7, 7, either('ANA Group Identifier of namespaces is 0', 'ANA Group Identifier of namespaces is not 0')],
    [6, 6, either('ANA Group Identifier may change', 'ANA Group Identifier does not change while attached')],
    ...supported(
      4,
      'ANA Change state',
      'ANA Persistent Loss state',
      'ANA Inaccessible state',
      'ANA Non-Optimized state',
      'ANA Optimized state',
    ),
  ],
  sqes: entrySize('submission'),
  cqes: entrySize('completion'),
  oncs: supported(
    8,
    'Copy',
    'Verify',
    'Timestamp',
    'Reservations',
    'Save and Select in Set and Get Features',
    'Write Zeroes',
    'Dataset Management',
    'Write Uncorrectable',
    'Compare',
  ),
  fuses: [[0, 0, 'Fused Compare and Write']],
  fna: [
    [3, 3, either('All namespaces can be formatted at once', 'All namespaces can not be formatted at once')],
    [2, 2, 'Cryptographic erase'],
    [1, 1, either('Secure erase is of one namespace', 'Secure erase is of all namespaces')],
    [0, 0, either('Format is of one namespace', 'Format is of all namespaces')],
  ],
  vwc: [
    [
      2,
      1,
      oneOf(
        'Flush of all namespaces: not reported',
        'Reserved',
        'Flush of all namespaces Not Supported',
        'Flush of all namespaces Supported',
      ),
    ],
    [0, 0, either('No Volatile Write Cache', 'Volatile Write Cache Present')],
  ],
  icsvscc: [
    [
      0,
      0,
      either(
        'Format of vendor I/O commands is vendor specific',
        'Vendor I/O commands have the standard format',
      ),
    ],
  ],
  nwpc: supported(
    2,
    'Permanent Write Protect',
    'Write Protect Until Power Cycle',
    'No Write Protect and Write Protect',
  ),
  ocfs: supported(3, 'Copy format 3h', 'Copy format 2h', 'Copy format 1h', 'Copy format 0h'),
  sgls: [
    ...supported(
      21,
      'Transport SGL Data Block Descriptor',
      'Address as an offset',
      'SGL for metadata',
      'SGL longer than the data',
      'Byte aligned metadata buffer',
      'SGL Bit Bucket',
    ),
    [15, 8, number('SGL Descriptor Threshold')],
    [2, 2, 'Keyed SGL Data Block Descriptor'],
    [1, 0, oneOf('SGLs Not Supported', 'SGLs Supported, any alignment', 'SGLs Supported, aligned to dwords')],
  ],
  fcatt: [[0, 0, either('Dynamic controller model', 'Static controller model')]],
  ofcs: [[0, 0, 'Disconnect']],
}

function entrySize(queue: string): BitRow[] {
  return [
    [7, 4, (value) => `Largest ${queue} queue entry: ${2 ** value} bytes`],
    [3, 0, (value) => `Required ${queue} queue entry: ${2 ** value} bytes`],
  ]
}
