// A server that is stopped for a while (SIGSTOP): the client's event loop goes on, whatever is asked of the server,
// and each call ends by its own rules.
// Trade-off: that the event loop runs is counted, in turns that a timer had before the server goes on; a call that
// waited for the server would never let them come about.

import fs from 'node:fs'
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
      const ns = await open(server.address, { timeout: 500 })
      const data = Buffer.alloc(4096, 'before')
      await ns.promises.write(data, 0)
      await stop(server)
      let ticks = 0
      const timer = setInterval(() => ticks++, 1)
      await t.throwsAsync(ns.promises.read(Buffer.alloc(4096), 0), {
        code: 'ERR_UNVME_TIMEOUT',
        message: /no answer within 500 ms/,
      })
      clearInterval(timer)
      t.true(ticks >= 20, `${ticks} turns of a timer`)
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
  t.not(functionOf(ns).readRegister(0), 0xffff_ffff)
  // The answer to the mapping that was given up has come, and was undone: as many are possible as before.
  for (let i = 0; i < 8; i++) ns.free(ns.alloc(64 * 2 ** 20))
  await ns.reset()
  await ns.promises.flush()
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
