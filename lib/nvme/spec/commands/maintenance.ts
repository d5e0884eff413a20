// Format NVM, Sanitize and Device Self-test: their dword 10 (NVMe 1.4 base, sections 5.23, 5.24 and 5.8; 2.0 included).
// Trade-off: tables of bits alone; what a value means stands beside its name, and is checked by the controller.

import { bits, type Decoded, type Encodable, flag, u32, word } from '../codec.ts'

const formatLayout = {
  /** LBA format: its low four bits, and above them two more where there are more than 16 formats. */
  lbafl: [0, bits(u32, 0, 4)],
  lbafu: [0, bits(u32, 12, 2)],
  /** Metadata settings: at the end of each block's data, instead of in a buffer of its own. */
  mset: [0, flag(u32, 4)],
  /** Protection information: 0 none, 1 to 3 its type. */
  pi: [0, bits(u32, 5, 3)],
  /** Protection information location: the first eight bytes of metadata, instead of the last. */
  pil: [0, flag(u32, 8)],
  /** Secure erase settings: one of FORMAT_ERASE. */
  ses: [0, bits(u32, 9, 3)],
} as const

/** Secure erase settings of Format NVM. */
export const FORMAT_ERASE = { NONE: 0, USER_DATA: 1, CRYPTO: 2 } as const

const sanitizeLayout = {
  /** One of SANITIZE_ACTION. */
  sanact: [0, bits(u32, 0, 3)],
  /** Allow unrestricted sanitize exit. */
  ause: [0, flag(u32, 3)],
  /** Overwrite pass count: 0 means 16. */
  owpass: [0, bits(u32, 4, 4)],
  /** Overwrite invert pattern between passes. */
  oipbp: [0, flag(u32, 8)],
  /** No deallocate after sanitize. */
  ndas: [0, flag(u32, 9)],
} as const

/** Actions of Sanitize. */
export const SANITIZE_ACTION = { EXIT_FAILURE: 1, BLOCK_ERASE: 2, OVERWRITE: 3, CRYPTO_ERASE: 4 } as const

const selfTestLayout = {
  /** One of SELF_TEST. */
  stc: [0, bits(u32, 0, 4)],
} as const

const format = word('Format NVM dword 10', formatLayout)
const sanitize = word('Sanitize dword 10', sanitizeLayout)
const selfTest = word('Device Self-test dword 10', selfTestLayout)

/** Dword 10 of Format NVM. Throws OutOfRangeError for a value that does not fit. */
export function encodeFormat(value: Encodable<typeof formatLayout>): number {
  return format.encode(value)
}
export function decodeFormat(dword: number): Decoded<typeof formatLayout> {
  return format.decode(dword)
}

/** Dword 10 of Sanitize; dword 11 is the overwrite pattern. Throws OutOfRangeError for a value that does not fit. */
export function encodeSanitize(value: Encodable<typeof sanitizeLayout>): number {
  return sanitize.encode(value)
}
export function decodeSanitize(dword: number): Decoded<typeof sanitizeLayout> {
  return sanitize.decode(dword)
}

/** Dword 10 of Device Self-test. Throws OutOfRangeError for a value that does not fit. */
export function encodeSelfTest(value: Encodable<typeof selfTestLayout>): number {
  return selfTest.encode(value)
}
export function decodeSelfTest(dword: number): Decoded<typeof selfTestLayout> {
  return selfTest.decode(dword)
}
