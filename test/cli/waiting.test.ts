import { spawn } from 'node:child_process'
import { once } from 'node:events'
import test from 'ava'
import { waitUntilOver } from '../../src/cli/progress.ts'
import { testFolder } from '../support/folder.ts'
import { cleanEnvironment, MAIN, unvme } from './command.ts'

const file = testFolder()

function fakeTerminal(isTTY: boolean) {
  const written: string[] = []
  return { isTTY, written, write: (text: string) => written.push(text) > 0 }
}

test('on a terminal: the share that is done, and no line left at the end', async (t) => {
  const terminal = fakeTerminal(true)
  const shares = [0, 0.425]
  const look = async () => shares.shift() ?? 'over'
  await waitUntilOver('Test', look, new AbortController().signal, terminal)
  t.deepEqual(terminal.written, ['\rTest: 0 %\u001b[K', '\rTest: 42 %\u001b[K', '\r\u001b[K'])
})

test('elsewhere: nothing; what fails, or is aborted, ends it', async (t) => {
  const terminal = fakeTerminal(false)
  const { signal } = new AbortController()
  await waitUntilOver('Test', async () => 'over', signal, terminal)
  const failure = new Error('no such log')
  await t.throwsAsync(
    waitUntilOver('Test', () => Promise.reject(failure), signal, terminal),
    { is: failure },
  )
  const aborted = waitUntilOver('Test', async () => 0.5, AbortSignal.abort('enough'), terminal)
  await t.throwsAsync(aborted, { code: 'ABORT_ERR' })
  t.deepEqual(terminal.written, [])
})

test('Ctrl-C ends the waiting, and not the self-test', async (t) => {
  const address = `sim:${file('disk.img')}?size=1M&operation=3600s`
  const words = ['device-self-test', address, '-s', 'extended', '--wait']
  const child = spawn(process.execPath, [MAIN, ...words], { env: cleanEnvironment() })
  const [started] = await once(child.stdout.setEncoding('utf8'), 'data')
  t.is(started, 'Extended device self-test started\n')
  child.kill('SIGINT')
  t.deepEqual(await once(child, 'close'), [130, null])
  const { stdout } = await unvme(['device-self-test', address])
  t.regex(stdout, /^Current operation {2}: 0x2 \(extended\)\n/)
})
