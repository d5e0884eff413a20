// Sanitize Status log page (NVMe 1.4 base, section 5.14.1.16.2, figure 222).
// Trade-off: SSTAT is taken apart, since its low bits alone are the state that everyone asks for.

import { bits, type Decoded, type Encodable, flag, structure, u16, u32 } from '../codec.ts'

export const SANITIZE_LOG_BYTES = 512

/** States of the most recent sanitize operation. */
export const SANITIZE_STATE = {
  NEVER: 0,
  COMPLETED: 1,
  IN_PROGRESS: 2,
  FAILED: 3,
  /** Completed, with user data deallocated although no deallocation was asked for. */
  COMPLETED_DEALLOCATED: 4,
} as const

const STATE_NAMES = [
  'Never sanitized',
  'Completed successfully',
  'In progress',
  'Failed',
  'Completed successfully, with forced deallocation',
]

/** What a state means. */
export function sanitizeStateName(state: number): string {
  return STATE_NAMES[state] ?? 'Reserved'
}

const status = structure('Sanitize Status', 2, {
  /** One of SANITIZE_STATE. */
  status: [0, bits(u16, 0, 3)],
  /** Overwrite passes that are done. nvme-cli calls it `no_cmplted_passes`. */
  passes: [0, bits(u16, 3, 5)],
  /** Nothing was written since the sanitize operation, or since manufacture. */
  global_erased: [0, flag(u16, 8)],
})

const layout = {
  /** Progress in 65 536ths; FFFFh where none is in progress. */
  sprog: [0, u16],
  sstat: [2, status],
  /** Dword 10 of the command that started it. nvme-cli calls it `cdw10_info`. */
  scdw10: [4, u32],
  /** Estimated seconds for overwrite, block erase, crypto erase; FFFFFFFFh not reported. */
  eto: [8, u32],
  etbe: [12, u32],
  etce: [16, u32],
  /** The same with No-Deallocate and the media modification after it. */
  etond: [20, u32],
  etbend: [24, u32],
  etcend: [28, u32],
} as const

const log = structure('Sanitize Status Log', SANITIZE_LOG_BYTES, layout)

export interface SanitizeLog extends Decoded<typeof layout> {}

/** Decodes 512 bytes; throws DecodeError on fewer. */
export function decodeSanitizeLog(bytes: Uint8Array): SanitizeLog {
  return log.decode(bytes)
}

/** Encodes 512 bytes. Progress and estimates left out say that there is none. */
export function encodeSanitizeLog(value: Encodable<typeof layout>, target?: Uint8Array): Uint8Array {
  const none = 0xffff_ffff
  const times = { eto: none, etbe: none, etce: none, etond: none, etbend: none, etcend: none }
  return log.encode({ sprog: 0xffff, ...times, ...value }, target)
}
