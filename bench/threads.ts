// Two workers with a queue each (by `spread`) beside one worker. This file is the workers' task, too.
// A controller's thread takes a processor, so that two workers of one controller double the rate only where
// there are four processors; in the first row each worker has a controller of its own, inline, which shows what workers
// cost each other on two.

import { isMainThread } from 'node:worker_threads'
import { type Namespace, open, spread, task } from '../src/index.ts'
import { promiseReads, rawReads } from './commands.ts'
import { medians, type Table } from './measure.ts'

type Kind = 'inline' | 'calls' | 'promises'

const DEPTH = 32
const RUN_MS = 400
const BATCH = { inline: 20_000, calls: 20_000, promises: 40 * DEPTH }
// In its processor's own cache: what two share is not the driver's.
const INLINE = 'sim:?size=512K&lba=4096'
const SHARED = 'sim:?size=64M&lba=4096&thread=1&populate=1'
const CASES: readonly (readonly [name: string, kind: Kind, address: string])[] = [
  ['aread/apoll, an inline controller each', 'inline', SHARED],
  ['aread/apoll, one controller at full speed', 'calls', SHARED],
  ['promises, one controller that takes 2 ms', 'promises', `${SHARED}&latency=2ms`],
]
const COLUMNS = [
  { name: 'one: M/s', digits: 3 },
  { name: 'two: M/s', digits: 3 },
  { name: 'ratio', digits: 2 },
]

export async function* threads(): AsyncGenerator<Table> {
  const rows = CASES.map(([name, kind, address]) => ({
    name,
    async run() {
      const [one, two] = [await rateOfJobs(address, kind, 1), await rateOfJobs(address, kind, 2)]
      return [one, two, two / one]
    },
  }))
  yield await medians(`Two workers on two queues beside one, 4 KiB reads at depth ${DEPTH}`, COLUMNS, rows)
}

/** Million commands a second, of all jobs together. */
async function rateOfJobs(address: string, kind: Kind, jobs: number): Promise<number> {
  await using ns = await open(address, { qcount: jobs })
  const rates = await spread<number>(ns, new URL(import.meta.url), { jobs, data: kind })
  return rates.reduce((sum, rate) => sum + rate)
}

async function readFor(ns: Namespace, kind: Kind, ms: number): Promise<number> {
  const reads = kind === 'promises' ? promiseReads : rawReads
  const started = performance.now()
  let done = 0
  for (; performance.now() - started < ms; done += BATCH[kind]) await reads(ns, BATCH[kind], DEPTH)
  return done / (performance.now() - started) / 1e3
}

if (!isMainThread) {
  await task(async ({ ns, data }) => {
    const kind = data as Kind
    await using own = kind === 'inline' ? await open(INLINE) : null
    await own?.promises.write(Buffer.alloc(own.blockcount * own.blocksize, 0x5a), 0)
    await readFor(own ?? ns, kind, RUN_MS / 2)
    return await readFor(own ?? ns, kind, RUN_MS)
  })
}
