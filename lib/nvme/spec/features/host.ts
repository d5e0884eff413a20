// Features that only keep what the host gave: host identifier (81h), and host metadata (7Dh to 7Fh, NVMe 2.0).
// Trade-off: metadata elements stay bytes; most hold text, which is the caller's to know.

import { OutOfRangeError } from '../../../errors.ts'
import { hex, viewOf } from '../codec.ts'

/** A host identifier as hexadecimal digits: 16 bytes where `exhid` is set, else 8. Throws DecodeError on fewer. */
export function decodeHostIdentifier(bytes: Uint8Array, exhid: boolean): string {
  const field = hex(exhid ? 16 : 8)
  return field.read(viewOf('Host Identifier', bytes, field.bytes), 0)
}

/** The bytes of a host identifier of 16 or 32 hexadecimal digits. */
export function encodeHostIdentifier(hostid: string): Uint8Array {
  const field = hex(hostid.length > 16 ? 16 : 8)
  const bytes = new Uint8Array(field.bytes)
  field.write(viewOf('Host Identifier', bytes, field.bytes), 0, hostid, 'hostid')
  return bytes
}

const METADATA_BYTES = 4096
const NAME = 'Host Metadata'

export interface HostMetadataElement {
  /** Element type: what it names, by feature. */
  type: number
  revision: number
  value: Uint8Array
}

/**
 * The elements of a host metadata feature, up to one that passes the 4096 bytes, of which there is what is in them.
 * Throws DecodeError on fewer bytes.
 */
export function decodeHostMetadata(bytes: Uint8Array): HostMetadataElement[] {
  const view = viewOf(NAME, bytes, METADATA_BYTES)
  const elements: HostMetadataElement[] = []
  let at = 2
  for (let left = view.getUint8(0); left > 0 && at + 4 <= METADATA_BYTES; left--) {
    const start = at + 4
    const end = Math.min(METADATA_BYTES, start + view.getUint16(at + 2, true))
    elements.push({
      type: view.getUint8(at) & 0x3f,
      revision: view.getUint8(at + 1) & 0x0f,
      value: bytes.slice(start, end),
    })
    at = end
  }
  return elements
}

/** Encodes 4096 bytes. Throws OutOfRangeError on more than fits. */
export function encodeHostMetadata(elements: readonly HostMetadataElement[]): Uint8Array {
  const bytes = new Uint8Array(METADATA_BYTES)
  const needed = elements.reduce((sum, { value }) => sum + 4 + value.length, 2)
  if (elements.length > 255 || needed > METADATA_BYTES) {
    throw new OutOfRangeError(`${NAME}: ${elements.length} elements of ${needed} bytes do not fit in 4096`)
  }
  bytes[0] = elements.length
  let at = 2
  for (const { type, revision, value } of elements) {
    bytes.set([type & 0x3f, revision & 0x0f, value.length & 0xff, value.length >>> 8], at)
    bytes.set(value, at + 4)
    at += 4 + value.length
  }
  return bytes
}
