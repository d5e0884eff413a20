// What works on other systems and processors: programs that take this machine for one of those.

import test from 'ava'
import { testFolder } from '../support/folder.ts'
import { run } from '../support/run.ts'
import { HOST, NQN } from '../support/tcp-target.ts'
import { forkTarget } from '../support/tcp-target-child.ts'

const inFolder = testFolder()
const pathOf = (file: string) => new URL(file, import.meta.url).pathname
const PROGRAM = pathOf('./other-machine-program.js')
const COMMAND = pathOf('../../src/cli/main.js')

/** Lines that a program prints on the machine. */
async function on(machine: string, program: string, words: readonly string[]) {
  const NODE_OPTIONS = `--import=${pathOf('../support/other-machine.js')}`
  const { code, stdout, stderr } = await run(program, words, undefined, {
    NODE_OPTIONS,
    UNVME_TEST_MACHINE: machine,
    XDG_CONFIG_HOME: inFolder('config'),
  })
  return { code, stderr, lines: stdout.trim().split('\n') }
}

for (const machine of ['darwin arm64', 'linux arm64', 'win32 x64']) {
  test(`NVMe over TCP works on ${machine}, and loads no native code where there is no Linux`, async (t) => {
    const target = await forkTarget('sim:?size=8M')
    t.teardown(() => target.kill())
    const address = `nvme+tcp://127.0.0.1:${target.port}/${NQN}?${HOST}`
    const { lines, stderr } = await on(machine, PROGRAM, [address, `${address}&link=raw`])
    t.is(lines[0], 'works', stderr)
    if (machine.startsWith('linux')) t.is(lines.length, 2)
    else t.regex(lines[1]!, /^ERR_UNVME_UNSUPPORTED: .*link=raw.* need Linux/)
    const info = await on(machine, COMMAND, ['info', address, '-o', 'json'])
    t.is(info.code, 0, info.stderr)
    t.is(JSON.parse(info.lines.join('\n')).transport, 'tcp')
    const service = ['discover', `nvme+tcp://127.0.0.1:${target.port}`]
    t.is((await on(machine, COMMAND, service)).code, 0, 'with an identity of its own')
  })
}

test('sim: works on Linux on arm64 within the thread alone, and says so where it does not', async (t) => {
  const addresses = ['sim:?size=8M', `sim:${inFolder('disk.img')}?size=8M`]
  const { lines } = await on('linux arm64', PROGRAM, [
    ...addresses,
    'sim:?thread=1',
    'vfio-user:/x',
    '0a:00.0',
  ])
  t.deepEqual(lines.slice(0, 2), ['works', 'works'])
  for (const line of lines.slice(2)) {
    t.regex(line, /^ERR_UNVME_UNSUPPORTED: .*Linux on x86-64 is needed, this is linux on arm64/)
  }
  t.is(lines.length, 5)
})

test('elsewhere than on Linux every address but nvme+tcp: rejects with UnsupportedError', async (t) => {
  const addresses = ['sim:?size=8M', 'sim:?thread=1', 'vfio-user:/x', '0a:00.0', '/dev/nvme0n1']
  const { lines } = await on('darwin arm64', PROGRAM, addresses)
  t.is(lines.length, addresses.length)
  for (const line of lines) t.regex(line, /^ERR_UNVME_UNSUPPORTED: .* is needed, this is darwin on arm64/)
})

test('elsewhere than on Linux unvme lists nothing, and helps', async (t) => {
  for (const words of [['--help'], ['version'], ['list'], ['list-subsys'], ['gen-tls-key', '--help']]) {
    const { code, stderr } = await on('darwin arm64', COMMAND, words)
    t.is(code, 0, `${words}: ${stderr}`)
  }
})
