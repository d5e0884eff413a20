// What becomes of a controller whose connection ends: it is connected again, and what may be sent again is; or it is given
// up, and everything that waits is rejected.

import { setTimeout as delay } from 'node:timers/promises'
import type { ExecutionContext } from 'ava'
import { type Namespace, type OpenOptions, open, openController } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { pattern } from '../support/pattern.ts'
import { type LinkContext, onEachLink, openByProxy } from '../support/tcp-links.ts'
import { startProxy } from '../support/tcp-proxy.ts'
import { HOST, NQN, startTarget } from '../support/tcp-target.ts'
import { forkTarget } from '../support/tcp-target-child.ts'

const inFolder = testFolder()
const addressOf = (port: number, query = '') => `nvme+tcp://127.0.0.1:${port}/${NQN}?${HOST}${query}`

const setUp = (t: ExecutionContext<LinkContext>, options?: OpenOptions, device = 'sim:?size=8M') =>
  openByProxy(t, device, options)

/** Writes and reads back, block by block, until it is to stop; each has blocks of its own. */
async function work(ns: Namespace, first: number, stopped: () => boolean): Promise<number> {
  let rounds = 0
  for (; !stopped(); rounds++) {
    const data = pattern(8 * 512, first * 1000 + rounds)
    await ns.promises.write(data, first, 8)
    const back = await ns.promises.read(Buffer.alloc(data.length), first, 8)
    if (!back.equals(data)) throw new Error(`round ${rounds} at ${first} came back as something else`)
  }
  return rounds
}

onEachLink(
  'a target that is killed and started again under load: every command is done, and nothing is mixed up',
  async (t) => {
    const device = `sim:${inFolder(`killed-${t.context.link}.img`)}?size=8M`
    let child = await forkTarget(device)
    t.teardown(() => child.kill())
    const { port } = child
    const ns = await open(addressOf(port, `&link=${t.context.link}`), {
      qcount: 2,
      reconnectDelay: 20,
      retries: 1000,
    })
    t.teardown(() => ns.close())
    let over = false
    const workers = Array.from({ length: 16 }, (_, i) => work(ns, i * 8, () => over))
    const failed = Promise.all(workers).then(() => {})
    for (let i = 1; i <= 3; i++) {
      await Promise.race([failed, delay(100)])
      await child.kill()
      await Promise.race([failed, delay(50)])
      child = await forkTarget(device, port)
      while (ns.stats.resets < i) await Promise.race([failed, delay(5)])
    }
    over = true
    const rounds = await Promise.all(workers)
    t.true(rounds.every((count) => count > 0))
    t.is(ns.stats.failed, 0)
    t.log(`${rounds.reduce((sum, count) => sum + count)} rounds, ${ns.stats.resets} reconnects`)
  },
)

onEachLink(
  'a target that was killed is connected again at once, also where a write meets its end first',
  async (t) => {
    const device = `sim:${inFolder(`reset-${t.context.link}.img`)}?size=8M`
    let child = await forkTarget(device)
    t.teardown(() => child.kill())
    // What is not known to have ended is waited for as long.
    const ns = await open(addressOf(child.port, `&link=${t.context.link}&kato=600000`), {
      reconnectDelay: 20,
    })
    t.teardown(() => ns.close())
    const block = new Int32Array(new SharedArrayBuffer(4))
    const sent: Promise<unknown>[] = []
    child.signal('SIGKILL')
    // The first is answered by a reset, which the second meets before the event loop sees either.
    for (let i = 0; i < 2; i++) {
      Atomics.wait(block, 0, 0, 200)
      sent.push(ns.controller.admin({ opcode: 0x0a, cdw10: 7 }).catch(() => {}))
    }
    await child.kill()
    child = await forkTarget(device, child.port)
    await Promise.all(sent)
    while (ns.stats.resets === 0) await delay(5)
    t.is((await ns.promises.read(Buffer.alloc(512), 0)).length, 512)
  },
)

onEachLink('one lost I/O connection: the whole association is made again', async (t) => {
  const { proxy, ns } = await setUp(t, { qcount: 2 })
  const data = pattern(65_536, 1)
  await ns.promises.write(data, 0)
  proxy.connections[2]!.toHost.destroy()
  proxy.connections[2]!.toTarget.destroy()
  t.true((await ns.promises.read(Buffer.alloc(data.length), 0)).equals(data))
  while (ns.stats.resets === 0) await delay(5)
  t.true((await ns.promises.read(Buffer.alloc(data.length), 0, undefined, { qid: 1 })).equals(data))
  t.true(proxy.connections.length >= 6)
})

onEachLink('an idle controller whose connection ends is connected again by itself', async (t) => {
  const { proxy, ns } = await setUp(t)
  proxy.endAll()
  while (ns.stats.resets === 0) await delay(5)
  await ns.promises.read(Buffer.alloc(512), 0)
  t.is(ns.stats.resets, 1)
})

onEachLink(
  'a target that does not come back within ctrlLossTimeout: what waits is rejected, and so is what comes',
  async (t) => {
    const { proxy, ns } = await setUp(t, { ctrlLossTimeout: 100 })
    await proxy.close()
    await t.throwsAsync(ns.promises.read(Buffer.alloc(512), 0), {
      code: 'ERR_UNVME_DEVICE_REMOVED',
      message: /can not be reached for \d+ ms: .*ECONNREFUSED/,
    })
    await t.throwsAsync(ns.promises.read(Buffer.alloc(512), 0), { code: 'ERR_UNVME_DEVICE_REMOVED' })
  },
)

onEachLink(
  'a target that is lost again and again before it is of use is tried for as long as ctrlLossTimeout says',
  async (t) => {
    const { proxy, ns } = await setUp(t, { retries: 1000 })
    const data = pattern(4096, 8)
    await ns.promises.write(data, 0)
    let losses = 0
    proxy.toTarget = (pdu, { index }) => {
      // The I/O queue's Connect is the end of all, ten times.
      if (
        pdu[0] === 4 &&
        pdu[8] === 0x7f &&
        pdu[12] === 1 &&
        pdu.readUInt16LE(50) === 1 &&
        index > 1 &&
        losses < 10
      ) {
        losses++
        setImmediate(() => proxy.endAll())
        return []
      }
      return [pdu]
    }
    proxy.endAll()
    t.true((await ns.promises.read(Buffer.alloc(4096), 0)).equals(data))
    t.is(losses, 10)
    t.is(ns.stats.resets, 1)
  },
)

onEachLink(
  'fastIoFail: what waits and what comes is rejected, while the target is still looked for; when it is back, I/O goes on',
  async (t) => {
    const { target, proxy, ns } = await setUp(t, { fastIoFail: 100 })
    const data = pattern(4096, 7)
    await ns.promises.write(data, 0)
    await proxy.close()
    const gone = { code: 'ERR_UNVME_DEVICE_REMOVED', message: /can not be reached for 100 ms/ }
    await t.throwsAsync(ns.promises.read(Buffer.alloc(4096), 0), gone)
    await t.throwsAsync(ns.promises.write(data, 0), gone)
    t.throws(() => ns.apoll(ns.aread(0, ns.alloc(512), 0, 1)), gone)
    const again = await startProxy(target.port, proxy.port)
    t.teardown(() => again.close())
    while (ns.stats.resets === 0) await delay(5)
    t.true((await ns.promises.read(Buffer.alloc(4096), 0)).equals(data))
  },
)

onEachLink('recovery none: the end of the connection ends the device', async (t) => {
  const { proxy, ns } = await setUp(t, { recovery: 'none' })
  proxy.endAll()
  await t.throwsAsync(ns.promises.read(Buffer.alloc(512), 0), {
    code: 'ERR_UNVME_DEVICE_REMOVED',
    message: /closed the connection|connection failed/,
  })
})

onEachLink('close does not wait for a target that is gone', async (t) => {
  const { proxy, ns } = await setUp(t, { reconnectDelay: 60_000 })
  await proxy.close()
  const read = ns.promises.read(Buffer.alloc(512), 0)
  await Promise.all([ns.close(), t.throwsAsync(read)])
})

onEachLink(
  'reset: connections are made again, what was in flight is rejected, and nothing waits for KATO',
  async (t) => {
    const { proxy, ns } = await setUp(t, {}, 'sim:?size=8M&latency=50ms')
    const read = ns.promises.read(Buffer.alloc(512), 0)
    await new Promise(setImmediate)
    const rejected = t.throwsAsync(read, { code: 'ERR_UNVME_CONTROLLER_RESET' })
    await ns.reset()
    await rejected
    t.true(proxy.connections.length >= 4)
    await ns.promises.read(Buffer.alloc(512), 0)
    await ns.reset('subsystem')
    await ns.promises.read(Buffer.alloc(512), 0)
    await t.throwsAsync(ns.reset('function'), { code: 'ERR_UNVME_UNSUPPORTED', message: /no PCI function/ })
  },
)

onEachLink(
  'a command without an answer is aborted, and where that is no use the controller is reset',
  async (t) => {
    const { target, ns } = await setUp(t, { timeout: 200 })
    const data = pattern(512, 9)
    await ns.promises.write(data, 3)
    target.sim.controls.addFault({ opcode: 2, times: 1, action: { kind: 'swallow' } })
    await t.throwsAsync(ns.promises.read(Buffer.alloc(512), 3), { code: 'ERR_UNVME_TIMEOUT' })
    t.like(ns.stats, { aborts: 1, resets: 0, lost: 0 })
    target.sim.controls.addFault({ opcode: 2, times: 1, action: { kind: 'lose' } })
    t.true((await ns.promises.read(Buffer.alloc(512), 3)).equals(data))
    t.is(ns.stats.resets, 1)
  },
)

onEachLink('a controller that reports a fatal status is reset', async (t) => {
  const { target, ns } = await setUp(t, { timeout: 300 })
  const data = pattern(512, 9)
  await ns.promises.write(data, 3)
  target.sim.controls.goFatal()
  t.true((await ns.promises.read(Buffer.alloc(512), 3)).equals(data))
  t.true(ns.stats.resets >= 1)
})

onEachLink('events come over the network', async (t) => {
  const target = await startTarget('sim:?size=8M')
  t.teardown(() => target.close())
  const handle = await openController(target.address())
  t.teardown(() => handle.close())
  await handle.admin({ opcode: 0x09, cdw10: 0x0b, cdw11: 0x1ff })
  const event = new Promise<number>((resolve) => handle.controller.onEvent(resolve))
  await new Promise(setImmediate)
  target.sim.controls.namespaceChanged(1)
  t.is(await event, 0x0004_0002)
})
