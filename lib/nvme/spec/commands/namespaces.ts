// Namespace Management and Namespace Attachment: their dwords (NVMe 1.4 base, sections 5.20 and 5.19; 2.0 included).
// Trade-off: the data of a create is an Identify Namespace structure and of an attach a controller list: see identify/.

import { bits, type Decoded, type Encodable, u32, word } from '../codec.ts'

/** Selections of Namespace Management. */
export const NAMESPACE_MANAGEMENT = { CREATE: 0, DELETE: 1 } as const
/** Selections of Namespace Attachment. */
export const NAMESPACE_ATTACHMENT = { ATTACH: 0, DETACH: 1 } as const

const selectLayout = {
  /** One of NAMESPACE_MANAGEMENT or NAMESPACE_ATTACHMENT. */
  sel: [0, bits(u32, 0, 4)],
} as const

const select = word('Namespace Management dword 10', selectLayout)

/** Dword 10 of Namespace Management and of Namespace Attachment. */
export function encodeNamespaceSelect(value: Encodable<typeof selectLayout>): number {
  return select.encode(value)
}
export function decodeNamespaceSelect(dword: number): Decoded<typeof selectLayout> {
  return select.decode(dword)
}
