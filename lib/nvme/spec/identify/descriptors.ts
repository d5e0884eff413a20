// Namespace Identification Descriptor list (NVMe 1.4 base, section 5.15.2.4, figure 249): CNS 03h.
// Trade-off: identifiers of every kind are hexadecimal digits in their order in memory; text forms are made of them.

import { OutOfRangeError } from '../../../errors.ts'
import { viewOf } from '../codec.ts'
import { IDENTIFY_BYTES } from './cns.ts'

/** Types of namespace identifier. */
export const NAMESPACE_ID_TYPE = { EUI64: 1, NGUID: 2, UUID: 3, CSI: 4 } as const

const HEADER_BYTES = 4
const LENGTHS: Readonly<Record<number, number>> = { 1: 8, 2: 16, 3: 16, 4: 1 }

export interface NamespaceDescriptor {
  /** One of NAMESPACE_ID_TYPE; others are reserved. */
  nidt: number
  /** The identifier as hexadecimal digits; two for the command set indicator. */
  nid: string
  /** What is wrong with its length, where something is: `nid` has the bytes that are there. */
  fault?: string
}

/**
 * The descriptors up to one of length 0, or the end. One whose length is wrong has a `fault`, and keeps none of the
 * others from being read. Throws DecodeError on fewer than 4096 bytes.
 */
export function decodeNamespaceDescriptors(bytes: Uint8Array): NamespaceDescriptor[] {
  const name = 'Namespace Identification Descriptors'
  const view = viewOf(name, bytes, IDENTIFY_BYTES)
  const descriptors: NamespaceDescriptor[] = []
  for (let at = 0; at + HEADER_BYTES <= IDENTIFY_BYTES; ) {
    const nidt = view.getUint8(at)
    const nidl = view.getUint8(at + 1)
    if (nidl === 0) break
    const start = at + HEADER_BYTES
    const end = start + nidl
    const fault = faultOf(nidt, nidl, end)
    const nid = Buffer.from(bytes.subarray(start, Math.min(end, IDENTIFY_BYTES))).toString('hex')
    descriptors.push({ nidt, nid, ...(fault !== undefined && { fault }) })
    at = end
  }
  return descriptors
}

function faultOf(nidt: number, nidl: number, end: number): string | undefined {
  const expected = LENGTHS[nidt] ?? nidl
  if (nidl !== expected) return `a length of ${nidl} bytes, where type ${nidt} has ${expected}`
  if (end > IDENTIFY_BYTES) return `a length of ${nidl} bytes, which passes the end of the list`
  return undefined
}

/** Encodes 4096 bytes. Throws OutOfRangeError on what is no identifier of its type, and on too many. */
export function encodeNamespaceDescriptors(
  descriptors: readonly NamespaceDescriptor[],
  target: Uint8Array = new Uint8Array(IDENTIFY_BYTES),
): Uint8Array {
  let at = 0
  target.fill(0, 0, IDENTIFY_BYTES)
  for (const { nidt, nid } of descriptors) {
    const bytes = Buffer.from(nid, 'hex')
    const whole = bytes.length > 0 && bytes.length * 2 === nid.length
    if (!whole || bytes.length !== (LENGTHS[nidt] ?? bytes.length)) {
      throw new OutOfRangeError(`nid: ${nid} is no identifier of type ${nidt}`)
    }
    const end = at + HEADER_BYTES + bytes.length
    if (end > Math.min(IDENTIFY_BYTES, target.length)) {
      throw new OutOfRangeError(`Namespace descriptors: ${end} bytes do not fit`)
    }
    target.set([nidt, bytes.length, 0, 0], at)
    target.set(bytes, at + HEADER_BYTES)
    at = end
  }
  return target
}

/** 32 hexadecimal digits in the form of a UUID, 8-4-4-4-12. Other texts stay as they are. */
export function formatUuid(nid: string): string {
  return nid.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}
