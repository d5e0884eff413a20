// Buffers that PDUs are put together in before a socket gets them: taken and given back, since the system has a buffer
// until its write is over.

/** Bytes of a usual one. */
export const CHUNK_BYTES = 64 * 1024
const MOST_KEPT = 64

export interface Chunk {
  readonly bytes: Buffer
  readonly words: Uint32Array
}

const kept: Chunk[] = []

/** One of at least so many bytes, which hold anything. */
export function takeChunk(bytes = CHUNK_BYTES): Chunk {
  if (bytes <= CHUNK_BYTES) return kept.pop() ?? createChunk(CHUNK_BYTES)
  return createChunk(Math.ceil(bytes / 4) * 4)
}

function createChunk(bytes: number): Chunk {
  const memory = new ArrayBuffer(bytes)
  return { bytes: Buffer.from(memory), words: new Uint32Array(memory) }
}

/** No write of it is under way any more. */
export function giveChunk(chunk: Chunk): void {
  if (chunk.bytes.length === CHUNK_BYTES && kept.length < MOST_KEPT) kept.push(chunk)
}
