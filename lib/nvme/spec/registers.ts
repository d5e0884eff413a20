// Controller registers (NVMe 1.4 base, section 3.1): offsets, and their fields encoded and decoded side by side.
// Trade-off: 64-bit registers are two 32-bit ones everywhere, since some controllers answer nothing else.

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

/** Controller Capabilities, section 3.1.1. Sizes in bytes, times in milliseconds. */
export interface Capabilities {
  /** Maximum queue entries supported: a count, where the register is zero-based. */
  mqes: number
  /** Contiguous queues required. */
  cqr: boolean
  /** Arbitration mechanisms beside round robin: bit 0 weighted with urgent, bit 1 vendor's. */
  ams: number
  /** Longest time that CSTS.RDY may take to follow CC.EN. */
  to: number
  /** Bytes from one doorbell to the next. */
  dstrd: number
  /** NVM subsystem reset supported. */
  nssrs: boolean
  /** Command sets: bit 0 NVM, bit 6 by I/O command set profiles, bit 7 admin only. */
  css: number
  /** Boot partitions supported. */
  bps: boolean
  /** Smallest and largest host memory page. */
  mpsmin: number
  mpsmax: number
  /** Persistent memory region, controller memory buffer. */
  pmrs: boolean
  cmbs: boolean
}

export function decodeCapabilities(lo: number, hi: number): Capabilities {
  return {
    mqes: (lo & 0xffff) + 1,
    cqr: (lo & 0x1_0000) !== 0,
    ams: (lo >>> 17) & 3,
    to: (lo >>> 24) * 500,
    dstrd: 4 << (hi & 0xf),
    nssrs: (hi & 0x10) !== 0,
    css: (hi >>> 5) & 0xff,
    bps: (hi & 0x2000) !== 0,
    mpsmin: 4096 << ((hi >>> 16) & 0xf),
    mpsmax: 4096 << ((hi >>> 20) & 0xf),
    pmrs: (hi & 0x100_0000) !== 0,
    cmbs: (hi & 0x200_0000) !== 0,
  }
}

/** The register's two halves, low first. */
export function encodeCapabilities(cap: Capabilities): [lo: number, hi: number] {
  const bit = (on: boolean, n: number) => (on ? 1 << n : 0)
  const lo = (cap.mqes - 1) | bit(cap.cqr, 16) | (cap.ams << 17) | (Math.ceil(cap.to / 500) << 24)
  const hi =
    log2(cap.dstrd / 4) |
    bit(cap.nssrs, 4) |
    (cap.css << 5) |
    bit(cap.bps, 13) |
    (log2(cap.mpsmin / 4096) << 16) |
    (log2(cap.mpsmax / 4096) << 20) |
    bit(cap.pmrs, 24) |
    bit(cap.cmbs, 25)
  return [lo >>> 0, hi >>> 0]
}

/** Command sets of CAP.CSS, and the value of CC.CSS that selects each. */
export const CSS = { NVM: 0x01, PROFILES: 0x40, ADMIN_ONLY: 0x80 } as const

/** Controller Configuration, section 3.1.5. */
export interface Configuration {
  en: boolean
  css: number
  /** Host memory page in bytes. */
  mps: number
  ams: number
  /** Shutdown notification: 0 none, 1 normal, 2 abrupt. */
  shn: number
  /** Entry sizes as powers of two: 6 and 4 for the NVM command set. */
  iosqes: number
  iocqes: number
}

export const SHN = { NONE: 0, NORMAL: 1, ABRUPT: 2 } as const

export function encodeConfiguration(cc: Configuration): number {
  const mps = log2(cc.mps / 4096)
  const low = (cc.en ? 1 : 0) | (cc.css << 4) | (mps << 7) | (cc.ams << 11) | (cc.shn << 14)
  return (low | (cc.iosqes << 16) | (cc.iocqes << 20)) >>> 0
}

export function decodeConfiguration(cc: number): Configuration {
  return {
    en: (cc & 1) !== 0,
    css: (cc >>> 4) & 7,
    mps: 4096 << ((cc >>> 7) & 0xf),
    ams: (cc >>> 11) & 7,
    shn: (cc >>> 14) & 3,
    iosqes: (cc >>> 16) & 0xf,
    iocqes: (cc >>> 20) & 0xf,
  }
}

/** Controller Status, section 3.1.6. */
export const CSTS = {
  RDY: 0x01,
  /** Controller fatal status. */
  CFS: 0x02,
  /** Shutdown status: a field of two bits, one of SHST. */
  SHST: 0x0c,
  /** NVM subsystem reset occurred: written to be cleared. */
  NSSRO: 0x10,
  /** Processing paused. */
  PP: 0x20,
} as const

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

function log2(n: number): number {
  return 31 - Math.clz32(n)
}
