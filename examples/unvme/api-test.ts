// The test of the asynchronous calls: many buffers of random lengths are allocated, all written by awrite, polled
// in reverse, all read by aread, polled, compared and freed.
//
//   node dist/examples/unvme/api-test.js ADDR [--ratio N] [--verbose]
//
// More operations than a queue has space for, most longer than one command, so that the paths for a full
// queue and for splitting are used; their lengths are drawn so that all of them fit on the device together.

import { setImmediate } from 'node:timers/promises'
import { type IoDescriptor, type Namespace, QueueFullError } from 'unvme'
import { expectBlocks, fillWith } from './support/compare.ts'
import { drawLengths } from './support/lengths.ts'
import { flag, integer, print, program, size, valueOr } from './support/program.ts'

interface Transfer {
  buf: Buffer
  slba: number
  nlb: number
  seed: number
}

interface Limits {
  readonly ratio: number
  readonly memory: number
}

/** How many operations, the longest of them, and all together, in blocks. */
function shapeOf(ns: Namespace, { ratio, memory }: Limits) {
  const total = Math.min(ns.blockcount, Math.floor(memory / ns.blocksize))
  const count = Math.min(ratio * ns.maxiopq, total)
  return { count, longest: Math.min(ratio * ns.maxbpio, total - count + 1), total }
}

/**
 * Starts an operation on each. Where the queue is full, those that were sent are polled until there is space:
 * aread and awrite never wait themselves.
 * @returns the descriptors, null for those that were found done meanwhile: each is reported once
 */
function startAll(
  ns: Namespace,
  transfers: readonly Transfer[],
  start: (transfer: Transfer) => IoDescriptor,
): (IoDescriptor | null)[] {
  const iods: (IoDescriptor | null)[] = []
  let oldest = 0
  for (const transfer of transfers) {
    for (;;) {
      try {
        iods.push(start(transfer))
        break
      } catch (error) {
        if (!(error instanceof QueueFullError)) throw error
        if (ns.apoll(iods[oldest]!)) iods[oldest++] = null
      }
    }
  }
  return iods
}

/** Polls the last one first: what completes meanwhile is kept for its own descriptor. */
function finishInReverse(ns: Namespace, iods: readonly (IoDescriptor | null)[]): void {
  for (const iod of iods.toReversed()) {
    while (iod !== null && !ns.apoll(iod));
  }
}

/** Everything on one queue: all are written, then all are read, then all are compared. */
function testQueue(ns: Namespace, qid: number, transfers: readonly Transfer[]): void {
  for (const { buf, seed } of transfers) fillWith(buf, seed)
  finishInReverse(
    ns,
    startAll(ns, transfers, ({ buf, slba, nlb }) => ns.awrite(qid, buf, slba, nlb)),
  )
  for (const { buf } of transfers) buf.fill(0)
  finishInReverse(
    ns,
    startAll(ns, transfers, ({ buf, slba, nlb }) => ns.aread(qid, buf, slba, nlb)),
  )
  for (const { buf, slba, seed } of transfers) {
    expectBlocks(ns, buf, fillWith(Buffer.alloc(buf.length), seed), slba, qid)
    ns.free(buf)
  }
}

await program({
  name: 'api-test',
  summary: 'Many asynchronous writes and reads of random lengths, polled in reverse',
  details: `RATIO times as many operations as a queue holds, of up to RATIO times the blocks of one command, on each \
queue in turn. Long ones are rarer where the device or --memory has no space for all of them.`,
  options: {
    ratio: valueOr('RATIO', integer({ min: 1, max: 64 }), 4, 'operations for each entry of the queue', 'r'),
    verbose: flag('print every operation', 'v'),
    memory: valueOr('SIZE', size({ min: 65536, max: 2 ** 34 }), 256 * 2 ** 20, 'most memory of all buffers', {
      fallbackText: '256M',
    }),
    qcount: valueOr('N', integer({ min: 1, max: 65535 }), 1, 'queues', 'q'),
    qsize: valueOr('N', integer({ max: 65536 }), 0, 'entries of a queue; 0: 256', 'z'),
  },
  examples: [
    ['sim:', '1020 operations on a queue of 256'],
    ["'sim:?size=16M' -r 2 -z 16 -v", 'thirty, each of them printed'],
  ],
  open: ({ qcount, qsize }) => ({ qcount, qsize }),
  overwrites: (options, ns) => shapeOf(ns, options).total * ns.blocksize,
  async run({ ns, options, random, signal }) {
    const { count, longest, total } = shapeOf(ns, options)
    for (let qid = 0; qid < ns.qcount; qid++) {
      // A chance for Ctrl-C: the calls themselves never wait for the event loop.
      await setImmediate()
      signal.throwIfAborted()
      let next = 0
      const transfers = drawLengths(random, { count, longest, total }).map((nlb): Transfer => {
        const transfer = { buf: ns.alloc(nlb * ns.blocksize), slba: next, nlb, seed: random.word() }
        next += nlb
        return transfer
      })
      print(`queue ${qid}: ${count} operations of up to ${longest} blocks, ${next} in all`)
      if (options.verbose) for (const { slba, nlb } of transfers) print(`  LBA ${slba}, ${nlb} blocks`)
      testQueue(ns, qid, transfers)
    }
  },
})
