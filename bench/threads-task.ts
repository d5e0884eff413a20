// What each worker of bench/threads.ts runs: reads for a time, and says how many, and what processor time its thread
// took. Trade-off: that is the kernel's count, which Node has for the whole process only: Linux.

import fs from 'node:fs'
import { type Namespace, open, task } from '../src/index.ts'
import { rawReads } from './commands.ts'
import { promising } from './load.ts'

export interface ThreadWork {
  kind: 'raw' | 'promises' | 'inline'
  depth: number
  ms: number
}

export interface ThreadFigures {
  commands: number
  seconds: number
  cpuNs: number
}

const BATCH = 20_000
// Each in its processor's own cache: what they share is not the driver's.
const INLINE = 'sim:?size=512K&lba=4096'

await task(async ({ ns, data }) => {
  const work = data as ThreadWork
  if (work.kind !== 'inline') return measure(ns, work)
  await using own = await open(INLINE)
  await own.promises.write(Buffer.alloc(own.blockcount * own.blocksize, 0x5a), 0)
  return await measure(own, work)
})

async function measure(ns: Namespace, work: ThreadWork): Promise<ThreadFigures> {
  await readFor(ns, work, work.ms / 2)
  const cpu = threadNs()
  const started = performance.now()
  const commands = await readFor(ns, work, work.ms)
  return { commands, seconds: (performance.now() - started) / 1000, cpuNs: threadNs() - cpu }
}

async function readFor(ns: Namespace, { kind, depth }: ThreadWork, ms: number): Promise<number> {
  const before = ns.stats.commands
  if (kind === 'promises') {
    await promising(depth)(ns, ms)
  } else {
    const started = performance.now()
    while (performance.now() - started < ms) rawReads(ns, BATCH, depth)
  }
  return ns.stats.commands - before
}

/** Processor time of this thread, in nanoseconds. */
function threadNs(): number {
  return Number(fs.readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ')[0])
}
