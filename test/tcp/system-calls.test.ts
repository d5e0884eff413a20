// A batch of commands is a few system calls on a connection that is polled: counted with strace, at depth 32.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { testWith } from '../support/left-out.ts'
import { trace } from '../support/strace.ts'
import { HOST, NQN } from '../support/tcp-target.ts'
import { forkTarget } from '../support/tcp-target-child.ts'
import type { Work } from './reader-process.ts'

const READER = fileURLToPath(new URL('./reader-process.js', import.meta.url))
const FEW = 3200
const MANY = 10 * FEW
/** Calls that move bytes, for a command, in each direction. Looks that find nothing depend on how fast the target is. */
const MOST = 0.1

const counted = (title: string, run: (t: ExecutionContext) => Promise<void>) =>
  testWith(title, { strace: 'strace' }, run, { serial: true })

for (const how of ['polled', 'promises'] as const) {
  for (const op of ['read', 'write'] as const) {
    counted(`a batch of 32 is a few system calls: ${op}, ${how}`, async (t) => {
      const target = await forkTarget('sim:?size=16M&lba=4096')
      t.teardown(() => target.kill())
      const address = `nvme+tcp://127.0.0.1:${target.port}/${NQN}?${HOST}&link=raw`
      const host = fork(READER, [address], { execArgv: [] })
      const ended = once(host, 'exit')
      await once(host, 'message')
      const work = async (commands: number) => {
        host.send({ op, how, commands } satisfies Work)
        await once(host, 'message')
      }
      const measure = async (commands: number) => {
        const tracer = await trace(host, { failed: false })
        await work(commands)
        const calls = await tracer.stop()
        return { sent: calls.get('sendmsg') ?? 0, received: calls.get('recvmsg') ?? 0, calls }
      }
      try {
        await work(MANY)
        const few = await measure(FEW)
        const many = await measure(MANY)
        for (const direction of ['sent', 'received'] as const) {
          const more = (many[direction] - few[direction]) / (MANY - FEW)
          t.log(`${direction}: ${more.toFixed(4)} calls for a command`)
          t.true(more <= MOST, `${direction}: ${more} system calls for a command`)
        }
        t.log(JSON.stringify([...many.calls]))
      } finally {
        host.disconnect()
        await ended
      }
    })
  }
}
