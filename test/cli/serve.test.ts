// `unvme serve` as a process, with `unvme` as its client.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, statSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import { open } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { pattern } from '../support/pattern.ts'
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

async function start(t: ExecutionContext, ...words: readonly string[]) {
  const child = spawn(process.execPath, [MAIN, 'serve', ...words], { env: cleanEnvironment() })
  t.teardown(() => void child.kill('SIGKILL'))
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text
  })
  const [said] = await once(child.stdout.setEncoding('utf8'), 'data')
  return { child, said, errors: () => errors, ended: once(child, 'close') }
}

test('--vfio-user: namespaces of devices; Ctrl-C answers, flushes, and takes the socket away', async (t) => {
  const socket = file('namespaces')
  const image = `sim:${file('served.img')}?size=4M`
  const more = ['--also', 'sim:?size=1M&lba=4096', '--queues', '2']
  const { child, said, errors, ended } = await start(t, image, '--vfio-user', socket, ...more)
  const address = `vfio-user:${socket}`
  t.is(said, `serving ${image}, sim:?size=1M&lba=4096 at ${address}\n`)
  t.is(statSync(socket).mode & 0o777, 0o600)
  const ns = await open(address, { qcount: 0 })
  t.is(ns.qcount, 2)
  const second = await open(`${address}?nsid=2`)
  t.is(second.blocksize, 4096)
  await second.close()
  await ns.promises.write(pattern(65_536, 3), 8)
  child.kill('SIGINT')
  t.deepEqual(await ended, [130, null])
  t.is(errors(), 'processes of this user can read and write it\n')
  t.false(existsSync(socket))
  await t.throwsAsync(ns.promises.read(Buffer.alloc(512), 0), { code: 'ERR_UNVME_DEVICE_REMOVED' })
  await ns.close()
  const reopened = await open(image)
  t.deepEqual(await reopened.promises.read(Buffer.alloc(65_536), 8), pattern(65_536, 3))
  await reopened.close()
})

test('--vfio-user: what was answered after a Flush survives a kill -9, and the next server has the socket', async (t) => {
  const socket = file('killed')
  const image = `sim:${file('killed.img')}?size=4M`
  const { child, ended } = await start(t, image, '--vfio-user', socket)
  const ns = await open(`vfio-user:${socket}`)
  await ns.promises.write(pattern(65_536, 5), 64)
  await ns.promises.flush()
  child.kill('SIGKILL')
  await ended
  await ns.close().catch(() => {})
  const again = await start(t, image, '--vfio-user', socket, '--read-only')
  const reader = await open(`vfio-user:${socket}`)
  t.deepEqual(await reader.promises.read(Buffer.alloc(65_536), 64), pattern(65_536, 5))
  await t.throwsAsync(reader.promises.write(Buffer.alloc(512), 0), { message: /Write Protected/ })
  await reader.close()
  t.is(again.errors(), 'processes of this user can read it\n')
  again.child.kill('SIGTERM')
  t.deepEqual(await again.ended, [143, null])
})

test('--vfio-user --exclusive: a software controller with all of its commands', async (t) => {
  const socket = file('exclusive')
  const { child, ended } = await start(t, 'sim:?size=1M&ns=3', '--vfio-user', socket, '--exclusive')
  const { stdout } = await unvme(['list-ns', `vfio-user:${socket}`, '-o', 'json'])
  t.true(stdout.includes('3'), stdout)
  const { code } = await unvme(['format', `vfio-user:${socket}?nsid=2`, '--lbaf', '1', '--yes'])
  t.is(code, 0)
  child.kill('SIGINT')
  await ended
})

test('bad arguments', async (t) => {
  const cases: [string, RegExp][] = [
    ['serve', /missing required argument 'ADDR'/],
    ['serve sim:', /'sim:': the path of a socket is needed/],
    [`serve vfio-user:${file('s')} --device 0a:00.0`, /\(ERR_UNVME_ADDRESS\)/],
    [`serve vfio-user:${file('s')} --doorbells none`, /'none' is none of mapped, shadow/],
    [`serve vfio-user:${file('none/s')}`, /there is no folder/],
    [`serve sim: --vfio-user ${file('s')} --tcp 127.0.0.1:0`, /one of them/],
    [`serve sim: --vfio-user ${file('s')} --device sim:`, /--device is for vfio-user:PATH/],
    [`serve sim: --vfio-user ${file('s')} --exclusive --also sim:`, /--exclusive is for one/],
    [`serve sim:?size=1M --vfio-user ${file('none/s')}`, /there is no folder/],
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
