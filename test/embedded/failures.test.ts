// A device that misbehaves: every fault reaches its own call, and the device is usable after it where it can be.

import { execFile } from 'node:child_process'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import { type Namespace, NvmeError, type OpenOptions, open } from '../../src/index.ts'
import { startServer } from '../support/server.ts'

type Faults = NonNullable<OpenOptions['faults']>

async function faulty(faults: Faults, options: OpenOptions = {}, query = ''): Promise<Namespace> {
  return open(`sim:?size=16M${query}`, { faults, recovery: 'none', retries: 0, ...options })
}

test('a failed command rejects its own call alone, with what and where', async (t) => {
  await using ns = await faulty([{ opcode: 2, slba: 100, nlb: 2, action: { kind: 'status', status: 0x281 } }])
  const buf = ns.alloc(16 * 512)
  const good = ns.aread(0, buf, 0, 8)
  const bad = ns.aread(0, buf, 96, 8)
  const other = ns.aread(0, buf, 200, 8)
  while (!ns.apoll(other));
  const error = t.throws<NvmeError>(
    () => {
      while (!ns.apoll(bad));
    },
    { instanceOf: NvmeError },
  )
  t.like(error, { code: 'ERR_NVME_STATUS', opcode: 2, nsid: 1, slba: 96, nlb: 8, sct: 2, sc: 0x81 })
  t.is(error.statusName, 'Unrecovered Read Error')
  t.regex(
    error.message,
    /Read failed: Unrecovered Read Error \(sct 2, sc 81h.*opcode 02h, qid 1, nsid 1, slba 96, nlb 8/,
  )
  t.true(ns.apoll(good))
  ns.read(0, buf, 0, 8)
  t.is(ns.stats.failed, 1)
})

test('a long transfer reports the command that failed, and sends nothing after it', async (t) => {
  await using ns = await faulty(
    [{ opcode: 1, slba: 1000, action: { kind: 'status', status: 0x280 } }],
    { qsize: 3 },
    '&mdts=1',
  )
  const error = await t.throwsAsync<NvmeError>(ns.promises.write(ns.alloc(2 ** 20), 0))
  t.is(error.slba, 1000 - (1000 % ns.maxbpio))
  t.is(error.nlb, ns.maxbpio)
  t.true(ns.stats.commands < 70)
  t.is(ns.stats.inFlight, 0)
  await ns.promises.read(Buffer.alloc(512), 0)
})

test('streams and iterators report a failed read after what came before it', async (t) => {
  const faults: Faults = [{ opcode: 2, slba: 64, action: { kind: 'status', status: 0x281 } }]
  await using ns = await faulty(faults)
  const { bytes } = ns.pool
  let seen = 0
  const iterate = async () => {
    for await (const block of ns.blocks({ chunk: 8 })) seen = block.slba + block.nlb
  }
  await t.throwsAsync(iterate(), { instanceOf: NvmeError })
  t.is(seen, 64)
  let received = 0
  const consume = async () => {
    for await (const chunk of ns.createReadStream({ highWaterMark: 4096 })) received += chunk.length
  }
  await t.throwsAsync(consume(), { instanceOf: NvmeError })
  t.true(received <= 64 * 512 && received % 4096 === 0)
  await t.throwsAsync(ns.promises.read(Buffer.alloc(2 ** 20), 0), { instanceOf: NvmeError })
  t.is(ns.stats.inFlight, 0)
  // Bounce buffers, of which the read above had eight at a time.
  t.true(ns.pool.bytes - bytes <= 2 ** 20)
})

test('write streams report a failed write', async (t) => {
  await using ns = await faulty([{ opcode: 1, slba: 64, action: { kind: 'status', status: 0x280 } }])
  const source = () => Readable.from(Array.from({ length: 100 }, () => Buffer.alloc(4096)))
  const error = await t.throwsAsync<NvmeError>(
    pipeline(source(), ns.createWriteStream({ highWaterMark: 4096 })),
  )
  t.is(error.statusName, 'Write Fault')
  await t.throwsAsync(ns.writeBlocks(source(), { chunk: 8 }), { instanceOf: NvmeError })
  await t.throwsAsync(pipeline(Readable.from([Buffer.alloc(100)]), ns.createWriteStream({ slba: 64 })))
  t.is(ns.stats.inFlight, 0)
})

test('a flush that fails fails the write stream', async (t) => {
  await using ns = await faulty([{ opcode: 0, times: 1, action: { kind: 'status', status: 0x006 } }])
  const error = await t.throwsAsync<NvmeError>(
    pipeline(Readable.from([Buffer.alloc(512)]), ns.createWriteStream()),
  )
  t.is(error.opcodeName, 'Flush')
  await pipeline(Readable.from([Buffer.alloc(512)]), ns.createWriteStream())
})

test('a fault that can not be is refused before the device is opened', async (t) => {
  for (const [code, faults] of [
    ['ERR_INVALID_ARG_TYPE', 7],
    ['ERR_INVALID_ARG_TYPE', [null]],
    ['ERR_INVALID_ARG_TYPE', [{}]],
    ['ERR_OUT_OF_RANGE', [{ action: { kind: 'explode' } }]],
    ['ERR_OUT_OF_RANGE', [{ action: { kind: 'status', status: 0 } }]],
    ['ERR_OUT_OF_RANGE', [{ action: { kind: 'delay', ms: -1 } }]],
    ['ERR_OUT_OF_RANGE', [{ action: { kind: 'behind' } }]],
  ] as const) {
    await t.throwsAsync(faulty(faults as never), { code }, JSON.stringify(faults))
  }
})

/** Where the controller is: in the driver's own poll, on a thread, in another process. */
const HOSTS: readonly [
  where: string,
  start: (query: string) => Promise<{ address: string; stop(): Promise<void> }>,
][] = [
  ['inline', async (query) => ({ address: `sim:?size=16M&${query}`, stop: async () => {} })],
  ['on a thread', async (query) => ({ address: `sim:?size=16M&thread=1&${query}`, stop: async () => {} })],
  ['behind a socket', (query) => startServer({ device: `sim:?size=16M&${query}` })],
]

for (const [where, start] of HOSTS) {
  const faulty = async (
    t: ExecutionContext,
    fault: string,
    options: OpenOptions = {},
  ): Promise<Namespace> => {
    const { address, stop } = await start(`fault=${fault}`)
    const ns = await open(address, { recovery: 'none', retries: 0, ...options })
    t.teardown(async () => {
      await ns.close()
      await stop()
    })
    return ns
  }

  test(`${where}: a lost command times out; its identifier and memory are out of use until reset`, async (t) => {
    const ns = await faulty(t, 'read@7*2:lose', { timeout: 80, qsize: 4 })
    const buf = ns.alloc(512)
    const iod = ns.aread(0, buf, 7, 1)
    t.throws(
      () => {
        while (!ns.apoll(iod, 1000));
      },
      { code: 'ERR_UNVME_TIMEOUT', message: /80 ms.*slba 7/ },
    )
    await t.throwsAsync(ns.promises.read(Buffer.alloc(512), 7), { code: 'ERR_UNVME_TIMEOUT' })
    t.is(ns.stats.lost, 2)
    t.throws(() => ns.free(buf), { code: 'ERR_UNVME_BUFFER_IN_USE' })
    // One of three identifiers is left, and works.
    const other = ns.alloc(512)
    const last = ns.aread(0, other, 1, 1)
    t.throws(() => ns.aread(0, other, 2, 1), { code: 'ERR_UNVME_QUEUE_FULL' })
    while (!ns.apoll(last, 10));
    await ns.promises.read(Buffer.alloc(100 * 512), 0, 5)
    await ns.reset()
    t.is(ns.stats.lost, 0)
    ns.free(buf)
    const three = [0, 1, 2].map((slba) => ns.aread(0, other, slba, 1))
    for (const each of three) while (!ns.apoll(each, 10));
  })

  test(`${where}: a controller that goes fatal rejects everything with that cause, and can be reset`, async (t) => {
    const ns = await faulty(t, 'read#5*1:fatal')
    const calls = Array.from({ length: 20 }, (_, i) => ns.promises.read(Buffer.alloc(512), i))
    const results = await Promise.allSettled(calls)
    const failed = results.filter((result) => result.status === 'rejected')
    t.true(failed.length >= 15)
    for (const { reason } of failed) t.is(reason.code, 'ERR_UNVME_CONTROLLER_FATAL')
    await t.throwsAsync(ns.promises.read(Buffer.alloc(512), 0), { code: 'ERR_UNVME_CONTROLLER_FATAL' })
    t.throws(() => ns.read(0, ns.alloc(512), 0, 1), { code: 'ERR_UNVME_CONTROLLER_FATAL' })
    await ns.reset()
    await ns.promises.read(Buffer.alloc(512), 0)
  })

  test(`${where}: a controller that vanishes rejects everything with "device removed"`, async (t) => {
    const ns = await faulty(t, 'read#5*1:vanish')
    const buf = ns.alloc(512)
    const stream = ns.createReadStream({ highWaterMark: 512 })
    const streamed = (async () => {
      for await (const _ of stream);
    })()
    const results = await Promise.allSettled([
      streamed,
      ...Array.from({ length: 20 }, (_, i) => ns.promises.read(Buffer.alloc(512), i)),
    ])
    const failed = results.filter((result) => result.status === 'rejected')
    t.true(failed.length >= 15)
    for (const { reason } of failed) {
      t.is(reason.code, 'ERR_UNVME_DEVICE_REMOVED')
      t.regex(reason.message, /device removed/)
    }
    t.throws(() => ns.read(0, buf, 0, 1), { code: 'ERR_UNVME_DEVICE_REMOVED' })
    await t.throwsAsync(ns.admin({ opcode: 6, cdw10: 1 }), { code: 'ERR_UNVME_DEVICE_REMOVED' })
    await t.throwsAsync(ns.reset(), { code: 'ERR_UNVME_DEVICE_REMOVED' })
    await ns.close()
  })

  test(`${where}: completions out of order and late ones go to their own calls`, async (t) => {
    const ns = await faulty(t, 'read@0+3:behind=5')
    const data = Buffer.alloc(64 * 512)
    for (let i = 0; i < 64; i++) data.fill(i + 1, i * 512, (i + 1) * 512)
    await ns.promises.write(data, 0)
    const back = Buffer.alloc(64 * 512)
    for await (const block of ns.blocks({ nlb: 64, chunk: 1 })) block.data.copy(back, block.slba * 512)
    t.true(back.equals(data))
    const order: number[] = []
    await Promise.all(
      Array.from({ length: 8 }, async (_, i) => {
        const buf = Buffer.alloc(512)
        await ns.promises.read(buf, i)
        t.is(buf[0], i + 1)
        order.push(i)
      }),
    )
    t.deepEqual([...order].sort(), [0, 1, 2, 3, 4, 5, 6, 7])
    t.notDeepEqual(order, [0, 1, 2, 3, 4, 5, 6, 7])
  })
}

test('a reset with commands in flight rejects them, and what comes after works', async (t) => {
  await using ns = await faulty([{ opcode: 2, slba: 1000, nlb: 30_000, action: { kind: 'lose' } }])
  const pending = [
    ns.promises.read(Buffer.alloc(512), 1000),
    ns.promises.read(Buffer.alloc(2 ** 20), 1000),
    (async () => {
      for await (const _ of ns.blocks({ slba: 1000 }));
    })(),
  ]
  const settled = Promise.allSettled(pending)
  while (ns.stats.inFlight === 0) await new Promise(setImmediate)
  await ns.reset()
  for (const result of await settled) {
    t.is(result.status, 'rejected')
    t.is((result as PromiseRejectedResult).reason.code, 'ERR_UNVME_CONTROLLER_RESET')
  }
  await ns.promises.read(Buffer.alloc(1000 * 512), 0)
  t.is(ns.stats.inFlight, 0)
})

test('what a callback starts while a reset ends its operation is ended, too', async (t) => {
  await using ns = await faulty([{ opcode: 2, slba: 9, action: { kind: 'lose' } }])
  const queue = ns.queue(0, 'test')
  const buf = ns.alloc(512)
  const ended: unknown[] = []
  const start = (slba: number, onDone: () => void) => {
    const op = queue.operations.take()
    op.onDone = ({ cause }) => {
      ended.push(cause === null ? null : (cause as Error & { code: string }).code)
      op.onDone = null
      onDone()
    }
    queue.requestTransfer(op, ns.geometry, 2, buf, ns.pool.tagOf(buf), slba, 1)
  }
  // Identifiers come back last in, first out: the second command is not the lowest one, which is free again.
  start(0, () => {})
  start(9, () => start(9, () => {}))
  while (ended.length === 0) await new Promise(setImmediate)
  await ns.reset()
  t.deepEqual(ended, [null, 'ERR_UNVME_CONTROLLER_RESET', 'ERR_UNVME_CONTROLLER_RESET'])
  t.is(queue.scheduled, 0)
  ns.free(buf)
})

test('a handler of events that throws keeps none from the others, and is called with the next one', async (t) => {
  const program = `
    import { openController } from '${new URL('../../src/index.js', import.meta.url)}'
    import { getLogPage, LOG_PAGE, SANITIZE_ACTION, sanitize } from '${new URL('../../lib/nvme/index.js', import.meta.url)}'
    const { controller } = await openController('sim:?size=1M')
    process.on('uncaughtException', ({ message }) => process.stdout.write(message + ' '))
    let count = 0
    controller.onEvent(() => {
      throw new Error('thrown')
    })
    controller.onEvent(() => count++)
    for (let i = 0; i < 2; i++) {
      await sanitize(controller, { sanact: SANITIZE_ACTION.BLOCK_ERASE })
      while (count === i) await controller.identify(1)
      // Until it is read there is no other event.
      await getLogPage(controller, LOG_PAGE.SANITIZE_STATUS, 512)
    }
    await controller.close()
  `
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program])
  t.is(stdout, 'thrown thrown ')
})
