// Firmware Image Download and Firmware Commit: their dwords (NVMe 1.4 base, sections 5.11 and 5.12).
// Trade-off: lengths and offsets are bytes here, where the specification counts dwords from zero.

import { OutOfRangeError } from '../../../errors.ts'
import { bits, type Decoded, type Encodable, u32, word } from '../codec.ts'

/** Commit actions. */
export const COMMIT_ACTION = {
  /** The image goes to a slot, and is not activated. */
  REPLACE: 0,
  /** It goes to a slot, which becomes active at the next controller level reset. */
  REPLACE_AND_ACTIVATE: 1,
  /** The slot that is named becomes active at the next controller level reset. */
  ACTIVATE: 2,
  /** The image, where one was downloaded, or the slot that is named, becomes active at once. */
  ACTIVATE_NOW: 3,
  REPLACE_BOOT_PARTITION: 6,
  ACTIVATE_BOOT_PARTITION: 7,
} as const

const commitLayout = {
  /** Firmware slot: 0 lets the controller choose. */
  fs: [0, bits(u32, 0, 3)],
  /** One of COMMIT_ACTION. */
  ca: [0, bits(u32, 3, 3)],
  /** Boot partition identifier. */
  bpid: [0, bits(u32, 31, 1)],
} as const

const commit = word('Firmware Commit dword 10', commitLayout)

/** Dword 10 of Firmware Commit. Throws OutOfRangeError for a value that does not fit. */
export function encodeFirmwareCommit(value: Encodable<typeof commitLayout>): number {
  return commit.encode(value)
}
export function decodeFirmwareCommit(dword: number): Decoded<typeof commitLayout> {
  return commit.decode(dword)
}

/**
 * Dwords 10 and 11 of Firmware Image Download.
 * @param part bytes of this part, and where it belongs in the image: multiples of 4
 */
export function encodeFirmwareDownload({ bytes, offset }: { bytes: number; offset: number }): {
  cdw10: number
  cdw11: number
} {
  const fits = (n: number) => Number.isInteger(n / 4) && n / 4 < 2 ** 32
  if (!fits(bytes) || bytes < 4 || !fits(offset) || offset < 0) {
    throw new OutOfRangeError(`a firmware part of ${bytes} bytes at ${offset}: multiples of 4 are needed`)
  }
  return { cdw10: bytes / 4 - 1, cdw11: offset / 4 }
}

export function decodeFirmwareDownload(dwords: { cdw10: number; cdw11: number }): {
  bytes: number
  offset: number
} {
  return { bytes: (dwords.cdw10 + 1) * 4, offset: dwords.cdw11 * 4 }
}
