// The error of a Fabrics command that failed: some of their statuses have a number that means something else elsewhere.

import { NvmeError } from '../../errors.ts'
import { decodeStatus, statusCode } from '../spec/status.ts'
import { FABRICS_OPCODE, FABRICS_STATUS, fabricsName, fabricsStatusName } from './fabrics.ts'

/**
 * @param field bits 31:16 of the completion's dword 3
 * @param result its dword 0, which says what of a Connect was wrong
 */
export function fabricsError(fctype: number, qid: number, field: number, result = 0): NvmeError {
  const status = statusCode(field)
  const { name, sct, sc, dnr, more } = decodeStatus(field)
  let statusName = fabricsStatusName(status) ?? name
  if (status === FABRICS_STATUS.CONNECT_INVALID_PARAMETERS) {
    statusName += ` at byte ${result & 0xffff} of ${(result & 0x1_0000) === 0 ? 'the command' : 'its data'}`
  }
  return new NvmeError({
    opcode: FABRICS_OPCODE,
    opcodeName: fabricsName(fctype),
    ...{ qid, nsid: 0, sct, sc, statusName, dnr, more },
  })
}
