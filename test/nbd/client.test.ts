// The client of NBD servers: addresses, what it does with servers that lie, and copies between an export and what else
// there is. Servers of other projects: peers.test.ts.

import fs from 'node:fs'
import net from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { parseNbdAddress } from '../../lib/nbd/address.ts'
import { connectNbd } from '../../lib/nbd/client.ts'
import {
  CHUNK,
  CHUNK_BYTES,
  COMMAND,
  encodeOptionReply,
  INFO,
  NBD_MAGIC,
  OPTION,
  OPTION_MAGIC,
  REPLY,
  u16,
  u32,
  u64,
  writeChunkHead,
  writeSimpleReply,
} from '../../lib/nbd/protocol.ts'
import { readExactly } from '../../lib/nbd/read-exactly.ts'
import { compare, copy, open } from '../../src/index.ts'
import { unvme } from '../cli/command.ts'
import { testFolder } from '../support/folder.ts'
import { startNbd } from '../support/nbd.ts'
import { pattern } from '../support/pattern.ts'
import { newSocketPath } from '../support/server.ts'

const file = testFolder()
const MIB = 2 ** 20

test('addresses are those of libnbd', (t) => {
  const plain = { secure: false, user: '', certificates: undefined, pskFile: undefined }
  const cases: [string, object][] = [
    ['nbd://host', { ...plain, where: { host: 'host', port: 10_809 }, exportName: '' }],
    ['nbd://host:80/a%20b/c', { ...plain, where: { host: 'host', port: 80 }, exportName: 'a b/c' }],
    ['nbd://[::1]:99/', { ...plain, where: { host: '::1', port: 99 }, exportName: '' }],
    ['nbd+unix:///?socket=/run/x', { ...plain, where: { path: '/run/x' }, exportName: '' }],
    ['nbd+unix:///e?socket=/run/x%20y', { ...plain, where: { path: '/run/x y' }, exportName: 'e' }],
    ['nbd+unix:///e?socket=/run/x+y', { ...plain, where: { path: '/run/x+y' }, exportName: 'e' }],
    [
      'nbds://me@host/e?tls-psk-file=/k',
      {
        ...plain,
        secure: true,
        user: 'me',
        where: { host: 'host', port: 10_809 },
        exportName: 'e',
        pskFile: '/k',
      },
    ],
    [
      'nbds+unix://me@/e?socket=/s&tls-certificates=/c',
      { ...plain, secure: true, user: 'me', where: { path: '/s' }, exportName: 'e', certificates: '/c' },
    ],
  ]
  for (const [uri, expected] of cases) t.deepEqual(parseNbdAddress(uri), { uri, ...expected } as never, uri)
  for (const uri of [
    'nbd:host',
    'nbd+unix:///x',
    'nbd://h?socket=/s',
    'nbd://h?x=1',
    'nbd://h:99999/',
    'nbd://h/%',
    'nbd+unix:///?socket=/run/%00',
    `nbd+unix:///?socket=/${'x'.repeat(107)}`,
  ]) {
    t.throws(() => parseNbdAddress(uri), { code: 'ERR_UNVME_ADDRESS' }, uri)
  }
})

test('copy and compare: file, device and export in every direction', async (t) => {
  const { uri, ns } = await startNbd(t, 'sim:?size=8M&lba=4096')
  const data = pattern(3 * MIB + 777, 4)
  fs.writeFileSync(file('source'), data)
  const progress: number[] = []
  const result = await copy(file('source'), uri, { onProgress: (bytes) => progress.push(bytes) })
  t.is(result.bytes, data.length)
  t.is(progress.at(-1), data.length)
  t.is((await compare(file('source'), uri)).difference, null)
  await copy(uri, file('target'), { bytes: data.length })
  t.true(fs.readFileSync(file('target')).equals(data))
  const other = await open('sim:?size=8M')
  t.is((await copy(uri, other)).bytes, 8 * MIB)
  t.is((await compare(uri, other)).difference, null)
  await other.promises.write(pattern(512, 9), 100)
  t.is((await copy(other, uri, { chunk: 65_536, depth: 3 })).bytes, 8 * MIB)
  t.deepEqual((await ns.promises.read(Buffer.alloc(4096 * 16), 12)).subarray(2048, 2560), pattern(512, 9))
  await t.throwsAsync(copy(uri, uri), { code: 'ERR_OUT_OF_RANGE', message: /overlap/ })
  await t.throwsAsync(copy(uri, file('x'), { slba: 3 }), { code: 'ERR_OUT_OF_RANGE', message: /slba/ })
  await t.throwsAsync(copy(uri, other, { jobs: 2 }), { code: 'ERR_UNVME_UNSUPPORTED' })
  await other.close()
})

test('unvme read, write, copy --verify and verify take an export', async (t) => {
  const { uri } = await startNbd(t, 'sim:?size=2M')
  fs.writeFileSync(file('words'), pattern(100_000, 3))
  t.is((await unvme(['write', uri, file('words'), '--yes'])).code, 0)
  const read = await unvme(['read', uri, file('words-back'), '--bytes', '100000'])
  t.is(read.code, 0, read.stderr)
  t.true(fs.readFileSync(file('words-back')).equals(pattern(100_000, 3)))
  const copied = await unvme(['copy', uri, 'sim:?size=2M', '--verify'])
  t.is(copied.code, 0, copied.stderr)
  t.is((await unvme(['verify', file('words'), uri])).code, 0)
  const none = await unvme(['copy', 'nbd://127.0.0.1:1/', file('none')])
  t.is(none.code, 1)
  t.regex(none.stderr, /no connection: .*ECONNREFUSED.* \(ERR_UNVME_SETUP\)/)
  t.false(fs.existsSync(file('none')))
})

test('connectNbd says what is missing', async (t) => {
  const { uri } = await startNbd(t, 'sim:?size=1M')
  await t.throwsAsync(connectNbd(uri.replace('///?', '///none?')), {
    code: 'ERR_UNVME_ADDRESS',
    message: /no such export/,
  })
  await t.throwsAsync(connectNbd(uri.replace('nbd', 'nbds')), {
    code: 'ERR_UNVME_AUTHENTICATION',
    message: /no TLS/,
  })
  await t.throwsAsync(connectNbd(uri, AbortSignal.abort()), { code: 'ABORT_ERR' })
  const silent = net.createServer().listen(file('silent'))
  const controller = new AbortController()
  const waiting = connectNbd(`nbd+unix:///?socket=${file('silent')}`, controller.signal)
  setImmediate(() => controller.abort())
  await t.throwsAsync(waiting, { code: 'ABORT_ERR' })
  silent.close()
})

interface LiarOptions {
  size?: number
  structured?: boolean
  least?: number
  most?: number
  /** In place of what is true. */
  info?: Buffer
}

/** A server that lets a client in, and answers each request with what the test gives it. */
async function startLiar(
  t: ExecutionContext,
  answer: (head: Buffer, socket: net.Socket) => Buffer | Promise<Buffer>,
  { size = MIB, structured = true, least = 1, most = 32 * MIB, info }: LiarOptions = {},
): Promise<string> {
  const infos = [
    Buffer.concat([u16(INFO.EXPORT), u64(size), u16(1)]),
    Buffer.concat([u16(INFO.BLOCK_SIZE), u32(least), u32(4096), u32(most)]),
  ]
  const path = newSocketPath()
  const server = net.createServer(async (socket) => {
    socket.on('error', () => {})
    socket.write(Buffer.concat([NBD_MAGIC, OPTION_MAGIC, u16(3)]))
    await readExactly(socket, 4)
    for (;;) {
      const head = await readExactly(socket, 16)
      if (head === null) return
      const option = head.readUInt32BE(8)
      await readExactly(socket, head.readUInt32BE(12))
      for (const one of option === OPTION.GO ? (info ? [info] : infos) : []) {
        socket.write(encodeOptionReply(option, REPLY.INFO, one))
      }
      if (option === OPTION.SET_META_CONTEXT) {
        const context = Buffer.concat([u32(5), Buffer.from('base:allocation')])
        socket.write(encodeOptionReply(option, REPLY.META_CONTEXT, context))
      }
      const refused = option === OPTION.STRUCTURED_REPLY && !structured
      socket.write(encodeOptionReply(option, refused ? REPLY.ERR_UNSUP : REPLY.ACK))
      if (option === OPTION.GO) break
    }
    for (let head = await readExactly(socket, 28); head !== null; head = await readExactly(socket, 28)) {
      socket.write(await answer(head, socket))
    }
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  t.teardown(() => server.close())
  return `nbd+unix:///?socket=${path}`
}

function chunk(head: Buffer, type: number, payload: Buffer, { flags = 1, cookie = 0 } = {}): Buffer {
  const bytes = Buffer.alloc(CHUNK_BYTES)
  writeChunkHead(bytes, 0, flags, type, head.readUInt32BE(8), head.readUInt32BE(12) + cookie, payload.length)
  return Buffer.concat([bytes, payload])
}

const LIES: Record<string, [answer: (head: Buffer) => Buffer, message: RegExp]> = {
  'another magic number': [() => Buffer.alloc(16), /magic number/],
  'another cookie': [(head) => chunk(head, CHUNK.NONE, Buffer.alloc(0), { cookie: 7 }), /no request/],
  'no data': [(head) => chunk(head, CHUNK.NONE, Buffer.alloc(0)), /0 bytes in place of 4096/],
  'less data': [
    (head) => chunk(head, CHUNK.OFFSET_DATA, Buffer.concat([u64(0), Buffer.alloc(512)])),
    /512 bytes in place/,
  ],
  'data before its range': [
    (head) => chunk(head, CHUNK.OFFSET_DATA, Buffer.alloc(8 + 4097)),
    /not requested/,
  ],
  'data far behind': [
    (head) => chunk(head, CHUNK.OFFSET_DATA, Buffer.concat([u64(2 ** 40), Buffer.alloc(9)])),
    /not requested/,
  ],
  'a hole beside its range': [
    (head) => chunk(head, CHUNK.OFFSET_HOLE, Buffer.concat([u64(4096), u32(1)])),
    /not requested/,
  ],
  'a hole without a length': [(head) => chunk(head, CHUNK.OFFSET_HOLE, u64(0)), /bytes where 4 are needed/],
  'two block statuses': [
    (head) => {
      const status = Buffer.concat([u32(5), u32(4096), u32(0)])
      return Buffer.concat([
        chunk(head, CHUNK.BLOCK_STATUS, status, { flags: 0 }),
        chunk(head, CHUNK.BLOCK_STATUS, status),
      ])
    },
    /more than one block status/,
  ],
  'a huge chunk': [
    (head) => chunk(head, CHUNK.ERROR, Buffer.alloc(0)).fill(0xff, 16, 20),
    /a chunk of 4294967295 bytes/,
  ],
}

for (const [lie, [answer, message]] of Object.entries(LIES)) {
  test(`a server that answers a read with ${lie} loses the connection`, async (t) => {
    const client = await connectNbd(await startLiar(t, answer))
    const beside = Buffer.alloc(3 * 4096, 0x5a)
    const reading = client.read(beside.subarray(4096, 8192), 0)
    await t.throwsAsync(reading, { code: 'ERR_UNVME_PROTOCOL', message })
    await t.throwsAsync(client.read(Buffer.alloc(512), 0), { code: 'ERR_UNVME_PROTOCOL' })
    t.true(beside.subarray(0, 4096).every((byte) => byte === 0x5a))
    t.true(beside.subarray(8192).every((byte) => byte === 0x5a))
    await client.close()
  })
}

test('data in several chunks, holes and errors among them', async (t) => {
  const part = (head: Buffer, at: number) =>
    chunk(head, CHUNK.OFFSET_DATA, Buffer.concat([u64(at), Buffer.alloc(1024, 7)]), { flags: 0 })
  const hole = (head: Buffer) =>
    chunk(head, CHUNK.OFFSET_HOLE, Buffer.concat([u64(1024), u32(1024)]), { flags: 0 })
  let fails = false
  const uri = await startLiar(t, (head) => {
    const message = Buffer.concat([u32(28), u16(4), Buffer.from('full')])
    const end = fails ? chunk(head, CHUNK.ERROR, message) : chunk(head, CHUNK.NONE, Buffer.alloc(0))
    return Buffer.concat([part(head, 2048), hole(head), part(head, 0), part(head, 3072), end])
  })
  const client = await connectNbd(uri)
  const into = Buffer.alloc(4096, 1)
  await client.read(into, 0)
  t.deepEqual(into, Buffer.concat([Buffer.alloc(1024, 7), Buffer.alloc(1024), Buffer.alloc(2048, 7)]))
  fails = true
  const failed = client.read(into, 0)
  const error = await t.throwsAsync(failed, {
    code: 'ERR_UNVME_NBD',
    message: /read at 0, 4096 bytes: error 28, full/,
  })
  t.is((error as Error & { errno: number }).errno, 28)
  await client.close()
})

test('a server that offers what can’t be is refused', async (t) => {
  const answer = () => Buffer.alloc(0)
  const sizes = (least: number, most: number) =>
    Buffer.concat([u16(INFO.BLOCK_SIZE), u32(least), u32(4096), u32(most)])
  for (const info of [Buffer.from([0, 9]), sizes(0, 1), Buffer.from([0, 0, 1])]) {
    await t.throwsAsync(connectNbd(await startLiar(t, answer, { info })), { code: 'ERR_UNVME_PROTOCOL' })
  }
  const other = net
    .createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
    .listen(file('http'))
  await t.throwsAsync(connectNbd(`nbd+unix:///?socket=${file('http')}`), {
    code: 'ERR_UNVME_PROTOCOL',
    message: /no NBD/,
  })
  other.close()
})

const simpleReply = (head: Buffer, error = 0) => {
  const reply = Buffer.alloc(16)
  writeSimpleReply(reply, 0, error, head.readUInt32BE(8), head.readUInt32BE(12))
  return reply
}
const until = async (condition: () => boolean) => {
  while (!condition()) await new Promise(setImmediate)
}

test('close leaves the memory of a read alone that is still being answered', async (t) => {
  let server: net.Socket | undefined
  const answer = (head: Buffer, socket: net.Socket) => {
    server = socket
    // What is to be written is never taken, so that there is something to be sent for as long as there is a connection.
    if (head.readUInt16BE(6) === COMMAND.WRITE) return new Promise<Buffer>(() => {})
    return Buffer.concat([simpleReply(head), Buffer.alloc(4096, 1)])
  }
  const client = await connectNbd(await startLiar(t, answer, { structured: false }))
  const into = Buffer.alloc(MIB)
  const reading = t.throwsAsync(client.read(into, 0), { code: 'ERR_UNVME_CLOSED' })
  await until(() => into[4095] === 1)
  const writing = t.throwsAsync(client.write(Buffer.alloc(MIB, 3), 0), { code: 'ERR_UNVME_CLOSED' })
  await new Promise(setImmediate)
  const closed = new Promise((resolve) => server!.once('close', resolve))
  await client.close()
  await Promise.all([reading, writing])
  server!.write(Buffer.alloc(65_536, 2))
  await closed
  t.is(into.indexOf(2), -1)
})

test('read of more than one request rejects when none of them is answered any more', async (t) => {
  const heads: Buffer[] = []
  let server: net.Socket | undefined
  const answer = (head: Buffer, socket: net.Socket) => {
    server = socket
    heads.push(head)
    return head.readBigUInt64BE(16) === 0n ? simpleReply(head, 5) : Buffer.alloc(0)
  }
  const client = await connectNbd(await startLiar(t, answer, { structured: false, most: 4096 }))
  const into = Buffer.alloc(8192)
  let ended = false
  const reading = t.throwsAsync(client.read(into, 0), { code: 'ERR_UNVME_NBD', message: /error 5/ })
  void reading.then(() => {
    ended = true
  })
  await until(() => heads.length === 2)
  // A request after it has its answer: the error has come.
  const flushed = client.read(Buffer.alloc(4096), 4096)
  await until(() => heads.length === 3)
  server!.write(Buffer.concat([simpleReply(heads[2]!), Buffer.alloc(4096)]))
  await flushed
  t.false(ended)
  server!.write(Buffer.concat([simpleReply(heads[1]!), Buffer.alloc(4096, 2)]))
  await reading
  t.is(into[8191], 2)
  await client.close()
})

test('write that is refused rejects when its data has been sent', async (t) => {
  let go = () => {}
  const goes = new Promise<void>((resolve) => {
    go = resolve
  })
  let payload: Buffer | null = null
  const bytes = 8 * MIB
  const answer = async (head: Buffer, socket: net.Socket) => {
    if (head.readUInt16BE(6) !== COMMAND.WRITE) return simpleReply(head)
    socket.write(simpleReply(head, 1))
    await goes
    payload = await readExactly(socket, bytes)
    return Buffer.alloc(0)
  }
  const client = await connectNbd(await startLiar(t, answer, { structured: false, size: bytes }))
  const data = Buffer.alloc(bytes, 1)
  const writing = client.write(data, 0).catch(() => data.fill(2))
  for (let i = 0; i < 100; i++) await new Promise(setImmediate)
  go()
  await writing
  await until(() => payload !== null)
  t.is(payload!.indexOf(2), -1)
  await client.close()
})

test('writes that begin and end within blocks of the server leave each other’s bytes alone', async (t) => {
  const disk = pattern(MIB, 1)
  const answer = async (head: Buffer, socket: net.Socket) => {
    const at = Number(head.readBigUInt64BE(16))
    const bytes = head.readUInt32BE(24)
    t.is((at % 4096) + (bytes % 4096), 0)
    if (head.readUInt16BE(6) === COMMAND.READ) {
      return Buffer.concat([simpleReply(head), disk.subarray(at, at + bytes)])
    }
    disk.set((await readExactly(socket, bytes))!, at)
    return simpleReply(head)
  }
  const client = await connectNbd(await startLiar(t, answer, { structured: false, least: 4096 }))
  const model = Buffer.from(disk)
  const data = pattern(MIB, 2)
  const writes: Promise<void>[] = []
  for (let at = 100, i = 0; at < MIB - 9000; at += 1 + ((i++ * 2039) % 9000)) {
    const end = at + 1 + ((i * 2039) % 9000)
    data.copy(model, at, at, end)
    writes.push(client.write(data.subarray(at, end), at))
  }
  await Promise.all(writes)
  t.true(disk.equals(model))
  await client.close()
})
