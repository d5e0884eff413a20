// Firmware Image Download and Firmware Commit (NVMe 1.4 base, sections 5.12 and 5.11).
// Trade-off: an image is looked at when it is committed, and not before.

import { COMMIT_ACTION, decodeFirmwareCommit, decodeFirmwareDownload } from '../../../nvme/spec/commands.ts'
import { STATUS } from '../../../nvme/spec/status.ts'
import { saveState } from '../../media/nonvolatile.ts'
import type { Controller } from '../controller.ts'
import { imageRevision, MAX_IMAGE_BYTES, READ_ONLY_SLOT, SLOTS } from '../firmware.ts'
import { fetchData } from '../transfer.ts'

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
