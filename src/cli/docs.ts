// docs/cli.md from the same definitions as help. Plain lists rather than tables, since flags are full
// of the characters that a Markdown table can't take.

import type { Command } from 'commander'
import { type CommandDefinition, GROUPS } from './define.ts'
import { createProgram, DESCRIPTION, EXIT_CODES } from './program.ts'

/** The page of the `unvme` command. */
export function commandPage(definitions: readonly CommandDefinition[]): string {
  const program = createProgram(definitions, async () => {})
  const sections = GROUPS.map((group) => ({
    group,
    members: definitions.filter((definition) => definition.group === group),
  })).filter(({ members }) => members.length > 0)
  const section = ({ group, members }: (typeof sections)[number]) => [
    `## ${group}`,
    ...members.flatMap((definition) =>
      describe(program.commands.find((command) => command.name() === definition.name)!, definition),
    ),
  ]
  return `${[
    '# The unvme command',
    '<!-- Made by npm run docs from the definitions in src/cli/commands: change those, not this page. -->',
    DESCRIPTION,
    sections.map(contents).join('\n'),
    'Exit codes:',
    EXIT_CODES.map(([code, what]) => `- ${code}: ${what}`).join('\n'),
    'Errors are one line on stderr, `unvme: message (code)`; with the environment variable `DEBUG` set, the stack follows. ' +
      'Colours are used on a terminal only, and not where `NO_COLOR` is set.',
    "Sizes are written `512`, `4k`, `128KiB`, `1.5G` (1024s; with `B`, as `1GB`, 1000s: dd's rule), durations `100us`, `2ms`, " +
      '`15s`, `1m` (seconds without a unit), numbers in decimal or `0x…`.',
    "Commands of nvme-cli's names take its options by their long names and letters, of 2.3 and of later versions; those " +
      'without a meaning here are refused, and say why. Counts of blocks (`-c`) are one-based, where nvme-cli has 0 for one ' +
      'block. `verify` compares files and devices (its `verify` is `verify-blocks`), and `copy` is not its copy within a device.',
    ...sections.flatMap(section),
  ].join('\n\n')}\n`
}

function contents({ group, members }: { group: string; members: readonly CommandDefinition[] }): string {
  const links = members.map(({ name }) => `[${name}](#unvme-${name})`)
  return `- ${group}: ${links.join(', ')}`
}

function describe(command: Command, { name, summary, details, examples }: CommandDefinition): string[] {
  const help = command.createHelp()
  const terms = [
    ...help
      .visibleArguments(command)
      .map((argument) => [argument.name(), help.argumentDescription(argument)]),
    ...help.visibleOptions(command).map((option) => [option.flags, help.optionDescription(option)]),
  ]
  return [
    `### unvme ${name}`,
    `${summary}.`,
    `\`\`\`\n${help.commandUsage(command)}\n\`\`\``,
    ...(details ? [details] : []),
    terms.map(([term, what]) => `- \`${term}\`: ${what}`).join('\n'),
    ...(examples.length > 0
      ? [`\`\`\`sh\n${examples.map(([line, what]) => `unvme ${line}   # ${what}`).join('\n')}\n\`\`\``]
      : []),
  ]
}
