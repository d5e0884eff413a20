// No system call and no message for a command, on either side: counted with strace over N and ten times N commands.
// Both sides make some by the clock (turns of the event loop, a look at the controller's health), so what
// is held is how many more there are for a command: much less than one.

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { open } from '../../src/index.ts'
import { testWith } from '../support/left-out.ts'
import { startServer } from '../support/server.ts'
import { trace } from '../support/strace.ts'

const READER = fileURLToPath(new URL('./reader-process.js', import.meta.url))
const FEW = 20_000
const MANY = 10 * FEW
/** System calls for a command; under strace and on a busy machine, where the clock runs faster than commands. */
const MOST = 0.75
/**
 * Calls for messages, for a command; with shadow doorbells there is a ring where the server has gone to sleep, as it
 * does while strace holds the client up: twice in 32 commands at worst. What goes by the clock does not count: a look at
 * the controller's health every 50 ms is a request, its answer, and a receive that finds no more.
 */
const MOST_MESSAGES = { mapped: 0.005, shadow: 0.5 } as const
const LOOK_MS = 50
const LOOK_CALLS = 3
const MESSAGES = new Set(['sendmsg', 'recvmsg', 'sendto', 'recvfrom'])

const counted = (title: string, run: (t: ExecutionContext) => Promise<void>) =>
  testWith(title, { strace: 'strace' }, run, { serial: true })

const sum = (calls: Map<string, number>, only?: Set<string>) =>
  [...calls].reduce((total, [name, count]) => total + (only === undefined || only.has(name) ? count : 0), 0)

for (const doorbells of ['mapped', 'shadow'] as const) {
  counted(`no system call and no message for a command, doorbells ${doorbells}`, async (t) => {
    const server = await startServer({ device: 'sim:?size=16M&lba=4096', doorbells })
    const client = fork(READER, [server.address], { execArgv: [] })
    const ended = once(client, 'exit')
    await once(client, 'message')
    try {
      await count(t, client, server.child, doorbells)
    } finally {
      client.disconnect()
      await ended
      await server.stop()
    }
  })
}

async function count(
  t: ExecutionContext,
  client: ChildProcess,
  server: ChildProcess,
  doorbells: 'mapped' | 'shadow',
): Promise<void> {
  const read = async (commands: number) => {
    client.send(commands)
    await once(client, 'message')
  }
  const measure = async (side: ChildProcess, commands: number) => {
    const tracer = await trace(side)
    const started = performance.now()
    await read(commands)
    const looks = Math.ceil((performance.now() - started) / LOOK_MS)
    const calls = await tracer.stop()
    return { all: sum(calls), messages: Math.max(0, sum(calls, MESSAGES) - looks * LOOK_CALLS) }
  }
  // What is compiled, and whatever is made once.
  await read(MANY)
  for (const [name, side] of Object.entries({ client, server })) {
    const few = await measure(side, FEW)
    const many = await measure(side, MANY)
    t.log(`${name}: ${few.all} calls for ${FEW} commands, ${many.all} for ${MANY}`)
    const more = (many.all - few.all) / (MANY - FEW)
    t.true(more < MOST, `${name}: ${more} system calls for a command`)
    const messages = (many.messages - few.messages) / (MANY - FEW)
    t.true(messages < MOST_MESSAGES[doorbells], `${name}: ${messages} messages for a command`)
  }
}

for (const [what, doorbells, connected] of [
  ['without a client', 'mapped', false],
  ['with a client that is idle', 'shadow', true],
] as const) {
  counted(`a server sleeps without a system call ${what}, doorbells ${doorbells}`, async (t) => {
    const server = await startServer({ device: 'sim:?size=16M', doorbells })
    const ns = connected ? await open(server.address) : null
    await ns?.promises.flush()
    await new Promise((resolve) => setTimeout(resolve, 500))
    const tracer = await trace(server.child)
    await new Promise((resolve) => setTimeout(resolve, 1000))
    const calls = await tracer.stop()
    // The one that it sleeps in; the engine's own timers make a few now and then.
    t.true(sum(calls) <= 20, JSON.stringify([...calls]))
    await ns?.close()
    await server.stop()
  })
}
