// Namespaces of one subsystem whose access differs: what one of them waits for keeps no other from going on.

import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { STATUS } from '../../lib/nvme/spec/status.ts'
import { Random } from '../../src/bench/random.ts'
import { type AnaState, type Namespace, type OpenOptions, open } from '../../src/index.ts'
import { addressBy, startPaths, type TestPath } from '../support/path-server.ts'
import { pattern } from '../support/pattern.ts'

const BLOCK = 512
const SEED = Number(process.env.UNVME_TCP_SEED ?? randomBytes(4).readUInt32LE())

async function until(what: () => boolean): Promise<void> {
  while (!what()) await delay(5)
}

async function setUp(
  t: ExecutionContext,
  options: OpenOptions = {},
  states: AnaState[] = ['optimized', 'optimized'],
  query = '',
) {
  const { server, devices, paths, end } = await startPaths({ states, more: ['sim:?size=8M'] })
  const address = addressBy(paths, query)
  const one = await open(address, { reconnectDelay: 20, nsid: 1, ...options })
  const two = await open(address, { reconnectDelay: 20, nsid: 2, ...options })
  t.teardown(async () => {
    for (const path of paths) path.release()
    await two.close()
    await one.close()
    await end()
  })
  /** The access to a namespace by every path, once this host knows of it. */
  const setAccess = async (ns: Namespace, state: AnaState) => {
    for (const i of paths.keys()) server.setAnaState(i, state, ns.id)
    if (paths.length > 1) await until(() => ns.paths.every(({ ana }) => ana === state))
  }
  const medium = (ns: Namespace, slba: number, nlb: number) =>
    devices[ns.id - 1]!.promises.read(Buffer.alloc(nlb * BLOCK), slba)
  const sent = (ns: Namespace) =>
    paths.reduce((sum, { seen }) => sum + seen.filter(({ nsid }) => nsid === ns.id).length, 0)
  return { server, one, two, paths: paths as readonly TestPath[], setAccess, medium, sent }
}

const read = (ns: Namespace, slba = 0) => ns.promises.read(Buffer.alloc(BLOCK), slba)

test('a namespace without a path waits, and the other one goes on', async (t) => {
  const { one, two, setAccess, sent } = await setUp(t)
  await setAccess(two, 'inaccessible')
  const waiting = Array.from({ length: 10 }, (_, i) => read(two, i))
  for (let i = 0; i < 10; i++) await read(one, i)
  t.is(sent(two), 0)
  await setAccess(two, 'optimized')
  await Promise.all(waiting)
  t.is(one.stats.failed, 0)
})

test('single path: after a reset a namespace that is refused keeps no new command of the other from going', async (t) => {
  const { server, one, two, paths, setAccess } = await setUp(t, {}, ['optimized'])
  await setAccess(two, 'inaccessible')
  const waiting = read(two)
  await until(() => two.stats.retries > 1)
  paths[0]!.proxy.endAll()
  await until(() => two.stats.resets > 0)
  for (let i = 0; i < 10; i++) await read(one, i)
  server.setAnaState(0, 'optimized', 2)
  await waiting
  t.is(one.stats.failed, 0)
})

test('a command for all namespaces, and one for a namespace that is not open, go by any path', async (t) => {
  const { one, two } = await setUp(t)
  await two.close()
  await one.promises.cmd({ opcode: 0, nsid: 0xffff_ffff })
  await one.promises.cmd({ opcode: 0, nsid: 2 })
  await read(one)
  t.is(one.stats.failed, 0)
})

test('writes of a namespace that waited are done in their order, also what was sent in part', async (t) => {
  const { one, two, paths, medium, setAccess, sent } = await setUp(t, { qsize: 4, maxTransferBytes: 4096 })
  for (const path of paths) path.hold = true
  // 16 commands, of which three fit into the queue: they are under way when the access goes.
  const long = two.promises.write(pattern(128 * BLOCK, 1), 0)
  await until(() => sent(two) === 3)
  await setAccess(two, 'inaccessible')
  for (const path of paths) {
    path.hold = false
    path.release()
  }
  const later = [2, 3, 4].map((seed) => two.promises.write(pattern(BLOCK, seed), 200 + seed))
  const order = paths.flatMap(({ seen }) => seen).length
  for (let i = 0; i < 8; i++) await one.promises.write(pattern(BLOCK, i), i)
  t.true(paths.flatMap(({ seen }) => seen).length >= order + 8)
  for (let i = 0; i < 8; i++) t.deepEqual(await medium(one, i, 1), pattern(BLOCK, i))
  await setAccess(two, 'optimized')
  await Promise.all([long, ...later])
  t.deepEqual(await medium(two, 0, 128), pattern(128 * BLOCK, 1))
  const slbas = new Set(
    paths.flatMap(({ seen }) => seen.filter(({ nsid }) => nsid === 2).map(({ slba }) => slba)),
  )
  t.true([...slbas].includes(204))
  t.is(one.stats.failed, 0)
  t.is(one.stats.writes, 12)
})

test('aread of a namespace without a path is kept, as many as the queue has room for, and apoll reports it later', async (t) => {
  const { one, two, setAccess } = await setUp(t, { qsize: 4 })
  await two.promises.write(pattern(BLOCK, 7), 1)
  await setAccess(two, 'inaccessible')
  const [buf, other] = [two.alloc(3 * BLOCK), one.alloc(BLOCK)]
  const iods = [0, 1, 2].map((i) => two.aread(0, buf.subarray(i * BLOCK, (i + 1) * BLOCK), i, 1))
  t.throws(() => two.aread(0, buf, 0, 1), { code: 'ERR_UNVME_QUEUE_FULL' })
  for (let i = 0; i < 20; i++) {
    const iod = one.aread(0, other, i, 1)
    while (!one.apoll(iod)) await delay(0)
  }
  t.deepEqual(
    iods.map((iod) => two.apoll(iod)),
    [false, false, false],
  )
  await setAccess(two, 'optimized')
  for (const iod of iods) while (!two.apoll(iod)) await delay(0)
  t.deepEqual(buf.subarray(BLOCK, 2 * BLOCK), pattern(BLOCK, 7))
  two.free(buf)
  one.free(other)
})

test('fastIoFail ends the I/O of the namespace without a path, and of no other', async (t) => {
  const { one, two, paths, sent, setAccess } = await setUp(t, { fastIoFail: 50 })
  for (const path of paths) path.hold = true
  const [mine, theirs] = [read(one), read(two)]
  await until(() => sent(one) + sent(two) === 2)
  await setAccess(two, 'inaccessible')
  const gone = { code: 'ERR_UNVME_DEVICE_REMOVED', message: /no path to namespace 2 can be used for 50 ms/ }
  const waiting = [t.throwsAsync(theirs, gone), t.throwsAsync(read(two), gone)]
  await Promise.all(waiting)
  // From then on at once.
  await t.throwsAsync(read(two), gone)
  for (const path of paths) {
    path.hold = false
    path.release()
  }
  await mine
  for (let i = 0; i < 10; i++) await read(one, i)
  t.is(one.stats.failed, 3)
  await setAccess(two, 'non-optimized')
  await read(two)
  t.like(one.stats, { failed: 3, lost: 0, inFlight: 0 })
})

test('with no path at all every namespace waits, and each goes on as it has one', async (t) => {
  const { server, one, two, setAccess } = await setUp(t)
  await setAccess(one, 'inaccessible')
  await setAccess(two, 'change')
  const [first, second] = [read(one), read(two)]
  server.setAnaState(1, 'optimized', 1)
  await first
  server.setAnaState(0, 'non-optimized', 2)
  await second
  t.is(one.stats.failed, 0)
})

test('a namespace that is gone keeps no change of the other’s access from being seen', async (t) => {
  const { server, one, two, paths } = await setUp(t)
  for (const path of paths) path.gone.add(2)
  server.setAnaState(0, 'non-optimized', 1)
  await until(() => one.paths[0]!.ana === 'non-optimized')
  t.is(two.paths[0]!.ana, 'inaccessible')
  await read(one)
  for (const path of paths) path.gone.clear()
  server.setAnaState(0, 'non-optimized')
  await read(two)
  t.is(one.stats.failed, 0)
})

test('a call of a waiting namespace ends by its signal, a reset and close', async (t) => {
  const { one, two, setAccess } = await setUp(t)
  await setAccess(two, 'inaccessible')
  const abort = new AbortController()
  const aborted = two.promises.read(Buffer.alloc(BLOCK), 0, 1, { signal: abort.signal })
  abort.abort()
  await t.throwsAsync(aborted, { name: 'AbortError' })
  const ended = read(two)
  await one.reset()
  await t.throwsAsync(ended, { code: 'ERR_UNVME_CONTROLLER_RESET' })
  const waiting = read(two)
  await read(one)
  const closed = t.throwsAsync(waiting, { code: 'ERR_UNVME_CLOSED' })
  await two.close()
  await read(one)
  await one.close()
  await closed
})

test('single path: what a namespace is refused again and again keeps none of another from being sent again', async (t) => {
  // On a slow machine the status stands for more tries than there are by default.
  const { server, one, two, paths, setAccess } = await setUp(t, { retries: 1000 }, ['optimized'])
  await setAccess(two, 'inaccessible')
  // They overlap, so that they are sent one by one.
  const waiting = [0, 1, 2].map((seed) => two.promises.write(pattern(BLOCK, seed), 0))
  await until(() => two.stats.retries > 3)
  for (let i = 0; i < 5; i++) {
    paths[0]!.status = STATUS.NAMESPACE_NOT_READY
    const { retries } = one.stats
    const again = read(one, i)
    await until(() => one.stats.retries > retries)
    paths[0]!.status = 0
    await again
  }
  server.setAnaState(0, 'optimized', 2)
  await Promise.all(waiting)
  t.is(one.stats.failed, 0)
})

/** Writes blocks of its own again and again, and reads each back, until it is to stop. */
async function work(ns: Namespace, slba: number, stopped: () => boolean, count: () => void): Promise<void> {
  for (let round = 0; !stopped(); round++) {
    const nlb = 1 + ((round * 7) % 40)
    const data = pattern(nlb * BLOCK, ns.id * 1_000_003 + slba * 1000 + round)
    await ns.promises.write(data, slba, nlb)
    const back = await ns.promises.read(Buffer.alloc(data.length), slba, nlb)
    if (!back.equals(data))
      throw new Error(`round ${round} at ${slba} of ${ns.id} came back as something else`)
    count()
  }
}

for (const link of ['socket', 'raw']) {
  test(`link=${link}: access and paths that come and go under load cost no command, and hold up one namespace alone`, async (t) => {
    const { server, one, two, paths } = await setUp(
      t,
      { qsize: 16, maxTransferBytes: 4096, qcount: 2 },
      ['optimized', 'optimized'],
      `link=${link}`,
    )
    let over = false
    const rounds = [0, 0, 0]
    const all = Promise.all(
      [one, two].flatMap((ns) =>
        Array.from({ length: 6 }, (_, i) =>
          work(
            ns,
            i * 64,
            () => over,
            () => rounds[ns.id]!++,
          ),
        ),
      ),
    )
    let failure: Error | undefined
    all.catch((error: Error) => {
      failure = error
    })
    t.log(`UNVME_TCP_SEED=${SEED}`)
    const random = new Random(SEED)
    const states = ['optimized', 'non-optimized', 'inaccessible', 'inaccessible', 'change'] as const
    const now: AnaState[][] = [
      ['optimized', 'optimized'],
      ['optimized', 'optimized'],
    ]
    const lost = [false, false]
    for (let step = 0; step < 60; step++) {
      const at = random.below(2)
      if (random.below(6) === 0) {
        if (lost[at]) await paths[at]!.start()
        else await paths[at]!.stop()
        lost[at] = !lost[at]
      } else {
        const nsid = 1 + random.below(2)
        const state = states[random.below(states.length)]!
        now[at]![nsid - 1] = state
        server.setAnaState(at, state, nsid)
      }
      for (const nsid of [1, 2]) {
        if (!paths.some((_, i) => !lost[i] && /optimized/.test(now[i]![nsid - 1]!))) continue
        const before = rounds[nsid]!
        await until(() => rounds[nsid]! > before + 3 || failure !== undefined)
      }
      if (failure !== undefined) throw failure
    }
    for (const [at, path] of paths.entries()) {
      if (lost[at]) await path.start()
      server.setAnaState(at, 'optimized')
    }
    over = true
    await all
    t.is(one.stats.failed, 0)
  })
}
