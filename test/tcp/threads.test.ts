// Queues over TCP in worker threads, each with a connection of its own: what becomes of it when the thread ends, when the
// queue is asked back, when a connection or the whole controller is lost; and what the worker is given for it.

import fs from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { inspect } from 'node:util'
import type { Worker } from 'node:worker_threads'
import test, { type ExecutionContext } from 'ava'
import { DHCHAP_KEY, formatKey, parseKey, TLS_KEY } from '../../lib/nvme/tcp/security/keys.ts'
import { type OpenOptions, open } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { type LinkContext, onEachLink } from '../support/tcp-links.ts'
import { startProxy } from '../support/tcp-proxy.ts'
import { startTarget, type TargetLimits } from '../support/tcp-target.ts'
import { ended, endWorkers, hear, start, works } from '../support/workers.ts'

const inFolder = testFolder()
const HOSTNQN = 'nqn.2024-01.org.example:host'
// The more of them, the surer it is that none leaves anything.
const WORKERS = Number(process.env.UNVME_ENDED_WORKERS ?? 9)

test.afterEach.always(endWorkers)

interface SetUp {
  readonly options?: OpenOptions
  readonly limits?: TargetLimits
  readonly query?: string
}

async function setUp(t: ExecutionContext<LinkContext>, { options, limits, query = '' }: SetUp = {}) {
  const target = await startTarget('sim:?size=8M', limits)
  const proxy = await startProxy(target.port)
  const ns = await open(target.address(`link=${t.context.link}${query}`, proxy.port), {
    ...{ reconnectDelay: 10, qcount: 2 },
    ...options,
  })
  t.teardown(async () => {
    await endWorkers()
    await ns.close()
    await proxy.close()
    await target.close()
  })
  return { target, proxy, ns }
}

const countFds = () => fs.readdirSync('/proc/self/fd').length
const until = async (done: () => boolean) => {
  while (!done()) await delay(2)
}

/** Resolves when a worker has had three rounds more. */
async function rounds(worker: Worker): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => worker.once('message', resolve))
}

function lastWord(worker: Worker): Promise<{ rounds: number; code: string }> {
  return new Promise((resolve, reject) => {
    worker.on('message', ({ result }) => result && resolve(result))
    worker.once('error', reject)
  })
}

onEachLink('a worker has a connection of its own, and no more are open than there are queues', async (t) => {
  const { target, ns, proxy } = await setUp(t)
  t.is(target.server.connections, 3)
  const share = ns.share(0)
  const worker = start(share, { task: 'rounds', slba: 64 })
  const result = lastWord(worker)
  await rounds(worker)
  t.is(target.server.connections, 3)
  t.is(proxy.connections.length, 4)
  t.true(await works(ns, 1))
  await share.recall()
  const { code, rounds: done } = await result
  t.is(code, 'ERR_UNVME_CLOSED')
  t.true(done >= 3)
  t.true(await works(ns, 0))
  await until(() => target.server.connections === 3)
  t.like(ns.stats, { resets: 0, lost: 0, inFlight: 0 })
})

onEachLink(
  `workers that end without a word, ${WORKERS} of them, leave no descriptor and no connection`,
  async (t) => {
    const { target, ns } = await setUp(t, { options: { qsize: 16 } })
    let before = 0
    for (let i = 0; i <= WORKERS; i++) {
      const share = ns.share(i % 2, { memory: 0 })
      const worker = start(share, { task: i % 3 === 0 ? 'exit' : 'wait' })
      if (i % 3 === 0) t.is(await ended(worker), 3)
      else {
        t.is(await hear(worker), 'waiting')
        await worker.terminate()
      }
      await share.returned
      // The first loads what stays open.
      if (i === 0) before = countFds()
    }
    t.true(await works(ns, 0))
    t.true(await works(ns, 1))
    await until(() => target.server.connections === 3)
    // A few are of threads that are still being taken down.
    for (let i = 0; i < 500 && countFds() > before; i++) await delay(10)
    t.true(countFds() <= before, `${countFds()} descriptors, ${before} before`)
    t.like(ns.stats, { resets: 0, lost: 0, inFlight: 0 })
  },
)

onEachLink(
  'a worker that is terminated while it connects leaves nothing, wherever it is caught',
  async (t) => {
    const { target, proxy, ns } = await setUp(t)
    let before = 0
    for (let i = 0; i < 6; i++) {
      const share = ns.share(0)
      // ICReq, then Connect: one of them gets no answer.
      let asked = 0
      const made = proxy.connections.length
      proxy.toTarget = (pdu, { index }) => (index !== made || asked++ < i % 2 ? [pdu] : [])
      const worker = start(share, { task: 'wait' })
      await until(() => asked > i % 2)
      await worker.terminate()
      proxy.toTarget = (pdu) => [pdu]
      await share.returned
      t.true(await works(ns, 0))
      if (i === 0) before = countFds()
    }
    await until(() => target.server.connections === 3)
    for (let i = 0; i < 500 && countFds() > before; i++) await delay(10)
    t.true(countFds() <= before, `${countFds()} descriptors, ${before} before`)
  },
)

onEachLink(
  'a worker’s connection that is lost: all is connected again, and both threads go on',
  async (t) => {
    const { proxy, ns } = await setUp(t)
    const share = ns.share(0)
    const worker = start(share, { task: 'rounds', slba: 64 })
    const result = lastWord(worker)
    await rounds(worker)
    for (let i = 1; i <= 3; i++) {
      const { toHost, toTarget } = proxy.connections.at(-1)!
      toHost.destroy()
      toTarget.destroy()
      await until(() => ns.stats.resets === i)
      await rounds(worker)
      t.true(await works(ns, 1))
    }
    await share.recall()
    t.is((await result).code, 'ERR_UNVME_CLOSED')
    t.true(await works(ns, 0))
  },
)

onEachLink('every connection is lost, and the controller is reset: the worker goes on', async (t) => {
  const { proxy, target, ns } = await setUp(t, { options: { timeout: 400 } })
  const share = ns.share(0)
  const worker = start(share, { task: 'rounds', slba: 64 })
  const result = lastWord(worker)
  await rounds(worker)
  proxy.endAll()
  await until(() => ns.stats.resets === 1)
  await rounds(worker)
  // A command of the worker's without an answer.
  target.sim.controls.addFault({ opcode: 2, times: 1, action: { kind: 'lose' } })
  await until(() => ns.stats.resets === 2)
  await rounds(worker)
  target.sim.controls.goFatal()
  await until(() => ns.stats.resets >= 3)
  await rounds(worker)
  t.true(await works(ns, 1))
  await share.recall()
  t.is((await result).code, 'ERR_UNVME_CLOSED')
  t.true(await works(ns, 0))
})

onEachLink(
  'a reset that the owner asks of the controller ends what is in flight, and the queue goes on',
  async (t) => {
    const { ns } = await setUp(t)
    const share = ns.share(0)
    const worker = start(share, { task: 'rounds', slba: 64 })
    const result = lastWord(worker)
    await rounds(worker)
    await t.throwsAsync(ns.reset(), { code: 'ERR_UNVME_QUEUE_OWNER' })
    await ns.controller.reset()
    t.is((await result).code, 'ERR_UNVME_CONTROLLER_RESET')
    await share.returned
    t.true(await works(ns, 0))
    t.true(await works(ns, 1))
  },
)

onEachLink('recovery none, and a target that does not come back: the worker hears of either', async (t) => {
  for (const [options, gone] of [
    [{ recovery: 'none' }, false],
    [{ ctrlLossTimeout: 50 }, true],
  ] as const) {
    const { proxy, ns } = await setUp(t, { options })
    const share = ns.share(0)
    const worker = start(share, { task: 'rounds', slba: 64 })
    const result = lastWord(worker)
    await rounds(worker)
    const { toHost } = proxy.connections.at(-1)!
    if (gone) await proxy.close()
    else toHost.destroy()
    t.is((await result).code, 'ERR_UNVME_DEVICE_REMOVED')
    await share.returned
    await t.throwsAsync(ns.promises.flush({ qid: 0 }), { code: 'ERR_UNVME_DEVICE_REMOVED' })
  }
})

onEachLink(
  'a worker that does not answer is left out of a reset, and its queue comes back with its end',
  async (t) => {
    const { target, proxy, ns } = await setUp(t)
    const share = ns.share(0)
    const worker = start(share, { task: 'block' })
    t.is(await hear(worker), 'blocked')
    const before = countFds()
    proxy.endAll()
    await until(() => ns.stats.resets === 1)
    t.true(await works(ns, 1))
    await worker.terminate()
    await share.returned
    t.true(await works(ns, 0))
    await until(() => target.server.connections === 3)
    t.true(countFds() <= before + 2)
  },
)

onEachLink('a queue that is refused to the worker: attach rejects, and the owner has it again', async (t) => {
  const { proxy, ns } = await setUp(t)
  const made = proxy.connections.length
  proxy.toHost = (pdu, { index }) => {
    // Connect: Connect Invalid Host, not to be tried again.
    if (index === made && pdu[0] === 5) pdu.writeUInt16LE(0x4184 << 1, 22)
    return [pdu]
  }
  const share = ns.share(0)
  const worker = start(share, { task: 'wait' })
  const error = await new Promise<Error & { code: string }>((resolve) => worker.once('error', resolve))
  t.regex(error.message, /Connect Invalid Host/)
  await share.returned
  t.true(await works(ns, 0))
  t.is(ns.stats.resets, 0)
})

onEachLink('authentication by both sides: keys go to the worker by no ticket', async (t) => {
  const [host, own] = [1, 2].map((fill) => formatKey(DHCHAP_KEY, 1, Buffer.alloc(32, fill))) as [
    string,
    string,
  ]
  const file = (text: string) => {
    const at = inFolder(`${t.context.link}-${text.slice(10, 16)}`)
    fs.writeFileSync(at, text, { mode: 0o600 })
    return at
  }
  const { ns } = await setUp(t, {
    limits: {
      dhchap: { keyOf: () => parseKey(DHCHAP_KEY, host), controllerKey: parseKey(DHCHAP_KEY, own) },
    },
    options: { dhchapSecretFile: file(host), dhchapCtrlSecretFile: file(own) },
  })
  const share = ns.share(0)
  const { ticket } = share
  const shown = inspect(ticket, { depth: 12, showHidden: true })
  t.false(/SecretKey|KeyObject|dhchap|psk/i.test(shown), shown)
  t.deepEqual(await hear(start(share, { task: 'api', slba: 64, nlb: 64 })), [true, true, true, true])
  await share.returned
  t.true(await works(ns, 0))
})

test.serial('socket: TLS in the worker', async (t) => {
  t.context = { link: 'socket' }
  const text = formatKey(TLS_KEY, 1, Buffer.alloc(32, 7))
  const tlsKeyFile = inFolder('tls')
  fs.writeFileSync(tlsKeyFile, text, { mode: 0o600 })
  const target = await startTarget('sim:?size=8M', {
    tls: { keys: new Map([[HOSTNQN, parseKey(TLS_KEY, text)]]) },
  })
  const ns = await open(target.address('hdgst=1&ddgst=1'), { tlsKeyFile })
  t.teardown(async () => {
    await endWorkers()
    await ns.close()
    await target.close()
  })
  const share = ns.share(0)
  t.deepEqual(await hear(start(share, { task: 'memory', slba: 64 })), [true, true, true, true])
  await share.returned
  t.true(await works(ns, 0))
})

onEachLink('buffers of the owner can not go with a queue', async (t) => {
  const { ns } = await setUp(t)
  t.throws(() => ns.share(0, { buffers: [ns.alloc(512)] }), {
    code: 'ERR_UNVME_UNSUPPORTED',
    message: /buffers/,
  })
  t.true(await works(ns, 0))
})
