// The engine under servers: what is sent again after a reset, what is taken back meanwhile, and which queues it has.

import test from 'ava'
import { NVM, open, serveNvmeTcp } from '../../src/index.ts'
import { type Operation, STATE } from '../../src/queue/operation.ts'
import { CommandEngine, usableQueues } from '../../src/servers/command-engine.ts'

test('CommandEngine.withdraw ends a command that waits to be sent again, and no later one by the same operation', async (t) => {
  const ns = await open('sim:?size=1M&latency=20ms')
  const engine = new CommandEngine(ns, [0])
  const buf = ns.alloc(4096)
  const read = () => {
    let end = (_code: string | undefined) => {}
    const ended = new Promise<string | undefined>((resolve) => {
      end = resolve
    })
    const onCommand = ({ cause }: Operation) => end((cause as NodeJS.ErrnoException | null)?.code)
    const op = engine.prepare({ onCommand }, engine.queues[0]!, NVM.READ, ns.pool.tagOf(buf), 4096, 0, 0, 7)
    engine.send(op)
    return { op, ended }
  }
  const { op, ended } = read()
  const reset = ns.reset()
  // Without a turn in which it could be sent again.
  for (let i = 0; i < 1000 && op.state !== STATE.DONE; i++) await null
  t.is(op.state, STATE.DONE)
  t.true(engine.withdraw(op))
  t.is(await ended, 'ABORT_ERR')
  t.is(op.state, STATE.FREE)
  const again = read()
  await reset
  t.is(await again.ended, undefined)
  ns.free(buf)
  await ns.close()
})

test('CommandEngine.refusal ends what would be sent again', async (t) => {
  const ns = await open('sim:?size=1M&latency=20ms')
  const engine = new CommandEngine(ns, [0])
  engine.refusal = new Error('another format')
  const flush = t.throwsAsync(engine.flush(), { message: 'another format' })
  await ns.reset()
  await flush
  engine.refusal = null
  await engine.flush()
  await ns.close()
})

test('usableQueues are those that no worker thread has', async (t) => {
  const ns = await open('sim:?size=1M', { qcount: 4, threads: true })
  const share = ns.share([1, 3])
  t.deepEqual(usableQueues(ns, 'test'), [0, 2])
  const server = await serveNvmeTcp([ns], { listen: '127.0.0.1:0' })
  await server.close()
  await share.recall()
  t.deepEqual(usableQueues(ns, 'test'), [0, 1, 2, 3])
  await ns.close()
})
