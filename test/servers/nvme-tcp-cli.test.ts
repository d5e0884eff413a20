// `unvme serve ADDR --tcp`, as a process: what it says, and its end by a signal.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import readline from 'node:readline'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { formatKey, TLS_KEY } from '../../lib/nvme/tcp/security/keys.ts'
import { open } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { pattern } from '../support/pattern.ts'

const CLI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))
const NQN = 'nqn.2024-01.org.example:cli'
const inFolder = testFolder()

function serve(t: ExecutionContext, ...words: readonly string[]) {
  const child = spawn(process.execPath, [CLI, 'serve', ...words], { stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => void child.kill('SIGKILL'))
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  const lines = readline.createInterface({ input: child.stdout })
  return { child, lines, said: () => said, ended: once(child, 'close') }
}

for (const exclusive of [false, true]) {
  test(`serve --tcp${exclusive ? ' --exclusive' : ''}: hosts connect; Ctrl-C ends it, and an image has what was written`, async (t) => {
    const image = `sim:${inFolder(`disk-${exclusive}.img`)}?size=4M`
    const words = exclusive ? ['--exclusive'] : ['--tcp', '127.0.0.1:0']
    const { child, lines, said, ended } = serve(t, image, '--tcp', '127.0.0.1:0', '--nqn', NQN, ...words)
    const [line] = (await once(lines, 'line')) as [string]
    const address = /nvme\+tcp:\S+/.exec(line)![0]
    t.true(address.endsWith(`/${NQN}`))
    const ns = await open(`${address}?link=socket`, { recovery: 'none' })
    await ns.promises.write(pattern(4096, 7), 8)
    child.kill('SIGINT')
    await ended
    await ns.close()
    t.is(child.exitCode, 130)
    t.is(said(), 'every host in this machine, without a proof of who they are, may read and write\n')
    const reopened = await open(image)
    t.deepEqual(await reopened.promises.read(Buffer.alloc(4096), 8), pattern(4096, 7))
    await reopened.close()
  })
}

test('serve --tcp --tls-key: a host with the key connects, and no other', async (t) => {
  const host = 'nqn.2024-01.org.example:host'
  const keyFile = (name: string, first: number) => {
    const file = inFolder(name)
    fs.writeFileSync(file, `${formatKey(TLS_KEY, 1, Buffer.alloc(32, first))}\n`, { mode: 0o600 })
    return file
  }
  const [right, wrong] = [keyFile('right.key', 1), keyFile('wrong.key', 2)]
  const { child, lines, said, ended } = serve(
    t,
    ...['sim:?size=4M', '--tcp', '127.0.0.1:0', '--nqn', NQN, '--tls-key', `${host}=${right}`],
  )
  const [line] = (await once(lines, 'line')) as [string]
  const address = `${/nvme\+tcp:\S+/.exec(line)![0]}?hostnqn=${host}`
  const options = { recovery: 'none', timeout: 3000 } as const
  const ns = await open(address, { ...options, tlsKeyFile: right })
  const data = pattern(2 ** 17, 9)
  await ns.promises.write(data, 0)
  t.deepEqual(await ns.promises.read(Buffer.alloc(2 ** 17), 0), data)
  await t.throwsAsync(open(address.replace('127.0.0.1', 'localhost'), { ...options, tlsKeyFile: wrong }))
  await t.throwsAsync(open(`${address.replace('127.0.0.1', 'localhost')}&link=socket`, options))
  await ns.close()
  child.kill('SIGINT')
  await ended
  t.regex(said(), /has a key \(TLS\)/)
})

test('serve --tcp refuses what it should: other machines’ addresses, and options that do not belong together', async (t) => {
  for (const [words, message] of [
    [['sim:?size=4M', '--tcp', '0.0.0.0:0'], /--allow-remote/],
    [
      ['sim:?size=4M', '--tcp', '127.0.0.1:0', '--exclusive', '--read-only'],
      /readOnly is for open namespaces/,
    ],
    [['sim:?size=4M', '--tcp', '127.0.0.1:0', '--exclusive', '--also', 'sim:'], /--exclusive is for one/],
    [['sim:?size=4M', '--tcp', '127.0.0.1:0', '--host-nqn', 'me'], /no host NQN/],
    [['sim:?size=4M', '--tcp', '127.0.0.1:0', '--dhchap-key', 'x'], /NQN=FILE/],
    [
      ['sim:?size=4M', '--tcp', '127.0.0.1:0', '--ana', 'optimized', '--ana', 'change'],
      /2 states for 1 listeners/,
    ],
  ] as const) {
    const { child, said, ended } = serve(t, ...words)
    await ended
    t.not(child.exitCode, 0)
    t.regex(said(), message)
  }
})
