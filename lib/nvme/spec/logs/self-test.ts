// Device Self-test log page (NVMe 1.4 base, section 5.14.1.6, figures 200 and 201), and names of its codes.
// Trade-off: all twenty results are given, unused ones too (result Fh), newest first as the log has them.

import { bits, type Decoded, type Encodable, flag, list, raw, structure, u8, u32, u64 } from '../codec.ts'

export const SELF_TEST_LOG_BYTES = 564

/** Self-test codes: what a Device Self-test command starts, and what the log says runs or ran. */
export const SELF_TEST = { NONE: 0x0, SHORT: 0x1, EXTENDED: 0x2, VENDOR: 0xe, ABORT: 0xf } as const

/** Results of a self-test. */
export const SELF_TEST_RESULT = {
  NO_ERROR: 0x0,
  ABORTED_BY_COMMAND: 0x1,
  ABORTED_BY_RESET: 0x2,
  ABORTED_BY_NAMESPACE_REMOVAL: 0x3,
  ABORTED_BY_FORMAT: 0x4,
  FATAL_ERROR: 0x5,
  UNKNOWN_SEGMENT_FAILED: 0x6,
  SEGMENT_FAILED: 0x7,
  ABORTED: 0x8,
  ABORTED_BY_SANITIZE: 0x9,
  /** The entry is not used. */
  UNUSED: 0xf,
} as const

const RESULT_NAMES: Readonly<Record<number, string>> = {
  [SELF_TEST_RESULT.NO_ERROR]: 'Operation completed without error',
  [SELF_TEST_RESULT.ABORTED_BY_COMMAND]: 'Operation aborted by a Device Self-test command',
  [SELF_TEST_RESULT.ABORTED_BY_RESET]: 'Operation aborted by a Controller Level Reset',
  [SELF_TEST_RESULT.ABORTED_BY_NAMESPACE_REMOVAL]: 'Operation aborted due to removal of a namespace',
  [SELF_TEST_RESULT.ABORTED_BY_FORMAT]: 'Operation aborted due to a Format NVM command',
  [SELF_TEST_RESULT.FATAL_ERROR]: 'A fatal error or unknown test error occurred',
  [SELF_TEST_RESULT.UNKNOWN_SEGMENT_FAILED]:
    'Operation completed with a segment that failed, not known which',
  [SELF_TEST_RESULT.SEGMENT_FAILED]: 'Operation completed with one or more failed segments',
  [SELF_TEST_RESULT.ABORTED]: 'Operation aborted for an unknown reason',
  [SELF_TEST_RESULT.ABORTED_BY_SANITIZE]: 'Operation aborted due to a sanitize operation',
  [SELF_TEST_RESULT.UNUSED]: 'Entry not used',
}

/** What a result of the log means. */
export function selfTestResultName(result: number): string {
  return RESULT_NAMES[result] ?? 'Reserved'
}

const resultLayout = {
  /** One of SELF_TEST_RESULT. */
  result: [0, bits(u8, 0, 4)],
  /** One of SELF_TEST. */
  code: [0, bits(u8, 4, 4)],
  /** First segment that failed; counts only with result 7h. */
  segment: [1, u8],
  /** Which of the four fields below hold something. */
  nsid_valid: [2, flag(u8, 0)],
  flba_valid: [2, flag(u8, 1)],
  sct_valid: [2, flag(u8, 2)],
  sc_valid: [2, flag(u8, 3)],
  /** Power on hours when the operation ended. */
  poh: [4, u64],
  nsid: [12, u32],
  /** Failing LBA. */
  flba: [16, u64],
  sct: [24, bits(u8, 0, 3)],
  sc: [25, u8],
  /** Vendor specific. */
  vs: [26, raw(2)],
} as const

const layout = {
  /** One of SELF_TEST: what runs now. */
  current_operation: [0, bits(u8, 0, 4)],
  /** Per cent of it that are done. */
  completion: [1, bits(u8, 0, 7)],
  results: [4, list(20, structure('Self-test Result', 28, resultLayout))],
} as const

const log = structure('Device Self-test Log', SELF_TEST_LOG_BYTES, layout)

export interface SelfTestResult extends Decoded<typeof resultLayout> {}
export interface SelfTestLog extends Decoded<typeof layout> {}

/** Decodes 564 bytes; throws DecodeError on fewer. */
export function decodeSelfTestLog(bytes: Uint8Array): SelfTestLog {
  return log.decode(bytes)
}

/** Encodes 564 bytes. Results left out are marked as not used. */
export function encodeSelfTestLog(value: Encodable<typeof layout>, target?: Uint8Array): Uint8Array {
  const { results = [] } = value
  const unused = Array.from({ length: Math.max(0, 20 - results.length) }, () => ({
    result: SELF_TEST_RESULT.UNUSED,
  }))
  return log.encode({ ...value, results: [...results, ...unused] }, target)
}
