// `self-test-log` and `sanitize-log`: operations that go on in the background, by nvme-cli's names.
// Trade-off: results that are not used are left out of the text, and kept in JSON where nvme-cli keeps them.

import {
  decodeSanitizeLog,
  type SanitizeLog,
  sanitizeStateName,
} from '../../../../lib/nvme/spec/logs/sanitize.ts'
import {
  decodeSelfTestLog,
  SELF_TEST_RESULT,
  type SelfTestResult,
  selfTestResultName,
} from '../../../../lib/nvme/spec/logs/self-test.ts'
import { statusName } from '../../../../lib/nvme/spec/status.ts'
import { fields } from '../../output.ts'
import type { Shown } from '../show.ts'
import { dwordText, hexText } from '../text.ts'

const OPERATIONS: Readonly<Record<number, string>> = {
  0: 'none',
  1: 'short',
  2: 'extended',
  14: 'vendor specific',
}
const operation = (code: number) => `${hexText(code)} (${OPERATIONS[code] ?? 'reserved'})`

/** @param count how many results, newest first */
export function viewSelfTest(bytes: Uint8Array, count = 20): Shown {
  const log = decodeSelfTestLog(bytes)
  const results = log.results.slice(0, count)
  return {
    text() {
      const head = fields([
        ['Current operation', operation(log.current_operation)],
        ['Current completion', `${log.completion}%`],
      ])
      const used = results
        .map((entry, n) => ({ entry, n }))
        .filter(({ entry }) => entry.result !== SELF_TEST_RESULT.UNUSED)
      return [
        head,
        ...used.map(({ entry, n }) => `Self-test result ${n}\n${selfTestResultText(entry)}`),
      ].join('\n\n')
    },
    json: () => ({
      'Current Device Self-Test Operation': log.current_operation,
      'Current Device Self-Test Completion': log.completion,
      'List of Valid Reports': results.map(resultJson),
    }),
  }
}

/** Lines of one result. */
export function selfTestResultText(entry: SelfTestResult): string {
  return fields([
    ['Operation result', `${hexText(entry.result)} (${selfTestResultName(entry.result)})`],
    ['Self-test code', operation(entry.code)],
    ...(entry.result === SELF_TEST_RESULT.SEGMENT_FAILED ? [['Segment number', entry.segment] as const] : []),
    ['Power on hours', entry.poh],
    ...(entry.nsid_valid ? [['Namespace identifier', hexText(entry.nsid)] as const] : []),
    ...(entry.flba_valid ? [['Failing LBA', entry.flba] as const] : []),
    ...(entry.sc_valid
      ? [
          [
            'Status',
            `${statusName(entry.sct, entry.sc)} (sct ${entry.sct}, sc ${hexText(entry.sc)})`,
          ] as const,
        ]
      : []),
  ])
}

function resultJson(entry: SelfTestResult) {
  const { result, code, segment, poh, nsid_valid, flba_valid, sct_valid, sc_valid } = entry
  if (result === SELF_TEST_RESULT.UNUSED) return { 'Self test result': result }
  const valid = [nsid_valid, flba_valid, sct_valid, sc_valid].reduce(
    (sum, on, bit) => sum | (on ? 1 << bit : 0),
    0,
  )
  return {
    'Self test result': result,
    'Self test code': code,
    'Segment number': segment,
    'Valid Diagnostic Information': valid,
    'Power on hours': poh,
    ...(nsid_valid && { 'Namespace Identifier': entry.nsid }),
    ...(flba_valid && { 'Failing LBA': entry.flba }),
    ...(sct_valid && { 'Status Code Type': entry.sct }),
    ...(sc_valid && { 'Status Code': entry.sc }),
    'Vendor Specific': (entry.vs[0] ?? 0) | ((entry.vs[1] ?? 0) << 8),
  }
}

const NOT_REPORTED = 0xffff_ffff
const seconds = (value: number) => (value === NOT_REPORTED ? 'not reported' : `${value} s`)

/** @param device the name under which nvme-cli's JSON has it */
export function viewSanitize(bytes: Uint8Array, device: string): Shown {
  const log = decodeSanitizeLog(bytes)
  return {
    text: () => sanitizeText(log),
    json: () => ({
      [device]: {
        sprog: log.sprog,
        sstat: {
          global_erased: log.sstat.global_erased ? 1 : 0,
          no_cmplted_passes: log.sstat.passes,
          status: `(${log.sstat.status}) ${sanitizeStateName(log.sstat.status)}`,
        },
        cdw10_info: log.scdw10,
        time_over_write: log.eto,
        time_block_erase: log.etbe,
        time_crypto_erase: log.etce,
        time_over_write_no_dealloc: log.etond,
        time_block_erase_no_dealloc: log.etbend,
        time_crypto_erase_no_dealloc: log.etcend,
      },
    }),
  }
}

function sanitizeText(log: SanitizeLog): string {
  const { status, passes, global_erased } = log.sstat
  const done = log.sprog === 0xffff ? 'none in progress' : `${((log.sprog / 65536) * 100).toFixed(1)}%`
  return fields([
    ['Sanitize Progress (SPROG)', `${log.sprog} (${done})`],
    ['Sanitize Status (SSTAT)', `${status} (${sanitizeStateName(status)})`],
    ['Overwrite passes completed', passes],
    ['Global data erased', global_erased ? 'yes' : 'no'],
    ['Sanitize Command Dword 10 (SCDW10)', dwordText(log.scdw10)],
    ['Estimated time of overwrite', seconds(log.eto)],
    ['Estimated time of block erase', seconds(log.etbe)],
    ['Estimated time of crypto erase', seconds(log.etce)],
    ['Estimated time of overwrite, no deallocation', seconds(log.etond)],
    ['Estimated time of block erase, no deallocation', seconds(log.etbend)],
    ['Estimated time of crypto erase, no deallocation', seconds(log.etcend)],
  ])
}
