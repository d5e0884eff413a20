// Lists that Identify answers with: namespaces (NVMe 1.4 base, section 4.11) and controllers (section 4.10).
// Trade-off: plain arrays of numbers; a list says nothing about which CNS it answers to.

import { list, structure, u16, u32, viewOf } from '../codec.ts'
import { IDENTIFY_BYTES } from './cns.ts'

/** Most identifiers in one namespace list. A full list means that there may be more: ask again from its last. */
export const NAMESPACE_LIST_ENTRIES = 1024
/** Most identifiers in one controller list. */
export const CONTROLLER_LIST_ENTRIES = 2047

const namespaces = structure('Namespace List', IDENTIFY_BYTES, {
  nsids: [0, list(NAMESPACE_LIST_ENTRIES, u32)],
})
const controllers = structure('Controller List', IDENTIFY_BYTES, {
  count: [0, u16],
  cntlids: [2, list(CONTROLLER_LIST_ENTRIES, u16)],
})

/** Namespace identifiers up to the first 0. Throws DecodeError on fewer than 4096 bytes. */
export function decodeNamespaceList(bytes: Uint8Array): number[] {
  const { nsids } = namespaces.decode(bytes)
  const end = nsids.indexOf(0)
  return end < 0 ? nsids : nsids.slice(0, end)
}

/** Encodes 4096 bytes. Throws OutOfRangeError on more than 1024 identifiers. */
export function encodeNamespaceList(nsids: readonly number[], target?: Uint8Array): Uint8Array {
  return namespaces.encode({ nsids }, target)
}

/**
 * Controller identifiers: as many as the list's own count says, and at most the 2047 for which it has room.
 * Throws DecodeError on fewer bytes than they need.
 */
export function decodeControllerList(bytes: Uint8Array): number[] {
  // Namespace Attachment sends lists no longer than they need to be.
  const view = viewOf('Controller List', bytes, 2)
  const count = Math.min(view.getUint16(0, true), CONTROLLER_LIST_ENTRIES)
  viewOf('Controller List', bytes, 2 + 2 * count)
  return Array.from({ length: count }, (_, i) => view.getUint16(2 + 2 * i, true))
}

/** Encodes 4096 bytes. Throws OutOfRangeError on more than 2047 identifiers. */
export function encodeControllerList(cntlids: readonly number[], target?: Uint8Array): Uint8Array {
  return controllers.encode({ count: cntlids.length, cntlids }, target)
}
