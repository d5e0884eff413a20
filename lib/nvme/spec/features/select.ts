// Dword 10 of Get Features and Set Features, and the answer to "supported capabilities" (NVMe 1.4, sections 5.9, 5.21).
// Trade-off: dwords of commands, not commands: who sends them is the driver, who reads them the software controller.

import { bits, type Decoded, type Encodable, flag, u32, word } from '../codec.ts'

/** What Get Features answers with. */
export const FEATURE_SELECT = { CURRENT: 0, DEFAULT: 1, SAVED: 2, SUPPORTED: 3 } as const

const getLayout = {
  fid: [0, bits(u32, 0, 8)],
  /** One of FEATURE_SELECT. */
  sel: [0, bits(u32, 8, 3)],
} as const

const setLayout = {
  fid: [0, bits(u32, 0, 8)],
  /** Save: keep the value over resets and power cycles. */
  sv: [0, flag(u32, 31)],
} as const

const supportedLayout = {
  /** The value can be saved, is a namespace's, can be changed. */
  saveable: [0, flag(u32, 0)],
  namespaceSpecific: [0, flag(u32, 1)],
  changeable: [0, flag(u32, 2)],
} as const

const get = word('Get Features dword 10', getLayout)
const set = word('Set Features dword 10', setLayout)
const supported = word('Supported capabilities', supportedLayout)

/** What a feature can do: dword 0 of Get Features with FEATURE_SELECT.SUPPORTED. */
export interface FeatureCapabilities extends Decoded<typeof supportedLayout> {}

/** Dword 10 of Get Features. */
export function encodeGetFeatures(value: Encodable<typeof getLayout>): number {
  return get.encode(value)
}
export function decodeGetFeatures(dword: number): Decoded<typeof getLayout> {
  return get.decode(dword)
}

/** Dword 10 of Set Features. */
export function encodeSetFeatures(value: Encodable<typeof setLayout>): number {
  return set.encode(value)
}
export function decodeSetFeatures(dword: number): Decoded<typeof setLayout> {
  return set.decode(dword)
}

/** Dword 0 of the completion of Get Features with FEATURE_SELECT.SUPPORTED. */
export function decodeFeatureCapabilities(dword: number): FeatureCapabilities {
  return supported.decode(dword)
}
export function encodeFeatureCapabilities(value: Encodable<typeof supportedLayout>): number {
  return supported.encode(value)
}
