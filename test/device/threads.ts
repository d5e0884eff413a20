// Queues in the hands of worker threads: the whole API there, one owner at a time, and back again.
// Few workers, since each loads the driver anew, which takes 20 s in the virtual machine; what needs
// many of them is in test/embedded.

import { QueueOwnerError } from '../../src/index.ts'
import { done } from '../support/calls.ts'
import { type Body, deviceTest } from '../support/device-suite.ts'
import { pattern } from '../support/pattern.ts'
import { ended, hear, start, works } from '../support/workers.ts'

// Queues are the controller's, so that one of its namespaces is enough.
const threadedTest = (title: string, body: Body, need: 'threads' | 'sharedMemory' = 'threads') =>
  deviceTest(title, { needs: [need], each: 'controller' }, body)

threadedTest('workers have the whole API on shared queues, several at once', async (t) => {
  const probe = await t.device.open()
  const count = Math.min(2, probe.maxqcount)
  await probe.close()
  const ns = await t.device.open({ threads: true, qcount: count, qsize: 16 })
  const shares = Array.from({ length: count }, (_, qid) => ns.share(qid))
  const workers = shares.map((share, i) => start(share, { task: 'api', slba: 16 + 400 * i, nlb: 4 * 50 }))
  t.deepEqual(
    await Promise.all(workers.map(hear)),
    shares.map(() => [true, true, true, true]),
  )
  await Promise.all(shares.map(({ returned }) => returned))
  for (let qid = 0; qid < count; qid++) t.true(await works(ns, qid))
})

threadedTest(
  'a worker knows its namespace, sends admin commands, and is refused what is not its own',
  async (t) => {
    const ns = await t.device.open({ threads: true })
    const share = ns.share(0, { memory: 0 })
    t.deepEqual(await hear(start(share, { task: 'facts' })), {
      qcount: 1,
      mn: ns.mn,
      blockcount: ns.blockcount,
      transport: ns.controller.transport.kind,
      sn: ns.sn,
      error: ['NvmeError', 0, 1, 'Invalid Command Opcode'],
      aborted: ['ABORT_ERR', 'ABORT_ERR'],
      namespaces: await ns.controller.activeNamespaces(),
      reset: 'UnsupportedError',
      queue: 'NoSuchQueueError',
    })
  },
)

threadedTest("a worker's memory: more than came with its queue", async (t) => {
  const ns = await t.device.open({ threads: true })
  const share = ns.share(0, { memory: 64 * 1024 })
  t.deepEqual(await hear(start(share, { task: 'memory', slba: 8 })), [true, true, true, true])
  await share.returned
})

threadedTest(
  "the owner's buffers in a worker",
  async (t) => {
    const ns = await t.device.open({ threads: true })
    const half = 8 * ns.blocksize
    const buf = ns.alloc(2 * half)
    const data = pattern(half, 5)
    await ns.promises.write(data, 8)
    const share = ns.share(0, { memory: 64 * 1024, buffers: [buf] })
    t.throws(() => ns.free(buf), { code: 'ERR_UNVME_BUFFER_IN_USE' })
    t.is(await hear(start(share, { task: 'buffers', slba: 8 })), 1)
    await share.returned
    t.true(buf.subarray(0, half).equals(data) && buf.subarray(half).equals(data))
    ns.free(buf)
  },
  'sharedMemory',
)

threadedTest('a queue has one owner', async (t) => {
  const ns = await t.device.open({ threads: true })
  const buf = ns.alloc(ns.blocksize)
  const share = ns.share(0)
  t.deepEqual(share.qids, [0])
  for (const use of [
    () => ns.aread(0, buf, 0, 1),
    () => ns.aflush(0),
    () => ns.share(0),
    () => ns.createReadStream().read(),
  ]) {
    t.throws(use, { instanceOf: QueueOwnerError, message: /queue 0 of .*: another thread has it/ })
  }
  await t.throwsAsync(ns.promises.read(buf, 0), { instanceOf: QueueOwnerError })
  await t.throwsAsync(ns.reset(), { instanceOf: QueueOwnerError })
  t.is(ns.stats.inFlight, 0)
  await share.recall()
  t.true(await works(ns, 0))
  const iod = ns.aread(0, buf, 0, 1)
  t.throws(() => ns.share(0), { instanceOf: QueueOwnerError, message: /1 commands are in flight/ })
  await done(ns, iod)
  t.throws(() => ns.share([]), { code: 'ERR_OUT_OF_RANGE' })
  t.throws(() => ns.share([0, 0]), { code: 'ERR_OUT_OF_RANGE' })
  t.throws(() => ns.share(99), { code: 'ERR_UNVME_NO_SUCH_QUEUE' })
  ns.free(buf)
})

for (const [task, code] of [
  ['exit', 3],
  ['leave', 0],
] as const) {
  threadedTest(`a worker that ends with commands in flight (${task}) gives its queue back`, async (t) => {
    const ns = await t.device.open({ threads: true, qsize: 64 })
    const share = ns.share(0)
    t.is(await ended(start(share, { task })), code)
    await share.returned
    t.true(await works(ns, 0))
    t.is(ns.stats.inFlight, 0)
    t.is(ns.stats.lost, 0)
  })
}

threadedTest('close waits for the queues that are shared', async (t) => {
  const ns = await t.device.open({ threads: true })
  const share = ns.share(0)
  const worker = start(share, { task: 'stream' })
  t.is(await hear(worker), 'streaming')
  const code = hear(worker)
  await ns.close()
  await share.returned
  t.is(await code, 'ERR_UNVME_CLOSED')
})
