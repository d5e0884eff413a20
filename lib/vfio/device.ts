// A device's file: what it has (regions, interrupts), its configuration space, reset.

import fs from 'node:fs'
import { SystemCallError, UnsupportedError } from '../errors.ts'
import type { BarAccess } from '../pci/bar.ts'
import { ioctl, ioctlAsync, systemCallError } from '../sys/libc.ts'
import {
  CONFIG_COMMAND,
  DEVICE_FLAGS,
  type DeviceInfo,
  decodeDeviceInfo,
  decodeIrqInfo,
  encodeDeviceInfo,
  encodeIrqInfo,
  encodeIrqSet,
  encodeRegionRequest,
  INFO_BYTES,
  irqSetFlags,
  PCI_COMMAND,
  REGION,
} from '../vfio-abi/device.ts'
import { decodeRegion, type Region } from '../vfio-abi/region.ts'
import { VFIO } from './constants.ts'
import { wantedBytes } from './structs.ts'

export function getDeviceInfo(fd: number, name: string): DeviceInfo {
  const info = encodeDeviceInfo()
  if (ioctl(fd, VFIO.DEVICE_GET_INFO, info) !== 0) throw systemCallError('VFIO_DEVICE_GET_INFO')
  const decoded = decodeDeviceInfo(info)
  if ((decoded.flags & DEVICE_FLAGS.PCI) === 0) throw new UnsupportedError(`${name} is no PCI device of VFIO`)
  return decoded
}

export function getRegion(fd: number, index: number): Region {
  const request = 'VFIO_DEVICE_GET_REGION_INFO'
  let info = encodeRegionRequest(index, INFO_BYTES, INFO_BYTES)
  if (ioctl(fd, VFIO.DEVICE_GET_REGION_INFO, info) !== 0) throw systemCallError(request)
  if (wantedBytes(info) > INFO_BYTES) {
    info = encodeRegionRequest(index, wantedBytes(info), wantedBytes(info))
    if (ioctl(fd, VFIO.DEVICE_GET_REGION_INFO, info) !== 0) throw systemCallError(request)
  }
  return decodeRegion(info)
}

/** Registers of a region that can't be mapped: 4 bytes at a time through the device's file. */
export function accessRegion(fd: number, { offset: start }: Region): BarAccess {
  const word = Buffer.alloc(4)
  return {
    read(offset) {
      fs.readSync(fd, word, 0, 4, start + offset)
      return word.readUInt32LE()
    },
    write(offset, value) {
      word.writeUInt32LE(value >>> 0)
      fs.writeSync(fd, word, 0, 4, start + offset)
    },
  }
}

/** How many interrupts of this index the device has; 0 where the kernel does not know the index. */
export function countIrqs(fd: number, index: number): number {
  const info = encodeIrqInfo({ index })
  return ioctl(fd, VFIO.DEVICE_GET_IRQ_INFO, info) === 0 ? decodeIrqInfo(info).count : 0
}

/** Lets interrupts of this index signal eventfds; an empty list turns them off. */
export function setIrqs(fd: number, index: number, eventfds: readonly number[]): void {
  const count = eventfds.length
  const set = encodeIrqSet({ flags: irqSetFlags(count), index, start: 0, count }, eventfds)
  if (ioctl(fd, VFIO.DEVICE_SET_IRQS, set) !== 0) {
    throw systemCallError('VFIO_DEVICE_SET_IRQS')
  }
}

/** Resets the function; some 100 ms, during which the event loop goes on. Throws SystemCallError. */
export async function resetDevice(fd: number): Promise<void> {
  if ((await ioctlAsync(fd, VFIO.DEVICE_RESET, 0)) === 0) return
  // Repeated for its errno, which was another thread's the first time; it may succeed, too.
  if (ioctl(fd, VFIO.DEVICE_RESET, 0) !== 0) throw systemCallError('VFIO_DEVICE_RESET')
}

/** A device's configuration space, through its file. */
export interface ConfigSpace {
  /** Memory decoding and bus master on, INTx off. */
  enable(): void
  /** Bus master off: from now on the device starts no transfer. */
  disable(): void
  readCommand(): number
}

export function openConfigSpace(fd: number): ConfigSpace {
  const { offset } = getRegion(fd, REGION.CONFIG)
  const readCommand = () => {
    const bytes = Buffer.alloc(2)
    if (fs.readSync(fd, bytes, 0, 2, offset + CONFIG_COMMAND) !== 2) throw shortAccess('pread')
    return bytes.readUInt16LE()
  }
  const writeCommand = (value: number) => {
    const bytes = Buffer.alloc(2)
    bytes.writeUInt16LE(value)
    if (fs.writeSync(fd, bytes, 0, 2, offset + CONFIG_COMMAND) !== 2) throw shortAccess('pwrite')
  }
  return {
    readCommand,
    enable: () =>
      writeCommand(readCommand() | PCI_COMMAND.MEMORY | PCI_COMMAND.BUS_MASTER | PCI_COMMAND.INTX_DISABLE),
    disable: () => writeCommand(readCommand() & ~PCI_COMMAND.BUS_MASTER),
  }
}

function shortAccess(syscall: string): SystemCallError {
  return new SystemCallError('configuration space', { code: 'EIO', errno: 5, syscall })
}
