// Several paths to one namespace: which of them commands go by, and what becomes of those that a path has lost.

import { randomFillSync } from 'node:crypto'
import { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { NVM } from '../../lib/nvme/spec/opcodes.ts'
import { STATUS } from '../../lib/nvme/spec/status.ts'
import { type AnaState, type Namespace, type OpenOptions, open, type PathChange } from '../../src/index.ts'
import { forkServer, SERVED_NQN } from '../support/nvme-tcp-server.ts'
import {
  addressBy,
  PATH_QUERY,
  type PathServerOptions,
  startPaths,
  type TestPath,
  watchPath,
} from '../support/path-server.ts'
import { pattern } from '../support/pattern.ts'
import { NQN, startTarget } from '../support/tcp-target.ts'

const BLOCK = 512

async function until(what: () => boolean): Promise<void> {
  while (!what()) await delay(5)
}

async function setUp(
  t: ExecutionContext,
  served: PathServerOptions = {},
  options: OpenOptions = {},
  query = '',
) {
  const { server, device, paths, end } = await startPaths(served)
  const ns = await open(addressBy(paths, query), { reconnectDelay: 20, ...options })
  const changes: PathChange[] = []
  ns.onPathChange((change) => changes.push(change))
  t.teardown(async () => {
    for (const path of paths) path.release()
    await ns.close()
    await end()
  })
  const [first, second] = paths as [TestPath, TestPath]
  const setState = (path: TestPath, state: AnaState) => server.setAnaState(paths.indexOf(path), state)
  const medium = (slba: number, nlb: number) => device.promises.read(Buffer.alloc(nlb * BLOCK), slba)
  return { server, medium, paths, setState, ns, changes, first, second }
}

const counts = (paths: readonly TestPath[]) => paths.map(({ seen }) => seen.length)
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
  const { paths, ns } = await setUp(t, {
    states: ['optimized', 'non-optimized', 'optimized', 'inaccessible'],
  })
  t.deepEqual(shown(ns), ['live optimized', 'live non-optimized', 'live optimized', 'live inaccessible'])
  for (let i = 0; i < 10; i++) await ns.promises.read(Buffer.alloc(BLOCK), i)
  t.deepEqual(counts(paths), [5, 0, 5, 0])
  t.deepEqual(
    ns.paths.map(({ commands }) => commands),
    [5, 0, 5, 0],
  )
})

test('reads go by non-optimized paths where no path is optimized', async (t) => {
  const { paths, ns } = await setUp(t, { states: ['inaccessible', 'non-optimized', 'persistent-loss'] })
  for (let i = 0; i < 4; i++) await ns.promises.read(Buffer.alloc(BLOCK), i)
  t.deepEqual(counts(paths), [0, 4, 0])
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
  const targets = [await startTarget('sim:?size=8M'), await startTarget('sim:?size=8M')]
  const paths = await Promise.all(targets.map(({ port }) => watchPath(port)))
  await using ns = await open(addressBy(paths, '', NQN))
  t.deepEqual(shown(ns), ['live optimized', 'live optimized'])
  for (let i = 0; i < 4; i++) await ns.promises.read(Buffer.alloc(BLOCK), i)
  t.deepEqual(counts(paths), [2, 2])
  await ns.close()
  for (const path of paths) await path.stop()
  for (const target of targets) await target.close()
})

test('streams, iterators and UNVMe’s calls go by several paths as by one', async (t) => {
  const { paths, medium, ns } = await setUp(t)
  const data = randomFillSync(Buffer.alloc(2 ** 20))
  await pipeline(Readable.from([data]), ns.createWriteStream({ slba: 0 }))
  t.true((await medium(0, data.length / BLOCK)).equals(data))
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
  t.true(counts(paths).every((count) => count > 0))
  t.throws(() => ns.share(0), { code: 'ERR_UNVME_UNSUPPORTED' })
})

test('calls that block and apoll go by several polled paths, of a server in another process', async (t) => {
  const server = await forkServer(['sim:?size=8M'], [0, 0])
  t.teardown(() => server.kill())
  const hosts = server.ports.map((port) => `127.0.0.1:${port}`).join(',')
  await using ns = await open(`nvme+tcp://${hosts}/${SERVED_NQN}?${PATH_QUERY}&link=raw`, {
    reconnectDelay: 20,
  })
  const buf = ns.alloc(64 * BLOCK)
  const data = pattern(buf.length, 5)
  data.copy(buf)
  ns.write(0, buf, 100, 64)
  buf.fill(0)
  ns.read(0, buf, 100, 64)
  t.true(buf.equals(data))
  const iods = Array.from({ length: 64 }, (_, i) =>
    ns.aread(0, buf.subarray(i * BLOCK, (i + 1) * BLOCK), 163 - i, 1),
  )
  for (const iod of iods) t.true(ns.apoll(iod, 30_000))
  for (let i = 0; i < 64; i++) {
    t.true(buf.subarray(i * BLOCK, (i + 1) * BLOCK).equals(data.subarray((63 - i) * BLOCK, (64 - i) * BLOCK)))
  }
  t.true(ns.paths.every(({ commands }) => commands > 0))
  await server.tell({ do: 'ana', listener: 0, state: 'inaccessible' })
  ns.read(0, buf, 100, 64)
  t.true(buf.equals(data))
  await server.tell({ do: 'close-listener', listener: 0 })
  ns.read(0, buf, 100, 64)
  t.true(buf.equals(data))
  t.is(ns.stats.failed, 0)
  ns.free(buf)
})

// What is no path to the same namespace

test('open refuses a path to another subsystem, and says which', async (t) => {
  const { paths, end } = await startPaths({ states: ['optimized'] })
  const other = await startPaths({ states: ['optimized'], nqn: `${SERVED_NQN}:other` })
  t.teardown(async () => {
    await end()
    await other.end()
  })
  const error = await t.throwsAsync(
    open(addressBy(paths), { paths: [addressBy(other.paths, '', `${SERVED_NQN}:other`)] }),
    { code: 'ERR_UNVME_PATH_MISMATCH' },
  )
  t.true(error.message.includes(`its subsystem is ${SERVED_NQN}:other`))
})

test('open refuses a path to a namespace of other identifiers or another size, and says which', async (t) => {
  for (const [device, what] of [
    ['sim:?size=8M&serial=OTHER', /its controller is .* OTHER/],
    ['sim:?size=4M', /nsze 8192, there 16384/],
  ] as const) {
    const { paths, end } = await startPaths({ states: ['optimized'] })
    const other = await startPaths({ states: ['optimized'], device })
    const both = [...paths, ...other.paths]
    const error = await t.throwsAsync(open(addressBy(both)), { code: 'ERR_UNVME_PATH_MISMATCH' })
    t.regex(error.message, what)
    t.true(both.some(({ endpoint }) => error.message.includes(endpoint)))
    await end()
    await other.end()
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
  const { ns, first, second, changes, setState } = await setUp(t)
  for (const state of ['inaccessible', 'change', 'persistent-loss'] as const) {
    const { retries, changes: before } = ns.paths[0]!
    // They are under way already.
    const all = [0, 1, 2, 3].map((slba) => ns.promises.compare(Buffer.alloc(BLOCK), slba))
    setState(first, state)
    await Promise.all(all)
    t.true(ns.paths[0]!.retries > retries)
    t.is(ns.paths[0]!.ana, state)
    t.is(ns.paths[0]!.changes, before + 1)
    const seen = first.seen.length
    for (let i = 0; i < 4; i++) await ns.promises.read(Buffer.alloc(BLOCK), i)
    t.is(first.seen.length, seen)
    setState(first, 'optimized')
    await until(() => ns.paths[0]!.ana === 'optimized')
  }
  t.true(changes.length > 0 && changes.every(({ kind }) => kind === 'ana'))
  t.is(ns.stats.failed, 0)
  t.true(second.seen.length > 0)
  t.is(ns.paths[1]!.retries, 0)
})

test('an event of a changed access is noticed without a command, and without a look by timer', async (t) => {
  const { setInterval } = globalThis
  const slow = (call: () => void, ms?: number) => setInterval(call, ms === 1000 ? 2 ** 30 : ms)
  globalThis.setInterval = slow as typeof setInterval
  const { ns, first, changes, setState } = await setUp(t)
  globalThis.setInterval = setInterval
  for (const state of ['non-optimized', 'inaccessible', 'optimized'] as const) {
    setState(first, state)
    await until(() => ns.paths[0]!.ana === state)
    t.is(changes.at(-1)!.path.address, ns.paths[0]!.address)
  }
})

test('commands wait while no path can be used, and go on as soon as one can', async (t) => {
  const { ns, first, second, setState } = await setUp(t, { states: ['inaccessible', 'inaccessible'] })
  const reads = Array.from({ length: 100 }, (_, i) => ns.promises.read(Buffer.alloc(BLOCK), i))
  const buf = ns.alloc(BLOCK)
  const iod = ns.aread(0, buf, 5, 1)
  t.false(ns.apoll(iod))
  await delay(20)
  t.deepEqual(counts([first, second]), [0, 0])
  setState(second, 'optimized')
  await Promise.all(reads)
  while (!ns.apoll(iod)) await delay(0)
  t.is(first.seen.length, 0)
  t.is(second.seen.length, 101)
})

test('with fastIoFail commands are rejected while no path can be used, and work afterwards', async (t) => {
  const { ns, second, setState } = await setUp(
    t,
    { states: ['inaccessible', 'inaccessible'] },
    { fastIoFail: 50 },
  )
  await t.throwsAsync(ns.promises.read(Buffer.alloc(BLOCK), 0), { code: 'ERR_UNVME_DEVICE_REMOVED' })
  await t.throwsAsync(ns.promises.read(Buffer.alloc(BLOCK), 0), { code: 'ERR_UNVME_DEVICE_REMOVED' })
  setState(second, 'optimized')
  await until(() => ns.paths[1]!.ana === 'optimized')
  await ns.promises.read(Buffer.alloc(BLOCK), 0)
  t.pass()
})

test('memory of a write that fastIoFail has ended stays the path’s until that has answered', async (t) => {
  const { ns, first, second, medium, setState } = await setUp(t, {}, { fastIoFail: 30 })
  first.hold = second.hold = true
  const written = ns.alloc(64 * BLOCK)
  pattern(written.length, 1).copy(written)
  // The data of one that is so large is asked for by R2T.
  const write = ns.promises.write(written, 0, 64)
  await until(() => first.held.length + second.held.length === 1)
  setState(first, 'inaccessible')
  setState(second, 'inaccessible')
  await t.throwsAsync(write, { code: 'ERR_UNVME_DEVICE_REMOVED' })
  setState(first, 'optimized')
  setState(second, 'optimized')
  await until(() => ns.paths.every(({ ana }) => ana === 'optimized'))
  t.throws(() => ns.free(written), { code: 'ERR_UNVME_BUFFER_IN_USE' })
  first.hold = second.hold = false
  first.release()
  second.release()
  while (ns.stats.late === 0) await ns.promises.read(Buffer.alloc(BLOCK), 100)
  ns.free(written)
  t.true((await medium(0, 64)).equals(pattern(64 * BLOCK, 1)))
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
  const { ns, first, second, setState } = await setUp(t)
  const load = startWork(ns)
  for (const [one, other] of [
    ['change', 'optimized'],
    ['inaccessible', 'optimized'],
    ['optimized', 'inaccessible'],
    ['non-optimized', 'change'],
    ['inaccessible', 'inaccessible'],
    ['optimized', 'optimized'],
  ] as const) {
    setState(first, one)
    setState(second, other)
    const before = first.seen.length + second.seen.length
    if (one !== other || one === 'optimized') {
      await until(() => first.seen.length + second.seen.length > before + 100)
    }
    load.check()
  }
  t.true((await load.end()) > 0)
  t.is(ns.stats.failed, 0)
})

test('a lost path’s reads and writes are sent again, a Compare rejects with OutcomeUnknownError', async (t) => {
  const { ns, first, second } = await setUp(t, { states: ['optimized', 'non-optimized'] })
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
  const { ns, server, medium, first, second } = await setUp(
    t,
    { states: ['optimized', 'non-optimized'] },
    {},
    'kato=1000',
  )
  first.hold = true
  const old = ns.promises.write(pattern(BLOCK, 1), 7, 1)
  const read = ns.promises.read(Buffer.alloc(BLOCK), 8)
  await until(() => first.held.length === 2)
  first.proxy.pulled = true
  let hostsThen = -1
  const seen = second.seen.push.bind(second.seen)
  second.seen.push = (...all) => {
    if (all.some(({ opcode, slba }) => opcode === NVM.WRITE && slba === 7))
      hostsThen = server.stats.hosts.length
    return seen(...all)
  }
  await read
  // What is new goes on meanwhile.
  await ns.promises.write(pattern(BLOCK, 2), 20, 1)
  await old
  // The controller of the first path is no more.
  t.is(hostsThen, 1)
  await ns.promises.write(pattern(BLOCK, 3), 7, 1)
  first.release()
  t.true((await medium(7, 1)).equals(pattern(BLOCK, 3)))
})

test('a command without an answer on one path is aborted there, or done on another after a reset of that path', async (t) => {
  const { ns, first, second } = await setUp(t, { states: ['optimized', 'non-optimized'] }, { timeout: 300 })
  first.hold = true
  const read = ns.promises.read(Buffer.alloc(BLOCK), 1)
  await read
  t.is(second.seen.length, 1)
  t.true(ns.stats.aborts >= 1)
  await until(() => ns.paths[0]!.state === 'live')
  t.is(ns.stats.lost, 0)
})

test('a path that can not be reached when the namespace is opened is used once it can', async (t) => {
  const { paths, end } = await startPaths()
  const [first, second] = paths as [TestPath, TestPath]
  t.teardown(end)
  await first.stop()
  await using ns = await open(addressBy(paths), { reconnectDelay: 20, qcount: 2 })
  t.deepEqual(shown(ns), ['connecting null', 'live optimized'])
  await ns.promises.write(pattern(BLOCK, 1), 0, 1)
  await first.start()
  await until(() => ns.paths[0]!.state === 'live')
  for (let i = 0; i < 4; i++) await ns.promises.read(Buffer.alloc(BLOCK), 0, 1, { qid: 1 })
  t.deepEqual(counts([first, second]), [2, 3])
})

for (const link of ['socket', 'raw']) {
  test(`link=${link}: a path that is lost while queues are created keeps nothing from being opened`, async (t) => {
    const { paths, end } = await startPaths()
    const [first, second] = paths as [TestPath, TestPath]
    t.teardown(end)
    // Connect of the first queue, of the second, a refused connection, one without a word.
    for (const [qid, how] of [
      [1, 'end'],
      [2, 'end'],
      [2, 'silence'],
    ] as const) {
      first.onConnect = (asked) => {
        if (asked !== qid) return
        first.onConnect = () => {}
        if (how === 'end') first.proxy.endAll()
        else first.proxy.pulled = true
      }
      const query = `link=${link}&kato=1000`
      await using ns = await open(addressBy(paths, query), { reconnectDelay: 20, qcount: 2, timeout: 1000 })
      for (const at of [0, 1]) await ns.promises.read(Buffer.alloc(BLOCK), 0, 1, { qid: at })
      first.proxy.pulled = false
      await until(() => ns.paths[0]!.state === 'live')
      const before = counts([first, second])
      for (let i = 0; i < 8; i++) await ns.promises.read(Buffer.alloc(BLOCK), 0, 1, { qid: i % 2 })
      t.deepEqual(counts([first, second]), [before[0]! + 4, before[1]! + 4])
    }
  })
}

test('when every path is given up everything rejects with DeviceRemovedError', async (t) => {
  const { ns, first, second, changes } = await setUp(t, {}, { ctrlLossTimeout: 100 })
  await first.stop()
  await until(() => ns.paths[0]!.state === 'failed')
  await ns.promises.read(Buffer.alloc(BLOCK), 0)
  await second.stop()
  await t.throwsAsync(ns.promises.read(Buffer.alloc(BLOCK), 0), { code: 'ERR_UNVME_DEVICE_REMOVED' })
  await until(() => changes.length === 4)
  t.deepEqual(
    changes.map(({ kind }) => kind),
    ['lost', 'failed', 'lost', 'failed'],
  )
})

test('a path that leads elsewhere when it comes back is not used again', async (t) => {
  const { ns, first } = await setUp(t)
  const other = await startPaths({ states: ['optimized'], device: 'sim:?size=4M' })
  t.teardown(other.end)
  await first.stop()
  const before = other.paths[0]!.seen.length
  await first.start(other.paths[0]!.proxy.port)
  await until(() => ns.paths[0]!.state === 'failed')
  for (let i = 0; i < 4; i++) await ns.promises.read(Buffer.alloc(BLOCK), 0)
  t.is(other.paths[0]!.seen.length, before)
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

test('reset waits for what a lost path had in flight, and for no more of it', async (t) => {
  const { ns, server, first } = await setUp(t, { states: ['optimized', 'non-optimized'] }, {}, 'kato=1000')
  first.hold = true
  const write = t.throwsAsync(ns.promises.write(pattern(BLOCK, 1), 7, 1), {
    code: 'ERR_UNVME_CONTROLLER_RESET',
  })
  await until(() => first.held.length === 1)
  first.proxy.pulled = true
  await until(() => ns.paths[0]!.state === 'lost')
  await ns.reset()
  await write
  t.is(server.stats.hosts.length, 1)
  t.is(ns.paths[0]!.state, 'lost')
  await ns.promises.write(pattern(BLOCK, 2), 7, 1)
  t.true((await ns.promises.read(Buffer.alloc(BLOCK), 7)).equals(pattern(BLOCK, 2)))
})

test('a listener of changes may poll the namespace that has found one', async (t) => {
  const { ns, first, setState } = await setUp(t)
  const data = pattern(BLOCK, 9)
  await ns.promises.write(data, 3, 1)
  const buf = ns.alloc(BLOCK)
  let [polled, over] = [0, false]
  const iod = ns.aread(0, buf, 3, 1)
  ns.onPathChange(() => {
    polled++
    over ||= ns.apoll(iod)
  })
  const reads = Array.from({ length: 16 }, () => ns.promises.read(Buffer.alloc(BLOCK), 3))
  setState(first, 'inaccessible')
  for (const read of await Promise.all(reads)) t.true(read.equals(data))
  await until(() => polled > 0)
  while (!over && !ns.apoll(iod)) await delay(0)
  t.true(buf.equals(data))
  t.is(ns.stats.failed, 0)
})

test('on a device’s only path what is refused for a change of access waits for the end of that', async (t) => {
  const { server, paths, end } = await startPaths({ states: ['change'] })
  const ns = await open(addressBy(paths), { retries: 2 })
  t.teardown(async () => {
    await ns.close()
    await end()
  })
  const read = ns.promises.read(Buffer.alloc(BLOCK), 0)
  // More often than it may be retried for anything else.
  await until(() => paths[0]!.seen.length > 3)
  server.setAnaState(0, 'optimized')
  await read
  t.is(ns.stats.failed, 0)
  t.is(ns.stats.retries, paths[0]!.seen.length - 1)
})
