// The latency test: a thread for each queue keeps it full of reads, then of writes, of one page each, and measures
// how long it takes to send one and until it is done.
//
//   node dist/examples/unvme/lat-test.js ADDR [--time TIME] [--qcount N] [--depth N]
//
// Trade-off: a thread that polls takes a processor. By default there are no more of them than processors, since
// with more it is the system's scheduler that is measured.

import { availableParallelism } from 'node:os'
import type { Namespace } from 'unvme'
import type { Latencies, LatencyData } from './support/lat-queue.ts'
import { duration, integer, print, program, table, value, valueOr } from './support/program.ts'
import { onQueues } from './support/queues.ts'

const PHASES = ['read', 'write'] as const

await program({
  name: 'lat-test',
  summary: 'Measure latencies of submission and completion, a thread for each queue',
  details: `Each queue reads for the time given, then writes. With more operations in flight each of them waits \
longer: the latency of the device alone is that of --depth 1. A software controller (sim:) has a thread of its own \
here.`,
  options: {
    time: valueOr('TIME', duration({ min: 1 }), 15_000, 'how long to read, and how long to write', {
      short: 't',
      fallbackText: '15s',
    }),
    qcount: value(
      'N',
      integer({ min: 1, max: 65535 }),
      'queues; default: as many as processors, or as there are',
      'q',
    ),
    depth: value(
      'N',
      integer({ min: 1, max: 65535 }),
      'operations in flight on each; default: full, at most 255',
      'd',
    ),
  },
  examples: [
    ['0a:00.0 -t 5 -q 1 -d 1', 'the latency of the device'],
    ['sim: -t 2s', 'the software controller with full queues'],
  ],
  open: ({ qcount, depth = -1 }) => ({
    qcount: qcount ?? availableParallelism(),
    qsize: depth + 1,
    threads: true,
  }),
  fewerQueues: ({ qcount }) => qcount === undefined,
  overwrites: (_, ns) => ns.blockcount * ns.blocksize,
  async run({ ns, options, random, signal }) {
    const { time, depth = ns.maxiopq } = options
    const qids = Array.from({ length: ns.qcount }, (_, qid) => qid)
    const bytes = pageBytes(ns)
    print(`in flight on each: ${depth} operations of ${bytes} bytes, for ${time / 1000} s`)
    for (const phase of PHASES) {
      const data: LatencyData = { write: phase === 'write', time, depth, seed: random.below(2 ** 31) }
      const results = await onQueues<Latencies>(ns, new URL('./support/lat-queue.js', import.meta.url), {
        qids,
        memory: depth * bytes,
        data,
        signal,
      })
      print(`\n${phase}, microseconds:`)
      print(tableOf(results))
    }
  },
})

function pageBytes(ns: Namespace): number {
  return ns.nbpp * ns.blocksize
}

function tableOf(results: readonly Latencies[]): string {
  const us = (ms: number) => (ms * 1000).toFixed(2)
  const column = (title: string, pick: (row: Latencies) => string) => ({
    title,
    right: true,
    text: ([, row]: readonly [string, Latencies]) => pick(row),
  })
  const columns = [
    { title: 'queue', text: ([name]: readonly [string, Latencies]) => name },
    column('operations', ({ count }) => String(count)),
    column('submission min', ({ submission }) => us(submission.min)),
    column('avg', ({ submission, count }) => us(submission.sum / count)),
    column('max', ({ submission }) => us(submission.max)),
    column('completion min', ({ completion }) => us(completion.min)),
    column('avg', ({ completion, count }) => us(completion.sum / count)),
    column('max', ({ completion }) => us(completion.max)),
  ]
  const rows = results.map((row, i) => [String(i), row] as const)
  return table(columns, [...rows, ['all', together(results)] as const])
}

function together(results: readonly Latencies[]): Latencies {
  const merge = (which: 'submission' | 'completion') => ({
    min: Math.min(...results.map((row) => row[which].min)),
    max: Math.max(...results.map((row) => row[which].max)),
    sum: results.reduce((sum, row) => sum + row[which].sum, 0),
  })
  return {
    count: results.reduce((sum, { count }) => sum + count, 0),
    submission: merge('submission'),
    completion: merge('completion'),
  }
}
