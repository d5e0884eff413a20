// The configuration space of a served NVMe controller (PCI 3.0, 6.1; PCI Express 3.0, 7.8): what is in it, and
// which bits a client may write. Identity, BAR 0, MSI-X and a PCI Express endpoint; nothing else works.

import { CONFIG_COMMAND, PCI_COMMAND } from '../../vfio-abi/device.ts'
import { CAPABILITY, CONFIG, MSIX, MSIX_BAR, PCI_STATUS } from '../constants.ts'

export const CONFIG_BYTES = 4096
/** Entries of the MSI-X table, in bytes. */
export const MSIX_ENTRY_BYTES = 16

const MSIX_AT = 0x40
const PCIE_AT = 0x50
const PCIE_BYTES = 0x3c
// Red Hat's vendor id, whose devices of these numbers are QEMU's: an emulated NVMe controller like this one.
const VENDOR = 0x1b36
const DEVICE = 0x0010
const CLASS_NVME = 0x010802
const BAR_64_BIT_MEMORY = 0x4
const RESET_BY_FUNCTION = 0x1000_0000

export interface ConfigModel {
  read(offset: number, bytes: number): Buffer
  write(offset: number, data: Buffer): void
  readonly busMaster: boolean
  /** MSI-X is enabled, and not masked as a whole. */
  readonly msix: boolean
}

export function createConfigSpace({ vectors, barBytes }: { vectors: number; barBytes: number }): ConfigModel {
  const space = Buffer.alloc(CONFIG_BYTES)
  // For each byte, the bits that can be written.
  const writable = Buffer.alloc(CONFIG_BYTES)
  space.writeUInt16LE(VENDOR, 0x00)
  space.writeUInt16LE(DEVICE, 0x02)
  space.writeUInt16LE(PCI_STATUS.CAPABILITIES, CONFIG.STATUS)
  space.writeUIntLE(CLASS_NVME, 0x09, 3)
  space.writeUInt32LE(BAR_64_BIT_MEMORY, 0x10)
  space.writeUInt16LE(VENDOR, 0x2c)
  space.writeUInt8(MSIX_AT, CONFIG.CAPABILITIES)
  const { MEMORY, BUS_MASTER, INTX_DISABLE } = PCI_COMMAND
  writable.writeUInt16LE(MEMORY | BUS_MASTER | INTX_DISABLE, CONFIG_COMMAND)
  writable.writeUInt8(0xff, 0x3c)
  // A BAR's size shows in the bits that stay 0 when ones are written.
  const size = 2 ** Math.ceil(Math.log2(barBytes))
  writable.writeBigUInt64LE(BigInt.asUintN(64, -BigInt(size)), 0x10)

  space.writeUInt8(CAPABILITY.MSIX, MSIX_AT)
  space.writeUInt8(PCIE_AT, MSIX_AT + 1)
  space.writeUInt16LE(vectors - 1, MSIX_AT + MSIX.CONTROL)
  space.writeUInt32LE(MSIX_BAR.TABLE, MSIX_AT + 4)
  space.writeUInt32LE(MSIX_BAR.PBA, MSIX_AT + 8)
  writable.writeUInt16LE(MSIX.ENABLE | MSIX.FUNCTION_MASK, MSIX_AT + MSIX.CONTROL)

  space.writeUInt8(CAPABILITY.PCIE, PCIE_AT)
  space.writeUInt16LE(2, PCIE_AT + 2)
  space.writeUInt32LE(RESET_BY_FUNCTION, PCIE_AT + 4)
  space.fill(0, PCIE_AT + 8, PCIE_AT + PCIE_BYTES)

  return {
    read: (offset, bytes) => Buffer.from(space.subarray(offset, offset + bytes)),
    write(offset, data) {
      for (let i = 0; i < data.length; i++) {
        const mask = writable[offset + i]!
        space[offset + i] = (space[offset + i]! & ~mask) | (data[i]! & mask)
      }
    },
    get busMaster() {
      return (space.readUInt16LE(CONFIG_COMMAND) & PCI_COMMAND.BUS_MASTER) !== 0
    },
    get msix() {
      const control = space.readUInt16LE(MSIX_AT + MSIX.CONTROL)
      return (control & MSIX.ENABLE) !== 0 && (control & MSIX.FUNCTION_MASK) === 0
    },
  }
}
