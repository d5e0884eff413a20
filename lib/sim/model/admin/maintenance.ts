// Format NVM, Sanitize and Device Self-test (NVMe 1.4 base, sections 5.23, 5.24 and 5.8).
// Trade-off: a format is done when its command is; the other two go on in the background (background.ts).

import {
  decodeFormat,
  decodeSanitize,
  decodeSelfTest,
  FORMAT_ERASE,
  SANITIZE_ACTION,
} from '../../../nvme/spec/commands.ts'
import { FEATURE } from '../../../nvme/spec/features.ts'
import { SELF_TEST, SELF_TEST_RESULT } from '../../../nvme/spec/logs.ts'
import { ALL_NAMESPACES } from '../../../nvme/spec/opcodes.ts'
import { STATUS } from '../../../nvme/spec/status.ts'
import { updateInterposed } from '../../faults/interposed.ts'
import { saveState } from '../../media/nonvolatile.ts'
import { abortTest, startSanitize, startTest } from '../background.ts'
import type { Controller } from '../controller.ts'
import { featureValue } from '../features.ts'
import { createNamespace, type Namespace } from '../namespaces.ts'
import { LBA_FORMATS, replaceNamespace } from './namespaces.ts'

export function format(c: Controller, sqe: Uint32Array, e: number): number {
  const nsid = sqe[e + 1]!
  const { lbafl, lbafu, mset, pi, pil, ses } = decodeFormat(sqe[e + 10]!)
  const blockBytes = 2 ** (LBA_FORMATS[lbafl]?.lbads ?? 0)
  if (blockBytes === 1 || lbafu !== 0 || mset || pi !== 0 || pil) return STATUS.INVALID_FORMAT
  if (ses > FORMAT_ERASE.CRYPTO) return STATUS.INVALID_FIELD
  const chosen = nsid === ALL_NAMESPACES ? [...c.allocated.values()] : [c.allocated.get(nsid)]
  if (chosen.includes(undefined)) return STATUS.INVALID_NAMESPACE_OR_FORMAT
  abortTest(c, SELF_TEST_RESULT.ABORTED_BY_FORMAT)
  for (const ns of chosen as Namespace[]) {
    const status = c.medium.zero(ns.at, ns.bytes)
    if (status !== 0) return status
    replaceNamespace(
      c,
      createNamespace({ nsid: ns.nsid, at: ns.at, bytes: ns.bytes, blockBytes }, c.medium.near),
    )
  }
  return saveState(c)
}

export function sanitize(c: Controller, sqe: Uint32Array, e: number): number {
  const dword = sqe[e + 10]!
  const { sanact, ndas } = decodeSanitize(dword)
  const { EXIT_FAILURE, CRYPTO_ERASE } = SANITIZE_ACTION
  if (sanact < EXIT_FAILURE || sanact > CRYPTO_ERASE) return STATUS.INVALID_FIELD
  if (c.background.sanitizing !== null) return STATUS.SANITIZE_IN_PROGRESS
  // No sanitize ever fails here.
  if (sanact === EXIT_FAILURE) return 0
  // Blocks are always deallocated: what happens where that is not wanted is the host's choice, by feature 17h.
  if (ndas && featureValue(c.features, FEATURE.SANITIZE_CONFIG) === 0) return STATUS.INVALID_FIELD
  const status = startSanitize(c, dword)
  updateInterposed(c)
  return status === 0 ? saveState(c) : status
}

export function selfTest(c: Controller, sqe: Uint32Array, e: number): number {
  const nsid = sqe[e + 1]!
  const { stc: code } = decodeSelfTest(sqe[e + 10]!)
  const { test } = c.background
  if (code === SELF_TEST.ABORT) {
    abortTest(c, SELF_TEST_RESULT.ABORTED_BY_COMMAND)
    return 0
  }
  if (code !== SELF_TEST.SHORT && code !== SELF_TEST.EXTENDED) return STATUS.INVALID_FIELD
  if (nsid !== 0 && nsid !== ALL_NAMESPACES && !c.namespaces.has(nsid)) {
    return STATUS.INVALID_NAMESPACE_OR_FORMAT
  }
  if (test !== null) return STATUS.SELF_TEST_IN_PROGRESS
  startTest(c, code, nsid)
  return code === SELF_TEST.EXTENDED ? saveState(c) : 0
}
