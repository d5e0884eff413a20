// Random operations on faulty devices for minutes: npm run soak -- --minutes 5 --seed 1

import { parseArgs } from 'node:util'
import { type SoakOptions, soak } from '../test/soak/soak.ts'

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '5' }, seed: { type: 'string', default: '1' } },
})
const minutes = Number(values.minutes)
const first = Number(values.seed)
if (!(minutes > 0) || !Number.isSafeInteger(first))
  throw new RangeError('soak: --minutes and --seed are numbers')

const DEVICES: readonly Pick<SoakOptions, 'address' | 'shares'>[] = [
  { address: 'sim:?size=2M', shares: false },
  { address: 'sim:?size=2M&thread=1', shares: true },
  { address: 'sim:?size=2M&thread=1&shadow=1&latency=50us', shares: true },
]
// Of one seed and one device: what fails is found again by its seed.
const ROUND_MS = 30_000

const sums = { operations: 0, resets: 0, asked: 0, shares: 0 }
const failed: Record<string, number> = {}
const end = performance.now() + minutes * 60_000
for (let round = 0; performance.now() < end; round++) {
  const device = DEVICES[round % DEVICES.length]!
  const ms = Math.min(ROUND_MS, end - performance.now())
  const options = { ...device, seed: first + round, operations: Number.POSITIVE_INFINITY, ms }
  const { stats, left, ...counts } = await soak(options)
  for (const [code, n] of Object.entries(counts.failed)) failed[code] = (failed[code] ?? 0) + n
  for (const name of ['operations', 'resets', 'asked', 'shares'] as const) sums[name] += counts[name]
  console.log(JSON.stringify({ ...options, ...counts, left, aborts: stats.aborts, retries: stats.retries }))
  const { bytes, fds, listeners, shared, maps } = left
  if (stats.lost + stats.inFlight + bytes + fds.length + listeners + shared !== 0 || maps > 400) {
    throw new Error(`seed ${options.seed}: something is left: ${JSON.stringify({ ...left, ...stats })}`)
  }
}
console.log(JSON.stringify({ ...sums, failed }))
