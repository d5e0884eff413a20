// How full streams keep the queue of a device that takes 2 ms for each command, any number at once: the device
// is the bottleneck. Occupancy as the driver counts it, and as it follows from the rate: rate x time / depth.

import { once } from 'node:events'
import { open } from '../src/index.ts'

const DEPTH = 32
const CHUNK = 128 * 1024
const LATENCY_MS = 2
const BYTES = 512 * 2 ** 20

export async function occupancy(): Promise<void> {
  console.log(`\nStreams of ${CHUNK / 1024} KiB chunks at depth ${DEPTH} on a device of ${LATENCY_MS} ms`)
  for (const [name, work] of [
    ['createReadStream', read],
    ['createWriteStream', write],
    ['blocks()', iterate],
  ] as const) {
    await using ns = await open(`sim:?size=${BYTES}&latency=${LATENCY_MS}ms`)
    const started = performance.now()
    const cpu = process.cpuUsage()
    await work(ns)
    const ms = performance.now() - started
    const { user, system } = process.cpuUsage(cpu)
    const rate = BYTES / CHUNK / ms
    const fromRate = (rate * LATENCY_MS) / DEPTH
    console.log(
      `  ${name.padEnd(18)} occupancy ${ns.stats.occupancy.toFixed(3)} (from the rate ${fromRate.toFixed(3)}), ` +
        `${(BYTES / 1e6 / ms).toFixed(2)} GB/s, processor ${((user + system) / 10 / ms).toFixed(0)} %`,
    )
  }
}

type Opened = Awaited<ReturnType<typeof open>>

async function read(ns: Opened): Promise<void> {
  const stream = ns.createReadStream({ highWaterMark: CHUNK, depth: DEPTH })
  stream.resume()
  await once(stream, 'end')
}

async function write(ns: Opened): Promise<void> {
  const stream = ns.createWriteStream({ highWaterMark: CHUNK, depth: DEPTH })
  const chunk = Buffer.alloc(CHUNK, 1)
  for (let at = 0; at < BYTES; at += CHUNK) {
    if (!stream.write(chunk)) await once(stream, 'drain')
  }
  stream.end()
  await once(stream, 'finish')
}

async function iterate(ns: Opened): Promise<void> {
  for await (const _ of ns.blocks({ chunk: CHUNK / ns.blocksize, depth: DEPTH }));
}
