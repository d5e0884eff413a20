// The other side dies: a client with writes in flight, a server with commands of every kind.

import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { type Namespace, open, openController } from '../../src/index.ts'
import { startServer } from '../support/server.ts'
import { endWorkers, hear, start } from '../support/workers.ts'
import { descriptorsOf, descriptorsOfServer } from './wire.ts'

const WRITER = fileURLToPath(new URL('./writer.js', import.meta.url))
const REMOVED = { code: 'ERR_UNVME_DEVICE_REMOVED', message: /^device removed/ } as const
const ROUNDS = 4

const DEVICES = [
  { device: 'sim:?size=16M', doorbells: 'mapped' },
  { device: 'sim:?size=16M', doorbells: 'shadow' },
  { device: 'sim:?size=16M&latency=1ms-20ms', doorbells: 'mapped' },
] as const

for (const served of DEVICES) {
  test.serial(
    `kill -9 of a client with writes in flight: ${served.device}, ${served.doorbells}`,
    async (t) => {
      const server = await startServer(served)
      let before: string[] | undefined
      for (let round = 0; round < ROUNDS; round++) {
        const client = fork(WRITER, [server.address], { execArgv: [] })
        await once(client, 'message')
        const ended = once(client, 'exit')
        client.kill('SIGKILL')
        await ended
        const ns = await open(server.address)
        t.true(await works(ns, round))
        await ns.close()
        before ??= descriptorsOfServer(server.child.pid!, server.socket)
      }
      const after = descriptorsOfServer(server.child.pid!, server.socket)
      t.true(after.length <= before!.length, 'the server keeps nothing of them')
      t.is(server.child.exitCode, null)
      await server.stop()
    },
  )
}

async function works(ns: Namespace, seed: number): Promise<boolean> {
  const data = Buffer.alloc(8192, `round ${seed}`)
  await ns.promises.write(data, 100 + seed)
  return (await ns.promises.read(Buffer.alloc(8192), 100 + seed)).equals(data)
}

test.after.always(endWorkers)

test.serial('a client that waits when the one before it is killed is served', async (t) => {
  const server = await startServer({ device: 'sim:?size=16M' })
  const client = fork(WRITER, [server.address], { execArgv: [] })
  await once(client, 'message')
  const waiting = open(server.address)
  await new Promise((resolve) => setTimeout(resolve, 100))
  client.kill('SIGKILL')
  const ns = await waiting
  t.true(await works(ns, 0))
  await ns.close()
  await server.stop()
})

for (const doorbells of ['mapped', 'shadow'] as const) {
  test.serial(
    `kill -9 of the server: everything that waits is rejected, the client lives (${doorbells})`,
    async (t) => {
      const server = await startServer({ device: 'sim:?size=16M&latency=3600s', doorbells })
      const ns = await open(server.address, { qcount: 2 })
      const before = descriptorsOf().length
      const buf = ns.alloc(8192)
      const raw = ns.aread(0, buf, 0, 8)
      const pending = [
        ...Array.from({ length: 40 }, (_, i) =>
          ns.promises.write(Buffer.alloc(4096), i * 8, 8, { qid: i & 1 }),
        ),
        ns.promises.read(Buffer.alloc(2 ** 20), 0),
        ns.promises.flush(),
        (async () => {
          for await (const _ of ns.blocks());
        })(),
        once(ns.createReadStream().resume(), 'end'),
        ns.writeBlocks([Buffer.alloc(65536)]),
      ]
      const settled = Promise.allSettled(pending)
      await server.stop('SIGKILL')
      for (const result of await settled) {
        const { code, message } = (result as PromiseRejectedResult).reason
        t.is(code, REMOVED.code)
        t.regex(message, REMOVED.message)
      }
      t.throws(() => {
        while (!ns.apoll(raw));
      }, REMOVED)
      await t.throwsAsync(ns.promises.flush(), REMOVED)
      await t.throwsAsync(ns.admin({ opcode: 6, cdw10: 1, data: Buffer.alloc(4096) }), REMOVED)
      await t.throwsAsync(ns.reset(), REMOVED)
      t.throws(() => ns.alloc(64 * 2 ** 20), REMOVED)
      buf.fill(1)
      await ns.close()
      t.true(descriptorsOf().length <= before)

      // A server at the same place is another device.
      const next = await startServer({ device: 'sim:?size=16M', doorbells }, server.socket)
      const again = await open(server.address)
      t.true(await works(again, 1))
      await again.close()
      await next.stop()
    },
  )
}

/** Kills a process from outside while this one does not let its event loop run. */
function killSoon({ pid }: ChildProcess): void {
  spawn('sh', ['-c', `sleep 0.3; kill -9 ${pid}`], { stdio: 'ignore' })
}

test.serial('kill -9 of the server under a call that blocks', async (t) => {
  const server = await startServer({ device: 'sim:?size=16M&latency=3600s' })
  const ns = await open(server.address)
  const buf = ns.alloc(512)
  killSoon(server.child)
  t.throws(() => ns.read(0, buf, 0, 1), REMOVED)
  t.throws(() => ns.read(0, buf, 0, 1), REMOVED)
  await ns.close()
})

test.serial('kill -9 of the server under a worker thread that has a queue', async (t) => {
  const server = await startServer({ device: 'sim:?size=16M' })
  const ns = await open(server.address, { qcount: 2 })
  const share = ns.share(0)
  const worker = start(share, { task: 'spin' })
  t.is(await hear(worker), 'spinning')
  const code = hear(worker)
  await server.stop('SIGKILL')
  t.is(await code, REMOVED.code)
  await share.returned
  await t.throwsAsync(ns.promises.flush({ qid: 1 }), REMOVED)
  await ns.close()
})

test.serial('open: a device that was removed and is not closed does not keep its address', async (t) => {
  const first = await startServer({ device: 'sim:?size=16M' })
  const old = await open(first.address)
  await first.stop('SIGKILL')
  // At once: before the event loop has run a handler.
  await t.throwsAsync(open(first.address), { code: 'ERR_UNVME_ADDRESS', message: /no one listens/ })
  const next = await startServer({ device: 'sim:?size=16M&lba=4096' }, first.socket)
  const [ns, controller] = await Promise.all([open(first.address), openController(first.address)])
  t.is(ns.blocksize, 4096)
  t.is(controller.controller as unknown, ns.controller, 'both are the new one')
  await t.throwsAsync(old.promises.flush(), REMOVED)
  await old.close()
  const another = await open(first.address)
  t.is(another.controller, ns.controller, 'the end of the old one leaves the new one known')
  await ns.promises.flush()
  for (const each of [another, controller, ns]) await each.close()
  await next.stop()
})

test.serial('a server that is stopped in good order: the same for its client', async (t) => {
  const server = await startServer({ device: 'sim:?size=16M' })
  const ns = await open(server.address)
  t.true(await works(ns, 0))
  await server.stop()
  await t.throwsAsync(ns.promises.flush(), REMOVED)
  await ns.close()
})
