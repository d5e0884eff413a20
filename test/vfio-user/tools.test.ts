// The `unvme` command on a controller of another process: every invocation is a client of its own, one after another.

import fs from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { unvme } from '../cli/command.ts'
import { pattern } from '../support/pattern.ts'
import { newSocketPath, startServer } from '../support/server.ts'

const SHOWS = [
  ['info'],
  ['id-ctrl'],
  ['id-ns'],
  ['list-ns'],
  ['show-regs'],
  ['smart-log'],
  ['error-log'],
  ['fw-log'],
  ['effects-log'],
  ['self-test-log'],
]

for (const doorbells of ['mapped', 'shadow'] as const) {
  test.serial(`the tools, doorbells ${doorbells}`, async (t) => {
    const server = await startServer({ device: 'sim:?size=16M&lba=4096&ns=2', doorbells })
    const { address, socket } = server
    const file = `${socket}.img`
    const back = `${socket}.back`
    const data = pattern(1_000_003, 5)
    fs.writeFileSync(file, data)
    const run = async (words: string[], code = 0) => {
      const outcome = await unvme(words)
      t.is(outcome.code, code, `${words.join(' ')}: ${outcome.stderr}`)
      return outcome
    }
    for (const words of SHOWS) t.not((await run([...words, `${address}?nsid=1`])).stdout, '', words[0])

    await run(['copy', file, `${address}?nsid=2`, '--dst-slba', '7', '--verify', '--yes'])
    // What one process wrote, the next reads.
    await run(['verify', file, `${address}?nsid=2`, '--dst-slba', '7'])
    await run(['read', `${address}?nsid=2`, back, '--slba', '7', '--bytes', String(data.length)])
    t.true(fs.readFileSync(back).equals(data))
    const { stdout } = await run(['read', address, '--nlb', '1', '--hex'])
    t.regex(stdout, /^00000000 /, 'the other namespace is untouched')
    await run(['write-zeroes', `${address}?nsid=2`, '-s', '7', '-c', '1', '--yes'])
    t.regex(
      (await run(['verify', file, `${address}?nsid=2`, '--dst-slba', '7'], 1)).stdout,
      /LBA 7, byte 0|byte 0/,
    )
    await run(['flush', `${address}?nsid=2`])

    const { stdout: report } = await run(
      ['bench', address, '--rw', 'randread', '--iodepth', '8', '--runtime', '200ms', '-o', 'json'].concat(
        doorbells === 'mapped' ? ['--numjobs', '2'] : [],
      ),
    )
    t.true(JSON.parse(report).jobs.length > 0)

    const missing = await run(['info', `vfio-user:${socket}-missing`], 2)
    t.regex(missing.stderr, /no such socket; is the server running\?/)
    await run(['info', `${address}?nsid=3`], 2)
    await server.stop()
    fs.rmSync(file)
    fs.rmSync(back)
  })
}

test.serial('a folder stands for the socket cntrl in it, for the server and for clients', async (t) => {
  const folder = newSocketPath()
  fs.mkdirSync(folder)
  const server = await startServer({ device: 'sim:?size=16M' }, folder)
  t.true(fs.existsSync(path.join(folder, 'cntrl')))
  const { code, stdout } = await unvme(['info', `vfio-user:${folder}`])
  t.is(code, 0)
  t.regex(stdout, /unvme simulated NVMe/)
  await server.stop()
})
