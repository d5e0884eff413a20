// The numbers of a namespace that commands are made with, from Identify Namespace (NVMe 1.4 base, 5.15.2.1).
// Trade-off: computed once at open; a namespace that is formatted or resized meanwhile needs a new open.

import { DecodeError, UnsupportedError } from '../../lib/errors.ts'
import { formattedLba, type IdentifyNamespace } from '../../lib/nvme/spec/identify.ts'

// Commands without data may name this many blocks: NLB is a zero-based 16-bit field.
export const MAX_BLOCKS = 65536
// Protection Information Action: the controller makes and checks it, so that no metadata is transferred.
export const PRACT = 1 << 29

export interface Geometry {
  readonly nsid: number
  /** LBAs of the namespace (NSZE). */
  readonly blockcount: number
  /** Bytes of data of one LBA. */
  readonly blocksize: number
  readonly blockshift: number
  /** Most blocks of one command that transfers data. */
  readonly maxbpio: number
  /** Bytes of metadata for each block that need a buffer of their own; 0 where there is none. */
  readonly metadataBytes: number
  /** The same of a command that does not leave the metadata to the controller, as raw ones may. */
  readonly separateBytes: number
  /** Bytes of metadata that follow the data of each block, where the controller does not make them (PRACT). */
  readonly interleavedBytes: number
  /** Bits that every read and write carries in CDW12. */
  readonly flags: number
}

/**
 * @param maxTransferBytes the controller's limit for one command
 * Throws UnsupportedError for formats that would mix metadata into the data, DecodeError for what can be no namespace.
 */
export function geometryOf(nsid: number, id: IdentifyNamespace, maxTransferBytes: number): Geometry {
  if (!Number.isSafeInteger(id.nsze)) {
    throw new DecodeError(
      `namespace ${nsid}: a size of ${id.nsze} logical blocks (NSZE), which no device has`,
    )
  }
  const format = formattedLba(id)
  const { index, lbads: blockshift, ms, extended } = format
  if (blockshift > 16) {
    throw new UnsupportedError(`namespace ${nsid}: blocks of 2^${blockshift} bytes (LBA format ${index})`)
  }
  const protectedByController = (id.dps & 7) !== 0 && ms === 8
  if (ms > 0 && !protectedByController && (extended || (id.dps & 7) !== 0)) {
    throw new UnsupportedError(
      `namespace ${nsid}: LBA format ${index} puts ${ms} bytes of metadata into each block`,
    )
  }
  const blocksize = 2 ** blockshift
  return {
    nsid,
    blockcount: id.nsze,
    blocksize,
    blockshift,
    maxbpio: Math.max(1, Math.min(MAX_BLOCKS, Math.floor(maxTransferBytes / blocksize))),
    metadataBytes: protectedByController ? 0 : ms,
    separateBytes: extended ? 0 : ms,
    interleavedBytes: extended ? ms : 0,
    flags: protectedByController ? PRACT : 0,
  }
}
