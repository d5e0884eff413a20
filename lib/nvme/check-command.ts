// Checks of pass-through commands, before anything of them is sent.
// Trade-off: what a command means is the caller's business; only that it can be put into an entry is checked here.

import { inspect } from 'node:util'
import { ArgumentTypeError, OutOfRangeError } from '../errors.ts'

/** What every pass-through command has: opcode, namespace, dwords 10 to 15. */
export interface CommandFields {
  /** As of `ADMIN` or `NVM`, or any other. */
  opcode: number
  /** Namespace id. Default: none for an admin command, this namespace for an I/O command. */
  nsid?: number
  /** Dwords 10 to 15 of the command. */
  cdw10?: number
  cdw11?: number
  cdw12?: number
  cdw13?: number
  cdw14?: number
  cdw15?: number
}

const DWORDS = ['nsid', 'cdw10', 'cdw11', 'cdw12', 'cdw13', 'cdw14', 'cdw15'] as const

/**
 * Throws ArgumentTypeError or OutOfRangeError where a field does not fit into its place.
 * @param call named in the message
 * @param data names of the properties that have data, where there are any
 */
export function checkCommand(call: string, command: CommandFields, data: readonly string[]): void {
  if (typeof command !== 'object' || command === null) {
    throw new ArgumentTypeError(`${call}: a command is needed as { opcode, … }, received ${inspect(command)}`)
  }
  checkField(call, 'opcode', command.opcode, 0, 0xff)
  for (const name of DWORDS) {
    const value = command[name]
    // As a signed or an unsigned number of 32 bits.
    if (value !== undefined) checkField(call, name, value, -0x8000_0000, 0xffff_ffff)
  }
  for (const name of data) {
    const given = (command as CommandFields & Record<string, unknown>)[name]
    if (given === undefined || Buffer.isBuffer(given)) continue
    throw new ArgumentTypeError(`${call}: ${name} must be a Buffer, received ${inspect(given, { depth: 0 })}`)
  }
}

function checkField(call: string, name: string, value: unknown, min: number, max: number): void {
  if (typeof value !== 'number') {
    throw new ArgumentTypeError(`${call}: ${name} must be a number, received ${inspect(value, { depth: 0 })}`)
  }
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new OutOfRangeError(`${call}: ${name} must be an integer from ${min} to ${max}, received ${value}`)
  }
}
