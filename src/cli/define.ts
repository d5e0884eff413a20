// How a subcommand is defined: one object with its words, arguments, options, examples and what it does.
// Help, parsing and docs/cli.md all come from it. Options are named by their property
// (`dryRun` is `--dry-run`), so that there is no second name to keep equal, and no free choice of one.

import { choiceParser, sysroot } from './parse.ts'

/** An option or a positional argument whose value, once parsed, is a T. */
export interface Spec<T> {
  readonly kind: 'flag' | 'unflag' | 'value' | 'argument' | 'optional' | 'variadic'
  readonly description: string
  /** One letter: `n` for `-n`. */
  readonly short?: string
  /** Other spellings that are taken, `-V` or `--slba`: those of nvme-cli, or of older versions. */
  readonly also?: readonly string[]
  /** What stands for the value in help: `SIZE` in `--size <SIZE>`; for an argument its name there. */
  readonly placeholder?: string
  readonly choices?: readonly string[]
  /** An option that may be given several times: its value is a list. */
  readonly repeated?: boolean
  /** An option that must be given. */
  readonly mandatory?: boolean
  /** The default, and how help writes it where that is not its plain text. */
  readonly fallback?: T
  readonly fallbackText?: string
  /** Throws an error that says what is wrong with the text. */
  parse?(text: string): unknown
}
export type Specs = Readonly<Record<string, Spec<unknown>>>

/** The parsed values, by property. */
export type Values<S extends Specs> = { [K in keyof S]: S[K] extends Spec<infer T> ? T : never }

export interface Context<A extends Specs, O extends Specs> {
  readonly args: Values<A>
  readonly options: Values<O>
  /**
   * Aborted by Ctrl-C, SIGTERM or a reader of stdout that went away. A command that looks at it must end by it
   * (pass it on to streams and calls); one that never reads it is ended at once.
   */
  readonly signal: AbortSignal
  /** Prints the command's own help to stdout. */
  help(): void
}

/** Headings of help and of the documentation, in their order there. */
export const GROUPS = ['System', 'Data', 'Identify and logs', 'Admin', 'Tests and benchmarks'] as const

export interface CommandDefinition<A extends Specs = Specs, O extends Specs = Specs> {
  readonly name: string
  readonly group: (typeof GROUPS)[number]
  /** One line without a full stop, for the list of commands. */
  readonly summary: string
  /** Paragraphs for the command's own help, separated by empty lines. */
  readonly details?: string
  readonly arguments: A
  readonly options: O
  /** Options of nvme-cli's command that are refused, as `-M, --metadata <FILE>`, each with why. */
  readonly refused?: Readonly<Record<string, string>>
  /** Those that are taken and change nothing, since they ask for what is done anyway. */
  readonly ignored?: readonly string[]
  /** What is added to an error in the words: where nvme-cli's command of the same name is another one. */
  readonly hint?: string
  /**
   * Puts words in this program's spelling, before they are parsed.
   * @param isOption whether the command has an option `--name`
   * @throws UsageError
   */
  respell?(words: readonly string[], isOption: (name: string) => boolean): string[]
  /** Command lines (after `unvme`), each with what it does. */
  readonly examples: readonly (readonly [line: string, what: string])[]
  /** Does the work. Returns the exit code where it is not 0; 1 means that the device or the system said no. */
  run(context: Context<A, O>): Promise<number | void> | number | void
}

/** Gives a definition its types. */
export function defineCommand<const A extends Specs, const O extends Specs>(
  definition: CommandDefinition<A, O>,
): CommandDefinition {
  return definition
}

interface Spelling {
  short?: string
  also?: readonly string[]
}
/** Its letter, or that and more. */
type Extra<More = unknown> = string | (Spelling & More)

const extras = (extra: Extra<object>) => (typeof extra === 'string' ? { short: extra } : extra)

/** `--name`: false unless given. */
export const flag = (description: string, extra: Extra = {}): Spec<boolean> => ({
  kind: 'flag',
  description,
  ...extras(extra),
})

/** `--no-name`: true unless given. */
export const unflag = (description: string, extra: Extra = {}): Spec<boolean> => ({
  kind: 'unflag',
  description,
  ...extras(extra),
})

/** `--name <PLACEHOLDER>`, parsed by `parse`; undefined unless given. */
export const value = <T>(
  placeholder: string,
  parse: (text: string) => T,
  description: string,
  extra: Extra = {},
): Spec<T | undefined> => ({ kind: 'value', placeholder, parse, description, ...extras(extra) })

/** The same, any number of times: a list, which is empty unless given. */
export const values = <T>(
  placeholder: string,
  parse: (text: string) => T,
  description: string,
  extra: Extra = {},
): Spec<readonly T[]> => ({
  ...{ kind: 'value', repeated: true, fallback: [], fallbackText: 'none', placeholder, parse, description },
  ...extras(extra),
})

/** The same, and it must be given. */
export const required = <T>(
  placeholder: string,
  parse: (text: string) => T,
  description: string,
  extra: Extra = {},
): Spec<T> => ({ kind: 'value', mandatory: true, placeholder, parse, description, ...extras(extra) })

/** The same with a default. `fallbackText` is how help writes it. */
export const valueOr = <T>(
  placeholder: string,
  parse: (text: string) => T,
  fallback: T,
  description: string,
  extra: Extra<{ fallbackText?: string }> = {},
): Spec<T> => ({ kind: 'value', placeholder, parse, fallback, description, ...extras(extra) })

/** `--name <WORD>`: one of a few words, the first unless given. */
export const choice = <const C extends readonly string[]>(
  choices: C,
  description: string,
  extra: Extra = {},
): Spec<C[number]> => ({
  kind: 'value',
  placeholder: choices.join('|'),
  choices,
  parse: choiceParser(choices),
  fallback: choices[0] as C[number],
  description,
  ...extras(extra),
})

/** A positional argument that must be given. */
export const argument = <T>(
  placeholder: string,
  parse: (text: string) => T,
  description: string,
): Spec<T> => ({ kind: 'argument', placeholder, parse, description })

/** One that may be left out: only after those that must be given. */
export const optionalArgument = <T>(
  placeholder: string,
  parse: (text: string) => T,
  description: string,
): Spec<T | undefined> => ({ kind: 'optional', placeholder, parse, description })

/** Any number of them: only as the last. */
export const variadicArgument = <T>(
  placeholder: string,
  parse: (text: string) => T,
  description: string,
): Spec<readonly T[]> => ({ kind: 'variadic', placeholder, parse, description })

/** `-o normal|json`, `--output`, of every command that shows something. */
export const outputOption = () =>
  choice(['normal', 'json'], 'how to print', { short: 'o', also: ['--output-format'] })

/** `-y, --yes`, of every command that asks first. */
export const yesOption = () => flag('do not ask before data is destroyed', 'y')

/** How `forceOption` is written, for errors that name it. */
export const FORCE_WORD = '--force'

/** `--force`, of the commands that write a file or a block device; -f is another option of nvme-cli's read and write. */
export const forceOption = () => flag('write a device that the system uses, or a locked file, all the same')

/** `--sysroot <DIR>`, of the commands that look at sysfs. */
export const sysrootOption = () =>
  value('DIR', sysroot, 'look at a copy of another machine: a folder with its sys, proc and dev')
