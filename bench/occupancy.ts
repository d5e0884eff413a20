// How full streams keep the queue of a device that takes 2 ms for each command, any number at once: the device
// is the bottleneck. Occupancy as the driver counts it, and as it follows from the rate: rate x time / depth.
// Trade-off: the medium's memory is taken before (populate), since its first touch is the system's time and no
// device's; the last line shows what that costs where it is not.

import { once } from 'node:events'
import { open } from '../src/index.ts'
import { cpuOf, medianOf } from './measure.ts'
import { atLeast, type Table } from './table.ts'

const DEPTH = 32
const CHUNK = 128 * 1024
const LATENCY_MS = 2
// Long enough for what a stream's first chunks cost to be nothing: a Readable's come from a heap that has to grow.
const BYTES = 2 ** 30
// The system takes its time for the first touch of memory: not in turn with the others, which it would disturb.
const UNTOUCHED_BYTES = BYTES / 4

const ROUNDS = 5
const ABOUT =
  'The device is the bottleneck here, and a driver is as good as it keeps its queue full. Occupancy is the mean ' +
  'number of commands in flight over the depth: as the driver counts it (`ns.stats`), and as it follows from the ' +
  'rate. The last row shows what the first touch of memory costs.'

interface Figures {
  counted: number
  fromRate: number
  gigabytes: number
  processor: number
}

export async function* occupancy(): AsyncGenerator<Table> {
  const device = `sim:?size=${BYTES}&latency=${LATENCY_MS}ms`
  await using touched = await open(`${device}&populate=1`)
  const streams: [name: string, run: () => Promise<Figures>][] = [
    ['createReadStream', () => measure(read, touched, BYTES)],
    ['createWriteStream', () => measure(write, touched, BYTES)],
    ['blocks()', () => measure(iterate, touched, BYTES)],
  ]
  const untouched = async () => {
    await using ns = await open(device)
    return await measure(write, ns, UNTOUCHED_BYTES)
  }
  const rows = [
    ...(await inTurn(streams)),
    ...(await inTurn([['createWriteStream, untouched memory', untouched]])),
  ]
  yield {
    title: `Streams of ${CHUNK / 1024} KiB chunks at depth ${DEPTH} on a device that takes ${LATENCY_MS} ms`,
    about: ABOUT,
    columns: [
      { name: 'occupancy', digits: 3 },
      { name: 'from the rate', digits: 3 },
      { name: 'GB/s', digits: 2 },
      { name: 'processor %', digits: 0 },
    ],
    rows,
    goals: rows.slice(0, -1).map(({ name, cells }) => atLeast(`occupancy, ${name}`, cells[0]!, 0.95)),
  }
}

async function inTurn(streams: readonly (readonly [name: string, run: () => Promise<Figures>])[]) {
  const rounds: Figures[][] = streams.map(() => [])
  // One round to warm up.
  for (let round = -1; round < ROUNDS; round++) {
    for (const [i, [, run]] of streams.entries()) {
      const figures = await run()
      if (round >= 0) rounds[i]!.push(figures)
    }
  }
  return streams.map(([name], i) => {
    const median = (pick: (figures: Figures) => number) => medianOf(rounds[i]!.map(pick))
    const cells = [
      median(({ counted }) => counted),
      median(({ fromRate }) => fromRate),
      median(({ gigabytes }) => gigabytes),
      median(({ processor }) => processor),
    ]
    return { name, cells }
  })
}

type Work = (ns: Opened, bytes: number) => Promise<void>

async function measure(work: Work, ns: Opened, bytes: number): Promise<Figures> {
  const before = ns.stats
  const started = performance.now()
  const processorMs = await cpuOf(() => work(ns, bytes))
  const ms = performance.now() - started
  const { inFlightTime, wantedTime } = ns.stats
  return {
    counted: (inFlightTime - before.inFlightTime) / (wantedTime - before.wantedTime),
    fromRate: ((bytes / CHUNK / ms) * LATENCY_MS) / DEPTH,
    gigabytes: bytes / 1e6 / ms,
    processor: (processorMs / ms) * 100,
  }
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
