// Shared queues where things go wrong: workers that die, devices that fail or vanish, tickets used twice.

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { MessageChannel } from 'node:worker_threads'
import test from 'ava'
import type { PcieTransport } from '../../lib/nvme/pcie/transport.ts'
import { attach, type OpenOptions, open, QueueOwnerError } from '../../src/index.ts'
import { ended, endWorkers, hear, start, works } from '../support/workers.ts'

const MANY = 4

const openThreaded = (options: OpenOptions = {}) => open('sim:?size=16M', { threads: true, ...options })

test.after.always(endWorkers)

test.serial('an inline controller says how it could be shared', async (t) => {
  await using ns = await open('sim:?size=16M')
  t.throws(() => ns.share(0), { code: 'ERR_UNVME_UNSUPPORTED', message: /threads: true.*thread=1/ })
  t.true(await works(ns, 0))
})

for (const task of ['exit', 'throw', 'leave'] as const) {
  test.serial(
    `${MANY} workers, one after the other, that end with commands in flight (${task})`,
    async (t) => {
      await using ns = await openThreaded({ qsize: 64 })
      for (let i = 0; i < MANY; i++) {
        const share = ns.share(0)
        const worker = start(share, { task })
        worker.on('error', () => {})
        await ended(worker)
        await share.returned
        t.true(await works(ns, 0))
      }
      t.is(ns.stats.inFlight, 0)
      t.is(ns.stats.lost, 0)
    },
  )
}

test.serial('a process that has nothing left but a share to wait for does wait', async (t) => {
  const program = `
    import { open } from '${new URL('../../src/index.js', import.meta.url)}'
    const ns = await open('sim:?size=16M', { threads: true })
    const share = ns.share(0)
    // As at the end of a worker's thread.
    share.ticket.port.close()
    await share.returned
    await ns.promises.flush()
    process.stdout.write('waited')
  `
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program])
  t.is(stdout, 'waited')
})

test.serial('terminate gives queues back, and recall asks for them', async (t) => {
  await using ns = await openThreaded({ qcount: 3 })
  const share = ns.share([2, 0])
  const worker = start(share, { task: 'wait' })
  t.is(await hear(worker), 'waiting')
  t.throws(() => ns.flush(2), { instanceOf: QueueOwnerError })
  t.true(await works(ns, 1))
  await worker.terminate()
  await share.returned
  const recalled = ns.share(0)
  const other = start(recalled, { task: 'wait' })
  t.is(await hear(other), 'waiting')
  await Promise.all([recalled.recall(), recalled.recall()])
  for (const qid of [0, 1, 2]) t.true(await works(ns, qid))
  await other.terminate()
})

test.serial('a worker may be terminated while it makes views of memory, wherever it is caught', async (t) => {
  await using ns = await openThreaded({ qcount: 2 })
  for (let i = 0; i < 12; i++) {
    const share = ns.share(0, { memory: 2 ** 18 })
    const worker = start(share, { task: 'churn' })
    t.is(await hear(worker), 'churning')
    for (let turn = 0; turn < 3 * i; turn++) await new Promise((resolve) => setImmediate(resolve))
    await worker.terminate()
    await share.returned
  }
  t.true(await works(ns, 0))
})

// With views by Node-API it was aborted in every second run.
test.serial('a process may end while its workers make views of memory', async (t) => {
  const program = `
    // As a module its --input-type would be the workers', too, who can't have it.
    const main = async () => {
      const { open } = await import('${new URL('../../src/index.js', import.meta.url)}')
      const { hear, start } = await import('${new URL('../support/workers.js', import.meta.url)}')
      const ns = await open('sim:?size=16M', { threads: true, qcount: 3 })
      for (const qid of [0, 1, 2]) await hear(start(ns.share(qid, { memory: 2 ** 18 }), { task: 'churn' }))
      process.stdout.write('ends')
      process.exit()
    }
    main()
  `
  for (let i = 0; i < 6; i++) {
    t.is((await promisify(execFile)(process.execPath, ['-e', program])).stdout, 'ends')
  }
})

test.serial('what is behind a buffer of a worker is no DMA memory', async (t) => {
  await using ns = await openThreaded()
  const codes = await hear(start(ns.share(0), { task: 'beyond' }))
  t.deepEqual(codes, ['ERR_UNVME_NOT_DMA_MEMORY', 'ERR_UNVME_NOT_DMA_MEMORY'])
  t.true(await works(ns, 0))
})

test.serial(
  'a share that comes back while the controller closes does not keep it from its shutdown',
  async (t) => {
    const ns = await openThreaded({ qcount: 2 })
    const share = ns.share(1)
    share.returned.catch(() => {})
    const { pci } = ns.controller.transport as PcieTransport
    const written: number[] = []
    const write = pci.writeRegister
    pci.writeRegister = (offset, value) => {
      if (offset === 0x14) written.push(value)
      write.call(pci, offset, value)
    }
    const closed = ns.controller.close()
    await share.recall()
    await closed
    t.deepEqual(written, [0x0046_4001, 0x0046_4000], 'CC.SHN, then CC.EN 0')
    await ns.close()
  },
)

test.serial('a worker that only polls learns of a recall within seconds', async (t) => {
  await using ns = await openThreaded()
  const share = ns.share(0)
  const worker = start(share, { task: 'spin' })
  t.is(await hear(worker), 'spinning')
  const code = hear(worker)
  await share.recall()
  t.is(await code, 'ERR_UNVME_CLOSED')
  t.true(await works(ns, 0))
})

for (const [kind, code] of [
  ['fatal', 'ERR_UNVME_CONTROLLER_FATAL'],
  ['vanish', 'ERR_UNVME_DEVICE_REMOVED'],
] as const) {
  for (const task of ['spin', 'stream'] as const) {
    test.serial(
      `a controller that ends (${kind}) while a worker has its queue (${task}): both learn of it`,
      async (t) => {
        await using ns = await openThreaded({
          qcount: 2,
          recovery: 'none',
          faults: [{ opcode: 2, skip: 1000, times: 1, action: { kind } }],
        })
        const share = ns.share(0)
        const worker = start(share, { task })
        await hear(worker)
        t.is(await hear(worker), code)
        await share.returned
        await t.throwsAsync(ns.promises.flush({ qid: 0 }), { code })
        await t.throwsAsync(ns.promises.flush({ qid: 1 }), { code })
        if (kind === 'vanish') return
        await ns.reset()
        t.true(await works(ns, 0))
      },
    )
  }
}

for (const kind of ['lose', 'fatal'] as const) {
  for (const task of ['spin', 'stream'] as const) {
    test.serial(
      `a worker (${task}) goes on over resets (${kind}), and so does the other queue`,
      async (t) => {
        await using ns = await openThreaded({
          ...{ qcount: 2, timeout: 1500 },
          faults: [{ opcode: 2, skip: 500, times: 1, action: { kind } }],
        })
        const share = ns.share(0)
        const worker = start(share, { task })
        await hear(worker)
        while (ns.stats.resets === 0) {
          await ns.promises.flush({ qid: 1 })
          await new Promise((resolve) => setTimeout(resolve, 5))
        }
        t.true(await works(ns, 1))
        const code = hear(worker)
        await share.recall()
        t.is(await code, 'ERR_UNVME_CLOSED')
        t.true(await works(ns, 0))
        t.is(ns.stats.resets, 1)
      },
    )
  }
}

test.serial('a worker whose last flush fails when its queues are recalled goes on', async (t) => {
  await using ns = await openThreaded({
    ...{ retries: 0, faults: [{ opcode: 0, times: 1, action: { kind: 'status', status: 0x281 } }] },
  })
  const share = ns.share(0)
  const worker = start(share, { task: 'flushed' })
  t.is(await hear(worker), 'written')
  const code = hear(worker)
  await share.recall()
  t.is(await code, 'ERR_NVME_STATUS')
  t.true(await works(ns, 0))
})

test.serial('a ticket is for one other thread, once, and for nothing else', async (t) => {
  await using ns = await openThreaded()
  const share = ns.share(0)
  const { ticket } = share
  await t.throwsAsync(attach(ticket), { instanceOf: QueueOwnerError, message: /in another/ })
  const elsewhere = { ...ticket, owner: -1 }
  await share.recall()
  await t.throwsAsync(attach(elsewhere), { code: 'ERR_UNVME_CLOSED' })
  for (const wrong of [undefined, null, {}, { kind: 'queues', port: new MessageChannel().port1 }]) {
    await t.throwsAsync(attach(wrong as never), { code: 'ERR_INVALID_ARG_TYPE' })
  }
})
