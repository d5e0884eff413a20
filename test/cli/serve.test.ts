// `unvme serve` as a process, with `unvme` as its client.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import test from 'ava'
import { testFolder } from '../support/folder.ts'
import { cleanEnvironment, MAIN, unvme } from './command.ts'

const file = testFolder()

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  test(`serves until ${signal}, and takes its socket away`, async (t) => {
    const socket = file(`cntrl-${code}`)
    const address = `vfio-user:${socket}`
    const words = ['serve', address, '--device', 'sim:?size=1M&serial=SERVED', '--doorbells', 'shadow']
    const child = spawn(process.execPath, [MAIN, ...words], { env: cleanEnvironment() })
    const [said] = await once(child.stdout.setEncoding('utf8'), 'data')
    t.is(said, `serving sim:?size=1M&serial=SERVED at ${address}\n`)
    const { stdout, stderr } = await unvme(['info', address, '-o', 'json'])
    t.is(stderr, '')
    t.like(JSON.parse(stdout), { sn: 'SERVED', transport: 'vfio-user', blockcount: 2048 })
    child.kill(signal)
    t.deepEqual(await once(child, 'close'), [code, null])
    t.false(existsSync(socket))
  })
}

test('bad arguments', async (t) => {
  const cases: [string, RegExp][] = [
    ['serve', /missing required argument 'ADDR'/],
    ['serve sim:', /'sim:': the path of a socket is needed/],
    [`serve vfio-user:${file('s')} --device 0a:00.0`, /\(ERR_UNVME_ADDRESS\)/],
    [`serve vfio-user:${file('s')} --doorbells none`, /'none' is none of mapped, shadow/],
    [`serve vfio-user:${file('none/s')}`, /there is no folder/],
  ]
  for (const [line, message] of cases) {
    const { code, stdout, stderr } = await unvme(line.split(' '))
    t.regex(stderr, message, line)
    t.is(stdout, '', line)
    t.is(code, 2, line)
  }
})

test('what it serves is in use: the socket and the image', async (t) => {
  const address = `vfio-user:${file('cntrl-busy')}`
  const device = `sim:${file('disk.img')}?size=1M`
  const words = ['serve', address, '--device', device]
  const child = spawn(process.execPath, [MAIN, ...words], { env: cleanEnvironment() })
  await once(child.stdout, 'data')
  const again = await unvme(['serve', address])
  t.is(again.code, 1)
  t.regex(again.stderr, /is in use: another server listens there \(ERR_UNVME_IN_USE\)/)
  t.is((await unvme(['info', device])).code, 1)
  child.kill('SIGINT')
  await once(child, 'close')
  t.is((await unvme(['info', device])).code, 0)
})
