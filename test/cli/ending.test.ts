import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { cleanEnvironment } from './command.ts'

const EXAMPLES = fileURLToPath(new URL('./example-commands.js', import.meta.url))

interface Ended {
  code: number | null
  stdout: string
  stderr: string
}

/** Starts an example; `act` is called when it has printed its first line. */
async function example(words: string[], act?: (child: ChildProcess) => void): Promise<Ended> {
  const child = spawn(process.execPath, [EXAMPLES, ...words], {
    env: cleanEnvironment(),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output = { stdout: '', stderr: '' }
  child.stderr.on('data', (data: Buffer) => {
    output.stderr += data
  })
  child.stdout.on('data', (data: Buffer) => {
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

test('a reader that goes away half-way ends an endless output quietly: 141', async (t) => {
  const { code, stderr } = await example(['endless'], (child) => child.stdout!.destroy())
  t.is(code, 141)
  t.is(stderr, '')
})

test('errors: one line with the code, 2 for what a better command line mends, else 1', async (t) => {
  const cases: [string, number, string][] = [
    ['range', 2, 'unvme: slba 12 is past the end (ERR_OUT_OF_RANGE)\n'],
    ['system', 1, "unvme: EBUSY: it is taken, open '/dev/x'\n"],
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
    stderr: 'unvme: Overwrite everything? Not asked without a terminal: give --yes (ERR_UNVME_USAGE)\n',
  })
  t.deepEqual(await example(['ask', '--yes']), { code: 0, stdout: 'overwritten\n', stderr: '' })
})

// Debian's bsdutils, which every system has, makes the terminal: script of util-linux.

/** Answers the question with these keys; the terminal mixes both outputs. */
async function answer(keys: string) {
  const command = `'${process.execPath}' '${EXAMPLES}' ask`
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
  t.regex(yes.shown, /Overwrite everything\? \[y\/N\][\s\S]*overwritten/)
  for (const keys of ['n\r', '\r', 'yeah\r', '\u0004']) {
    const no = await answer(keys)
    t.is(no.code, 1, JSON.stringify(keys))
    t.regex(no.shown, /not confirmed/)
    t.notRegex(no.shown, /overwritten/)
  }
  const interrupted = await answer('\u0003')
  t.is(interrupted.code, 130)
  t.notRegex(interrupted.shown, /overwritten/)
})
