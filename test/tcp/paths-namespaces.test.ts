// Namespaces of one subsystem whose access differs: what one of them waits for keeps no other from going on.

import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { type AnaState, type Namespace, type OpenOptions, open } from '../../src/index.ts'
import { addressBy, startPaths, type TestPath } from '../support/path-server.ts'

const BLOCK = 512

async function until(what: () => boolean): Promise<void> {
  while (!what()) await delay(5)
}

async function setUp(
  t: ExecutionContext,
  options: OpenOptions = {},
  states: AnaState[] = ['optimized', 'optimized'],
) {
  const { server, devices, paths, end } = await startPaths({ states, more: ['sim:?size=8M'] })
  const address = addressBy(paths)
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
