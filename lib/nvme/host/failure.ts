// From a completion's status to the error that a caller sees.
// Built only when somebody asks, since a failed command is rare and an Error is not cheap.

import { NvmeError } from '../../errors.ts'
import { opcodeName } from '../spec/opcodes.ts'
import { decodeStatus } from '../spec/status.ts'

/** What failed; `slba` and `nlb` where the command has them. */
export interface FailedCommand {
  opcode: number
  qid: number
  nsid: number
  slba?: number
  nlb?: number
}

/**
 * The error for a completed command whose status is not success.
 * @param field the status field, bits 31:16 of the completion's last dword
 */
export function nvmeError(command: FailedCommand, field: number): NvmeError {
  const { name, sct, sc, dnr, more } = decodeStatus(field)
  const admin = command.qid === 0
  return new NvmeError({
    ...command,
    opcodeName: opcodeName(command.opcode, { admin }),
    sct,
    sc,
    statusName: name,
    dnr,
    more,
  })
}
