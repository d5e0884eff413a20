// Runs one command of the process: signals, closed pipes, and errors in one line with an exit code.
// Trade-off: the process ends by itself where it can, so that a device left open shows as a process that hangs;
// only a command that does not watch for Ctrl-C is cut off.

import { inspect } from 'node:util'
import { CommanderError } from 'commander'
import { AbortError, UnvmeError } from '../../lib/errors.ts'
import type { CommandDefinition } from './define.ts'
import { watchForEnd } from './ending.ts'
import { createProgram, usageError } from './program.ts'

/** Codes of errors that a better command line mends: exit code 2. */
const USAGE_CODES = new Set([
  'ERR_UNVME_USAGE',
  'ERR_UNVME_ADDRESS',
  'ERR_INVALID_ARG_TYPE',
  'ERR_OUT_OF_RANGE',
])

/** Parses the words after `unvme` and runs what they say; sets the process's exit code. */
export async function run(
  definitions: readonly CommandDefinition[],
  words: readonly string[],
): Promise<void> {
  const ending = watchForEnd()
  const program = createProgram(definitions, async (definition, args, options, help) => {
    const context = {
      args,
      options,
      help,
      get signal() {
        return ending.signal()
      },
    }
    const exitCode = (await definition.run(context)) ?? 0
    process.exitCode = ending.code ?? exitCode
  })
  try {
    await program.parseAsync(words, { from: 'user' })
  } catch (error) {
    process.exitCode = ending.code ?? report(error)
  } finally {
    ending.stop()
  }
}

/** Prints an error in one line, with its stack where DEBUG is set. Returns the exit code. */
function report(error: unknown): number {
  if (error instanceof CommanderError) {
    const usage = usageError(error)
    return usage ? report(usage) : 0
  }
  if (error instanceof AbortError) {
    process.stderr.write(`unvme: ${error.message}${error.cause ? `: ${reason(error.cause)}` : ''}\n`)
    return 1
  }
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const text = reason(error)
  process.stderr.write(`unvme: ${text}${code && !text.includes(code) ? ` (${code})` : ''}\n`)
  if (process.env.DEBUG) process.stderr.write(`${inspect(error)}\n`)
  return USAGE_CODES.has(code) ? 2 : 1
}

function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  // An error of another make is a fault of this program, and its kind is half of what it says.
  const kind = error instanceof UnvmeError || 'code' in error ? '' : `${error.name}: `
  return `${kind}${error.message.replaceAll('\n', ' ')}`
}
