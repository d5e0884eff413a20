// An NBD server's life: where it listens, what it refuses, how it ends, what survives it.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import test from 'ava'
import { connectNbd } from '../../lib/nbd/client.ts'
import { COMMAND } from '../../lib/nbd/protocol.ts'
import { ADMIN, open, serveNbd } from '../../src/index.ts'
import { cleanEnvironment, MAIN, unvme } from '../cli/command.ts'
import { endAt } from '../support/early-end.ts'
import { testFolder } from '../support/folder.ts'
import { encodeRequest, RawNbd, startNbd } from '../support/nbd.ts'
import { pattern } from '../support/pattern.ts'

const file = testFolder()

test('serveNbd listens on the loopback, or at a socket of mode 0600', async (t) => {
  const { path, server } = await startNbd(t, 'sim:?size=1M')
  t.is(fs.statSync(path).mode & 0o777, 0o600)
  t.is(server.address, `nbd+unix:///?socket=${path}`)
  t.regex(server.audience, /^processes of user \d+ \(and root\) on this machine$/)
  const odd = await startNbd(t, 'sim:?size=1M', { path: file('a+b & 100% #1') })
  await (await connectNbd(odd.uri)).close()
  const ns = await open('sim:?size=1M')
  const tcp = await serveNbd({ 'a disk': ns }, { port: 0 })
  t.regex(tcp.address, /^nbd:\/\/127\.0\.0\.1:\d+\/a%20disk$/)
  t.is(tcp.audience, 'every user of this machine')
  const client = await connectNbd(tcp.address)
  t.is(client.size, 2 ** 20)
  await client.close()
  await tcp.close()
  await t.throwsAsync(serveNbd(ns, { host: '0.0.0.0', port: 0 }), {
    code: 'ERR_UNVME_SETUP',
    message: /allowRemote/,
  })
  const remote = await serveNbd(ns, { host: '0.0.0.0', port: 0, allowRemote: true })
  t.is(remote.audience, 'everyone who reaches 0.0.0.0')
  await remote.close()
  await ns.close()
})

test('serveNbd refuses what can’t be', async (t) => {
  const ns = await open('sim:?size=1M')
  const busy = net.createServer().listen(file('busy'))
  await once(busy, 'listening')
  fs.writeFileSync(file('no-socket'), 'data')
  const cases: [Parameters<typeof serveNbd>[0], object, string][] = [
    [ns, { path: file('busy') }, 'ERR_UNVME_IN_USE'],
    [ns, { path: file('no-socket') }, 'ERR_UNVME_IN_USE'],
    [ns, { path: file('none/s') }, 'ERR_UNVME_SETUP'],
    [ns, { path: file('x'.repeat(107)) }, 'ERR_UNVME_ADDRESS'],
    [ns, { path: '\0abstract' }, 'ERR_UNVME_ADDRESS'],
    [ns, { path: 1 }, 'ERR_INVALID_ARG_TYPE'],
    [ns, { path: file('x'), port: 1 }, 'ERR_INVALID_ARG_TYPE'],
    [ns, { maxClients: 0 }, 'ERR_OUT_OF_RANGE'],
    [ns, { port: 70_000 }, 'ERR_OUT_OF_RANGE'],
    [ns, { prot: 1 }, 'ERR_INVALID_ARG_VALUE'],
    [ns, { path: file('x'), tls: {} }, 'ERR_INVALID_ARG_TYPE'],
    [{}, { path: file('x') }, 'ERR_OUT_OF_RANGE'],
    [{ a: 1 } as never, { path: file('x') }, 'ERR_INVALID_ARG_TYPE'],
    [ns, { path: file('x'), signal: AbortSignal.abort() }, 'ABORT_ERR'],
  ]
  for (const [exports, options, code] of cases) {
    await t.throwsAsync(serveNbd(exports, options), { code }, JSON.stringify(options))
  }
  t.is(fs.readFileSync(file('no-socket'), 'utf8'), 'data')
  busy.close()
  await ns.close()
})

test('close answers what is in flight, then ends; its signal and its namespace do the same', async (t) => {
  for (const how of ['close', 'signal', 'namespace'] as const) {
    const ns = await open('sim:?size=1M&latency=20ms')
    const controller = new AbortController()
    const server = await serveNbd(ns, { path: file(how), signal: controller.signal })
    const raw = await RawNbd.ready(file(how))
    raw.send(
      encodeRequest(COMMAND.WRITE, { data: pattern(4096, 5) }),
      encodeRequest(COMMAND.READ, { offset: 8192, bytes: 512 }),
    )
    while (server.stats.memoryBytes === 0) await new Promise(setImmediate)
    if (how === 'close') void server.close()
    else if (how === 'signal') controller.abort()
    const closing = how === 'namespace' ? ns.close() : undefined
    t.is((await raw.bytes(32 + 512)).length, 544, how)
    raw.socket.resume()
    await raw.closed
    await server.closed
    t.like(server.stats, { writes: 1, reads: 1, clients: 0 })
    await closing
    await ns.close()
    await t.throwsAsync(RawNbd.connect(file(how)))
  }
})

test('serveNbd rejects where its signal or its namespace ends it before it listens', async (t) => {
  for (const [i, how] of ['signal', 'namespace'].entries()) {
    for (const [j, when] of (['identify', 'listen'] as const).entries()) {
      const ns = await open('sim:?size=1M')
      const host = `127.7.7.${1 + 2 * i + j}`
      const controller = new AbortController()
      const { signal } = controller
      let closing: Promise<void> | undefined
      const servers = endAt(ns, host, when, () => {
        if (how === 'signal') controller.abort()
        else closing = ns.close()
      })
      const serving = serveNbd(ns, { host, port: 0, signal })
      await t.throwsAsync(serving, { code: how === 'signal' ? 'ABORT_ERR' : 'ERR_UNVME_CLOSED' }, when)
      t.false(servers.some(({ listening }) => listening))
      await closing
      await ns.close()
    }
  }
})

test('closed rejects where the last flush fails, and the process goes on', async (t) => {
  const ns = await open('sim:?size=1M&fault=flush*1:status=281h', { retries: 0 })
  const controller = new AbortController()
  const path = file('last')
  const server = await serveNbd(ns, { path, signal: controller.signal })
  const raw = await RawNbd.ready(path)
  t.is((await raw.simple(COMMAND.WRITE, { data: Buffer.alloc(512, 1) })).error, 0)
  controller.abort()
  await raw.closed
  for (let i = 0; i < 20; i++) await new Promise(setImmediate)
  await t.throwsAsync(server.closed, { code: 'ERR_NVME_STATUS', message: /Flush failed/ })
  await t.throwsAsync(server.close(), { code: 'ERR_NVME_STATUS' })
  await ns.close()
})

test('what was flushed survives kill -9 of the server', async (t) => {
  const image = file('killed.img')
  const words = ['serve', `sim:${image}?size=8M`, '--nbd', `unix:${file('killed')}`]
  const child = spawn(process.execPath, [MAIN, ...words], { env: cleanEnvironment() })
  await once(child.stdout, 'data')
  const client = await connectNbd(`nbd+unix:///?socket=${file('killed')}`)
  const data = pattern(2 ** 20, 11)
  await Promise.all([client.write(data, 12_345), client.write(pattern(1000, 12), 5)])
  await client.flush()
  child.kill('SIGKILL')
  await once(child, 'close')
  await t.throwsAsync(client.read(Buffer.alloc(512), 0), { code: 'ERR_UNVME_DEVICE_REMOVED' })
  const bytes = fs.readFileSync(image)
  t.true(bytes.subarray(12_345, 12_345 + data.length).equals(data))
  t.deepEqual(bytes.subarray(5, 1005), pattern(1000, 12))
  // The socket that it has left is no hindrance.
  const again = spawn(process.execPath, [MAIN, ...words], { env: cleanEnvironment() })
  const [said] = await once(again.stdout.setEncoding('utf8'), 'data')
  t.regex(said, /^serving sim:/)
  again.kill('SIGINT')
  t.deepEqual(await once(again, 'close'), [130, null])
  t.false(fs.existsSync(file('killed')))
})

test('unvme serve --nbd says who may connect, and refuses places that are none', async (t) => {
  const child = spawn(
    process.execPath,
    [MAIN, 'serve', 'sim:?size=1M', '--nbd', '0', '--read-only', '--export', 'x y'],
    {
      env: cleanEnvironment(),
    },
  )
  let remarks = ''
  child.stderr.setEncoding('utf8').on('data', (text) => {
    remarks += text
  })
  const [said] = await once(child.stdout.setEncoding('utf8'), 'data')
  const [, uri] = /at (nbd:\S+)/.exec(said)!
  const client = await connectNbd(uri!)
  t.true(client.readOnly)
  await client.close()
  child.kill('SIGTERM')
  t.deepEqual(await once(child, 'close'), [143, null])
  t.is(remarks, 'every user of this machine can read it\n')
  for (const [place, code, message] of [
    ['foo', 2, /unix:PATH, PORT or HOST:PORT/],
    ['unix:', 2, /unix:PATH, PORT or HOST:PORT/],
    ['127.0.0.1:70000', 2, /unix:PATH, PORT or HOST:PORT/],
    ['0.0.0.0:0', 1, /ERR_UNVME_SETUP/],
  ] as const) {
    const result = await unvme(['serve', 'sim:?size=1M', '--nbd', place])
    t.is(result.code, code, place)
    t.regex(result.stderr, message)
  }
})

test('unvme serve --also serves several exports by their names', async (t) => {
  const words = ['serve', 'sim:?size=1M', '--also', 'data=sim:?size=2M', '--nbd', `unix:${file('two')}`]
  const child = spawn(process.execPath, [MAIN, ...words], { env: cleanEnvironment() })
  await once(child.stdout, 'data')
  for (const [name, size] of [
    ['', 2 ** 20],
    ['data', 2 ** 21],
  ] as const) {
    const client = await connectNbd(`nbd+unix:///${name}?socket=${file('two')}`)
    t.is(client.size, size)
    await client.close()
  }
  child.kill('SIGINT')
  t.deepEqual(await once(child, 'close'), [130, null])
  for (const also of ['sim:?size=1M', '=sim:', 'x=']) {
    const result = await unvme(['serve', 'sim:?size=1M', '--also', also, '--nbd', '0'])
    t.is(result.code, 2, also)
    t.regex(result.stderr, /NAME=ADDR is needed/)
  }
})

for (const address of ['sim:FILE?size=16M', 'sim:?size=16M', 'sim:?size=16M&thread=1&lba=4096']) {
  test(`a device’s holes are reported as they are (${address})`, async (t) => {
    const { uri, ns } = await startNbd(t, address.replace('FILE', file('holes.img')))
    await ns.promises.write(pattern(2 ** 16, 1), 2 ** 20 / ns.blocksize)
    const client = await connectNbd(uri)
    const hole = { hole: true, zero: true }
    const data = { hole: false, zero: false }
    const end = { bytes: 15 * 2 ** 20 - 2 ** 16, ...hole }
    const all = [{ bytes: 2 ** 20, ...hole }, { bytes: 2 ** 16, ...data }, end]
    t.deepEqual(await client.extents(0, 16 * 2 ** 20), all)
    t.deepEqual(await client.extents(2 ** 20 + 5, 10), [{ bytes: 10, ...data }])
    t.deepEqual(await client.extents(2 ** 20 - 7, 10), [
      { bytes: 7, ...hole },
      { bytes: 3, ...data },
    ])
    // What a client writes and zeroes is seen at once.
    await client.write(pattern(2 ** 16, 2), 0)
    t.true(await client.writeZeroes(2 ** 20, 2 ** 16))
    t.deepEqual(await client.extents(0, 16 * 2 ** 20), [
      { bytes: 2 ** 16, ...data },
      { bytes: 16 * 2 ** 20 - 2 ** 16, ...hole },
    ])
    await client.close()
  })
}

test('of a device that tells no holes all is data, as where it fails to', async (t) => {
  for (const address of ['sim:?size=16M&lbastatus=0', 'sim:?size=16M']) {
    const { uri, ns } = await startNbd(t, address)
    const { controller } = ns
    const admin = controller.admin.bind(controller)
    controller.admin = (command, options) =>
      command.opcode === ADMIN.GET_LBA_STATUS
        ? admin({ ...command, cdw13: 0 }, options)
        : admin(command, options)
    const client = await connectNbd(uri)
    t.deepEqual(await client.extents(5, 2 ** 24 - 5), [{ bytes: 2 ** 24 - 5, hole: false, zero: false }])
    await client.close()
  }
})
