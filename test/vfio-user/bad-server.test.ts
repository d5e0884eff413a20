// Sockets that are no vfio-user server's, and servers that break the protocol: a typed error, its cause, in time.

import fs from 'node:fs'
import net from 'node:net'
import test from 'ava'
import { DeviceRemovedError, ProtocolError, SystemCallError, UnvmeError } from '../../lib/errors.ts'
import { openVfioUser } from '../../lib/vfio-user/index.ts'
import { open } from '../../src/index.ts'
import { newSocketPath, startServer } from '../support/server.ts'
import { startFake, type Wrong } from './fake-server.ts'
import { descriptorsOf, hex, Wire } from './wire.ts'

const TIMEOUT = 200
const PROTOCOL = 'ERR_UNVME_PROTOCOL'
const REMOVED = 'ERR_UNVME_DEVICE_REMOVED'

test.serial('nothing there, or no one listens', async (t) => {
  const path = newSocketPath()
  const folder = `${path}-folder`
  fs.mkdirSync(folder)
  fs.writeFileSync(`${path}-file`, '')
  const cases: [address: string, message: RegExp][] = [
    [`vfio-user:${path}`, /no such socket; is the server running/],
    [`vfio-user:${folder}`, /cntrl: there is no such socket/],
    [`vfio-user:${path}-file`, /is no socket/],
    [`vfio-user:${path}-file/cntrl`, /no such socket/],
    [`vfio-user:/tmp/${'x'.repeat(300)}`, /ENAMETOOLONG/],
    ['vfio-user:', /path of a socket is needed/],
    [`vfio-user:${path}?nsid=0`, /bad value nsid=0/],
    [`vfio-user:${path}?nsid=1&nsid=2`, /given twice/],
    [`vfio-user:${path}?lba=512`, /unknown option 'lba'/],
  ]
  for (const [address, message] of cases) {
    await t.throwsAsync(open(address), { code: 'ERR_UNVME_ADDRESS', message }, address)
  }
  const killed = await startServer({}, path)
  await killed.stop('SIGKILL')
  const error = await t.throwsAsync(open(`vfio-user:${path}`), { message: /no one listens/ })
  t.like(error?.cause, { code: 'ECONNREFUSED', syscall: 'connect' })
})

/** A server of Node's own, which knows nothing of vfio-user. */
async function stranger(onConnection: (socket: net.Socket) => void) {
  const path = newSocketPath()
  const sockets = new Set<net.Socket>()
  const server = net.createServer((socket) => {
    sockets.add(socket.on('error', () => {}))
    onConnection(socket)
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  return {
    path,
    close() {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}

const strangers: [name: string, onConnection: (socket: net.Socket) => void, code: string, message: RegExp][] =
  [
    ['closes at once', (socket) => socket.destroy(), REMOVED, /the server .* has gone/],
    [
      'greets as others do',
      (socket) => socket.write('220 mail.example.org ESMTP\r\n'),
      PROTOCOL,
      /a message of \d+ bytes/,
    ],
    ['answers with zeroes', (socket) => socket.write(Buffer.alloc(64)), PROTOCOL, /a message of 0 bytes/],
    [
      'reads, and says nothing',
      (socket) => socket.resume(),
      PROTOCOL,
      /no answer within 200 ms; is it a vfio-user server/,
    ],
    ['closes when it has read', (socket) => socket.once('data', () => socket.end()), REMOVED, /has gone/],
    ['sends half a header', (socket) => socket.write(hex('0000 0100')), PROTOCOL, /no answer within 200 ms/],
  ]

for (const [name, onConnection, code, message] of strangers) {
  test.serial(`not a vfio-user server: ${name}`, async (t) => {
    const { path, close } = await stranger(onConnection)
    const before = descriptorsOf().length
    await t.throwsAsync(openVfioUser(path, { timeout: TIMEOUT }), { code, message })
    close()
    await new Promise(setImmediate)
    t.true(descriptorsOf().length <= before)
  })
}

test.serial('a server that serves another client is in use, and says so; then it is free', async (t) => {
  const server = await startServer({ device: 'sim:?size=4M' })
  const first = Wire.connect(server.socket).negotiate()
  await t.throwsAsync(openVfioUser(server.socket, { timeout: TIMEOUT }), {
    code: 'ERR_UNVME_IN_USE',
    message: /did not turn to this client within 200 ms/,
  })
  // One that waits is served as soon as the first has left.
  const waiting = open(server.address)
  await new Promise((resolve) => setTimeout(resolve, 50))
  first.close()
  const ns = await waiting
  await ns.close()
  await server.stop()
})

// During the opening: which error, and what caused it.
const wrongs: [name: string, wrong: Wrong, code: string, message: RegExp][] = [
  [
    'another major version',
    { command: 1, kind: 'payload', bytes: hex('0100 0000') },
    PROTOCOL,
    /speaks vfio-user 1.0/,
  ],
  [
    'version refused',
    { command: 1, kind: 'error', errno: 22 },
    PROTOCOL,
    /does not take vfio-user 0.1: EINVAL/,
  ],
  [
    'version too short',
    { command: 1, kind: 'payload', bytes: hex('0000') },
    PROTOCOL,
    /VERSION: 2 bytes in the reply: 4/,
  ],
  [
    'version without JSON that is one',
    { command: 1, kind: 'payload', bytes: hex('0000 0100 7b00') },
    PROTOCOL,
    /VERSION can't be understood/,
  ],
  [
    'no PCI device',
    { command: 4, kind: 'payload', bytes: hex('10000000 01000000 09000000 05000000') },
    'ERR_UNVME_UNSUPPORTED',
    /no PCI device/,
  ],
  ['device info refused', { command: 4, kind: 'error', errno: 95 }, 'ENOTSUP', /GET_INFO/],
  ['an unknown errno', { command: 4, kind: 'error', errno: 4000 }, 'errno 4000', /refused by the server/],
  [
    'device info too short',
    { command: 4, kind: 'short', count: 1 },
    PROTOCOL,
    /GET_INFO can't be understood/,
  ],
  [
    'interrupt info too short',
    { command: 7, kind: 'short', count: 12 },
    PROTOCOL,
    /GET_IRQ_INFO can't be understood/,
  ],
  [
    'configuration space that is shorter than asked for',
    { command: 9, kind: 'short', count: 1 },
    PROTOCOL,
    /REGION_READ: 17 bytes in the reply: 18/,
  ],
  [
    'configuration space that is longer',
    { command: 9, kind: 'long', count: 2 },
    PROTOCOL,
    /REGION_READ: 20 bytes in the reply, not 18/,
  ],
  [
    'a chain of capabilities without end',
    {
      command: 9,
      after: 2,
      always: true,
      kind: 'payload',
      bytes: hex('5000000000000000 07000000 02000000 0550'),
    },
    PROTOCOL,
    /a chain of capabilities without end/,
  ],
  ['command register refused', { command: 10, kind: 'error', errno: 1 }, 'EPERM', /REGION_WRITE/],
  [
    'region info too short',
    { command: 5, kind: 'short', count: 40 },
    PROTOCOL,
    /GET_REGION_INFO can't be understood/,
  ],
  [
    'capabilities cut off',
    { command: 5, kind: 'short', count: 16 },
    PROTOCOL,
    /GET_REGION_INFO can't be understood/,
  ],
  [
    'a BAR that is too small',
    {
      command: 5,
      kind: 'payload',
      bytes: hex('20000000 03000000 00000000 00000000 0010000000000000 0000000000000000'),
    },
    PROTOCOL,
    /BAR 0 of 4096 bytes/,
  ],
  [
    'doorbells without their descriptor',
    { command: 5, kind: 'descriptors', count: 0 },
    PROTOCOL,
    /no descriptor came with it/,
  ],
  ['too many descriptors', { command: 5, kind: 'descriptors', count: 9 }, PROTOCOL, /9 descriptors/],
  [
    'more descriptors than any message can have',
    { command: 5, kind: 'descriptors', count: 40 },
    PROTOCOL,
    /descriptors were lost/,
  ],
  [
    'descriptors where none belong',
    { command: 4, kind: 'descriptors', count: 1 },
    PROTOCOL,
    /GET_INFO: 1 descriptors/,
  ],
  ['another id', { command: 4, kind: 'id' }, PROTOCOL, /the reply has id 2, which no request has/],
  ['no reply and no command', { command: 4, kind: 'type' }, PROTOCOL, /a message of type 5/],
  ['garbage', { command: 7, kind: 'garbage' }, PROTOCOL, /a message of \d+ bytes/],
  ['silence', { command: 4, kind: 'silence' }, PROTOCOL, /no answer within 200 ms/],
  [
    'a message that never ends',
    { command: 9, kind: 'stuck', count: 20 },
    PROTOCOL,
    /no answer within 200 ms/,
  ],
  ['half a message, and gone', { command: 9, kind: 'half', count: 20 }, REMOVED, /has gone/],
  ['gone', { command: 5, kind: 'close' }, REMOVED, /has gone/],
]

for (const [name, wrong, code, message] of wrongs) {
  test.serial(`a server that answers wrongly: ${name}`, async (t) => {
    const fake = await startFake({ wrong: [wrong] })
    const before = descriptorsOf()
    const error = await t.throwsAsync(openVfioUser(fake.path, { timeout: TIMEOUT }), { code, message })
    t.true(error instanceof UnvmeError)
    await fake.left()
    t.deepEqual(descriptorsOf(), before, 'nothing is left open')
    await fake.stop()
  })
}

// After it: the device is removed, and the cause says why.
const later: [name: string, wrong: Omit<Wrong, 'command' | 'after'>, cause: new (...a: never[]) => Error][] =
  [
    ['refuses', { kind: 'error', errno: 5 }, SystemCallError],
    ['is short', { kind: 'short', count: 2 }, ProtocolError],
    ['is silent', { kind: 'silence' }, ProtocolError],
    ['leaves', { kind: 'close' }, DeviceRemovedError],
  ]

// A file that the server can shorten, or that is none, would end this process at a load.
for (const file of ['/proc/self/cmdline', '/dev/null', '/etc/passwd']) {
  test.serial(`doorbells in ${file} are rung by messages`, async (t) => {
    const fake = await startFake({ wrong: [{ command: 5, kind: 'file', file } as Wrong] })
    const fn = await openVfioUser(fake.path, { timeout: TIMEOUT })
    t.not(fn.notify, null)
    await fn.close()
    await fake.stop()
  })
}

for (const [name, wrong, cause] of later) {
  test.serial(`a server that goes wrong at a register (${name}): the device is removed`, async (t) => {
    // The fifth read is the first of BAR 0: four of configuration space, and MSI-X's control word.
    const fake = await startFake({ wrong: [{ command: 9, after: 5, ...wrong } as Wrong] })
    const fn = await openVfioUser(fake.path, { timeout: TIMEOUT })
    const removed = new Promise<Error>((resolve) => {
      fn.onRemoved = resolve
    })
    t.is(fn.readRegister(0x1c), 0xffff_ffff)
    t.true(fn.checkRemoved())
    const error = await removed
    t.is((error as DeviceRemovedError).code, REMOVED)
    t.true(
      [error, error.cause].some((each) => each instanceof cause),
      String(error),
    )
    t.is(fn.removal, error)
    t.is(fn.readRegister(0), 0xffff_ffff)
    fn.doorbells[0] = 1
    t.throws(() => fn.mapDma(4096), { is: error })
    await t.throwsAsync(
      fn.enableInterrupts(1, () => {}),
      { is: error },
    )
    await t.throwsAsync(fn.reset(), { is: error })
    await fn.close()
    t.throws(() => fn.mapDma(4096), { code: 'ERR_UNVME_CLOSED' })
    await fake.stop()
  })
}

test.serial('a server that does not answer is not waited for, once a signal is aborted', async (t) => {
  const fake = await startFake({ wrong: [{ command: 1, kind: 'silence' }] })
  const before = descriptorsOf()
  const controller = new AbortController()
  const opening = openVfioUser(fake.path, { timeout: 600_000, signal: controller.signal })
  setTimeout(() => controller.abort(), 20)
  await t.throwsAsync(opening, { code: 'ABORT_ERR' })
  await fake.left()
  t.deepEqual(descriptorsOf(), before)
  await t.throwsAsync(openVfioUser(fake.path, { signal: controller.signal }), { code: 'ABORT_ERR' })
  await fake.stop()
})

test.serial('a server that can not reset its device', async (t) => {
  const info = hex('10000000 02000000 09000000 05000000')
  const fake = await startFake({ wrong: [{ command: 4, kind: 'payload', bytes: info }] })
  const fn = await openVfioUser(fake.path, { timeout: TIMEOUT })
  await t.throwsAsync(fn.reset(), { code: 'ERR_UNVME_UNSUPPORTED' })
  await fn.close()
  await fake.stop()
})
