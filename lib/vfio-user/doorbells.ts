// BAR 0 of a server: its doorbells in shared memory where it offers that, by message where it does not.
// Trade-off: doorbells by message are words of this process that are sent when rung; with Doorbell Buffer Config,
// which such a server offers, that happens only when the controller is about to sleep.

import fs from 'node:fs'
import { ProtocolError, SystemCallError } from '../errors.ts'
import { type Bar, type BarAccess, mapBar, type Region } from '../pci/index.ts'
import type { Channel } from './channel.ts'
import { REGION } from './constants.ts'
import { readRegion, writeRegion } from './device.ts'
import { closeDescriptors } from './socket.ts'

/** Where the doorbells begin (NVMe 1.4 base, 3.1.24). */
const DOORBELLS = 0x1000
const ALL_ONES = 0xffff_ffff
// No doorbell has this value: a queue has at most 65536 entries.
const QUIET = ALL_ONES
const MAX_DOORBELL_BYTES = 65536

/** BAR 0, and how it is told of doorbells that were written. */
export interface DoorbellBar extends Omit<Bar, 'share'> {
  /** Null where doorbells are shared memory. */
  readonly notify: (() => void) | null
  /** Null where another thread can't ring them. */
  readonly share: Bar['share'] | null
}

/** Registers by message, 4 bytes at a time. */
export function accessRegisters(channel: Channel): BarAccess {
  return {
    read: (offset) => readRegion(channel, REGION.BAR0, offset, 4).readUInt32LE(),
    write(offset, value) {
      const data = Buffer.alloc(4)
      data.writeUInt32LE(value >>> 0)
      writeRegion(channel, REGION.BAR0, offset, data)
    },
  }
}

/** Makes BAR 0 of what the server said of it. Takes the descriptors. */
export function openBar(
  channel: Channel,
  region: Region,
  fds: readonly number[],
  access: BarAccess,
): DoorbellBar {
  try {
    if (region.size < DOORBELLS + 8) {
      throw new ProtocolError(`${channel.name}: BAR 0 of ${region.size} bytes is no NVMe controller's`)
    }
    const mappable = region.areas.some(
      ({ offset, size }) => offset <= DOORBELLS && offset + size >= DOORBELLS + 4096,
    )
    if (!mappable) return createMessageBar(region, access)
    const fd = fds[0]
    if (fd === undefined) {
      throw new ProtocolError(`${channel.name}: BAR 0 can be mapped, and no descriptor came with it`)
    }
    checkFile(channel, region, fd)
    return { ...mapRegion(channel, region, fd, access), notify: null }
  } finally {
    closeDescriptors(fds)
  }
}

function mapRegion(channel: Channel, region: Region, fd: number, access: BarAccess): Bar {
  try {
    return mapBar(fd, region, access, channel.name)
  } catch (cause) {
    if (!(cause instanceof SystemCallError)) throw cause
    throw new ProtocolError(`${channel.name}: the descriptor of BAR 0 can't be mapped: ${cause.code}`, {
      cause,
    })
  }
}

// A mapping beyond the end of a file would end the process at first touch.
function checkFile(channel: Channel, { offset: start, areas }: Region, fd: number): void {
  const stat = fs.fstatSync(fd)
  if (!stat.isFile()) return
  for (const { offset, size } of areas) {
    if (start + offset + size <= stat.size) continue
    throw new ProtocolError(
      `${channel.name}: an area of BAR 0 ends at ${start + offset + size} in a file of ${stat.size} bytes`,
    )
  }
}

function createMessageBar({ size }: Region, access: BarAccess): DoorbellBar {
  const words = Math.min(size - DOORBELLS, MAX_DOORBELL_BYTES) >> 2
  const doorbells = new Uint32Array(words).fill(QUIET)
  let present = true
  return {
    doorbells,
    share: null,
    read: (offset) => (present ? access.read(offset) : ALL_ONES),
    write(offset, value) {
      if (present) access.write(offset, value)
    },
    notify() {
      for (let i = 0; i < words && present; i++) {
        const value = doorbells[i]!
        if (value === QUIET) continue
        doorbells[i] = QUIET
        access.write(DOORBELLS + 4 * i, value)
      }
    },
    cover() {
      present = false
    },
    uncover() {
      present = true
    },
    retire() {
      present = false
    },
  }
}
