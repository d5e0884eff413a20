import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { testFolder } from '../support/folder.ts'
import { cleanEnvironment, readProc, start } from './command.ts'

const file = testFolder()
// As it is shown: its colour and line feed are not its own.
const QUESTION = 'Overwrite \\x1b[31meverything\\x0a?'
const EXAMPLES = fileURLToPath(new URL('./example-commands.js', import.meta.url))

interface Ended {
  code: number | null
  stdout: string
  stderr: string
}

/** Starts an example; `act` is called when it has printed its first line. */
async function example(
  words: string[],
  act?: (child: ChildProcess) => void,
  stdout: 'pipe' | number = 'pipe',
): Promise<Ended> {
  const child = spawn(process.execPath, [EXAMPLES, ...words], {
    env: cleanEnvironment(),
    stdio: ['ignore', stdout, 'pipe'],
    // Without a terminal.
    detached: true,
  })
  const output = { stdout: '', stderr: '' }
  child.stderr!.on('data', (data: Buffer) => {
    output.stderr += data
  })
  child.stdout?.on('data', (data: Buffer) => {
    if (output.stdout === '') act?.(child)
    output.stdout += data
  })
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, ...output }
}

test('Ctrl-C aborts a command that watches for it, and lets it clean up: 130', async (t) => {
  const interrupted = await example(['watch'], (child) => child.kill('SIGINT'))
  t.deepEqual(interrupted, { code: 130, stdout: 'ready\ncleaned up\n', stderr: '' })
  const terminated = await example(['watch'], (child) => child.kill('SIGTERM'))
  t.is(terminated.code, 143)
})

test('Ctrl-C ends a command that does not watch for it', async (t) => {
  const { code, stderr } = await example(['ignore'], (child) => child.kill('SIGINT'))
  t.is(code, 130)
  t.is(stderr, '')
})

test('a second Ctrl-C ends a command that does not end by the first', async (t) => {
  const { code, stdout } = await example(['stubborn'], (child) => {
    child.stdout!.once('data', () => child.kill('SIGINT'))
    child.kill('SIGINT')
  })
  t.is(code, 130)
  t.is(stdout, 'ready\naborted\n')
})

test('a thread that hangs in a system call keeps no process: Ctrl-C ends it, or the second one', async (t) => {
  const fifo = file('fifo')
  execFileSync('mkfifo', [fifo])
  const ignored = await example(['stuck', '--fifo', fifo], (child) => child.kill('SIGTERM'))
  t.deepEqual(ignored, { code: 143, stdout: 'ready\n', stderr: '' })
  const watched = await example(['stuck', '--watch', '--fifo', fifo], (child) => {
    child.kill('SIGINT')
    // Signals that wait together are one.
    setTimeout(() => child.kill('SIGINT'), 100)
  })
  t.deepEqual(watched, { code: 130, stdout: 'ready\n', stderr: '' })
})

test('an output that is full is one line and exit code 1, after the command has cleaned up', async (t) => {
  const full = openSync('/dev/full', 'w')
  const stderr = 'unvme: standard output: ENOSPC: no space left on device, write\n'
  for (const words of [['lines'], ['lines', '--watch']]) {
    t.deepEqual(await example(words, undefined, full), {
      code: 1,
      stdout: '',
      stderr: `cleaned up\n${stderr}`,
    })
  }
  for (const words of [['--help'], ['fail', '--how', 'print']]) {
    t.deepEqual(await example(words, undefined, full), { code: 1, stdout: '', stderr }, words[0])
  }
  closeSync(full)
})

test('a reader that goes away half-way ends an endless output quietly: 141', async (t) => {
  const { code, stderr } = await example(['endless'], (child) => child.stdout!.destroy())
  t.is(code, 141)
  t.is(stderr, '')
})

test('errors: one line with the code, 2 for what a better command line mends, else 1', async (t) => {
  const cases: [string, number, string][] = [
    ['range', 2, 'unvme: slba 12 is past the end (ERR_OUT_OF_RANGE)\n'],
    ['system', 1, "unvme: EBUSY: it is taken, open '/dev/x'\n"],
    ['device', 2, 'unvme: model \\x1b[2J\\x9bA B (ERR_OUT_OF_RANGE)\n'],
    ['bug', 1, 'unvme: TypeError: undefined is not a function\n'],
    ['node', 1, 'unvme: ENOENT: no such file\n'],
    ['code', 1, ''],
  ]
  for (const [how, code, stderr] of cases) {
    t.deepEqual(await example(['fail', '--how', how]), { code, stdout: '', stderr })
  }
})

test('options reach the command under their names, with their defaults', async (t) => {
  const none = await example(['fail'])
  t.deepEqual(JSON.parse(none.stdout), { depth: 32, flush: true })
  const all = await example(['fail', '--depth', '8', '--no-flush', '--how', 'print'])
  t.deepEqual(JSON.parse(all.stdout), { how: 'print', depth: 8, flush: false })
})

test('without a terminal nothing is asked: --yes, or refused with 2', async (t) => {
  t.deepEqual(await example(['ask']), {
    code: 2,
    stdout: '',
    stderr: `cleaned up\nunvme: ${QUESTION} Not asked without a terminal: give --yes (ERR_UNVME_USAGE)\n`,
  })
  t.deepEqual(await example(['ask', '--yes']), {
    code: 0,
    stdout: 'overwritten\n',
    stderr: 'cleaned up\n',
  })
})

// Debian's bsdutils, which every system has, makes the terminal: script of util-linux.

/** Answers the question of a command line with these keys; the terminal mixes both outputs. */
async function answer(keys: string, words = '', input = '') {
  const command = `${input} '${process.execPath}' '${EXAMPLES}' ask ${words}`
  const child = spawn('script', ['-qec', command, '/dev/null'], { env: cleanEnvironment() })
  let shown = ''
  let answered = false
  child.stdout.on('data', (data: Buffer) => {
    shown += data
    if (answered || !shown.includes('[y/N]')) return
    answered = true
    child.stdin.write(keys)
  })
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, shown }
}

test('on a terminal it asks: only yes is a yes, not Ctrl-C or Ctrl-D', async (t) => {
  const yes = await answer('y\r')
  t.is(yes.code, 0)
  t.true(yes.shown.includes(`${QUESTION} [y/N]`))
  t.regex(yes.shown, /overwritten/)
  for (const keys of ['n\r', '\r', 'yeah\r', '\u0004']) {
    const no = await answer(keys)
    t.is(no.code, 1, JSON.stringify(keys))
    t.regex(no.shown, /not confirmed/)
    t.notRegex(no.shown, /overwritten/)
  }
})

test('the first Ctrl-C at a question ends the command, and lets it clean up', async (t) => {
  for (const words of ['', '--watch']) {
    const { code, shown } = await answer('\u0003', words)
    t.is(code, 130, words)
    t.regex(shown, /cleaned up/, words)
    t.notRegex(shown, /overwritten/, words)
  }
})

test('where standard input is a pipe the terminal is asked', async (t) => {
  const yes = await answer('y\r', '', 'printf "n\\nn\\n" |')
  t.is(yes.code, 0)
  t.regex(yes.shown, /overwritten/)
  const no = await answer('n\r', '2> /dev/null', 'printf "y\\ny\\n" |')
  t.is(no.code, 1)
  t.notRegex(no.shown, /overwritten/)
  const interrupted = await answer('\u0003', '--watch', 'printf "y\\ny\\n" |')
  t.is(interrupted.code, 130)
})

// What a pipe holds, unless its capacity was changed.
const PIPE_BYTES = 65536

test('copy and read: one signal ends them while standard output takes nothing', async (t) => {
  const fifo = file('stuck')
  execFileSync('mkfifo', [fifo])
  for (const words of [
    ['copy', 'sim:?size=8M', '-'],
    ['read', 'sim:?size=8M'],
  ]) {
    // Held open and never read.
    const fd = openSync(fifo, 'r+')
    try {
      const command = start(words, { stdout: fd })
      const filled = () =>
        Number(/^wchar: (\d+)$/m.exec(readProc(command.child.pid!, 'io'))?.[1]) >= PIPE_BYTES
      while (!filled()) await sleep(10)
      command.child.kill('SIGINT')
      t.is((await command.ended).code, 130, words.join(' '))
    } finally {
      closeSync(fd)
    }
  }
})
