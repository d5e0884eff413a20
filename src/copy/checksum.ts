// Checks a copy whose source can be read only once: by a checksum that is taken while the data passes.
// Trade-off: it tells that a copy differs, and not where; only a source that can be read again shows that.

import { createHash, type Hash } from 'node:crypto'
import type { Chunks, Side, TransferOptions } from './side.ts'

/** For messages. */
export const CHECKSUM = 'sha256'

/** A side whose data is summed up while it is read. */
export interface SummedSide {
  readonly side: Side
  /** Checksum of all that was read, in hexadecimal digits; once only. */
  sum(): string
}

/** Takes the checksum of what is read of a side. */
export function withChecksum(source: Side): SummedSide {
  const hash = createHash(CHECKSUM)
  const read = (bytes: number | undefined, options: TransferOptions) =>
    summed(source.read(bytes, options), hash)
  return { side: { ...source, read, readAt: undefined }, sum: () => hash.digest('hex') }
}

/** Reads the first `bytes` bytes of a side for their checksum. */
export async function checksumOf(
  side: Side,
  bytes: number,
  options: TransferOptions,
  onBytes: (bytes: number) => void,
): Promise<{ sum: string; bytes: number }> {
  const hash = createHash(CHECKSUM)
  let done = 0
  for await (const chunk of side.read(bytes, options)) {
    hash.update(chunk)
    done += chunk.length
    onBytes(done)
  }
  return { sum: hash.digest('hex'), bytes: done }
}

async function* summed(chunks: Chunks, hash: Hash): Chunks {
  for await (const chunk of chunks) {
    // Before it is handed on: it may be changed then.
    hash.update(chunk)
    yield chunk
  }
}
