// Byte-exact fixtures: bytes laid by hand at the specification's offsets, without the codec under test.

type Patch = readonly [offset: number, bytes: string | readonly number[]]

/** `length` zero bytes with patches: text as ASCII, numbers byte by byte. */
export function fixture(length: number, patches: readonly Patch[]): Uint8Array {
  const bytes = new Uint8Array(length)
  for (const [offset, patch] of patches) {
    bytes.set(typeof patch === 'string' ? Buffer.from(patch, 'ascii') : patch, offset)
  }
  return bytes
}
