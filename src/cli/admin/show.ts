// What every command that shows a data structure shares: -o normal|json|binary, -b, -H.
// A structure is read whole and decoded before anything of it is printed as text, so that output is never
// half; its bytes are printed undecoded, so that a structure which can't be read as text can be looked at all the same.

import { type CommandDefinition, choice, flag, type Specs, type Values } from '../define.ts'
import { checkTerminal, print, printJson } from '../output.ts'
import { type AdminContext, type AdminDefinition, adminCommand } from './command.ts'

/** How a structure is shown. */
export interface Shown {
  /** Lines for a person; `human`: words of flags taken apart. */
  text(human: boolean): string
  /** By nvme-cli's keys. */
  json(): unknown
}

/** A structure that was read. */
export interface Read {
  /** As the device sent it. */
  readonly bytes: Uint8Array
  /** Decodes it: called only where it is shown as text or JSON. */
  show(): Shown | Promise<Shown>
}

const showOptions = {
  outputFormat: choice(['normal', 'json', 'binary'], 'how to print', 'o'),
  rawBinary: flag('print the bytes as the device sent them, as -o binary', 'b'),
  humanReadable: flag('take words of flags apart', 'H'),
}

export type ShowOptions<O extends Specs> = O & typeof showOptions

export interface ShowDefinition<O extends Specs>
  extends Omit<AdminDefinition<O>, 'run' | 'destroys' | 'group'> {
  readonly group?: AdminDefinition<O>['group']
  read(context: AdminContext<ShowOptions<O>>): Promise<Read>
}

/** A command that reads a structure and prints it. */
export function showCommand<const O extends Specs>(definition: ShowDefinition<O>): CommandDefinition {
  const { group = 'Identify and logs' } = definition
  // nvme-cli's newer name of it; some commands have -v for something else.
  const hasV = Object.values(definition.options).some(({ short }) => short === 'v')
  const verbose = hasV ? ['--verbose'] : ['-v', '--verbose']
  const humanReadable = { ...showOptions.humanReadable, also: verbose }
  return adminCommand<ShowOptions<O>>({
    ...definition,
    group,
    options: { ...definition.options, ...showOptions, humanReadable },
    async run(context) {
      const { outputFormat, rawBinary, humanReadable } = context.options as Values<typeof showOptions>
      const binary = rawBinary || outputFormat === 'binary'
      if (binary) checkTerminal()
      const { bytes, show } = await definition.read(context)
      if (binary) return writeBytes(bytes)
      const shown = await show()
      if (outputFormat === 'json') printJson(shown.json())
      else printText(shown.text(humanReadable))
    },
  })
}

function printText(text: string): void {
  // An empty list is nothing, and not an empty line.
  if (text !== '') print(text)
}

/** Writes bytes to stdout, and waits until they are taken. */
export function writeBytes(bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(bytes, (error) => (error ? reject(error) : resolve()))
  })
}
