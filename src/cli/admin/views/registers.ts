// `show-regs`: the controller's registers, by nvme-cli's names.
// Those up to 0068h: a persistent memory region's are left out.

import {
  adminQueuesLayout,
  CSTS,
  capabilitiesLayout,
  configurationLayout,
  decodeAdminQueues,
  decodeCapabilities,
  decodeConfiguration,
  formatVersion,
  REGISTER,
} from '../../../../lib/nvme/spec/registers.ts'
import type { Shown } from '../show.ts'
import { bitMeanings, hexText, labelLines, type Row, rowLines } from '../text.ts'

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

/** Those that are properties of every controller over Fabrics, in dwords: others are refused there. */
const PROPERTIES = new Set<number>([
  REGISTER.CAP_LO,
  REGISTER.CAP_HI,
  REGISTER.VS,
  REGISTER.CC,
  REGISTER.CSTS,
])

/**
 * All registers, each read once: they are not all without side effects, and one picture is what is asked for.
 * @param read a 32-bit register
 * @param fabrics those alone that a controller over Fabrics has; all others are 0
 */
export async function readRegisters(
  read: (offset: number) => number | Promise<number>,
  fabrics = false,
): Promise<Buffer> {
  const bytes = Buffer.alloc(BYTES)
  for (let at = 0; at < BYTES; at += 4) {
    if (!fabrics || PROPERTIES.has(at)) bytes.writeUInt32LE(await read(at), at)
  }
  return bytes
}

export function viewRegisters(bytes: Buffer, fabrics = false): Shown {
  const shown = fabrics ? REGISTERS.filter(([, offset]) => PROPERTIES.has(offset)) : REGISTERS
  const values = shown.map(([name, offset, wide]): [string, number | bigint] => [
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
  return meanings(name, (offset) => bytes.readUInt32LE(offset)).map((line) => `  ${line}`)
}

function meanings(name: string, read: (offset: number) => number): string[] {
  switch (name) {
    case 'cap':
      return labelLines(capabilitiesLayout, decodeCapabilities(read(REGISTER.CAP_LO), read(REGISTER.CAP_HI)))
    case 'vs':
      return [`NVMe ${formatVersion(read(REGISTER.VS))}`]
    case 'cc':
      return labelLines(configurationLayout, decodeConfiguration(read(REGISTER.CC)))
    case 'csts':
      return bitMeanings(read(REGISTER.CSTS), CSTS.rows)
    case 'aqa':
      return labelLines(adminQueuesLayout, decodeAdminQueues(read(REGISTER.AQA)))
    default:
      return []
  }
}
