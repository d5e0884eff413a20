// Builds the commander program from the definitions, and turns what it finds wrong into UsageError.
// Commander parses and prints help; the wording of values' errors and the exit codes are ours.

import type { EventEmitter } from 'node:events'
import { readFileSync } from 'node:fs'
import { Argument, Command, type CommanderError, InvalidArgumentError, Option } from 'commander'
import { UsageError } from '../../lib/errors.ts'
import { type CommandDefinition, GROUPS, type Spec } from './define.ts'

export const DESCRIPTION = `Drives NVMe devices from user space.

A device is named by its PCI address with an optional namespace id (0a:00.0, 0000:0a:00.0/2), a software \
controller in this process (sim:, sim:disk.img, sim:?size=256M&lba=4096), or is a controller of another process at a vfio-user \
socket (vfio-user:/run/nvme/cntrl), or of a target in the network (nvme+tcp://host/NQN).`

export type ExitCode = readonly [code: number, what: string]

export const EXIT_CODES = [
  [0, 'done'],
  [1, 'the device or the system said no, or data that was compared differs'],
  [2, 'the command line is wrong: an unknown word or option, or a bad value'],
  [3, 'a copy went on past blocks that could not be read or written'],
  [130, 'ended by Ctrl-C (143 by SIGTERM, 141 by a reader of the output that went away)'],
] as const

/** Called with a command and what was parsed for it, by property. */
export type Runner = (
  definition: CommandDefinition,
  args: Record<string, unknown>,
  options: Record<string, unknown>,
  help: () => void,
) => Promise<void>

/** The version in package.json, which stands above dist. */
export function version(): string {
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

/** The program with every command. */
export function createProgram(definitions: readonly CommandDefinition[], runner: Runner): Command {
  const program = settle(new Command('unvme'))
    .version(version(), '-V, --version', 'print the version')
    // Options of the program stand before the command: behind it -V is the command's own.
    .enablePositionalOptions()
    .description(DESCRIPTION)
    .usage('<command> [options]')
    .commandsGroup('Help:')
    .helpCommand('help [command]', 'print the help of a command')
    .addHelpText('after', exitCodesText(EXIT_CODES))
  const ordered = [...definitions].sort((a, b) => GROUPS.indexOf(a.group) - GROUPS.indexOf(b.group))
  for (const definition of ordered) program.addCommand(createCommand(program, definition, runner))
  return program
}

/** A program that is one command by itself, with no subcommands. */
export function createSingle(
  definition: CommandDefinition,
  runner: Runner,
  exitCodes: readonly ExitCode[],
): Command {
  const command = settle(new Command(definition.name)).version(
    version(),
    '-V, --version',
    'print the version',
  )
  return describe(command, definition, runner, `${definition.name} `).addHelpText(
    'after',
    exitCodesText(exitCodes),
  )
}

function settle(command: Command): Command {
  return (
    command
      .helpOption('-h, --help', 'print this help')
      .exitOverride()
      // Errors are printed by the caller, all in one form.
      .configureOutput({ outputError: () => {} })
  )
}

function exitCodesText(codes: readonly ExitCode[]): string {
  return `\nExit codes:\n${codes.map(([code, what]) => `  ${String(code).padEnd(3)}  ${what}`).join('\n')}`
}

function createCommand(program: Command, definition: CommandDefinition, runner: Runner): Command {
  const command = program
    .createCommand(definition.name)
    .copyInheritedSettings(program)
    .helpGroup(`${definition.group}:`)
  return describe(command, definition, runner, 'unvme ')
}

/** Gives a command what its definition says. @param prefix of the example's lines */
function describe(command: Command, definition: CommandDefinition, runner: Runner, prefix: string): Command {
  command
    .summary(definition.summary)
    .description([`${definition.summary}.`, definition.details].filter(Boolean).join('\n\n'))
  const names = Object.keys(definition.arguments)
  for (const name of names) command.addArgument(createArgument(definition.arguments[name]!))
  for (const [name, spec] of Object.entries(definition.options)) {
    const option = createOption(name, spec)
    command.addOption(option)
    for (const spelling of spec.also ?? []) addSpelling(command, option, spelling)
  }
  for (const [flags, why] of Object.entries(definition.refused ?? {})) {
    onHidden(command, flags, () => command.error(`error: option '${flags}': ${why}`))
  }
  for (const flags of definition.ignored ?? []) onHidden(command, flags, () => {})
  const { hint } = definition
  if (hint !== undefined) command.exitOverride((error) => throwWithHint(error, hint))
  if (definition.examples.length > 0) {
    const lines = definition.examples.map(([line, what]) => `  ${prefix}${line}\n      ${what}`)
    command.addHelpText('after', `\nExamples:\n${lines.join('\n')}`)
  }
  if (definition.respell !== undefined) {
    const parse = command.parseOptions.bind(command)
    const isOption = (name: string) => command.options.some(({ long }) => long === `--${name}`)
    command.parseOptions = (words) => parse(definition.respell!(words, isOption))
  }
  return command.action(() =>
    runner(
      definition,
      Object.fromEntries(names.map((name, at) => [name, command.processedArgs[at]])),
      { ...flagsOff(definition), ...ownOptions(definition, command) },
      () => command.outputHelp(),
    ),
  )
}

/** Another spelling of an option: what it is given is the option's. */
function addSpelling(command: Command, option: Option, spelling: string): void {
  const value = /<.*>$/.exec(option.flags)?.[0]
  const flags = value === undefined ? spelling : `${spelling} ${value}`
  // A command is an emitter, which its types do not say.
  const emitter = command as unknown as EventEmitter
  onHidden(command, flags, (given) => emitter.emit(`option:${option.name()}`, given))
}

/** An option that help does not show. */
function onHidden(command: Command, flags: string, then: (given: string | undefined) => void): void {
  const option = new Option(flags).hideHelp()
  command.addOption(option).on(`option:${option.name()}`, then)
}

function throwWithHint(error: CommanderError, hint: string): never {
  if (error.exitCode !== 0) error.message += `; ${hint}`
  throw error
}

/** The definition's options, without other spellings and those that are ignored. */
function ownOptions({ options }: CommandDefinition, command: Command): Record<string, unknown> {
  return Object.fromEntries(Object.entries(command.opts()).filter(([name]) => Object.hasOwn(options, name)))
}

/** Flags that were not given: commander leaves them out, since help would show a default. */
function flagsOff({ options }: CommandDefinition): Record<string, false> {
  const flags = Object.keys(options).filter((name) => options[name]!.kind === 'flag')
  return Object.fromEntries(flags.map((name) => [name, false]))
}

function createArgument(spec: Spec<unknown>): Argument {
  const name = spec.placeholder!
  const decorated =
    spec.kind === 'argument' ? `<${name}>` : spec.kind === 'optional' ? `[${name}]` : `[${name}...]`
  const argument = new Argument(decorated, spec.description)
  if (spec.kind !== 'variadic') return argument.argParser(checked(spec))
  const parse = checked(spec)
  return argument.argParser<unknown[]>((word, before) => [...(before ?? []), parse(word)])
}

function createOption(name: string, spec: Spec<unknown>): Option {
  const short = spec.short ? `-${spec.short}, ` : ''
  const long = optionName(name, spec)
  const others = spec.also === undefined ? '' : ` (also ${spec.also.join(', ')})`
  if (spec.kind === 'flag' || spec.kind === 'unflag') {
    return new Option(`${short}${long}`, `${spec.description}${others}`)
  }
  const description = `${spec.description}${others}${spec.mandatory ? ' (required)' : ''}`
  const parse = checked(spec)
  const option = new Option(`${short}${long} <${spec.placeholder}>`, description).argParser<unknown>(
    spec.repeated ? (word, before) => [...(before as unknown[]), parse(word)] : parse,
  )
  if (spec.mandatory) option.makeOptionMandatory()
  return spec.fallback === undefined ? option : option.default(spec.fallback, spec.fallbackText)
}

/** `--dry-run` for dryRun, `--no-flush` for flush where it is on by default. */
export function optionName(name: string, spec: Spec<unknown>): string {
  const words = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
  return spec.kind === 'unflag' ? `--no-${words}` : `--${words}`
}

/** A spec's parser whose errors commander completes with the option's or the argument's name. */
function checked(spec: Spec<unknown>): (word: string) => unknown {
  return (word) => {
    try {
      return spec.parse!(word)
    } catch (error) {
      throw new InvalidArgumentError(error instanceof Error ? error.message : String(error))
    }
  }
}

/**
 * What commander threw, as an error for the user; undefined where it only printed what was asked for
 * (help, version).
 */
export function usageError(error: CommanderError): UsageError | undefined {
  if (error.exitCode === 0) return undefined
  // Called with no command at all: help went to stderr, and one line says why.
  if (error.code === 'commander.help') return new UsageError('which command? See above')
  const message = error.message
    .replace(/^error: /, '')
    .replace(/ argument '.*?' is invalid\. /s, ': ')
    .replace(/^command-argument value '.*?' is invalid for argument '(.*?)'\. /s, '$1: ')
    .replace(/\n\(Did you mean (.*?)\?\)/, "; did you mean '$1'?")
  return new UsageError(message.replaceAll('\n', ' '))
}
