// Runs one command of the process: signals, closed pipes, and errors in one line with an exit code.
// The process ends by itself where it can, so that a device left open shows as a process that hangs;
// only a command that does not watch for Ctrl-C is cut off.

import { inspect } from 'node:util'
import { type Command, CommanderError } from 'commander'
import { AbortError, UnvmeError } from '../../lib/errors.ts'
import type { CommandDefinition } from './define.ts'
import { watchForEnd } from './ending.ts'
import { note, visible } from './output.ts'
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
  const fail = (error: unknown) => report(program.name(), error, exitCodeOf)
  const ending = watchForEnd((error) => {
    process.exitCode = fail(error)
  })
  let exitCode = 0
  const program = create(async (definition, args, options, help) => {
    const context = {
      args,
      options,
      help,
      get signal() {
        return ending.signal()
      },
    }
    ending.start()
    exitCode = (await definition.run(context)) ?? 0
  })
  let thrown: { error: unknown } | undefined
  try {
    await program.parseAsync(words, { from: 'user' })
  } catch (error) {
    thrown = { error }
  }
  await ending.finish()
  // What failed by a standard output that can't be written is one error, and not two.
  const cause = ending.failure === undefined ? thrown : { error: ending.failure }
  process.exitCode = ending.code ?? (cause === undefined ? exitCode : fail(cause.error))
}

/** Prints an error in one line, with its stack where DEBUG is set. Returns the exit code. */
function report(name: string, error: unknown, exitCodeOf: Readonly<Record<string, number>>): number {
  if (error instanceof CommanderError) {
    const usage = usageError(error)
    return usage ? report(name, usage, exitCodeOf) : 0
  }
  if (error instanceof AbortError) {
    note(`${name}: ${reason(error)}${error.cause ? `: ${reason(error.cause)}` : ''}`)
    return 1
  }
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const text = reason(error)
  note(`${name}: ${text}${code && !text.includes(code) ? ` (${code})` : ''}`)
  if (process.env.DEBUG) note(inspect(error))
  return exitCodeOf[code] ?? (USAGE_CODES.has(code) ? 2 : 1)
}

function reason(error: unknown): string {
  if (!(error instanceof Error)) return visible(String(error))
  // An error of another make is a fault of this program, and its kind is half of what it says.
  const kind = error instanceof UnvmeError || 'code' in error ? '' : `${error.name}: `
  return `${kind}${visible(error.message.replaceAll('\n', ' '))}`
}
