// What a client may ask before it chooses an export, and what a request is answered with, byte by byte.

import test from 'ava'
import {
  COMMAND,
  encodeText,
  INFO,
  NBD_ERROR,
  OPTION,
  Payload,
  REPLY,
  TRANSMISSION,
  u32,
} from '../../lib/nbd/protocol.ts'
import { open, serveNbd } from '../../src/index.ts'
import { contextData, encodeRequest, goData, RawNbd, startNbd } from '../support/nbd.ts'
import { pattern } from '../support/pattern.ts'
import { newSocketPath } from '../support/server.ts'

const { READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS, DISC } = COMMAND
const types = (replies: { type: number }[]) => replies.map(({ type }) => type)

test('GO says size, flags and block sizes', async (t) => {
  const { path } = await startNbd(t, 'sim:?size=32M&lba=4096')
  const raw = await RawNbd.greeted(path)
  const [info, sizes, ack] = await raw.option(OPTION.GO, goData('', INFO.BLOCK_SIZE, 77))
  t.deepEqual(types([info!, sizes!, ack!]), [REPLY.INFO, REPLY.INFO, REPLY.ACK])
  const payload = new Payload(info!.data)
  t.is(payload.u16(), INFO.EXPORT)
  t.is(payload.u64(), 32 * 2 ** 20)
  const flags = payload.u16()
  for (const name of [
    'SEND_FLUSH',
    'SEND_FUA',
    'SEND_TRIM',
    'SEND_WRITE_ZEROES',
    'CAN_MULTI_CONN',
  ] as const) {
    t.not(flags & TRANSMISSION[name], 0, name)
  }
  t.is(flags & (TRANSMISSION.READ_ONLY | TRANSMISSION.SEND_DF), 0)
  t.deepEqual(
    [0, 4, 8].map((at) => sizes!.data.readUInt32BE(2 + at)),
    [1, 4096, 32 * 2 ** 20],
  )
  t.is((await raw.simple(READ, { bytes: 4096 })).error, 0)
  raw.close()
})

test('EXPORT_NAME enters transmission, with zeroes where the client wants them, and closes for an unknown name', async (t) => {
  const { path } = await startNbd(t)
  for (const [flags, bytes] of [
    [1, 134],
    [3, 10],
  ] as const) {
    const raw = await RawNbd.greeted(path, flags)
    raw.send(Buffer.from('IHAVEOPT'), u32(OPTION.EXPORT_NAME), u32(0))
    t.is(Number((await raw.bytes(bytes)).readBigUInt64BE()), 32 * 2 ** 20)
    t.is((await raw.simple(READ, { bytes: 512 })).error, 0)
    raw.close()
  }
  const raw = await RawNbd.greeted(path)
  raw.send(Buffer.from('IHAVEOPT'), u32(OPTION.EXPORT_NAME), u32(2), Buffer.from('no'))
  await raw.closed
  t.pass()
})

test('several exports: LIST names them, the first is the one without a name, an unknown one is refused', async (t) => {
  const a = await open('sim:?size=1M&ns=2')
  const b = await a.openNamespace(2)
  const path = newSocketPath()
  const server = await serveNbd({ a, 'b/ü': b }, { path })
  const raw = await RawNbd.greeted(path)
  const replies = await raw.option(OPTION.LIST)
  t.deepEqual(types(replies), [REPLY.SERVER, REPLY.SERVER, REPLY.ACK])
  t.deepEqual(
    replies.slice(0, 2).map(({ data }) => new Payload(data).text()),
    ['a', 'b/ü'],
  )
  t.deepEqual(types(await raw.option(OPTION.INFO, goData('none'))), [REPLY.ERR_UNKNOWN])
  t.deepEqual(types(await raw.option(OPTION.INFO, goData(''))), [REPLY.INFO, REPLY.ACK])
  await raw.option(OPTION.GO, goData('b/ü'))
  t.is((await raw.simple(WRITE, { data: pattern(512, 7) })).error, 0)
  t.deepEqual(await b.promises.read(Buffer.alloc(512), 0), pattern(512, 7))
  t.deepEqual(await a.promises.read(Buffer.alloc(512), 0), Buffer.alloc(512))
  await server.close()
  await raw.closed
  await b.close()
  await a.close()
})

test('options that are wrong are refused, and the next one is answered', async (t) => {
  const { path } = await startNbd(t)
  const raw = await RawNbd.greeted(path)
  const cases: [number, Buffer | undefined, number][] = [
    [OPTION.LIST, Buffer.alloc(1), REPLY.ERR_INVALID],
    [OPTION.STRUCTURED_REPLY, Buffer.alloc(1), REPLY.ERR_INVALID],
    [OPTION.STARTTLS, undefined, REPLY.ERR_UNSUP],
    [OPTION.SET_META_CONTEXT, contextData('', 'base:allocation'), REPLY.ERR_INVALID],
    [OPTION.GO, Buffer.alloc(3), REPLY.ERR_INVALID],
    [OPTION.GO, Buffer.concat([encodeText(''), Buffer.from([0, 9])]), REPLY.ERR_INVALID],
    [OPTION.INFO, Buffer.concat([u32(2 ** 31), Buffer.alloc(9)]), REPLY.ERR_INVALID],
    [11, undefined, REPLY.ERR_UNSUP],
    [4242, Buffer.alloc(4242), REPLY.ERR_UNSUP],
  ]
  for (const [option, data, type] of cases)
    t.deepEqual(types(await raw.option(option, data)), [type], `${option}`)
  await raw.option(OPTION.STRUCTURED_REPLY)
  const { LIST_META_CONTEXT: LIST, SET_META_CONTEXT: SET } = OPTION
  const { META_CONTEXT, ACK, ERR_INVALID, ERR_UNKNOWN } = REPLY
  t.deepEqual(types(await raw.option(LIST, contextData(''))), [META_CONTEXT, ACK])
  t.deepEqual(types(await raw.option(LIST, contextData('', 'base:'))), [META_CONTEXT, ACK])
  t.deepEqual(types(await raw.option(SET, contextData('', 'base:'))), [ACK])
  t.deepEqual(types(await raw.option(SET, contextData('', 'qemu:x', 'base:allocation'))), [META_CONTEXT, ACK])
  t.deepEqual(types(await raw.option(SET, contextData('x', 'base:allocation'))), [ERR_UNKNOWN])
  t.deepEqual(types(await raw.option(SET, Buffer.concat([contextData('', 'a'), u32(0)]))), [ERR_INVALID])
  t.deepEqual(types(await raw.option(OPTION.ABORT)), [ACK])
  await raw.closed
})

test('what breaks the protocol is closed', async (t) => {
  const { path, server } = await startNbd(t, 'sim:?size=1M', { negotiationTimeout: 300 })
  const greetings = [u32(0), u32(5), Buffer.concat([u32(3), Buffer.alloc(16)])]
  const huge = Buffer.concat([u32(3), Buffer.from('IHAVEOPT'), u32(OPTION.LIST), u32(2 ** 31)])
  // The last says nothing, and is closed when its time is over.
  for (const greeting of [...greetings, huge, Buffer.alloc(0)]) {
    const raw = await RawNbd.connect(path)
    raw.send(greeting)
    raw.socket.resume()
    await raw.closed
  }
  const raw = await RawNbd.ready(path)
  raw.send(Buffer.alloc(28))
  raw.socket.resume()
  await raw.closed
  t.is(server.stats.refused, 5)
  t.is(server.stats.clients, 0)
})

test('any bytes are taken up to the largest request, which clients hear of where it is less than what all servers take', async (t) => {
  const size = 4 * 2 ** 20
  const { path, server } = await startNbd(t, `sim:?size=${size}&lba=4096`, { maxBytes: 2 ** 21 })
  const raw = await RawNbd.greeted(path)
  // The client has not asked for it.
  const [, sizes] = await raw.option(OPTION.GO, goData())
  t.is(sizes!.data.readUInt16BE(), INFO.BLOCK_SIZE)
  const most = 2 ** 20
  t.deepEqual(
    [0, 4, 8].map((at) => sizes!.data.readUInt32BE(2 + at)),
    [1, 4096, most],
  )
  const model = Buffer.alloc(size)
  for (const [offset, bytes] of [
    [1, most],
    [4095, 2],
    [8191, 4098],
    [size - 1, 1],
    [12_288, 4096],
  ] as const) {
    const data = pattern(bytes, offset)
    data.copy(model, offset)
    t.is((await raw.simple(WRITE, { offset, data })).error, 0)
    t.deepEqual((await raw.simple(READ, { offset, bytes })).data, data)
  }
  t.is((await raw.simple(READ, { bytes: most + 1 })).error, NBD_ERROR.EINVAL)
  t.is((await raw.simple(WRITE, { data: Buffer.alloc(most + 1, 1) })).error, NBD_ERROR.EINVAL)
  // The rest is as it was, and the connection goes on.
  const parts = await Promise.all(
    [0, 1, 2, 3].map(async (i) => {
      const other = await RawNbd.ready(path)
      const { data } = await other.simple(READ, { offset: i * most, bytes: most })
      other.close()
      return data
    }),
  )
  t.true(Buffer.concat(parts).equals(model))
  t.is(server.stats.failed, 0)
  raw.close()
  // So large a payload is no write, whatever else is wrong with it: it is refused, and the connection ends.
  for (const request of [{}, { offset: size }, { flags: 2 }]) {
    const other = await RawNbd.ready(path)
    t.is((await other.simple(WRITE, { bytes: 32 * 2 ** 20 + 1, ...request })).error, NBD_ERROR.EINVAL)
    other.socket.resume()
    await other.closed
  }
})

for (const structured of [false, true]) {
  test(`requests that can't be done are refused (${structured ? 'structured' : 'simple'} replies)`, async (t) => {
    const { path } = await startNbd(t, 'sim:?size=1M')
    const raw = await RawNbd.ready(path, { structured })
    const size = 2 ** 20
    const { EINVAL, ENOSPC } = NBD_ERROR
    const cases: [number, Parameters<RawNbd['simple']>[1], number][] = [
      [READ, { offset: size - 512, bytes: 1024 }, EINVAL],
      [READ, { offset: 2 ** 52, bytes: 512 }, EINVAL],
      [READ, { bytes: 0 }, EINVAL],
      [READ, { bytes: 512, flags: 2 }, EINVAL],
      [WRITE, { offset: size - 256, data: Buffer.alloc(512) }, ENOSPC],
      [WRITE, { offset: size, data: Buffer.alloc(70_000) }, ENOSPC],
      [WRITE, { bytes: 0 }, EINVAL],
      [TRIM, { offset: size, bytes: 1 }, ENOSPC],
      [WRITE_ZEROES, { offset: 1, bytes: size }, ENOSPC],
      [8, {}, EINVAL],
      [77, {}, EINVAL],
      ...(structured
        ? []
        : ([[BLOCK_STATUS, { bytes: 512 }, EINVAL]] as const).map(
            (one) => [...one] as [number, object, number],
          )),
    ]
    for (const [command, request, error] of cases) {
      if (structured) {
        const { type, payload } = await raw.chunk(command, request)
        t.is(type, 0x8001)
        t.is(payload.readUInt32BE(), error, `${command} ${payload.subarray(6)}`)
        t.is(payload.readUInt16BE(4), payload.length - 6)
      } else t.is((await raw.simple(command, request)).error, error, `${command} ${JSON.stringify(request)}`)
    }
    for (const command of [FLUSH, CACHE, TRIM]) {
      const request = command === FLUSH ? {} : { bytes: 4096 }
      if (structured) t.is((await raw.chunk(command, request)).type, 0)
      else t.is((await raw.simple(command, request)).error, 0)
    }
    raw.send(encodeRequest(DISC, {}))
    raw.socket.resume()
    await raw.closed
  })
}

test('a read-only export takes no changes', async (t) => {
  const { path } = await startNbd(t, 'sim:?size=1M', { readOnly: true })
  const raw = await RawNbd.ready(path)
  t.is((await raw.simple(WRITE, { data: Buffer.alloc(512) })).error, NBD_ERROR.EPERM)
  t.is((await raw.simple(WRITE_ZEROES, { bytes: 512 })).error, NBD_ERROR.EPERM)
  t.is((await raw.simple(TRIM, { bytes: 512 })).error, NBD_ERROR.EPERM)
  t.is((await raw.simple(READ, { bytes: 512 })).error, 0)
  raw.close()
})

test('replies echo the cookie, requests may come in any pieces', async (t) => {
  const { path } = await startNbd(t, 'sim:?size=1M')
  const raw = await RawNbd.ready(path)
  const data = pattern(100_000, 3)
  const message = Buffer.concat([
    encodeRequest(WRITE, { offset: 700, data, cookie: 2 ** 52 + 5 }),
    encodeRequest(FLUSH, { cookie: 9 }),
  ])
  for (let at = 0; at < message.length; at += 9973) {
    raw.socket.write(message.subarray(at, at + 9973))
    await new Promise(setImmediate)
  }
  const replies = [await raw.bytes(16), await raw.bytes(16)]
  const cookies = replies.map((reply) => Number(reply.readBigUInt64BE(8))).sort((a, b) => a - b)
  t.deepEqual(cookies, [9, 2 ** 52 + 5])
  const read = await raw.simple(READ, { offset: 700, bytes: data.length })
  t.true(read.data.equals(data))
  raw.close()
})

test('the device’s error comes with its name', async (t) => {
  const { path, ns } = await startNbd(t, 'sim:?size=1M')
  const raw = await RawNbd.ready(path, { structured: true })
  await ns.promises.cmd({ opcode: 4, cdw10: 8, cdw12: 0 })
  const { type, payload } = await raw.chunk(READ, { offset: 4096, bytes: 512 })
  t.is(type, 0x8001)
  t.is(payload.readUInt32BE(), NBD_ERROR.EIO)
  t.regex(payload.subarray(6).toString(), /Unrecovered Read Error/)
  raw.close()
})
