// A host process that is killed, or frozen, while it writes: the target is the next host's, and nothing of the first one comes
// after what the next one has written.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import type { ExecutionContext } from 'ava'
import { type Namespace, open } from '../../src/index.ts'
import { pattern } from '../support/pattern.ts'
import { type LinkContext, onEachLink } from '../support/tcp-links.ts'
import { HOST, NQN } from '../support/tcp-target.ts'
import { forkTarget } from '../support/tcp-target-child.ts'

const PROGRAM = new URL('./killed-host-program.js', import.meta.url).pathname
const OTHER = HOST.replace(':host&', ':other&')

/** A target with a host that writes to it. */
async function setUp(t: ExecutionContext<LinkContext>, kato: number) {
  const target = await forkTarget('sim:?size=8M')
  const addressOf = (host: string) =>
    `nvme+tcp://127.0.0.1:${target.port}/${NQN}?${host}&link=${t.context.link}&kato=${kato}&hdgst=1`
  const host = fork(PROGRAM, [addressOf(HOST)])
  t.teardown(async () => {
    host.kill('SIGKILL')
    await target.kill()
  })
  await once(host, 'message')
  return { host, open: () => open(addressOf(OTHER), { qcount: 2 }) }
}

/** Opens as soon as the target lets it; how often it was busy. */
async function openWhenFree(openOnce: () => Promise<Namespace>): Promise<{ ns: Namespace; busy: number }> {
  for (let busy = 0; ; busy++) {
    try {
      return { ns: await openOnce(), busy }
    } catch (error) {
      if (!/Controller Busy/.test((error as Error).message)) throw error
      await delay(10)
    }
  }
}

async function isMine(t: ExecutionContext<LinkContext>, ns: Namespace): Promise<void> {
  const data = pattern(2 ** 20, 77)
  await ns.promises.write(data, 0)
  for (let i = 0; i < 20; i++) {
    t.true((await ns.promises.read(Buffer.alloc(data.length), 0)).equals(data))
  }
  t.is(ns.stats.failed, 0)
}

onEachLink('a host that is killed under load leaves its target to the next one', async (t) => {
  // Not by the Keep Alive Timer: the test would not see the end of that.
  const { host, open } = await setUp(t, 600_000)
  host.kill('SIGKILL')
  await once(host, 'exit')
  const { ns } = await openWhenFree(open)
  await isMine(t, ns)
  await ns.close()
})

onEachLink('a host that is frozen loses its target after KATO, and nothing of it comes later', async (t) => {
  const { host, open } = await setUp(t, 2000)
  host.kill('SIGSTOP')
  const { ns, busy } = await openWhenFree(open)
  t.true(busy > 0)
  host.kill('SIGCONT')
  await isMine(t, ns)
  await ns.close()
})
