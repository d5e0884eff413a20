// Firmware: three slots, the first read-only, with the revision that each has, and Firmware Image Download and Commit
// (NVMe 1.4 base, sections 5.12 and 5.11). An image is text that names a revision, and is looked at when it is committed:
// what a slot would run is this program, whatever is in it.

import { COMMIT_ACTION, decodeFirmwareCommit, decodeFirmwareDownload } from '../../../nvme/spec/commands.ts'
import { STATUS } from '../../../nvme/spec/status.ts'
import { saveState } from '../../media/nonvolatile.ts'
import type { Controller } from '../controller.ts'
import { fetchData } from '../prp.ts'

/** Parts begin at multiples of this: FWUG is 1. */
export const GRANULARITY = 4096

export function downloadFirmware(c: Controller, sqe: Uint32Array, e: number): number {
  const { firmware } = c
  const { bytes, offset } = decodeFirmwareDownload({ cdw10: sqe[e + 10]!, cdw11: sqe[e + 11]! })
  if (bytes > c.maxBytes || offset + bytes > MAX_IMAGE_BYTES || offset % GRANULARITY !== 0) {
    return STATUS.INVALID_FIELD
  }
  const overlaps = firmware.parts.some(
    (part) => part.offset < offset + bytes && offset < part.offset + part.data.length,
  )
  if (overlaps) return STATUS.OVERLAPPING_RANGE
  const data = new Uint8Array(bytes)
  const status = fetchData(c, sqe, e, data)
  if (status === 0) firmware.parts.push({ offset, data })
  return status
}

export function commitFirmware(c: Controller, sqe: Uint32Array, e: number): number {
  const { fs, ca } = decodeFirmwareCommit(sqe[e + 10]!)
  if (fs > SLOTS) return STATUS.INVALID_FIRMWARE_SLOT
  const status = act(c, fs, ca)
  return status === 0 ? saveState(c) : status
}

function act(c: Controller, fs: number, action: number): number {
  const { firmware } = c
  switch (action) {
    case COMMIT_ACTION.REPLACE:
      return replace(c, fs, () => {})
    case COMMIT_ACTION.REPLACE_AND_ACTIVATE:
      return replace(c, fs, (slot) => {
        firmware.next = slot
      })
    case COMMIT_ACTION.ACTIVATE:
      return activate(c, fs, (slot) => {
        firmware.next = slot
      })
    case COMMIT_ACTION.ACTIVATE_NOW: {
      const run = (slot: number) => {
        firmware.active = slot
        firmware.next = 0
      }
      return firmware.parts.length > 0 ? replace(c, fs, run) : activate(c, fs, run)
    }
    default:
      // There are no boot partitions.
      return STATUS.INVALID_FIELD
  }
}

function replace({ firmware }: Controller, fs: number, then: (slot: number) => void): number {
  // Left to the controller: one that does not run.
  const slot = fs === 0 ? (firmware.active === 2 ? 3 : 2) : fs
  if (slot === READ_ONLY_SLOT) return STATUS.INVALID_FIRMWARE_SLOT
  const revision = imageRevision(firmware)
  // A bad image is forgotten, so that a good one can be sent.
  firmware.parts = []
  if (revision === null) return STATUS.INVALID_FIRMWARE_IMAGE
  firmware.revisions[slot - 1] = revision
  then(slot)
  return 0
}

function activate({ firmware }: Controller, fs: number, then: (slot: number) => void): number {
  const slot = fs === 0 ? firmware.active : fs
  if (firmware.revisions[slot - 1] === '') return STATUS.INVALID_FIRMWARE_SLOT
  then(slot)
  return 0
}

export const FIRST_REVISION = '1.0'
export const SLOTS = 3
/** Slot 1 is read-only. */
export const READ_ONLY_SLOT = 1
/** An image is no larger than this. */
export const MAX_IMAGE_BYTES = 2 ** 24

const HEADER = /^unvme firmware ([\x21-\x7e]{1,8})\n/

export interface Firmware {
  /** Revision of slots 1 to 3; empty where a slot has none. */
  readonly revisions: string[]
  /** Slot that runs, and the one that will after the next reset; 0: the same. */
  active: number
  next: number
  /** What was downloaded and not yet committed, by its offset in the image. */
  parts: { readonly offset: number; readonly data: Uint8Array }[]
}

export function createFirmware(): Firmware {
  return { revisions: [FIRST_REVISION, '', ''], active: 1, next: 0, parts: [] }
}

/** Revision of the slot that runs. */
export function revisionOf({ revisions, active }: Firmware): string {
  return revisions[active - 1]!
}

/** The revision that the downloaded parts name; null where they are no image, or have gaps. */
export function imageRevision({ parts }: Firmware): string | null {
  const sorted = [...parts].sort((a, b) => a.offset - b.offset)
  let end = 0
  for (const { offset, data } of sorted) {
    if (offset !== end) return null
    end += data.length
  }
  const [first] = sorted
  return first === undefined ? null : (HEADER.exec(Buffer.from(first.data).toString('latin1'))?.[1] ?? null)
}

/** A controller level reset: the slot that is to run next does, and what was only downloaded is forgotten. */
export function resetFirmware(firmware: Firmware): void {
  if (firmware.next !== 0) firmware.active = firmware.next
  firmware.next = 0
  firmware.parts = []
}
