// A server that is stopped for a while (SIGSTOP): the client's event loop goes on, whatever is asked of the server,
// and each call ends by its own rules.
// That the event loop runs is counted, in turns that a timer had before the server goes on; a call that
// waited for the server would never let them come about.

import fs from 'node:fs'
import { finished } from 'node:stream/promises'
import test from 'ava'
import type { PcieTransport } from '../../lib/nvme/pcie/transport.ts'
import { type Namespace, open, openController } from '../../src/index.ts'
import { type ServerProcess, startServer } from '../support/server.ts'

const TURNS = 50
const DOORBELLS = ['mapped', 'shadow'] as const

/** Stops the server's process; resolves when it has stopped. */
async function stop({ child }: ServerProcess): Promise<void> {
  child.kill('SIGSTOP')
  while (!/\) T /.test(fs.readFileSync(`/proc/${child.pid}/stat`, 'utf8'))) await turn()
}

const goOn = ({ child }: ServerProcess) => child.kill('SIGCONT')
const turn = () => new Promise<void>((resolve) => setTimeout(resolve, 1))

async function turns(count = TURNS): Promise<void> {
  for (let i = 0; i < count; i++) await turn()
}

for (const doorbells of DOORBELLS) {
  test.serial(
    `a command has its timeout while the server is stopped, and the next ones go on (${doorbells})`,
    async (t) => {
      const server = await startServer({ device: 'sim:?size=16M', doorbells })
      const ns = await open(server.address, { timeout: 500, recovery: 'none' })
      const data = Buffer.alloc(4096, 'before')
      await ns.promises.write(data, 0)
      await stop(server)
      let settled = false
      const reading = t
        .throwsAsync(ns.promises.read(Buffer.alloc(4096), 0), {
          code: 'ERR_UNVME_TIMEOUT',
          message: /no answer within 500 ms/,
        })
        .finally(() => {
          settled = true
        })
      // A call that blocked would have settled by the first turn.
      await turn()
      t.false(settled)
      await reading
      goOn(server)
      t.true((await ns.promises.read(Buffer.alloc(4096), 0)).equals(data))
      await ns.reset()
      t.true((await ns.promises.read(Buffer.alloc(4096), 0)).equals(data))
      t.is(ns.stats.lost, 0)
      await ns.close()
      await server.stop()
    },
  )

  test.serial(`whatever waits for a stopped server lets the event loop run (${doorbells})`, async (t) => {
    const server = await startServer({ device: 'sim:?size=64M', doorbells })
    const ns = await open(server.address, { qcount: 2 })
    const controller = await openController(server.address)
    const calls: [name: string, call: () => Promise<unknown>][] = [
      ['a read', () => ns.promises.read(Buffer.alloc(4096), 0)],
      [
        'many at a time',
        () => Promise.all(Array.from({ length: 40 }, () => ns.promises.read(Buffer.alloc(65536), 0))),
      ],
      ['an admin command with data', () => ns.controller.identify(1)],
      ['a stream', () => ns.createReadStream({ nlb: 4096 }).resume().toArray()],
      [
        'an iterator',
        async () => {
          for await (const _ of ns.blocks({ nlb: 4096 }));
        },
      ],
      ['a queue', () => ns.admin({ opcode: 0x0a, cdw10: 7 })],
      ['a reset', () => ns.reset()],
      ['a function reset', () => ns.reset('function')],
      ['a namespace of the same controller', async () => (await open(server.address)).close()],
    ]
    for (const [name, call] of calls) {
      await stop(server)
      const settled = call().then(
        () => 'done',
        (error) => error,
      )
      await turns()
      goOn(server)
      t.is(await settled, 'done', name)
    }
    await controller.close()
    await stop(server)
    const closing = ns.close()
    await turns()
    goOn(server)
    await closing

    await stop(server)
    const opening = open(server.address, { interrupts: true, qcount: 2 })
    await turns()
    goOn(server)
    const again = await opening
    await again.promises.flush()
    await again.close()
    await server.stop()
  })
}

// More than the pool has ahead (8 MiB): the server has to take memory before anything is sent.
const LARGE: readonly [name: string, call: (ns: Namespace) => Promise<unknown>][] = [
  [
    'reads of plain buffers',
    (ns) => Promise.all(Array.from({ length: 128 }, () => ns.promises.read(Buffer.alloc(131072), 0))),
  ],
  ['a long write of a plain buffer', (ns) => ns.promises.write(Buffer.alloc(24 * 2 ** 20), 0)],
  ['a read stream', (ns) => ns.createReadStream({ depth: 128 }).resume().toArray()],
  ['a write stream', (ns) => finished(ns.createWriteStream({ depth: 128 }).end(Buffer.alloc(4096)))],
  [
    'blocks',
    async (ns) => {
      for await (const _ of ns.blocks({ depth: 32, chunk: 2048 }));
    },
  ],
  [
    'blocks that copies',
    async (ns) => {
      for await (const _ of ns.blocks({ depth: 32, chunk: 2048, copy: true }));
    },
  ],
  [
    'a web stream',
    async (ns) => {
      for await (const _ of ns.readableWebStream({ depth: 128 }));
    },
  ],
  ['writeBlocks', (ns) => ns.writeBlocks([Buffer.alloc(4096)], { depth: 128 })],
  ['transferTo', (ns) => ns.transferTo(() => {}, { depth: 128 })],
  [
    'transferFrom',
    (ns) => ns.transferFrom((buffer) => buffer.length, { depth: 128, bytes: 4096, nlb: 65536 }),
  ],
]

for (const [name, call] of LARGE) {
  test.serial(`${name} of more memory than there is ahead lets the event loop run`, async (t) => {
    const server = await startServer({ device: 'sim:?size=32M' })
    const ns = await open(server.address)
    await stop(server)
    let settled: unknown = null
    const done = call(ns).then(
      () => 'done',
      (error) => error,
    )
    void done.then((value) => {
      settled = value
    })
    await turns()
    t.is(settled, null)
    goOn(server)
    t.is(await done, 'done')
    await ns.close()
    await server.stop()
  })
}

test.serial(
  'an abort ends what waits for memory at once, and a wrong command is refused before',
  async (t) => {
    const server = await startServer({ device: 'sim:?size=32M' })
    const ns = await open(server.address)
    await stop(server)
    const dma = ns.alloc(4096)
    for (let bytes = 2 ** 20; bytes >= 4096; bytes /= 2) {
      while (ns.pool.ready([bytes]) === null) ns.alloc(bytes)
    }
    const abort = new AbortController()
    const { signal } = abort
    const aborted = { code: 'ABORT_ERR' }
    const waiting = [
      ns.admin({ opcode: 6, cdw10: 1, data: Buffer.alloc(4096) }, { signal }),
      ns.promises.read(Buffer.alloc(4096), 0, undefined, { signal }),
      ns.blocks({ signal }).next(),
      ns.transferTo(() => {}, { signal }),
      ns.writeBlocks([Buffer.alloc(4096)], { signal }),
    ].map((promise) => t.throwsAsync<Error>(promise, aborted))
    await turn()
    const refused = ns.admin({ opcode: 6, cdw10: 2 ** 40, data: Buffer.alloc(4096) })
    await t.throwsAsync(refused, { code: 'ERR_OUT_OF_RANGE' })
    const identify = ns.admin({ opcode: 6, cdw10: 1, data: dma })
    abort.abort()
    await Promise.all(waiting)
    goOn(server)
    await identify
    await ns.close()
    await server.stop()
  },
)

const functionOf = (ns: Namespace) => (ns.controller.transport as PcieTransport).pci

test.serial('a call that can not but block does so for no longer than a command may take', async (t) => {
  const server = await startServer({ device: 'sim:?size=16M' })
  const ns = await open(server.address, { timeout: 100 })
  await stop(server)
  const timedOut = { code: 'ERR_UNVME_TIMEOUT', message: /no answer within 100 ms/ }
  t.throws(() => ns.alloc(64 * 2 ** 20), timedOut)
  t.throws(() => functionOf(ns).readRegister(0), timedOut)
  const buf = ns.alloc(4096)
  t.throws(() => ns.read(0, buf, 0, 1), { code: 'ERR_UNVME_TIMEOUT' })
  goOn(server)
  // From here on calls that wait, which nothing hurries: a loaded machine may take longer than a command may.
  // The answer to the mapping that was given up has come, and was undone: as many are possible as before.
  for (let i = 0; i < 8; i++) ns.free(await ns.pool.allocAsync(64 * 2 ** 20))
  t.is((await ns.controller.identify(1)).length, 4096)
  await ns.close()
  await server.stop()
})

test.serial('a server that stays stopped is a device that was removed', async (t) => {
  t.timeout(60_000)
  const server = await startServer({ device: 'sim:?size=16M' })
  const ns = await open(server.address)
  await stop(server)
  const removed = { code: 'ERR_UNVME_DEVICE_REMOVED', message: /no answer within 5000 ms/ }
  await t.throwsAsync(ns.promises.read(Buffer.alloc(4096), 0), removed)
  await t.throwsAsync(ns.promises.flush(), removed)
  await ns.close()
  goOn(server)
  await server.stop()
})
