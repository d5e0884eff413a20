// Runs one command of the process: signals, closed pipes, and errors in one line with an exit code.
// Trade-off: the process ends by itself where it can, so that a device left open shows as a process that hangs;
// only a command that does not watch for Ctrl-C is cut off.

import { inspect } from 'node:util'
import { type Command, CommanderError } from 'commander'
import { AbortError, UnvmeError } from '../../lib/errors.ts'
import type { CommandDefinition } from './define.ts'
import { watchForEnd } from './ending.ts'
import { createProgram, createSingle, type ExitCode, type Runner, usageError } from './program.ts'

/** Codes of errors that a better command line mends: exit code 2. */
const USAGE_CODES = new Set([
  'ERR_UNVME_USAGE',
  'ERR_UNVME_ADDRESS',
  'ERR_INVALID_ARG_TYPE',
  'ERR_INVALID_ARG_VALUE',
  'ERR_OUT_OF_RANGE',
])

/** Parses the words after `unvme` and runs what they say; sets the process's exit code. */
export async function run(
  definitions: readonly CommandDefinition[],
  words: readonly string[],
): Promise<void> {
  await execute((runner) => createProgram(definitions, runner), words, {})
}

/** What a program of one command has of its own. */
export interface SingleOptions {
  /** For its help. */
  exitCodes: readonly ExitCode[]
  /** Exit codes of errors, by their `code`. */
  exitCodeOf: Readonly<Record<string, number>>
}

/** Runs a program that is one command by itself, in the same way. */
export async function runSingle(
  definition: CommandDefinition,
  words: readonly string[],
  { exitCodes, exitCodeOf }: SingleOptions,
): Promise<void> {
  await execute((runner) => createSingle(definition, runner, exitCodes), words, exitCodeOf)
}

async function execute(
  create: (runner: Runner) => Command,
  words: readonly string[],
  exitCodeOf: Readonly<Record<string, number>>,
): Promise<void> {
  const ending = watchForEnd()
  const program = create(async (definition, args, options, help) => {
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
    process.exitCode = ending.code ?? report(program.name(), error, exitCodeOf)
  } finally {
    ending.stop()
  }
}

/** Prints an error in one line, with its stack where DEBUG is set. Returns the exit code. */
function report(name: string, error: unknown, exitCodeOf: Readonly<Record<string, number>>): number {
  if (error instanceof CommanderError) {
    const usage = usageError(error)
    return usage ? report(name, usage, exitCodeOf) : 0
  }
  if (error instanceof AbortError) {
    process.stderr.write(`${name}: ${error.message}${error.cause ? `: ${reason(error.cause)}` : ''}\n`)
    return 1
  }
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const text = reason(error)
  process.stderr.write(`${name}: ${text}${code && !text.includes(code) ? ` (${code})` : ''}\n`)
  if (process.env.DEBUG) process.stderr.write(`${inspect(error)}\n`)
  return exitCodeOf[code] ?? (USAGE_CODES.has(code) ? 2 : 1)
}

function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  // An error of another make is a fault of this program, and its kind is half of what it says.
  const kind = error instanceof UnvmeError || 'code' in error ? '' : `${error.name}: `
  return `${kind}${error.message.replaceAll('\n', ' ')}`
}
