// Checks of pass-through commands, before anything of them is sent.
// What a command means is the caller's business; that it can be put into an entry is checked here, and that
// the controller will not read or write beyond its data.

import { ArgumentTypeError, OutOfRangeError } from '../../errors.ts'
import { checkOptionNames, type OptionNames } from '../../sys/options.ts'
import { show } from '../../sys/show.ts'

/** What every pass-through command has: opcode, namespace, dwords 10 to 15. */
export interface CommandFields {
  /** As of `ADMIN` or `NVM`, or any other. */
  opcode: number
  /** Namespace id. Default: none for an admin command, this namespace for an I/O command. */
  nsid?: number | undefined
  /** Dwords 10 to 15 of the command. */
  cdw10?: number | undefined
  cdw11?: number | undefined
  cdw12?: number | undefined
  cdw13?: number | undefined
  cdw14?: number | undefined
  cdw15?: number | undefined
}

/** Names of CommandFields. */
export const COMMAND_NAMES: OptionNames<CommandFields> = {
  opcode: true,
  nsid: true,
  cdw10: true,
  cdw11: true,
  cdw12: true,
  cdw13: true,
  cdw14: true,
  cdw15: true,
}

const DWORDS = ['nsid', 'cdw10', 'cdw11', 'cdw12', 'cdw13', 'cdw14', 'cdw15'] as const

/**
 * Throws ArgumentTypeError or OutOfRangeError where a field does not fit into its place, ArgumentValueError for a
 * property that no command of the call has: a misspelt dword would be sent as 0.
 * @param call named in the message
 * @param names every property that a command of this call may have
 * @param data names of those that have data
 */
export function checkCommand<T extends CommandFields>(
  call: string,
  command: T,
  names: OptionNames<T>,
  data: readonly string[],
): void {
  if (typeof command !== 'object' || command === null) {
    throw new ArgumentTypeError(`${call}: a command is needed as { opcode, … }, received ${show(command)}`)
  }
  checkOptionNames(call, command, names as Readonly<Record<string, true>>, 'property')
  checkField(call, 'opcode', command.opcode, 0, 0xff)
  for (const name of DWORDS) {
    const value = command[name]
    // As a signed or an unsigned number of 32 bits.
    if (value !== undefined) checkField(call, name, value, -0x8000_0000, 0xffff_ffff)
  }
  for (const name of data) {
    const given = (command as T & Record<string, unknown>)[name]
    if (given === undefined || given instanceof Uint8Array) continue
    throw new ArgumentTypeError(`${call}: ${name} must be a Buffer, received ${show(given)}`)
  }
}

/**
 * Throws OutOfRangeError where a command's data is shorter than what the controller will read or write of it: beyond
 * its end is other data of the same allocation, or nothing that is anybody's.
 * @param call named in the message, as is `command`
 * @param needed bytes, as of `adminDataBytes` or `ioDataBytes`
 */
export function checkDataBytes(
  call: string,
  command: string,
  data: Uint8Array | undefined,
  needed: number,
): void {
  const given = data?.length ?? 0
  if (given >= needed) return
  throw new OutOfRangeError(
    `${call}: ${command} with these dwords is a command with ${needed} bytes of data, ${given} were given`,
  )
}

function checkField(call: string, name: string, value: unknown, min: number, max: number): void {
  if (typeof value !== 'number') {
    throw new ArgumentTypeError(`${call}: ${name} must be a number, received ${show(value)}`)
  }
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new OutOfRangeError(
      `${call}: ${name} must be an integer from ${min} to ${max}, received ${show(value)}`,
    )
  }
}
