// How full streams keep the queue of a device that takes 2 ms for each command, any number at once, so that the device
// is the bottleneck; and by how much timers come late meanwhile, there and at full speed.
// Occupancy is the mean number of commands in flight over the depth: as the driver counts it (`ns.stats`), and as it
// follows from the rate (rate x time / depth). The delay of timers is bounded by how long a stream goes on without a
// turn of the event loop, by the collector's pauses, and here by the controller, which copies in the same thread.
// The medium's memory is taken before (populate), since its first touch is the system's time and no device's.

import { monitorEventLoopDelay } from 'node:perf_hooks'
import { type Namespace, open } from '../src/index.ts'
import { cpuOf, medians, type Row, type Table } from './measure.ts'
import { fileMoves, type Move, makeFiles, streamMoves, timeOf } from './streams.ts'

const DEPTH = 32
const CHUNK = 128 * 1024
// Long enough for what a stream's first chunks cost to be nothing: a Readable's come from a heap that has to grow.
const BYTES = 2 ** 30
const SLOW_MS = 2
const STREAMS = ['createReadStream', 'createWriteStream', 'blocks()']
// What the delay is measured by: the shortest timer that there is.
const TIMER_MS = 1
const COLUMNS = [
  { name: 'GB/s', digits: 2 },
  { name: 'processor %', digits: 0 },
  { name: 'timers late, p99 ms', digits: 2 },
  { name: 'occupancy', digits: 3 },
  { name: 'from the rate', digits: 3 },
]

export async function* occupancy(): AsyncGenerator<Table> {
  const title = `Streams of ${CHUNK / 1024} KiB chunks at depth ${DEPTH}`
  await using slow = await open(`sim:?size=${BYTES}&lba=4096&populate=1&latency=${SLOW_MS}ms`)
  yield await medians(`${title} on a device that takes ${SLOW_MS} ms`, COLUMNS, rowsOf(slow, COLUMNS.length))
  // At full speed a queue is not to be full.
  const columns = COLUMNS.slice(0, 3)
  await using fast = await open(`sim:?size=${BYTES}&lba=4096&populate=1`)
  using files = makeFiles()
  const read = fileMoves(files, CHUNK).createReadStream!
  const passes = (bytes: number) => timeOf(read, bytes)
  const theirs = {
    name: 'fs.createReadStream',
    run: async () => (await measure(fast, passes)).slice(0, columns.length),
  }
  yield await medians(`${title} at full speed`, columns, [theirs, ...rowsOf(fast, columns.length)])
}

function rowsOf(ns: Namespace, columns: number): Row[] {
  const moves = streamMoves(ns, CHUNK)
  const run = async (name: string) => (await measure(ns, moves[name]!)).slice(0, columns)
  return STREAMS.map((name) => ({ name, run: () => run(name) }))
}

async function measure(ns: Namespace, move: Move): Promise<number[]> {
  const before = ns.stats
  const delay = monitorEventLoopDelay({ resolution: TIMER_MS })
  delay.enable()
  const started = performance.now()
  const processorMs = await cpuOf(() => move(BYTES))
  const ms = performance.now() - started
  delay.disable()
  const { inFlightTime, wantedTime } = ns.stats
  return [
    BYTES / 1e6 / ms,
    (processorMs / ms) * 100,
    Math.max(0, delay.percentile(99) / 1e6 - TIMER_MS),
    (inFlightTime - before.inFlightTime) / (wantedTime - before.wantedTime),
    ((BYTES / CHUNK / ms) * SLOW_MS) / DEPTH,
  ]
}
