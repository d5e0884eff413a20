// One client after the other, what ends a session, and whose the socket's file is.

import fs from 'node:fs'
import test from 'ava'
import { REGION } from '../../lib/vfio-abi/device.ts'
import { COMMAND } from '../../lib/vfio-user/constants.ts'
import { readable } from '../../lib/vfio-user/socket.ts'
import { encodeMessage } from '../../lib/vfio-user/structs.ts'
import { open, type Server, serve } from '../../src/index.ts'
import { atEnd } from '../support/at-end.ts'
import { newSocketPath, startServer } from '../support/server.ts'
import { CSTS, register } from './raw-controller.ts'
import { descriptorsOf, errnoNamed, hex, newMemory, VERSION, Wire } from './wire.ts'

test.serial(
  'one client at a time: the version reply of the second comes when the first has left',
  async (t) => {
    const server = await startServer({ device: 'sim:?size=4M' })
    const first = Wire.connect(server.socket).negotiate()
    const second = Wire.connect(server.socket)
    second.raw(encodeMessage({ id: 9, command: COMMAND.VERSION, flags: 0 }, VERSION))
    // However often the first asks, the second is not answered.
    for (let i = 0; i < 100; i++) register(first, CSTS)
    t.false(await readable(second.fd, 0))
    first.close()
    t.is(second.next()?.header.id, 9)
    t.is(register(second, CSTS), 0)
    second.close()
    await server.stop()
  },
)

test.serial('who connects and says nothing is let go, and the next one served', async (t) => {
  const server = await startServer({ device: 'sim:?size=4M' })
  const silent = Wire.connect(server.socket)
  const ns = await open(server.address)
  t.is(silent.next(), null)
  await ns.promises.flush()
  await ns.close()
  silent.close()
  await server.stop()
})

test.serial(
  'what can not be cut out of the stream gets an error reply, and ends the session; the next client is served',
  async (t) => {
    const server = await startServer({ device: 'sim:?size=4M' })
    const before = descriptorsOf(server.child.pid!)
    for (const [what, bytes] of [
      ['a size of 0', hex('0100 0400 00000000 00000000 00000000')],
      ['a size below the header', hex('0100 0400 0f000000 00000000 00000000')],
      ['a size of 4 GiB', hex('0100 0400 ffffffff 00000000 00000000')],
    ] as const) {
      const wire = Wire.connect(server.socket).negotiate()
      wire.raw(bytes)
      t.like(wire.next()?.header, { id: 1, command: 4, flags: 0x21, errno: errnoNamed('EINVAL') }, what)
      t.is(wire.next(), null, what)
      wire.close()
    }
    const half = Wire.connect(server.socket).negotiate()
    const { fd, end } = newMemory(4096)
    half.raw(hex('0100 0200 30000000 0000'), [fd])
    half.close()
    const flooding = Wire.connect(server.socket).negotiate()
    flooding.raw(hex('0100 0400 10000000 00000000 00000000'), new Array(9).fill(fd))
    t.is(flooding.next()?.header.errno, undefined, 'nine descriptors')
    flooding.close()
    const last = Wire.connect(server.socket).negotiate()
    t.is(register(last, CSTS), 0)
    last.close()
    t.is(Wire.connect(server.socket).negotiate().read(REGION.BAR0, CSTS).readUInt32LE(), 0)
    t.deepEqual(descriptorsOf(server.child.pid!).filter(notOfSessions), before.filter(notOfSessions))
    await server.stop()
    end()
  },
)

// The doorbells' file is made anew for each client, and the connection is open while there is one.
const notOfSessions = (link: string) => !link.startsWith('socket:')

test.serial(
  'a socket that a dead server left is replaced; a living one, a file or a missing folder are not',
  async (t) => {
    const socket = newSocketPath()
    const address = `vfio-user:${socket}`
    const killed = await startServer({ device: 'sim:?size=4M' }, socket)
    await killed.stop('SIGKILL')
    t.true(fs.existsSync(socket))
    await using server = closing(await serve(address, { device: 'sim:?size=4M' }))
    await t.throwsAsync(serve(address), { code: 'ERR_UNVME_IN_USE', message: /another server listens/ })
    const file = `${socket}-file`
    fs.writeFileSync(file, 'data')
    await t.throwsAsync(serve(`vfio-user:${file}`), { code: 'ERR_UNVME_ADDRESS', message: /no socket/ })
    t.is(fs.readFileSync(file, 'utf8'), 'data')
    fs.symlinkSync('/nowhere', `${file}-link`)
    await t.throwsAsync(serve(`vfio-user:${file}-link`), { code: 'ERR_UNVME_ADDRESS' })
    await t.throwsAsync(serve('vfio-user:/no/such/folder/cntrl'), {
      code: 'ERR_UNVME_ADDRESS',
      message: /no folder/,
    })
    await t.throwsAsync(serve(`vfio-user:/tmp/${'x'.repeat(120)}`), {
      code: 'ERR_UNVME_ADDRESS',
      message: /107/,
    })
    await t.throwsAsync(serve(`${address}-2?nsid=1`), {
      code: 'ERR_UNVME_ADDRESS',
      message: /every namespace/,
    })
    await t.throwsAsync(serve(`${address}-2`, { device: 'sim:?thread=1' }), { code: 'ERR_UNVME_ADDRESS' })
    await t.throwsAsync(serve(`${address}-2`, { device: 'sim:?nsid=1' }), { code: 'ERR_UNVME_ADDRESS' })
    await t.throwsAsync(serve(`${address}-2`, { device: 'sim:no-such.img' }), { code: 'ERR_UNVME_IMAGE' })
    t.false(fs.existsSync(`${socket}-2`))
    await server.close()
    t.false(fs.existsSync(socket), 'its socket goes with it')
  },
)

test.serial('close leaves the socket of whoever has taken its place', async (t) => {
  const address = `vfio-user:${newSocketPath()}`
  const first = await serve(address, { device: 'sim:?size=4M' })
  fs.rmSync(first.path)
  const second = await serve(address, { device: 'sim:?size=4M' })
  for (const server of [first, second]) atEnd(async () => server.close())
  await first.close()
  t.true(fs.existsSync(second.path))
  await second.close()
})

function closing(server: Server): Server & AsyncDisposable {
  return { ...server, [Symbol.asyncDispose]: async () => server.close() }
}
