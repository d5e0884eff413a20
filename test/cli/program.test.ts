import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { commands } from '../../src/cli/commands/index.ts'
import { loadCommands } from '../../src/cli/commands/load.ts'
import { createProgram } from '../../src/cli/program.ts'
import { MAIN, unvme } from './command.ts'

test('without a command: help on stderr, exit code 2', async (t) => {
  const { code, stdout, stderr } = await unvme([])
  t.is(code, 2)
  t.is(stdout, '')
  t.regex(stderr, /^Usage: unvme <command>/)
})

test('help lists every command, and each has its own', async (t) => {
  const { code, stdout, stderr } = await unvme(['--help'])
  t.is(code, 0)
  t.is(stderr, '')
  t.regex(stdout, /Exit codes:/)
  for (const { name } of commands) t.regex(stdout, new RegExp(`^  ${name} `, 'm'))
  const own = await unvme(['setup', '--help'])
  t.is(own.code, 0)
  // The rest in this process: one for each command would take the suite a while.
  const program = createProgram(commands, async () => {})
  for (const { name, examples } of commands) {
    let text = ''
    const command = program.commands.find((one) => one.name() === name)!
    command.configureOutput({ writeOut: (part) => (text += part) }).outputHelp()
    t.true(text.startsWith(`Usage: unvme ${name} `), name)
    for (const [line] of examples) t.true(text.includes(`unvme ${line}\n`), line)
    if (name === 'setup') t.is(own.stdout, text)
  }
})

test('definitions: names are unique, examples start with the command, summaries are one line', (t) => {
  t.is(new Set(commands.map((command) => command.name)).size, commands.length)
  for (const { name, summary, examples } of commands) {
    t.regex(summary, /^[A-Z][^\n]*[^.\n]$/, name)
    t.true(examples.length > 0, name)
    for (const [line] of examples) t.is(line.split(' ')[0], name)
  }
})

test('a command that is loaded alone is the same, and stands among commands only', async (t) => {
  const alone = await Promise.all(
    commands.map(async ({ name }) => ({ name, found: await loadCommands(name) })),
  )
  t.deepEqual(
    alone.filter(({ found }) => found.length < commands.length).map(({ name }) => name),
    ['read', 'write', 'copy', 'verify', 'bmap', 'wipe'],
  )
  for (const { name, found } of alone) {
    t.is(
      found.find((one) => one.name === name),
      commands.find((one) => one.name === name),
    )
    t.true(found.every((one) => commands.includes(one)))
  }
  for (const word of [undefined, '--help', 'help', 'cpy', 'constructor'])
    t.is(await loadCommands(word), commands)
})

test('every command is run as a process by a test', (t) => {
  const folder = path.resolve(import.meta.dirname, '../../../test')
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((one) =>
    one.endsWith('.ts'),
  )
  const sources = names.map((one) => readFileSync(path.join(folder, one), 'utf8'))
  // As a word of a command line, or as the first of a list of words.
  for (const { name } of commands) {
    const run = new RegExp(`['\`]${name}( |'[,\\]])`)
    t.true(
      sources.some((source) => run.test(source)),
      name,
    )
  }
})

test('--version is that of package.json', async (t) => {
  const { code, stdout } = await unvme(['--version'])
  t.is(code, 0)
  t.regex(stdout, /^\d+\.\d+\.\d+\n$/)
})

test('unknown words suggest the nearest, in one line with the code', async (t) => {
  t.deepEqual(await unvme(['lst']), {
    code: 2,
    stdout: '',
    stderr: "unvme: unknown command 'lst'; did you mean 'list'? (ERR_UNVME_USAGE)\n",
  })
  t.deepEqual(await unvme(['list', '--outptu', 'json']), {
    code: 2,
    stdout: '',
    stderr: "unvme: unknown option '--outptu'; did you mean '--output'? (ERR_UNVME_USAGE)\n",
  })
  t.deepEqual(await unvme(['list', '-o', 'jsn']), {
    code: 2,
    stdout: '',
    stderr:
      "unvme: option '-o, --output <normal|json>': 'jsn' is none of normal, json; did you mean 'json'? (ERR_UNVME_USAGE)\n",
  })
  const excess = await unvme(['version', 'all'])
  t.is(excess.code, 2)
  t.regex(excess.stderr, /^unvme: too many arguments for 'version'.*\n$/)
})

test('DEBUG adds the stack', async (t) => {
  const { code, stderr } = await unvme(['lst'], { env: { DEBUG: '1' } })
  t.is(code, 2)
  t.regex(stderr, /^unvme: unknown command.*\nUsageError[\s\S]*\n {4}at /)
})

test('a reader that goes away ends the command quietly', async (t) => {
  const child = spawn(process.execPath, [MAIN, 'list', '--help'], { stdio: ['ignore', 'pipe', 'pipe'] })
  child.stdout.destroy()
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const code = await new Promise((resolve) => child.on('close', resolve))
  t.is(stderr, '')
  t.is(code, 141)
})
