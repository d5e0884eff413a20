import { spawn } from 'node:child_process'
import test from 'ava'
import { confirmOverwrite } from '../../src/cli/transfer.ts'
import type { Endpoint } from '../../src/copy/endpoint.ts'
import type { Namespace } from '../../src/index.ts'
import { startServer } from '../support/server.ts'
import { cleanEnvironment, MAIN, unvme } from './command.ts'

// What an overwrite of hardware needs of a side: no test has hardware that it may overwrite.
const ns = { id: 2, mn: 'MODEL', sn: 'SERIAL', blocksize: 512 } as Namespace
const device = { name: '0a:00.0/2', hardware: true, ns, slba: 100, blocksize: 512, size: 1e9 } as Endpoint
const disk = {
  name: '/dev/sdx',
  hardware: true,
  ns: null,
  slba: 0,
  blocksize: 1,
  size: undefined,
} as Endpoint

test('--yes and software controllers are not asked', async (t) => {
  await t.notThrowsAsync(confirmOverwrite(device, 1_000_000, true))
  await t.notThrowsAsync(confirmOverwrite({ ...device, hardware: false }, 1_000_000, false))
})

// Debian's bsdutils, which every system has, makes the terminal: script of util-linux.

/** Runs a command line of a shell on a terminal, answers its question with `line`; returns what it printed. */
async function onTerminal(command: string, line: string): Promise<string> {
  const child = spawn('script', ['-qec', command, '/dev/null'], { env: cleanEnvironment() })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    if (!output.includes('[y/N]') && text.includes('[y/N]')) child.stdin.write(line)
    output += text
  })
  await new Promise((resolve) => child.on('close', resolve))
  return output
}

/** A program that asks before it overwrites `bytes` of a side. */
function program(side: Endpoint, bytes: number | undefined): string[] {
  const module = new URL('../../src/cli/transfer.js', import.meta.url)
  const code = `
    import { confirmOverwrite } from '${module}'
    const side = ${JSON.stringify(side)}
    await confirmOverwrite(side, ${bytes}, false)
      .then(() => console.log('WRITES'), ({ code, message }) => console.log(code, message))
  `
  return ['--input-type=module', '-e', code]
}

function answer(line: string): Promise<string> {
  const words = [process.execPath, ...program(device, 512)]
  return onTerminal(words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' '), line)
}

test('without a terminal, real devices are refused: the message says what would be lost', async (t) => {
  const refused = async (side: Endpoint, bytes: number | undefined) => {
    // A session of its own has no terminal.
    const child = spawn(process.execPath, program(side, bytes), { detached: true, env: cleanEnvironment() })
    let output = ''
    for await (const text of child.stdout.setEncoding('utf8')) output += text
    return output
  }
  t.is(
    await refused(device, 1_000_000),
    'ERR_UNVME_USAGE Overwrite 1.00 MB of 0a:00.0/2, namespace 2 (MODEL, SERIAL): LBA 100 to 2053? Not asked without a terminal: give --yes\n',
  )
  t.regex(await refused(device, undefined), /1\.00 GB of .*LBA 100 to 1953224\?/)
  t.regex(await refused(disk, undefined), /^ERR_UNVME_USAGE Overwrite block device \/dev\/sdx\?/)
})

test('on a terminal only a yes will do', async (t) => {
  const yes = await answer('y\r')
  t.true(yes.includes('Overwrite 512 B of 0a:00.0/2, namespace 2 (MODEL, SERIAL): LBA 100 to 100? [y/N]'))
  t.true(yes.includes('WRITES'))
  for (const line of ['\r', 'n\r', 'yeah\r', '\u0004']) {
    const output = await answer(line)
    t.true(output.includes('ABORT_ERR'), line)
    t.false(output.includes('WRITES'), line)
  }
})

test('an admin command that destroys asks on the terminal, and does it only after a yes', async (t) => {
  const { address, stop } = await startServer({ device: 'sim:?size=1M' })
  const format = `'${process.execPath}' '${MAIN}' format ${address} -b 4096`
  const no = await onTerminal(format, 'n\r')
  t.regex(no, /namespace 1 of vfio-user:.* \(unvme simulated NVMe, .*\)\? \[y\/N\]/)
  t.true(no.includes('unvme: The operation was aborted: not confirmed'))
  t.is(JSON.parse((await unvme(['id-ns', address, '-o', 'json'])).stdout).flbas, 0)
  const yes = await onTerminal(format, 'y\r')
  t.true(yes.includes('Success formatting namespace:1'))
  t.is(JSON.parse((await unvme(['id-ns', address, '-o', 'json'])).stdout).flbas, 1)
  await stop()
})
