// Identify Controller (NVMe 1.4 base, section 5.15.2.2, figure 247; fields of 2.0 with their names there).
// Trade-off: the table is the whole definition, in the specification's order; flag words stay words, see flags.ts.

import {
  ascii,
  bits,
  type Decoded,
  type Encodable,
  flag,
  hex,
  list,
  raw,
  structure,
  u8,
  u16,
  u24,
  u32,
  u128,
  utf8,
} from '../codec.ts'

const powerStateLayout = {
  /** Maximum power, in units of 0.01 W, or 0.0001 W where `mxps` is set. */
  mp: [0, u16],
  /** Max power scale. */
  mxps: [3, flag(u8, 0)],
  /** Non-operational state. */
  nops: [3, flag(u8, 1)],
  /** Entry and exit latency in microseconds; 0 not reported. */
  enlat: [4, u32],
  exlat: [8, u32],
  /** Relative read throughput and latency, write throughput and latency: 0 is the best. */
  rrt: [12, bits(u8, 0, 5)],
  rrl: [13, bits(u8, 0, 5)],
  rwt: [14, bits(u8, 0, 5)],
  rwl: [15, bits(u8, 0, 5)],
  /** Idle power, and its scale: 0 not reported, 1 in 0.0001 W, 2 in 0.01 W. */
  idlp: [16, u16],
  ips: [18, bits(u8, 6, 2)],
  /** Active power, its workload and its scale. */
  actp: [20, u16],
  apw: [22, bits(u8, 0, 3)],
  aps: [22, bits(u8, 6, 2)],
} as const

const powerState = structure('Power State Descriptor', 32, powerStateLayout)

const controllerLayout = {
  /** PCI vendor and subsystem vendor. */
  vid: [0, u16],
  ssvid: [2, u16],
  /** Serial number, model number, firmware revision; without the spaces at their ends. */
  sn: [4, ascii(20)],
  mn: [24, ascii(40)],
  fr: [64, ascii(8)],
  /** Recommended arbitration burst, a power of two in commands. */
  rab: [72, u8],
  /** IEEE OUI. */
  ieee: [73, u24],
  /** Multi-path I/O and namespace sharing. */
  cmic: [76, u8],
  /** Maximum data transfer size: a power of two in units of CAP.MPSMIN; 0 no limit. */
  mdts: [77, u8],
  cntlid: [78, u16],
  /** Version, as register VS. */
  ver: [80, u32],
  /** RTD3 resume and entry latency in microseconds. */
  rtd3r: [84, u32],
  rtd3e: [88, u32],
  /** Optional asynchronous events supported. */
  oaes: [92, u32],
  /** Controller attributes. */
  ctratt: [96, u32],
  /** Read recovery levels supported, one bit each. */
  rrls: [100, u16],
  /** Controller type: 1 I/O, 2 discovery, 3 administrative; 0 not reported. */
  cntrltype: [111, u8],
  /** FRU globally unique identifier. */
  fguid: [112, hex(16)],
  /** Command retry delay times 1 to 3, in 100 ms. */
  crdt1: [128, u16],
  crdt2: [130, u16],
  crdt3: [132, u16],
  /** NVM subsystem report, VPD write cycles, management endpoint capabilities. */
  nvmsr: [253, u8],
  vwci: [254, u8],
  mec: [255, u8],
  /** Optional admin command support. */
  oacs: [256, u16],
  /** Abort command limit, asynchronous event request limit: zero-based. */
  acl: [258, u8],
  aerl: [259, u8],
  /** Firmware updates. */
  frmw: [260, u8],
  /** Log page attributes. */
  lpa: [261, u8],
  /** Error log page entries and power states: zero-based. */
  elpe: [262, u8],
  npss: [263, u8],
  /** Admin vendor specific command configuration, autonomous power state transition attributes. */
  avscc: [264, u8],
  apsta: [265, u8],
  /** Warning and critical composite temperature in kelvin. */
  wctemp: [266, u16],
  cctemp: [268, u16],
  /** Maximum time for firmware activation, in 100 ms. */
  mtfa: [270, u16],
  /** Host memory buffer preferred and minimum size, in 4 KiB. */
  hmpre: [272, u32],
  hmmin: [276, u32],
  /** Total and unallocated NVM capacity in bytes. */
  tnvmcap: [280, u128],
  unvmcap: [296, u128],
  /** Replay protected memory block support. */
  rpmbs: [312, u32],
  /** Extended self-test time in minutes, self-test options. */
  edstt: [316, u16],
  dsto: [318, u8],
  /** Firmware update granularity in 4 KiB; 0 not reported, FFh no restriction. */
  fwug: [319, u8],
  /** Keep alive granularity in 100 ms. */
  kas: [320, u16],
  /** Host controlled thermal management attributes, its minimum and maximum temperature in kelvin. */
  hctma: [322, u16],
  mntmt: [324, u16],
  mxtmt: [326, u16],
  /** Sanitize capabilities. */
  sanicap: [328, u32],
  /** Host memory buffer: smallest entry in 4 KiB, largest number of entries. */
  hmminds: [332, u32],
  hmmaxd: [336, u16],
  nsetidmax: [338, u16],
  endgidmax: [340, u16],
  /** Asymmetric namespace access: transition time in seconds, capabilities, group identifiers. */
  anatt: [342, u8],
  anacap: [343, u8],
  anagrpmax: [344, u32],
  nanagrpid: [348, u32],
  /** Persistent event log size in 64 KiB. */
  pels: [352, u32],
  domainid: [356, u16],
  /** Maximum endurance group capacity in bytes. */
  megcap: [368, u128],
  /** Queue entry sizes: required in bits 3:0, maximum in bits 7:4, as powers of two. */
  sqes: [512, u8],
  cqes: [513, u8],
  /** Maximum outstanding commands; 0 not reported. */
  maxcmd: [514, u16],
  /** Number of namespaces: the largest namespace identifier. */
  nn: [516, u32],
  /** Optional NVM command support, fused operation support, format attributes, volatile write cache. */
  oncs: [520, u16],
  fuses: [522, u16],
  fna: [524, u8],
  vwc: [525, u8],
  /** Atomic write unit normal and at power failure, in logical blocks: zero-based. */
  awun: [526, u16],
  awupf: [528, u16],
  /** I/O command set vendor specific command configuration. */
  icsvscc: [530, u8],
  /** Namespace write protection capabilities. */
  nwpc: [531, u8],
  /** Atomic compare and write unit in logical blocks: zero-based. */
  acwu: [532, u16],
  /** Optional copy formats supported, one bit each. */
  ocfs: [534, u16],
  /** SGL support. */
  sgls: [536, u32],
  /** Maximum number of allowed namespaces; 0: see `nn`. */
  mnan: [540, u32],
  maxdna: [544, u128],
  maxcna: [560, u32],
  /** NVM subsystem NVMe Qualified Name. */
  subnqn: [768, utf8(256)],
  /** Of Fabrics only. */
  ioccsz: [1792, u32],
  iorcsz: [1796, u32],
  icdoff: [1800, u16],
  fcatt: [1802, u8],
  msdbd: [1803, u8],
  ofcs: [1804, u16],
  dctype: [1806, u8],
  /** Power states 0 to `npss`. */
  psds: [2048, list(32, powerState)],
  /** Vendor specific. */
  vs: [3072, raw(1024)],
} as const

const controller = structure('Identify Controller', 4096, controllerLayout)

/** Power State Descriptor (figure 248). */
export interface PowerState extends Decoded<typeof powerStateLayout> {}

/** Identify Controller data structure. */
export interface IdentifyController extends Decoded<typeof controllerLayout> {}

/** Decodes 4096 bytes; throws DecodeError on fewer. `psds` has the `npss` + 1 states that the controller has. */
export function decodeIdentifyController(bytes: Uint8Array): IdentifyController {
  const decoded = controller.decode(bytes)
  return { ...decoded, psds: decoded.psds.slice(0, decoded.npss + 1) }
}

/**
 * Encodes 4096 bytes, at the start of `target` where there is one. Fields left out are zero; text is filled up
 * with spaces. Throws OutOfRangeError for a value that does not fit, naming its field.
 */
export function encodeIdentifyController(
  value: Encodable<typeof controllerLayout>,
  target?: Uint8Array,
): Uint8Array {
  // Text left out is spaces, not NULs: the specification asks for ASCII.
  return controller.encode({ sn: '', mn: '', fr: '', ...value }, target)
}
