// I/O Command Set Independent Identify Namespace (NVMe 2.0 base, section 5.17.2.8): CNS 08h.
// Trade-off: its fields repeat those of Identify Namespace, at other offsets; controllers before 2.0 have it not.

import { type Decoded, type Encodable, structure, u8, u16, u32 } from '../codec.ts'
import { IDENTIFY_BYTES } from './cns.ts'

const layout = {
  /** Common namespace features. */
  nsfeat: [0, u8],
  nmic: [1, u8],
  rescap: [2, u8],
  /** Format progress indicator: bit 7 supported, bits 6:0 per cent that remain. */
  fpi: [3, u8],
  anagrpid: [4, u32],
  /** Namespace attributes: bit 0 write protected. */
  nsattr: [8, u8],
  nvmsetid: [10, u16],
  endgid: [12, u16],
  /** Namespace status: bit 0 ready. */
  nstat: [14, u8],
} as const

const independent = structure('I/O Command Set Independent Identify Namespace', IDENTIFY_BYTES, layout)

export interface IndependentNamespace extends Decoded<typeof layout> {}

/** Decodes 4096 bytes; throws DecodeError on fewer. */
export function decodeIndependentNamespace(bytes: Uint8Array): IndependentNamespace {
  return independent.decode(bytes)
}

/** Encodes 4096 bytes. Fields left out are zero; throws OutOfRangeError for a value that does not fit. */
export function encodeIndependentNamespace(value: Encodable<typeof layout>, target?: Uint8Array): Uint8Array {
  return independent.encode(value, target)
}
