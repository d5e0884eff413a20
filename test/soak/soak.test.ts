// The soak in short, counted by operations: the long one is `npm run soak`.

import test from 'ava'
import { type SoakOptions, soak } from './soak.ts'

const RUNS: readonly SoakOptions[] = [
  { address: 'sim:?size=2M', seed: 1, operations: 3000, shares: false },
  { address: 'sim:?size=2M&thread=1', seed: 2, operations: 2000, shares: true },
  { address: 'sim:?size=2M&thread=1&shadow=1&latency=50us', seed: 3, operations: 1500, shares: true },
]

for (const options of RUNS) {
  const { address, seed, operations } = options
  test.serial(`${address}: ${operations} operations on a faulty device (seed ${seed})`, async (t) => {
    const { stats, left, ...counts } = await soak(options)
    t.log(JSON.stringify({ ...counts, left, aborts: stats.aborts, retries: stats.retries }))
    t.like(stats, { lost: 0, inFlight: 0 })
    t.true(counts.resets > 0 && stats.aborts > 0 && stats.retries > 0)
    t.deepEqual(left.fds, [])
    t.like(left, { bytes: 0, listeners: 0, shared: 0 })
    // Of V8's heap and code, which grow at first.
    t.true(left.maps < 400, `${left.maps} mappings`)
  })
}
