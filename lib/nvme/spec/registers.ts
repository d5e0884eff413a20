// Controller registers (NVMe 1.4 base, section 3.1): offsets, and the fields of each with what they are for a person.
// 64-bit registers are two 32-bit ones everywhere, since some controllers answer nothing else.

import {
  bits,
  bitTable,
  type Decoded,
  flag,
  label,
  power,
  scaled,
  structure,
  u16,
  u32,
  word,
} from './codec.ts'

/** Byte offsets in BAR 0. */
export const REGISTER = {
  CAP_LO: 0x00,
  CAP_HI: 0x04,
  VS: 0x08,
  INTMS: 0x0c,
  INTMC: 0x10,
  CC: 0x14,
  CSTS: 0x1c,
  NSSR: 0x20,
  AQA: 0x24,
  ASQ_LO: 0x28,
  ASQ_HI: 0x2c,
  ACQ_LO: 0x30,
  ACQ_HI: 0x34,
  CMBLOC: 0x38,
  CMBSZ: 0x3c,
  BPINFO: 0x40,
  DOORBELLS: 0x1000,
} as const

/** What a register reads as once the device is gone. */
export const ALL_ONES = 0xffff_ffff

/** Written to NSSR to reset the NVM subsystem: "NVMe" in ASCII. */
export const NSSR_RESET = 0x4e56_4d65

/** Command sets of CAP.CSS, and the value of CC.CSS that selects each. */
export const CSS = { NVM: 0x01, PROFILES: 0x40, ADMIN_ONLY: 0x80 } as const

export const SHN = { NONE: 0, NORMAL: 1, ABRUPT: 2 } as const

const yes = (value: number) => (value === 0 ? 'No' : 'Yes')
const bytes = (value: number) => `${value} bytes`

const SET_NAMES = [
  [CSS.NVM, 'NVM'],
  [CSS.PROFILES, 'by profiles'],
  [CSS.ADMIN_ONLY, 'admin only'],
] as const
const setNames = (css: number) =>
  SET_NAMES.flatMap(([bit, name]) => ((css & bit) !== 0 ? [name] : [])).join(', ')

const arbitrations = (ams: number) =>
  [
    'round robin',
    ...((ams & 1) !== 0 ? ['weighted with urgent class'] : []),
    ...((ams & 2) !== 0 ? ["the vendor's"] : []),
  ].join(', ')

export const capabilitiesLayout = {
  /** Maximum queue entries supported: a count, where the register is zero-based. */
  mqes: [0, scaled(u16, 1, 1), label('Maximum Queue Entries Supported')],
  cqr: [0, flag(u32, 16), label('Contiguous Queues Required', yes)],
  /** Arbitration mechanisms beside round robin: bit 0 weighted with urgent, bit 1 vendor's. */
  ams: [0, bits(u32, 17, 2), label('Arbitration Mechanisms Supported', arbitrations)],
  /** Longest time that CSTS.RDY may take to follow CC.EN. */
  to: [0, scaled(bits(u32, 24, 8), 500), label('Timeout', (value) => `${value} ms`)],
  /** Bytes from one doorbell to the next. */
  dstrd: [4, power(bits(u32, 0, 4), 4), label('Doorbell Stride', bytes)],
  nssrs: [4, flag(u32, 4), label('NVM Subsystem Reset Supported', yes)],
  /** Command sets: one of CSS, or several. */
  css: [4, bits(u32, 5, 8), label('Command Sets Supported', setNames)],
  bps: [4, flag(u32, 13), label('Boot Partition Support', yes)],
  /** Smallest and largest host memory page. */
  mpsmin: [4, power(bits(u32, 16, 4), 4096), label('Memory Page Size Minimum', bytes)],
  mpsmax: [4, power(bits(u32, 20, 4), 4096), label('Memory Page Size Maximum', bytes)],
  pmrs: [4, flag(u32, 24), label('Persistent Memory Region Supported', yes)],
  cmbs: [4, flag(u32, 25), label('Controller Memory Buffer Supported', yes)],
} as const

const capabilities = structure('Controller Capabilities', 8, capabilitiesLayout)

/** Controller Capabilities, section 3.1.1. Sizes in bytes, times in milliseconds. */
export interface Capabilities extends Decoded<typeof capabilitiesLayout> {}

export function decodeCapabilities(lo: number, hi: number): Capabilities {
  return capabilities.decode(new Uint8Array(Uint32Array.of(lo, hi).buffer))
}

/** The register's two halves, low first. */
export function encodeCapabilities(cap: Capabilities): [lo: number, hi: number] {
  const [lo, hi] = new Uint32Array(capabilities.encode(cap).buffer)
  return [lo!, hi!]
}

const SHUTDOWN_NOTIFICATIONS = ['none', 'normal', 'abrupt', 'reserved'] as const

export const configurationLayout = {
  en: [0, flag(u32, 0), label('Enable', yes)],
  css: [0, bits(u32, 4, 3), label('I/O Command Set Selected')],
  /** Host memory page in bytes. */
  mps: [0, power(bits(u32, 7, 4), 4096), label('Memory Page Size', bytes)],
  ams: [0, bits(u32, 11, 3), label('Arbitration Mechanism Selected')],
  /** One of SHN. */
  shn: [0, bits(u32, 14, 2), label('Shutdown Notification', (value) => SHUTDOWN_NOTIFICATIONS[value]!)],
  /** Entry sizes as powers of two: 6 and 4 for the NVM command set. */
  iosqes: [0, bits(u32, 16, 4), label('I/O Submission Queue Entry Size', (value) => bytes(2 ** value))],
  iocqes: [0, bits(u32, 20, 4), label('I/O Completion Queue Entry Size', (value) => bytes(2 ** value))],
} as const

/** Controller Configuration, section 3.1.5. */
export interface Configuration extends Decoded<typeof configurationLayout> {}

export const { decode: decodeConfiguration, encode: encodeConfiguration } = word(
  'Controller Configuration',
  configurationLayout,
)

export const adminQueuesLayout = {
  /** Entries of the admin queues: counts, where the register is zero-based. */
  asqs: [0, scaled(bits(u32, 0, 12), 1, 1), label('Admin Submission Queue Size')],
  acqs: [0, scaled(bits(u32, 16, 12), 1, 1), label('Admin Completion Queue Size')],
} as const

/** Admin Queue Attributes, section 3.1.8. */
export const { decode: decodeAdminQueues, encode: encodeAdminQueues } = word(
  'Admin Queue Attributes',
  adminQueuesLayout,
)

const yesNo = (what: string) => (value: number) => `${what}: ${yes(value)}`
const SHUTDOWN_STATES = ['normal operation', 'shutdown in progress', 'shutdown complete', 'reserved'] as const

/** Controller Status, section 3.1.6. */
export const CSTS = bitTable({
  PP: [5, yesNo('Processing Paused (PP)')],
  /** Written to be cleared. */
  NSSRO: [4, yesNo('NVM Subsystem Reset Occurred (NSSRO)')],
  /** A field of two bits, one of SHST. */
  SHST: [3, 2, (value) => `Shutdown Status (SHST): ${SHUTDOWN_STATES[value]}`],
  CFS: [1, yesNo('Controller Fatal Status (CFS)')],
  RDY: [0, yesNo('Ready (RDY)')],
})

/** Values of CSTS.SHST, in place. */
export const SHST = { NORMAL: 0x00, PROCESSING: 0x04, COMPLETE: 0x08 } as const

/** Version, section 3.1.2, as `1.4.0`. */
export function formatVersion(vs: number): string {
  return `${vs >>> 16}.${(vs >>> 8) & 0xff}.${vs & 0xff}`
}

/**
 * Index in the doorbells (BAR 0 from 1000h, as 32-bit words) of a submission queue's tail; section 3.1.24.
 * @param dstrd bytes from one doorbell to the next
 */
export function sqTailDoorbell(qid: number, dstrd: number): number {
  return (2 * qid * dstrd) >>> 2
}

/** Likewise of a completion queue's head. */
export function cqHeadDoorbell(qid: number, dstrd: number): number {
  return ((2 * qid + 1) * dstrd) >>> 2
}
