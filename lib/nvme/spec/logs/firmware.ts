// Firmware Slot Information log page (NVMe 1.4 base, section 5.14.1.3, figure 197).
// Trade-off: afi is taken apart, since as one number it is right only while no other slot is to become active.

import { ascii, bits, type Decoded, type Encodable, list, structure, u8 } from '../codec.ts'

export const FIRMWARE_SLOT_LOG_BYTES = 512

const activeInfo = structure('Active Firmware Info', 1, {
  /** Slot, from 1, whose firmware runs. */
  active: [0, bits(u8, 0, 3)],
  /** Slot that becomes active at the next controller level reset; 0 none is announced. */
  next: [0, bits(u8, 4, 3)],
})

const layout = {
  afi: [0, activeInfo],
  /** Firmware revisions of slots 1 to 7 at index 0 to 6; empty where a slot has none. */
  frs: [8, list(7, ascii(8, 0))],
} as const

const log = structure('Firmware Slot Information Log', FIRMWARE_SLOT_LOG_BYTES, layout)

export interface FirmwareSlotLog extends Decoded<typeof layout> {}

/** Decodes 512 bytes; throws DecodeError on fewer. */
export function decodeFirmwareSlotLog(bytes: Uint8Array): FirmwareSlotLog {
  return log.decode(bytes)
}

/** Encodes 512 bytes. Slots left out are empty; throws OutOfRangeError for a value that does not fit. */
export function encodeFirmwareSlotLog(value: Encodable<typeof layout>, target?: Uint8Array): Uint8Array {
  return log.encode(value, target)
}
