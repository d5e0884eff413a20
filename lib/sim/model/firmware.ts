// Firmware slots: three, the first read-only, with the revision that each has; images are text that names one.
// Trade-off: an image is only its revision: what a slot would run is this program, whatever is committed.

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
