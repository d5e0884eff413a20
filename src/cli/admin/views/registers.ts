// `show-regs`: the controller's registers, by nvme-cli's names.
// Trade-off: registers up to 0068h; those of a persistent memory region are left out.

import {
  CSTS,
  decodeCapabilities,
  decodeConfiguration,
  formatVersion,
} from '../../../../lib/nvme/spec/registers.ts'
import type { Shown } from '../show.ts'
import { hexText, type Row, rowLines } from '../text.ts'

// Name, offset, and whether it has 64 bits. NVMe 2.0 base, section 3.1.
const REGISTERS: readonly (readonly [name: string, offset: number, wide?: true])[] = [
  ['cap', 0x00, true],
  ['vs', 0x08],
  ['intms', 0x0c],
  ['intmc', 0x10],
  ['cc', 0x14],
  ['csts', 0x1c],
  ['nssr', 0x20],
  ['crto', 0x68],
  ['aqa', 0x24],
  ['asq', 0x28, true],
  ['acq', 0x30, true],
  ['cmbloc', 0x38],
  ['cmbsz', 0x3c],
  ['bpinfo', 0x40],
  ['bprsel', 0x44],
  ['bpmbl', 0x48, true],
  ['cmbmsc', 0x50, true],
  ['cmbsts', 0x58],
]

/** Bytes from the first register to the last. */
const BYTES = 0x6c

/**
 * All registers, each read once: they are not all without side effects, and one picture is what is asked for.
 * @param read a 32-bit register
 */
export async function readRegisters(read: (offset: number) => number | Promise<number>): Promise<Buffer> {
  const bytes = Buffer.alloc(BYTES)
  for (let at = 0; at < BYTES; at += 4) bytes.writeUInt32LE(await read(at), at)
  return bytes
}

export function viewRegisters(bytes: Buffer): Shown {
  const values = REGISTERS.map(([name, offset, wide]): [string, number | bigint] => [
    name,
    wide ? bytes.readBigUInt64LE(offset) : bytes.readUInt32LE(offset),
  ])
  return {
    text: (human) =>
      rowLines(
        values.map(([name, value]): Row => ({ name, value: hexText(value), bits: meaning(name, bytes) })),
        human,
      ),
    json: () => Object.fromEntries(values),
  }
}

function meaning(name: string, bytes: Buffer): string[] {
  switch (name) {
    case 'cap':
      return capabilityLines(bytes.readUInt32LE(0), bytes.readUInt32LE(4))
    case 'vs':
      return [`  NVMe ${formatVersion(bytes.readUInt32LE(8))}`]
    case 'cc':
      return configurationLines(bytes.readUInt32LE(0x14))
    case 'csts':
      return statusLines(bytes.readUInt32LE(0x1c))
    case 'aqa': {
      const value = bytes.readUInt32LE(0x24)
      return [
        `  Admin Completion Queue Size (ACQS): ${((value >>> 16) & 0xfff) + 1}`,
        `  Admin Submission Queue Size (ASQS): ${(value & 0xfff) + 1}`,
      ]
    }
    default:
      return []
  }
}

const yes = (on: boolean) => (on ? 'Yes' : 'No')

function capabilityLines(lo: number, hi: number): string[] {
  const cap = decodeCapabilities(lo, hi)
  const sets = [
    [0x01, 'NVM'],
    [0x40, 'by profiles'],
    [0x80, 'admin only'],
  ] as const
  return [
    `  Controller Memory Buffer Supported (CMBS): ${yes(cap.cmbs)}`,
    `  Persistent Memory Region Supported (PMRS): ${yes(cap.pmrs)}`,
    `  Memory Page Size Maximum (MPSMAX): ${cap.mpsmax} bytes`,
    `  Memory Page Size Minimum (MPSMIN): ${cap.mpsmin} bytes`,
    `  Boot Partition Support (BPS): ${yes(cap.bps)}`,
    `  Command Sets Supported (CSS): ${sets
      .filter(([bit]) => (cap.css & bit) !== 0)
      .map(([, name]) => name)
      .join(', ')}`,
    `  NVM Subsystem Reset Supported (NSSRS): ${yes(cap.nssrs)}`,
    `  Doorbell Stride (DSTRD): ${cap.dstrd} bytes`,
    `  Timeout (TO): ${cap.to} ms`,
    `  Arbitration Mechanisms Supported (AMS): round robin${(cap.ams & 1) !== 0 ? ', weighted with urgent class' : ''}${(cap.ams & 2) !== 0 ? ", the vendor's" : ''}`,
    `  Contiguous Queues Required (CQR): ${yes(cap.cqr)}`,
    `  Maximum Queue Entries Supported (MQES): ${cap.mqes}`,
  ]
}

const SHUTDOWN_NOTIFICATIONS = ['none', 'normal', 'abrupt', 'reserved']
const SHUTDOWN_STATES = ['normal operation', 'shutdown in progress', 'shutdown complete', 'reserved']

function configurationLines(value: number): string[] {
  const cc = decodeConfiguration(value)
  return [
    `  I/O Completion Queue Entry Size (IOCQES): ${2 ** cc.iocqes} bytes`,
    `  I/O Submission Queue Entry Size (IOSQES): ${2 ** cc.iosqes} bytes`,
    `  Shutdown Notification (SHN): ${SHUTDOWN_NOTIFICATIONS[cc.shn]}`,
    `  Arbitration Mechanism Selected (AMS): ${cc.ams}`,
    `  Memory Page Size (MPS): ${cc.mps} bytes`,
    `  I/O Command Set Selected (CSS): ${cc.css}`,
    `  Enable (EN): ${yes(cc.en)}`,
  ]
}

function statusLines(value: number): string[] {
  return [
    `  Processing Paused (PP): ${yes((value & CSTS.PP) !== 0)}`,
    `  NVM Subsystem Reset Occurred (NSSRO): ${yes((value & CSTS.NSSRO) !== 0)}`,
    `  Shutdown Status (SHST): ${SHUTDOWN_STATES[(value & CSTS.SHST) >>> 2]}`,
    `  Controller Fatal Status (CFS): ${yes((value & CSTS.CFS) !== 0)}`,
    `  Ready (RDY): ${yes((value & CSTS.RDY) !== 0)}`,
  ]
}
