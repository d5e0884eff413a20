// Calls that are ended half-way, by a signal or by the end of their namespace: each is notified once, what was lost is no
// success, and nothing stays behind.

import test from 'ava'
import { type OpenOptions, open } from '../../src/index.ts'

type Faults = NonNullable<OpenOptions['faults']>

const SLOW: Faults = [{ action: { kind: 'delay', ms: 20 } }]
// For what must still be in flight after a turn of the event loop, on a busy machine, too.
const SLOWER: Faults = [{ action: { kind: 'delay', ms: 500 } }]
const turn = () => new Promise(setImmediate)

test('a command that fails after its promise was aborted is no unhandled rejection', async (t) => {
  const unheard: unknown[] = []
  const note = (error: unknown) => unheard.push(error)
  process.on('unhandledRejection', note)
  t.teardown(() => process.off('unhandledRejection', note))
  await using ns = await open('sim:?size=1M', { faults: SLOW })
  const controller = new AbortController()
  const { signal } = controller
  const call = ns.promises.read(ns.alloc(512), 0, 1, { signal })
  const command = ns.promises.cmd({ opcode: 0 }, { signal })
  controller.abort()
  await t.throwsAsync(call, { code: 'ABORT_ERR' })
  await t.throwsAsync(command, { code: 'ABORT_ERR' })
  await ns.reset()
  await turn()
  await turn()
  t.deepEqual(unheard, [])
  // The operations are as new.
  const buf = ns.alloc(512)
  for (let i = 0; i < 40; i++) t.is(await ns.promises.read(buf, i), buf)
})

test('a namespace gives the memory of its promises back when it is closed', async (t) => {
  await using ns = await open('sim:?size=1M')
  const before = ns.pool.bytes
  for (let i = 0; i < 3; i++) {
    const other = await ns.openNamespace(1)
    await Promise.all([0, 1, 2].map((slba) => other.promises.read(Buffer.alloc(512), slba)))
    // In flight when it is closed: given back when it ends.
    const late = other.promises.read(Buffer.alloc(512), 0)
    await other.close()
    await late
  }
  t.is(ns.pool.bytes, before)
})

test('writeBlocks that waits for space hears of the end of its namespace', async (t) => {
  const ns = await open('sim:?size=4M', { faults: SLOW })
  const writing = ns.writeBlocks([Buffer.alloc(2 ** 20)], { depth: 2, chunk: 8 })
  // Looked at before the close, which takes turns of the event loop: a rejection may come before its end.
  const rejected = t.throwsAsync(writing, { code: 'ERR_UNVME_CLOSED' })
  await turn()
  await ns.close()
  await rejected
})

test('what was in flight at the end of a namespace is not reported as written', async (t) => {
  for (const sent of [16 * 512, 16 * 512 + 7]) {
    const ns = await open('sim:?size=4M', { faults: SLOWER })
    const writing = ns.writeBlocks([Buffer.alloc(sent)], { depth: 4, chunk: 8, flush: false })
    const rejected = t.throwsAsync(writing, { code: 'ERR_UNVME_CLOSED' })
    await turn()
    await ns.close()
    await rejected
  }
})

test("a deallocate that its namespace's end overtakes says so", async (t) => {
  const ns = await open('sim:?size=1M', { faults: SLOW })
  const rejected = t.throwsAsync(ns.promises.deallocate([{ slba: 0, nlb: 1 }]), { code: 'ERR_UNVME_CLOSED' })
  await ns.close()
  await rejected
})

test('a freed buffer of another device is refused, and not copied', async (t) => {
  await using ns = await open('sim:?size=1M')
  await using other = await open('sim:?size=1M')
  const buf = other.alloc(512).fill(7)
  await ns.promises.write(buf, 0)
  other.free(buf)
  for (const call of ['write', 'compare', 'read'] as const) {
    const error = await t.throwsAsync<NodeJS.ErrnoException>(ns.promises[call](buf, 0, 1))
    // Where Node can detach views, it has no bytes any more.
    t.regex(`${error?.code}`, /^ERR_UNVME_FREED_BUFFER$|^ERR_OUT_OF_RANGE$/)
  }
  t.is((await ns.promises.read(Buffer.alloc(512), 0))[0], 7)
})
