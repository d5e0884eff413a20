// BAR 0 of a server: its doorbells in shared memory where it offers that, by message where it does not.
// Doorbells by message are words of this process that are sent when rung; with Doorbell Buffer Config,
// which such a server offers, that happens only when the controller is about to sleep.

import fs from 'node:fs'
import { DeviceRemovedError, ProtocolError, SystemCallError } from '../errors.ts'
import { cannotShrink } from '../memory/mapping.ts'
import { type Bar, type BarAccess, mapBar, pageRuns } from '../pci/bar.ts'
import type { Region } from '../vfio-abi/region.ts'
import { closeDescriptors } from './socket.ts'

/** Where the doorbells begin (NVMe 1.4 base, 3.1.24). */
const DOORBELLS = 0x1000
const ALL_ONES = 0xffff_ffff
// No doorbell has this value: a queue has at most 65536 entries.
const QUIET = ALL_ONES
const MAX_DOORBELL_BYTES = 65536
// Doorbells that a server has been sent and has not answered: for one that is stopped, later ones wait in their
// words, where the last value of each is all that counts.
const MAX_UNANSWERED = 64

/** Registers of BAR 0 by message. */
export interface RegisterMessages extends BarAccess {
  /** Sends a write, and does not wait for its reply: `done` is called with that. */
  write(offset: number, value: number, done?: () => void): void
  /** Takes the replies that have come. Never waits. */
  attend(): void
}

/** BAR 0, and how it learns of doorbells that were written. */
export interface DoorbellBar extends Omit<Bar, 'share' | 'uncover'> {
  /** Null where doorbells are shared memory. */
  readonly notify: (() => void) | null
  /** Null where another thread can't ring them. */
  readonly share: Bar['share'] | null
  /**
   * After `cover`: reaches the device by another connection, in the same memory. Takes the descriptors.
   * Throws DeviceRemovedError where the BAR is another one, and ProtocolError.
   */
  restore(region: Region, fds: readonly number[]): void
  /** True for a register that is memory of this process, too. */
  isMapped(offset: number): boolean
}

/** Makes BAR 0 of what the server said of it. Takes the descriptors. */
export function openBar(
  name: string,
  region: Region,
  fds: readonly number[],
  messages: RegisterMessages,
): DoorbellBar {
  try {
    if (region.size < DOORBELLS + 8) {
      throw new ProtocolError(`${name}: BAR 0 of ${region.size} bytes is no NVMe controller's`)
    }
    const fd = mappableFile(name, region, fds)
    return fd === null ? createMessageBar(name, region, messages) : mapRegion(name, region, fd, messages)
  } finally {
    closeDescriptors(fds)
  }
}

/** The descriptor of doorbells that can be mapped; null where they are written by message. */
function mappableFile(name: string, region: Region, fds: readonly number[]): number | null {
  const mappable = region.areas.some(
    ({ offset, size }) => offset <= DOORBELLS && offset + size >= DOORBELLS + 4096,
  )
  if (!mappable) return null
  const fd = fds[0]
  if (fd === undefined) {
    throw new ProtocolError(`${name}: BAR 0 can be mapped, and no descriptor came with it`)
  }
  // A file that the server can shorten would end this process: it is asked by messages instead.
  if (!cannotShrink(fd)) return null
  checkFile(name, region, fd)
  return fd
}

function mapRegion(name: string, region: Region, fd: number, messages: RegisterMessages): DoorbellBar {
  const bar = orProtocolError(name, () => mapBar(fd, region, messages, name))
  const runs = pageRuns(region, region.size)
  return {
    ...bar,
    notify: null,
    isMapped: (offset) => runs.some(({ start, end }) => start <= offset && offset < end),
    restore(now, fds) {
      try {
        checkSame(name, region, now)
        const file = mappableFile(name, now, fds)
        if (file === null || JSON.stringify(pageRuns(now, now.size)) !== JSON.stringify(runs)) {
          throw new DeviceRemovedError(
            `device removed: ${name}: other areas of BAR 0 can be mapped than before`,
          )
        }
        orProtocolError(name, () => bar.uncover(file, now))
      } finally {
        closeDescriptors(fds)
      }
    },
  }
}

function checkSame(name: string, before: Region, now: Region): void {
  if (now.size === before.size) return
  throw new DeviceRemovedError(
    `device removed: ${name}: BAR 0 has ${now.size} bytes, before it had ${before.size}`,
  )
}

function orProtocolError<T>(name: string, step: () => T): T {
  try {
    return step()
  } catch (cause) {
    if (!(cause instanceof SystemCallError)) throw cause
    throw new ProtocolError(`${name}: the descriptor of BAR 0 can't be mapped: ${cause.code}`, { cause })
  }
}

// A mapping beyond the end of a file would end the process at first touch.
function checkFile(name: string, { offset: start, areas }: Region, fd: number): void {
  const stat = fs.fstatSync(fd)
  for (const { offset, size } of areas) {
    if (start + offset + size <= stat.size) continue
    throw new ProtocolError(
      `${name}: an area of BAR 0 ends at ${start + offset + size} in a file of ${stat.size} bytes`,
    )
  }
}

function createMessageBar(name: string, region: Region, messages: RegisterMessages): DoorbellBar {
  const { size } = region
  const words = Math.min(size - DOORBELLS, MAX_DOORBELL_BYTES) >> 2
  const doorbells = new Uint32Array(words).fill(QUIET)
  let present = true
  let unanswered = 0
  let waiting = false
  const answered = () => {
    unanswered--
    if (waiting) sendAll()
  }
  const sendAll = () => {
    waiting = false
    for (let i = 0; i < words && present; i++) {
      const value = doorbells[i]!
      if (value === QUIET) continue
      if (unanswered >= MAX_UNANSWERED) {
        waiting = true
        return
      }
      doorbells[i] = QUIET
      unanswered++
      messages.write(DOORBELLS + 4 * i, value, answered)
    }
  }
  return {
    doorbells,
    share: null,
    isMapped: () => false,
    read: (offset) => (present ? messages.read(offset) : ALL_ONES),
    write(offset, value) {
      if (present) messages.write(offset, value)
    },
    notify() {
      // A caller that polls without letting the event loop run takes the replies here.
      if (unanswered > 0) messages.attend()
      sendAll()
    },
    cover() {
      present = false
    },
    restore(now, fds) {
      closeDescriptors(fds)
      checkSame(name, region, now)
      // What was rung or not answered is the old connection's.
      doorbells.fill(QUIET)
      unanswered = 0
      waiting = false
      present = true
    },
    retire() {
      present = false
    },
  }
}
