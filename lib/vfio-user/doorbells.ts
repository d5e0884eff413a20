// BAR 0 of a server: its doorbells in shared memory where it offers that, by message where it does not.
// Doorbells by message are words of this process that are sent when rung; with Doorbell Buffer Config,
// which such a server offers, that happens only when the controller is about to sleep.

import fs from 'node:fs'
import { ProtocolError, SystemCallError } from '../errors.ts'
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

/** BAR 0, and how it is told of doorbells that were written. */
export interface DoorbellBar extends Omit<Bar, 'share'> {
  /** Null where doorbells are shared memory. */
  readonly notify: (() => void) | null
  /** Null where another thread can't ring them. */
  readonly share: Bar['share'] | null
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
    const mappable = region.areas.some(
      ({ offset, size }) => offset <= DOORBELLS && offset + size >= DOORBELLS + 4096,
    )
    const fd = fds[0]
    if (mappable && fd === undefined) {
      throw new ProtocolError(`${name}: BAR 0 can be mapped, and no descriptor came with it`)
    }
    // A file that the server can shorten would end this process: it is asked by messages instead.
    if (!mappable || !cannotShrink(fd!)) return createMessageBar(region, messages)
    checkFile(name, region, fd!)
    const bar = mapRegion(name, region, fd!, messages)
    const runs = pageRuns(region, region.size)
    const isMapped = (offset: number) => runs.some(({ start, end }) => start <= offset && offset < end)
    return { ...bar, notify: null, isMapped }
  } finally {
    closeDescriptors(fds)
  }
}

function mapRegion(name: string, region: Region, fd: number, messages: RegisterMessages): Bar {
  try {
    return mapBar(fd, region, messages, name)
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

function createMessageBar({ size }: Region, messages: RegisterMessages): DoorbellBar {
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
    uncover() {
      present = true
    },
    retire() {
      present = false
    },
  }
}
