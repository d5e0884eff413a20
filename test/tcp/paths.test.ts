// Several paths to one namespace: which of them commands go by, and what becomes of those that a path has lost.

import { randomFillSync } from 'node:crypto'
import { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { ANA_STATE } from '../../lib/nvme/spec/ana.ts'
import { NVM } from '../../lib/nvme/spec/opcodes.ts'
import { STATUS } from '../../lib/nvme/spec/status.ts'
import { type Namespace, type OpenOptions, open, type PathChange } from '../../src/index.ts'
import { ANA_QUERY, type AnaOptions, type AnaPath, startAnaTarget } from '../support/ana-target.ts'
import { pattern } from '../support/pattern.ts'
import { startProxy } from '../support/tcp-proxy.ts'
import { NQN } from '../support/tcp-target.ts'

const { OPTIMIZED, NON_OPTIMIZED, INACCESSIBLE, PERSISTENT_LOSS, CHANGE } = ANA_STATE
const BLOCK = 512

async function until(what: () => boolean): Promise<void> {
  while (!what()) await delay(5)
}

async function setUp(t: ExecutionContext, targets: AnaOptions = {}, options: OpenOptions = {}, query = '') {
  const target = await startAnaTarget(targets)
  const ns = await open(target.address(query), { reconnectDelay: 20, ...options })
  const changes: PathChange[] = []
  ns.onPathChange((change) => changes.push(change))
  t.teardown(async () => {
    for (const path of target.paths) path.release()
    await ns.close()
    await target.close()
  })
  const [first, second] = target.paths as [AnaPath, AnaPath]
  return { target, ns, changes, first, second }
}

const counts = (paths: readonly AnaPath[]) => paths.map(({ seen }) => seen.length)
const shown = (ns: Namespace) => ns.paths.map(({ state, ana }) => `${state} ${ana}`)

/** Writes blocks of its own again and again, and reads each back, until it is to stop. */
async function work(ns: Namespace, slba: number, stopped: () => boolean): Promise<number> {
  let rounds = 0
  for (; !stopped(); rounds++) {
    const data = pattern(8 * BLOCK, slba * 1000 + rounds)
    await ns.promises.write(data, slba, 8)
    const back = await ns.promises.read(Buffer.alloc(data.length), slba, 8)
    if (!back.equals(data)) throw new Error(`round ${rounds} at ${slba} came back as something else`)
  }
  return rounds
}

function startWork(ns: Namespace) {
  let over = false
  const all = Promise.all(Array.from({ length: 16 }, (_, i) => work(ns, i * 8, () => over)))
  let failure: Error | undefined
  all.catch((error: Error) => {
    failure = error
  })
  return {
    check() {
      if (failure !== undefined) throw failure
    },
    async end(): Promise<number> {
      over = true
      return (await all).reduce((sum, rounds) => sum + rounds, 0)
    },
  }
}

// Which path

test('reads go by optimized paths in turn, and by no others', async (t) => {
  const { target, ns } = await setUp(t, { states: [OPTIMIZED, NON_OPTIMIZED, OPTIMIZED, INACCESSIBLE] })
  t.deepEqual(shown(ns), ['live optimized', 'live non-optimized', 'live optimized', 'live inaccessible'])
  for (let i = 0; i < 10; i++) await ns.promises.read(Buffer.alloc(BLOCK), i)
  t.deepEqual(counts(target.paths), [5, 0, 5, 0])
  t.deepEqual(
    ns.paths.map(({ commands }) => commands),
    [5, 0, 5, 0],
  )
})

test('reads go by non-optimized paths where no path is optimized', async (t) => {
  const { target, ns } = await setUp(t, { states: [INACCESSIBLE, NON_OPTIMIZED, PERSISTENT_LOSS] })
  for (let i = 0; i < 4; i++) await ns.promises.read(Buffer.alloc(BLOCK), i)
  t.deepEqual(counts(target.paths), [0, 4, 0])
})

test('policy=queue-depth sends to the path with the fewest commands in flight', async (t) => {
  const { ns, first, second } = await setUp(t, {}, {}, 'policy=queue-depth')
  first.hold = true
  const slow = ns.promises.read(Buffer.alloc(BLOCK), 0)
  await until(() => first.held.length + second.seen.length === 1)
  if (first.held.length === 0) return t.fail('the first command went to the second path')
  for (let i = 0; i < 6; i++) await ns.promises.read(Buffer.alloc(BLOCK), 1)
  t.deepEqual(counts([first, second]), [1, 6])
  first.hold = false
  first.release()
  await slow
})

test('targets that do not report ANA are optimized all', async (t) => {
  const { target, ns } = await setUp(t, { reports: false })
  t.deepEqual(shown(ns), ['live optimized', 'live optimized'])
  for (let i = 0; i < 4; i++) await ns.promises.read(Buffer.alloc(BLOCK), i)
  t.deepEqual(counts(target.paths), [2, 2])
})

test('streams, iterators and UNVMe’s calls go by several paths as by one', async (t) => {
  const { target, ns } = await setUp(t)
  const data = randomFillSync(Buffer.alloc(2 ** 20))
  await pipeline(Readable.from([data]), ns.createWriteStream({ slba: 0 }))
  t.true(target.medium.subarray(0, data.length).equals(data))
  const parts: Buffer[] = []
  const sink = new Writable({
    write(chunk, _, done) {
      parts.push(chunk)
      done()
    },
  })
  await pipeline(ns.createReadStream({ slba: 0, nlb: data.length / BLOCK }), sink)
  t.true(Buffer.concat(parts).equals(data))
  for await (const block of ns.blocks({ slba: 0, nlb: 512, chunk: 64 })) {
    t.true(block.data.equals(data.subarray(block.slba * BLOCK, (block.slba + block.nlb) * BLOCK)))
  }
  const buf = ns.alloc(8 * BLOCK)
  const iod = ns.aread(0, buf, 8, 8)
  while (!ns.apoll(iod)) await delay(0)
  t.true(buf.equals(data.subarray(8 * BLOCK, 16 * BLOCK)))
  ns.free(buf)
  t.true(counts(target.paths).every((count) => count > 0))
  t.throws(() => ns.share(0), { code: 'ERR_UNVME_UNSUPPORTED' })
})

// What is no path to the same namespace

test('open refuses a path to another subsystem, and says which', async (t) => {
  const target = await startAnaTarget({ nqns: [NQN, `${NQN}:other`] })
  t.teardown(() => target.close())
  const [first, second] = target.paths
  const address = `nvme+tcp://${first!.endpoint}/${NQN}?${ANA_QUERY}`
  const other = `nvme+tcp://${second!.endpoint}/${NQN}:other?${ANA_QUERY}`
  const error = await t.throwsAsync(open(address, { paths: [other] }), { code: 'ERR_UNVME_PATH_MISMATCH' })
  t.true(error.message.includes(`its subsystem is ${NQN}:other`))
})

test('open refuses a path to a namespace of other identifiers or another size, and says which', async (t) => {
  for (const [device, what] of [
    ['sim:?size=8M&serial=OTHER', /its controller is .* OTHER/],
    ['sim:?size=4M', /nsze 8192, there 16384/],
  ] as const) {
    const target = await startAnaTarget({ devices: ['sim:?size=8M', device] })
    const error = await t.throwsAsync(open(target.address()), { code: 'ERR_UNVME_PATH_MISMATCH' })
    t.regex(error.message, what)
    t.true(error.message.includes(target.paths[1]!.endpoint))
    await target.close()
  }
})

test('open refuses a path that is given twice, kato=0, and a recovery that makes no connection again', async (t) => {
  const host = `nvme+tcp://127.0.0.1:1/${NQN}`
  await t.throwsAsync(open(host, { paths: [host] }), { code: 'ERR_UNVME_ADDRESS', message: /given twice/ })
  const two = `nvme+tcp://127.0.0.1:1,127.0.0.1:2/${NQN}`
  await t.throwsAsync(open(`${two}?kato=0`), { code: 'ERR_UNVME_ADDRESS', message: /kato=0/ })
  await t.throwsAsync(open(two, { recovery: 'none' }), { code: 'ERR_INVALID_ARG_VALUE' })
  await t.throwsAsync(open('sim:', { paths: [host] }), { code: 'ERR_INVALID_ARG_VALUE' })
})

// Changes of access

test('commands that a path refuses for its access are done on another, whatever they are', async (t) => {
  const { ns, first, second, changes } = await setUp(t)
  for (const state of [INACCESSIBLE, CHANGE, PERSISTENT_LOSS]) {
    // Without a word: the status alone says it.
    first.state = state
    await Promise.all([0, 1].map((slba) => ns.promises.compare(Buffer.alloc(BLOCK), slba)))
    for (let i = 0; i < 4; i++) await ns.promises.read(Buffer.alloc(BLOCK), i)
    t.not(ns.paths[0]!.ana, 'optimized')
    const before = first.seen.length
    await ns.promises.read(Buffer.alloc(BLOCK), 0)
    t.is(first.seen.length, before)
    first.setState(OPTIMIZED)
    await until(() => ns.paths[0]!.ana === 'optimized')
  }
  t.true(changes.every(({ kind }) => kind === 'ana'))
  t.is(ns.stats.failed, 0)
  t.true(second.seen.length > 0)
})

test('an event of a changed access is noticed without a command', async (t) => {
  const { ns, first, changes } = await setUp(t)
  first.setState(NON_OPTIMIZED)
  await until(() => ns.paths[0]!.ana === 'non-optimized')
  t.is(changes.at(-1)!.kind, 'ana')
  t.is(changes.at(-1)!.path.address, ns.paths[0]!.address)
})

test('commands wait while no path can be used, and go on as soon as one can', async (t) => {
  const { ns, first, second } = await setUp(t, { states: [INACCESSIBLE, INACCESSIBLE] })
  const reads = Array.from({ length: 100 }, (_, i) => ns.promises.read(Buffer.alloc(BLOCK), i))
  const buf = ns.alloc(BLOCK)
  const iod = ns.aread(0, buf, 5, 1)
  t.false(ns.apoll(iod))
  await delay(20)
  t.deepEqual(counts([first, second]), [0, 0])
  second.setState(OPTIMIZED)
  await Promise.all(reads)
  while (!ns.apoll(iod)) await delay(0)
  t.is(first.seen.length, 0)
  t.is(second.seen.length, 101)
})

test('with fastIoFail commands are rejected while no path can be used, and work afterwards', async (t) => {
  const { ns, second } = await setUp(t, { states: [INACCESSIBLE, INACCESSIBLE] }, { fastIoFail: 50 })
  await t.throwsAsync(ns.promises.read(Buffer.alloc(BLOCK), 0), { code: 'ERR_UNVME_DEVICE_REMOVED' })
  await t.throwsAsync(ns.promises.read(Buffer.alloc(BLOCK), 0), { code: 'ERR_UNVME_DEVICE_REMOVED' })
  second.setState(OPTIMIZED)
  await until(() => ns.paths[1]!.ana === 'optimized')
  await ns.promises.read(Buffer.alloc(BLOCK), 0)
  t.pass()
})

test('a path whose controller fails every command for a fault of its own does not starve the others', async (t) => {
  const { ns, first, second } = await setUp(t, {}, {}, 'policy=queue-depth')
  first.status = STATUS.INTERNAL_PATH_ERROR
  for (let round = 0; round < 20; round++) {
    await Promise.all(Array.from({ length: 10 }, (_, i) => ns.promises.read(Buffer.alloc(BLOCK), i)))
  }
  t.is(second.seen.length, 200)
  t.true(first.seen.length < 100, `${first.seen.length} commands failed`)
})

// Paths that are lost

for (const link of ['socket', 'raw']) {
  test(`link=${link}: a path that is lost and comes back under load costs no command, and is used again`, async (t) => {
    const { ns, first, second, changes } = await setUp(t, {}, { qcount: 2 }, `link=${link}`)
    const load = startWork(ns)
    for (const path of [first, second, first]) {
      const before = path.seen.length
      await until(() => path.seen.length > before + 50)
      await path.stop()
      const at = path === first ? 0 : 1
      await until(() => ns.paths[at]!.state === 'lost')
      const others = counts([first, second])[1 - at]!
      await until(() => counts([first, second])[1 - at]! > others + 50)
      load.check()
      await path.start()
      await until(() => ns.paths[at]!.state === 'live')
      const again = path.seen.length
      await until(() => path.seen.length > again + 50)
      load.check()
    }
    t.true((await load.end()) > 0)
    t.is(ns.stats.failed, 0)
    t.deepEqual(
      changes.filter(({ kind }) => kind !== 'ana').map(({ kind }) => kind),
      ['lost', 'returned', 'lost', 'returned', 'lost', 'returned'],
    )
  })
}

test('access that changes under load costs no command', async (t) => {
  const { ns, first, second } = await setUp(t)
  const load = startWork(ns)
  for (const [one, other] of [
    [CHANGE, OPTIMIZED],
    [INACCESSIBLE, OPTIMIZED],
    [OPTIMIZED, INACCESSIBLE],
    [NON_OPTIMIZED, CHANGE],
    [INACCESSIBLE, INACCESSIBLE],
    [OPTIMIZED, OPTIMIZED],
  ] as const) {
    first.setState(one)
    second.setState(other)
    const before = first.seen.length + second.seen.length
    if (one !== other || one === OPTIMIZED) {
      await until(() => first.seen.length + second.seen.length > before + 100)
    }
    load.check()
  }
  t.true((await load.end()) > 0)
  t.is(ns.stats.failed, 0)
})

test('a lost path’s reads and writes are sent again, a Compare rejects with OutcomeUnknownError', async (t) => {
  const { ns, first, second } = await setUp(t, { states: [OPTIMIZED, NON_OPTIMIZED] })
  first.hold = true
  const data = pattern(BLOCK, 1)
  const write = ns.promises.write(data, 3, 1)
  const read = ns.promises.read(Buffer.alloc(BLOCK), 4)
  const compared = t.throwsAsync(ns.promises.compare(data, 9), { code: 'ERR_UNVME_OUTCOME_UNKNOWN' })
  await until(() => first.held.length === 3)
  await first.stop()
  await Promise.all([write, read, compared])
  t.deepEqual(second.seen.map(({ opcode, slba }) => `${opcode} ${slba}`).sort(), ['1 3', '2 4'])
  t.is(ns.stats.retries, 2)
})

test('a write of a path that is only silent is not sent again before its target must have ended it', async (t) => {
  const target = await startAnaTarget({ states: [OPTIMIZED, NON_OPTIMIZED] })
  const [first, second] = target.paths as [AnaPath, AnaPath]
  const proxy = await startProxy(first.server.port)
  const query = ANA_QUERY.replace(/kato=\d+/, 'kato=1000')
  const ns = await open(`nvme+tcp://127.0.0.1:${proxy.port},${second.endpoint}/${NQN}?${query}`)
  t.teardown(async () => {
    await ns.close()
    await proxy.close()
    await target.close()
  })
  first.hold = true
  const old = ns.promises.write(pattern(BLOCK, 1), 7, 1)
  const read = ns.promises.read(Buffer.alloc(BLOCK), 8)
  await until(() => first.held.length === 2)
  proxy.pulled = true
  let heldThen = -1
  const seen = second.seen.push.bind(second.seen)
  second.seen.push = (...all) => {
    if (all.some(({ opcode, slba }) => opcode === NVM.WRITE && slba === 7)) heldThen = first.held.length
    return seen(...all)
  }
  await read
  // What is new goes on meanwhile.
  await ns.promises.write(pattern(BLOCK, 2), 20, 1)
  await old
  t.is(heldThen, 0)
  await ns.promises.write(pattern(BLOCK, 3), 7, 1)
  first.release()
  t.true(target.medium.subarray(7 * BLOCK, 8 * BLOCK).equals(pattern(BLOCK, 3)))
})

test('a command without an answer on one path is aborted there, or done on another after a reset of that path', async (t) => {
  const { ns, first, second } = await setUp(t, { states: [OPTIMIZED, NON_OPTIMIZED] }, { timeout: 300 })
  first.hold = true
  const read = ns.promises.read(Buffer.alloc(BLOCK), 1)
  await read
  t.is(second.seen.length, 1)
  t.true(ns.stats.aborts >= 1)
  await until(() => ns.paths[0]!.state === 'live')
  t.is(ns.stats.lost, 0)
})

test('a path that can not be reached when the namespace is opened is used once it can', async (t) => {
  const target = await startAnaTarget()
  const [first, second] = target.paths as [AnaPath, AnaPath]
  t.teardown(() => target.close())
  await first.stop()
  await using ns = await open(target.address(), { reconnectDelay: 20, qcount: 2 })
  t.deepEqual(shown(ns), ['connecting null', 'live optimized'])
  await ns.promises.write(pattern(BLOCK, 1), 0, 1)
  await first.start()
  await until(() => ns.paths[0]!.state === 'live')
  for (let i = 0; i < 4; i++) await ns.promises.read(Buffer.alloc(BLOCK), 0, 1, { qid: 1 })
  t.deepEqual(counts([first, second]), [2, 3])
})

test('when every path is given up everything rejects with DeviceRemovedError', async (t) => {
  const { ns, first, second, changes } = await setUp(t, {}, { ctrlLossTimeout: 100 })
  await first.stop()
  await until(() => ns.paths[0]!.state === 'failed')
  await ns.promises.read(Buffer.alloc(BLOCK), 0)
  await second.stop()
  await t.throwsAsync(ns.promises.read(Buffer.alloc(BLOCK), 0), { code: 'ERR_UNVME_DEVICE_REMOVED' })
  t.deepEqual(
    changes.map(({ kind }) => kind),
    ['lost', 'failed', 'lost', 'failed'],
  )
})

test('a path that leads elsewhere when it comes back is not used again', async (t) => {
  const target = await startAnaTarget()
  const other = await startAnaTarget({ states: [OPTIMIZED], devices: ['sim:?size=4M'] })
  const proxy = await startProxy(target.paths[0]!.server.port)
  const ns = await open(
    `nvme+tcp://127.0.0.1:${proxy.port},${target.paths[1]!.endpoint}/${NQN}?${ANA_QUERY}`,
    { reconnectDelay: 20 },
  )
  await proxy.close()
  const elsewhere = await startProxy(other.paths[0]!.server.port, proxy.port)
  t.teardown(async () => {
    await ns.close()
    await elsewhere.close()
    await target.close()
    await other.close()
  })
  await until(() => ns.paths[0]!.state === 'failed')
  for (let i = 0; i < 4; i++) await ns.promises.read(Buffer.alloc(BLOCK), 0)
  t.deepEqual(counts(other.paths), [0])
})

test('reset rejects what is in flight on every path, and everything goes on afterwards', async (t) => {
  const { ns, first, second } = await setUp(t)
  first.hold = true
  second.hold = true
  const reads = [0, 1].map((slba) =>
    t.throwsAsync(ns.promises.read(Buffer.alloc(BLOCK), slba), { code: 'ERR_UNVME_CONTROLLER_RESET' }),
  )
  await until(() => first.held.length === 1 && second.held.length === 1)
  await ns.reset()
  await Promise.all(reads)
  first.hold = second.hold = false
  for (let i = 0; i < 4; i++) await ns.promises.read(Buffer.alloc(BLOCK), 0)
  t.deepEqual(shown(ns), ['live optimized', 'live optimized'])
  t.deepEqual(counts([first, second]), [3, 3])
})
