// Identify (NVMe 1.4 base, section 5.15; 2.0 included): what the command asks for, and the data structures that answer.

import { DecodeError, OutOfRangeError } from '../../errors.ts'
import {
  ascii,
  bits,
  blockCount,
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
  viewOf,
} from './codec.ts'
import {
  ANACAP,
  AOCS,
  APSTA,
  AVSCC,
  CMIC,
  CNTRLTYPE,
  CQES,
  CTRATT,
  DLFEAT,
  DPC,
  DPS,
  DSTO,
  FCATT,
  FLBAS,
  FNA,
  FPI,
  FRMW,
  FUSES,
  HCTMA,
  ICSVSCC,
  LPA,
  MC,
  MEC,
  NMIC,
  NSATTR,
  NSFEAT,
  NSTAT,
  NVMSR,
  NWPC,
  OACS,
  OAES,
  OCFS,
  OFCS,
  ONCS,
  RESCAP,
  RPMBS,
  SANICAP,
  SGLS,
  SQES,
  VWC,
  VWCI,
} from './flags.ts'

/** Bytes of every Identify data structure. */
export const IDENTIFY_BYTES = 4096

/** Values of CNS, in bits 7:0 of an Identify command's dword 10. */
export const CNS = {
  /** IdentifyNamespace of an active namespace, or of ALL_NAMESPACES for what they have in common. */
  NAMESPACE: 0x00,
  /** IdentifyController. */
  CONTROLLER: 0x01,
  /** Namespace list: active identifiers greater than the command's. */
  ACTIVE_NAMESPACES: 0x02,
  /** Namespace Identification Descriptors. */
  NAMESPACE_DESCRIPTORS: 0x03,
  NVM_SETS: 0x04,
  /** As 00h to 02h, of the I/O command set that the command names (2.0). */
  COMMAND_SET_NAMESPACE: 0x05,
  COMMAND_SET_CONTROLLER: 0x06,
  COMMAND_SET_ACTIVE_NAMESPACES: 0x07,
  /** I/O Command Set Independent Identify Namespace (2.0). */
  INDEPENDENT_NAMESPACE: 0x08,
  /** As 02h and 00h, of namespaces that exist, attached or not. */
  ALLOCATED_NAMESPACES: 0x10,
  ALLOCATED_NAMESPACE: 0x11,
  /** Controller list: those that a namespace is attached to, and all of the NVM subsystem. */
  ATTACHED_CONTROLLERS: 0x12,
  CONTROLLERS: 0x13,
  PRIMARY_CONTROLLER_CAPABILITIES: 0x14,
  SECONDARY_CONTROLLERS: 0x15,
  NAMESPACE_GRANULARITY: 0x16,
  UUIDS: 0x17,
  DOMAINS: 0x18,
  ENDURANCE_GROUPS: 0x19,
  COMMAND_SET_ALLOCATED_NAMESPACES: 0x1a,
  COMMAND_SET_ALLOCATED_NAMESPACE: 0x1b,
  IO_COMMAND_SETS: 0x1c,
} as const

// Identify Controller (section 5.15.2.2, figure 247; fields of 2.0 with their names there).

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

export const controllerLayout = {
  /** PCI vendor and subsystem vendor. */
  vid: [0, u16, 'hex'],
  ssvid: [2, u16, 'hex'],
  /** Serial number, model number, firmware revision; without the spaces at their ends. */
  sn: [4, ascii(20)],
  mn: [24, ascii(40)],
  fr: [64, ascii(8)],
  /** Recommended arbitration burst, a power of two in commands. */
  rab: [72, u8],
  /** IEEE OUI. */
  ieee: [73, u24],
  /** Multi-path I/O and namespace sharing. */
  cmic: [76, u8, 'hex', CMIC],
  /** Maximum data transfer size: a power of two in units of CAP.MPSMIN; 0 no limit. */
  mdts: [77, u8],
  cntlid: [78, u16, 'hex'],
  /** Version, as register VS. */
  ver: [80, u32, 'hex'],
  /** RTD3 resume and entry latency in microseconds. */
  rtd3r: [84, u32, 'hex'],
  rtd3e: [88, u32, 'hex'],
  /** Optional asynchronous events supported. */
  oaes: [92, u32, 'hex', OAES],
  /** Controller attributes. */
  ctratt: [96, u32, 'hex', CTRATT],
  /** Read recovery levels supported, one bit each. */
  rrls: [100, u16, 'hex'],
  /** Controller type: 1 I/O, 2 discovery, 3 administrative; 0 not reported. */
  cntrltype: [111, u8, CNTRLTYPE],
  /** FRU globally unique identifier. */
  fguid: [112, hex(16)],
  /** Command retry delay times 1 to 3, in 100 ms. */
  crdt1: [128, u16],
  crdt2: [130, u16],
  crdt3: [132, u16],
  /** NVM subsystem report, VPD write cycles, management endpoint capabilities. */
  nvmsr: [253, u8, NVMSR],
  vwci: [254, u8, VWCI],
  mec: [255, u8, MEC],
  /** Optional admin command support. */
  oacs: [256, u16, 'hex', OACS],
  /** Abort command limit, asynchronous event request limit: zero-based. */
  acl: [258, u8],
  aerl: [259, u8],
  /** Firmware updates. */
  frmw: [260, u8, 'hex', FRMW],
  /** Log page attributes. */
  lpa: [261, u8, 'hex', LPA],
  /** Error log page entries and power states: zero-based. */
  elpe: [262, u8],
  npss: [263, u8],
  /** Admin vendor specific command configuration, autonomous power state transition attributes. */
  avscc: [264, u8, 'hex', AVSCC],
  apsta: [265, u8, 'hex', APSTA],
  /** Warning and critical composite temperature in kelvin. */
  wctemp: [266, u16, 'kelvin'],
  cctemp: [268, u16, 'kelvin'],
  /** Maximum time for firmware activation, in 100 ms. */
  mtfa: [270, u16],
  /** Host memory buffer preferred and minimum size, in 4 KiB. */
  hmpre: [272, u32],
  hmmin: [276, u32],
  /** Total and unallocated NVM capacity in bytes. */
  tnvmcap: [280, u128],
  unvmcap: [296, u128],
  /** Replay protected memory block support. */
  rpmbs: [312, u32, 'hex', RPMBS],
  /** Extended self-test time in minutes, self-test options. */
  edstt: [316, u16],
  dsto: [318, u8, DSTO],
  /** Firmware update granularity in 4 KiB; 0 not reported, FFh no restriction. */
  fwug: [319, u8],
  /** Keep alive granularity in 100 ms. */
  kas: [320, u16],
  /** Host controlled thermal management attributes, its minimum and maximum temperature in kelvin. */
  hctma: [322, u16, 'hex', HCTMA],
  mntmt: [324, u16, 'kelvin'],
  mxtmt: [326, u16, 'kelvin'],
  /** Sanitize capabilities. */
  sanicap: [328, u32, 'hex', SANICAP],
  /** Host memory buffer: smallest entry in 4 KiB, largest number of entries. */
  hmminds: [332, u32],
  hmmaxd: [336, u16],
  nsetidmax: [338, u16],
  endgidmax: [340, u16],
  /** Asymmetric namespace access: transition time in seconds, capabilities, group identifiers. */
  anatt: [342, u8],
  anacap: [343, u8, ANACAP],
  anagrpmax: [344, u32],
  nanagrpid: [348, u32],
  /** Persistent event log size in 64 KiB. */
  pels: [352, u32],
  domainid: [356, u16],
  /** Maximum endurance group capacity in bytes. */
  megcap: [368, u128],
  /** Queue entry sizes: required in bits 3:0, maximum in bits 7:4, as powers of two. */
  sqes: [512, u8, 'hex', SQES],
  cqes: [513, u8, 'hex', CQES],
  /** Maximum outstanding commands; 0 not reported. */
  maxcmd: [514, u16],
  /** Number of namespaces: the largest namespace identifier. */
  nn: [516, u32],
  /** Optional NVM command support, fused operation support, format attributes, volatile write cache. */
  oncs: [520, u16, 'hex', ONCS],
  fuses: [522, u16, 'hex', FUSES],
  fna: [524, u8, 'hex', FNA],
  vwc: [525, u8, 'hex', VWC],
  /** Atomic write unit normal and at power failure, in logical blocks: zero-based. */
  awun: [526, u16],
  awupf: [528, u16],
  /** I/O command set vendor specific command configuration. */
  icsvscc: [530, u8, ICSVSCC],
  /** Namespace write protection capabilities. */
  nwpc: [531, u8, NWPC],
  /** Atomic compare and write unit in logical blocks: zero-based. */
  acwu: [532, u16],
  /** Optional copy formats supported, one bit each. */
  ocfs: [534, u16, 'hex', OCFS],
  /** SGL support. */
  sgls: [536, u32, 'hex', SGLS],
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
  fcatt: [1802, u8, FCATT],
  msdbd: [1803, u8],
  ofcs: [1804, u16, OFCS],
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

// Identify Namespace of the NVM command set (section 5.15.2.1, figure 245; fields of 2.0 included).

const MAX_FORMATS = 64

const lbaFormatLayout = {
  /** Metadata bytes for each logical block. */
  ms: [0, u16],
  /** LBA data size: a power of two in bytes, 9 or more; 0 not available. nvme-cli calls it `ds`. */
  lbads: [2, u8],
  /** Relative performance: 0 best, 3 degraded. */
  rp: [3, bits(u8, 0, 2)],
} as const

export const namespaceLayout = {
  /** Namespace size, capacity and utilization in logical blocks; rounded where that is no safe integer. */
  nsze: [0, blockCount, 'hex'],
  ncap: [8, blockCount, 'hex'],
  nuse: [16, blockCount, 'hex'],
  /** Namespace features. */
  nsfeat: [24, u8, 'hex', NSFEAT],
  /** Number of LBA formats: zero-based. */
  nlbaf: [25, u8],
  /** Formatted LBA size: see `formattedLba`. */
  flbas: [26, u8, 'hex', FLBAS],
  /** Metadata capabilities, data protection capabilities and settings. */
  mc: [27, u8, 'hex', MC],
  dpc: [28, u8, 'hex', DPC],
  dps: [29, u8, 'hex', DPS],
  /** Multi-path I/O and sharing, reservation capabilities. */
  nmic: [30, u8, 'hex', NMIC],
  rescap: [31, u8, 'hex', RESCAP],
  /** Format progress indicator: bit 7 supported, bits 6:0 per cent that remain. */
  fpi: [32, u8, 'hex', FPI],
  /** Deallocate logical block features. */
  dlfeat: [33, u8, DLFEAT],
  /** Atomic write unit normal, at power failure, of compare and write, in logical blocks: zero-based. */
  nawun: [34, u16],
  nawupf: [36, u16],
  nacwu: [38, u16],
  /** Atomic boundary size normal, offset, size at power failure, in logical blocks. */
  nabsn: [40, u16],
  nabo: [42, u16],
  nabspf: [44, u16],
  /** Optimal I/O boundary in logical blocks; 0 none. */
  noiob: [46, u16],
  /** NVM capacity in bytes. */
  nvmcap: [48, u128],
  /** Preferred write granularity and alignment, deallocate granularity and alignment, optimal write size. */
  npwg: [64, u16],
  npwa: [66, u16],
  npdg: [68, u16],
  npda: [70, u16],
  nows: [72, u16],
  /** Of Copy: blocks in a source range, blocks in a command, source ranges (zero-based). */
  mssrl: [74, u16],
  mcl: [76, u32],
  msrc: [80, u8],
  /** Number of unique capability LBA formats. */
  nulbaf: [82, u8],
  anagrpid: [92, u32],
  /** Namespace attributes: bit 0 write protected. */
  nsattr: [99, u8, NSATTR],
  nvmsetid: [100, u16],
  endgid: [102, u16],
  /** Globally unique identifier and EUI-64, as hexadecimal digits. */
  nguid: [104, hex(16)],
  eui64: [120, hex(8)],
  lbafs: [128, list(MAX_FORMATS, structure('LBA Format', 4, lbaFormatLayout))],
  /** Vendor specific. */
  vs: [384, raw(3712)],
} as const

const namespace = structure('Identify Namespace', 4096, namespaceLayout)
export const { encode: encodeIdentifyNamespace } = namespace

/** LBA Format data structure (figure 246). */
export interface LbaFormat extends Decoded<typeof lbaFormatLayout> {}

/** Identify Namespace data structure. All zero for an inactive namespace. */
export interface IdentifyNamespace extends Decoded<typeof namespaceLayout> {}

/** Decodes 4096 bytes; throws DecodeError on fewer. `lbafs` has the formats that the namespace has. */
export function decodeIdentifyNamespace(bytes: Uint8Array): IdentifyNamespace {
  const decoded = namespace.decode(bytes)
  const { nlbaf, nulbaf, lbafs } = decoded
  return { ...decoded, lbafs: lbafs.slice(0, nlbaf + 1 + nulbaf) }
}

/** What FLBAS says: the format in use, its index, and where its metadata goes. */
export interface FormattedLba extends LbaFormat {
  index: number
  /** Logical block in bytes, without metadata. */
  bytes: number
  /** Metadata follows each block's data, instead of standing in a buffer of its own. */
  extended: boolean
}

/** Index of the LBA format that FLBAS names, whether there is one or not. */
export function formatIndex(ns: Pick<IdentifyNamespace, 'flbas' | 'lbafs'>): number {
  // Bits 6:5 count where there are more than 16 formats; with fewer the specification has them ignored.
  const high = ns.lbafs.length > 16 ? (ns.flbas >>> 5) & 3 : 0
  return (ns.flbas & 0xf) | (high << 4)
}

/** The LBA format in use. Throws DecodeError where FLBAS names none, or one of less than 512 bytes. */
export function formattedLba(ns: Pick<IdentifyNamespace, 'flbas' | 'lbafs'>): FormattedLba {
  const index = formatIndex(ns)
  const format = ns.lbafs[index]
  if (format === undefined) {
    throw new DecodeError(`Identify Namespace: flbas names LBA format ${index} of ${ns.lbafs.length}`)
  }
  if (format.lbads < 9 || format.lbads > 31) {
    throw new DecodeError(
      `Identify Namespace: LBA format ${index} has a data size of 2^${format.lbads} bytes`,
    )
  }
  return { ...format, index, bytes: 2 ** format.lbads, extended: (ns.flbas & 0x10) !== 0 }
}

// I/O Command Set Independent Identify Namespace (NVMe 2.0 base, section 5.17.2.8): CNS 08h.

export const independentLayout = {
  /** Common namespace features. */
  nsfeat: [0, u8, 'hex'],
  nmic: [1, u8, 'hex', NMIC],
  rescap: [2, u8, 'hex', RESCAP],
  /** Format progress indicator: bit 7 supported, bits 6:0 per cent that remain. */
  fpi: [3, u8, 'hex', FPI],
  anagrpid: [4, u32],
  /** Namespace attributes: bit 0 write protected. */
  nsattr: [8, u8, 'hex', NSATTR],
  nvmsetid: [10, u16],
  endgid: [12, u16],
  /** Namespace status: bit 0 ready. */
  nstat: [14, u8, 'hex', NSTAT],
} as const

export const { decode: decodeIndependentNamespace, encode: encodeIndependentNamespace } = structure(
  'I/O Command Set Independent Identify Namespace',
  IDENTIFY_BYTES,
  independentLayout,
)

export interface IndependentNamespace extends Decoded<typeof independentLayout> {}

// Lists of namespaces (section 4.11) and of controllers (section 4.10).

/** Most identifiers in one namespace list. A full list means that there may be more: ask again from its last. */
export const NAMESPACE_LIST_ENTRIES = 1024
/** Most identifiers in one controller list. */
export const CONTROLLER_LIST_ENTRIES = 2047

const namespaceList = structure('Namespace List', IDENTIFY_BYTES, {
  nsids: [0, list(NAMESPACE_LIST_ENTRIES, u32)],
})
const controllerList = structure('Controller List', IDENTIFY_BYTES, {
  count: [0, u16],
  cntlids: [2, list(CONTROLLER_LIST_ENTRIES, u16)],
})

/** Namespace identifiers up to the first 0. Throws DecodeError on fewer than 4096 bytes. */
export function decodeNamespaceList(bytes: Uint8Array): number[] {
  const { nsids } = namespaceList.decode(bytes)
  const end = nsids.indexOf(0)
  return end < 0 ? nsids : nsids.slice(0, end)
}

/** Encodes 4096 bytes. Throws OutOfRangeError on more than 1024 identifiers. */
export function encodeNamespaceList(nsids: readonly number[], target?: Uint8Array): Uint8Array {
  return namespaceList.encode({ nsids }, target)
}

/**
 * Controller identifiers: as many as the list's own count says, and at most the 2047 that fit.
 * Throws DecodeError on fewer bytes than they need.
 */
export function decodeControllerList(bytes: Uint8Array): number[] {
  // Namespace Attachment sends lists no longer than they need to be.
  const view = viewOf('Controller List', bytes, 2)
  const count = Math.min(view.getUint16(0, true), CONTROLLER_LIST_ENTRIES)
  viewOf('Controller List', bytes, 2 + 2 * count)
  return Array.from({ length: count }, (_, i) => view.getUint16(2 + 2 * i, true))
}

/** Encodes 4096 bytes. Throws OutOfRangeError on more than 2047 identifiers. */
export function encodeControllerList(cntlids: readonly number[], target?: Uint8Array): Uint8Array {
  return controllerList.encode({ count: cntlids.length, cntlids }, target)
}

// Identify Namespace of the NVM command set (NVM command set 1.2, section 4.1.5.3): CNS 05h.

export const { decode: decodeCommandSetNamespace, encode: encodeCommandSetNamespace } = structure(
  'Identify Namespace of the NVM command set',
  IDENTIFY_BYTES,
  {
    /** Tracked LBA allocation granularity, and alignment, in blocks; 0 is not reported. */
    tlbaag: [292, u32],
  },
)

// Identify Controller of the NVM command set (NVM command set 1.2, section 4.1.5.4): CNS 06h. 0 is no limit.

export const commandSetControllerLayout = {
  /** Verify, Write Zeroes and Write Uncorrectable size limits: 2^n units of the least memory page size. */
  vsl: [0, u8],
  wzsl: [1, u8],
  wusl: [2, u8],
  /** Dataset Management: most ranges, and most blocks of one. */
  dmrl: [3, u8],
  dmrsl: [4, u32],
  /** Admin optional command support (1.1). */
  aocs: [18, u16, 'hex', AOCS],
} as const

export const { decode: decodeCommandSetController, encode: encodeCommandSetController } = structure(
  'Identify Controller of the NVM command set',
  IDENTIFY_BYTES,
  commandSetControllerLayout,
)

// Namespace Identification Descriptor list (section 5.15.2.4, figure 249): CNS 03h.

/** Types of namespace identifier. */
export const NAMESPACE_ID_TYPE = { EUI64: 1, NGUID: 2, UUID: 3, CSI: 4 } as const

const HEADER_BYTES = 4
const LENGTHS: Readonly<Record<number, number>> = { 1: 8, 2: 16, 3: 16, 4: 1 }

export interface NamespaceDescriptor {
  /** One of NAMESPACE_ID_TYPE; others are reserved. */
  nidt: number
  /** The identifier as hexadecimal digits; two for the command set indicator. */
  nid: string
  /** What is wrong with its length, where something is: `nid` has the bytes that are there. */
  fault?: string
}

/**
 * The descriptors up to one of length 0, or the end. One whose length is wrong has a `fault`, and keeps none of the
 * others from being read. Throws DecodeError on fewer than 4096 bytes.
 */
export function decodeNamespaceDescriptors(bytes: Uint8Array): NamespaceDescriptor[] {
  const name = 'Namespace Identification Descriptors'
  const view = viewOf(name, bytes, IDENTIFY_BYTES)
  const descriptors: NamespaceDescriptor[] = []
  for (let at = 0; at + HEADER_BYTES <= IDENTIFY_BYTES; ) {
    const nidt = view.getUint8(at)
    const nidl = view.getUint8(at + 1)
    if (nidl === 0) break
    const start = at + HEADER_BYTES
    const end = start + nidl
    const fault = faultOf(nidt, nidl, end)
    const nid = Buffer.from(bytes.subarray(start, Math.min(end, IDENTIFY_BYTES))).toString('hex')
    descriptors.push({ nidt, nid, ...(fault !== undefined && { fault }) })
    at = end
  }
  return descriptors
}

function faultOf(nidt: number, nidl: number, end: number): string | undefined {
  const expected = LENGTHS[nidt] ?? nidl
  if (nidl !== expected) return `a length of ${nidl} bytes, where type ${nidt} has ${expected}`
  if (end > IDENTIFY_BYTES) return `a length of ${nidl} bytes, which passes the end of the list`
  return undefined
}

/** Encodes 4096 bytes. Throws OutOfRangeError on what is no identifier of its type, and on too many. */
export function encodeNamespaceDescriptors(
  descriptors: readonly NamespaceDescriptor[],
  target: Uint8Array = new Uint8Array(IDENTIFY_BYTES),
): Uint8Array {
  let at = 0
  target.fill(0, 0, IDENTIFY_BYTES)
  for (const { nidt, nid } of descriptors) {
    const bytes = Buffer.from(nid, 'hex')
    const whole = bytes.length > 0 && bytes.length * 2 === nid.length
    if (!whole || bytes.length !== (LENGTHS[nidt] ?? bytes.length)) {
      throw new OutOfRangeError(`nid: ${nid} is no identifier of type ${nidt}`)
    }
    const end = at + HEADER_BYTES + bytes.length
    if (end > Math.min(IDENTIFY_BYTES, target.length)) {
      throw new OutOfRangeError(`Namespace descriptors: ${end} bytes do not fit`)
    }
    target.set([nidt, bytes.length, 0, 0], at)
    target.set(bytes, at + HEADER_BYTES)
    at = end
  }
  return target
}

/** 32 hexadecimal digits in the form of a UUID, 8-4-4-4-12. Other texts stay as they are. */
export function formatUuid(nid: string): string {
  return nid.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}
