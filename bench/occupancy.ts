// How full streams keep the queue of a device that takes 2 ms for each command, any number at once: the device
// is the bottleneck. Occupancy as the driver counts it, and as it follows from the rate: rate x time / depth.
// Trade-off: the medium's memory is taken before (populate), since its first touch is the system's time and no
// device's; the last line shows what that costs where it is not.

import { once } from 'node:events'
import { open } from '../src/index.ts'

const DEPTH = 32
const CHUNK = 128 * 1024
const LATENCY_MS = 2
const BYTES = 512 * 2 ** 20

export async function occupancy(): Promise<void> {
  console.log(`\nStreams of ${CHUNK / 1024} KiB chunks at depth ${DEPTH} on a device of ${LATENCY_MS} ms`)
  const device = `sim:?size=${BYTES}&latency=${LATENCY_MS}ms`
  const populated = `${device}&populate=1`
  await measure('createReadStream', read, populated)
  await measure('createWriteStream', write, populated)
  await measure('blocks()', iterate, populated)
  await measure('createWriteStream, untouched memory', write, device, false)
}

async function measure(
  name: string,
  work: (ns: Opened, bytes: number) => Promise<void>,
  address: string,
  warm = true,
): Promise<void> {
  await using ns = await open(address)
  // Compiled, and its chunks allocated once.
  if (warm) await work(ns, BYTES / 4)
  const before = ns.stats
  const started = performance.now()
  const cpu = process.cpuUsage()
  await work(ns, BYTES)
  const ms = performance.now() - started
  const { user, system } = process.cpuUsage(cpu)
  const { inFlightTime, wantedTime } = ns.stats
  const counted = (inFlightTime - before.inFlightTime) / (wantedTime - before.wantedTime)
  const rate = BYTES / CHUNK / ms
  const fromRate = (rate * LATENCY_MS) / DEPTH
  console.log(
    `  ${name.padEnd(18)} occupancy ${counted.toFixed(3)} (from the rate ${fromRate.toFixed(3)}), ` +
      `${(BYTES / 1e6 / ms).toFixed(2)} GB/s, processor ${((user + system) / 10 / ms).toFixed(0)} %`,
  )
}

type Opened = Awaited<ReturnType<typeof open>>

async function read(ns: Opened, bytes: number): Promise<void> {
  const nlb = bytes / ns.blocksize
  const stream = ns.createReadStream({ nlb, highWaterMark: CHUNK, depth: DEPTH })
  stream.resume()
  await once(stream, 'end')
}

async function write(ns: Opened, bytes: number): Promise<void> {
  const stream = ns.createWriteStream({ highWaterMark: CHUNK, depth: DEPTH })
  const chunk = Buffer.alloc(CHUNK, 1)
  for (let at = 0; at < bytes; at += CHUNK) {
    if (!stream.write(chunk)) await once(stream, 'drain')
  }
  stream.end()
  await once(stream, 'finish')
}

async function iterate(ns: Opened, bytes: number): Promise<void> {
  const nlb = bytes / ns.blocksize
  for await (const _ of ns.blocks({ nlb, chunk: CHUNK / ns.blocksize, depth: DEPTH }));
}
