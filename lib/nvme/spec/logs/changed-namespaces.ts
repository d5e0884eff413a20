// Changed Namespace List log page (NVMe 1.4 base, section 5.14.1.4).
// Trade-off: overflow is a flag of its own, since its code in the list would read as the broadcast namespace.

import { decodeNamespaceList, encodeNamespaceList } from '../identify/lists.ts'
import { ALL_NAMESPACES } from '../opcodes.ts'

export const CHANGED_NAMESPACES_LOG_BYTES = 4096

export interface ChangedNamespaces {
  /** Namespaces that changed since the log was last read, ascending. */
  nsids: number[]
  /** More than 1024 changed: look at all of them. */
  overflow: boolean
}

/** Decodes 4096 bytes; throws DecodeError on fewer. */
export function decodeChangedNamespaces(bytes: Uint8Array): ChangedNamespaces {
  const nsids = decodeNamespaceList(bytes)
  return nsids[0] === ALL_NAMESPACES ? { nsids: [], overflow: true } : { nsids, overflow: false }
}

/** Encodes 4096 bytes. More than 1024 identifiers are encoded as an overflow, as the specification has it. */
export function encodeChangedNamespaces(
  { nsids, overflow = false }: { nsids: readonly number[]; overflow?: boolean },
  target?: Uint8Array,
): Uint8Array {
  return encodeNamespaceList(overflow || nsids.length > 1024 ? [ALL_NAMESPACES] : nsids, target)
}
