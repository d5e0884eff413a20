// The test of sessions and threads: each session opens the namespace and has queues of its own, each queue has a
// thread, and all threads write at once blocks of random lengths, then read and compare them.
//
//   node dist/examples/unvme/mts-test.js ADDR [--sessions N] [--queues N] [--maxnlb N] [--count N]
//
// Every thread has a part of the namespace, so that what one finds changed, another has spoilt.

import type { OpenOptions } from 'unvme'
import type { SessionData } from './support/mts-queue.ts'
import { integer, print, program, valueOr } from './support/program.ts'
import { onQueues } from './support/queues.ts'

await program({
  name: 'mts-test',
  summary: 'Several sessions with several queues each, a thread for each queue',
  details: `Where the device has fewer queues than that, there are fewer sessions, or fewer queues in each. A \
software controller (sim:) has a thread of its own here.`,
  options: {
    sessions: valueOr('N', integer({ min: 1, max: 64 }), 4, 'sessions', 't'),
    queues: valueOr('N', integer({ min: 1, max: 64 }), 4, 'queues of each', 'q'),
    maxnlb: valueOr('N', integer({ min: 1, max: 2 ** 20 }), 1024, 'most blocks of one operation', 'm'),
    count: valueOr('N', integer({ min: 1 }), 100, 'operations of each thread', 'n'),
  },
  examples: [
    ['sim:', 'four sessions with four queues each'],
    ['0a:00.0 -t 2 -q 1 -m 8', 'two sessions with a queue each, short operations'],
  ],
  open: ({ sessions, queues }): OpenOptions => ({ qcount: sessions * queues, threads: true }),
  fewerQueues: () => true,
  overwrites: (_, ns) => ns.blockcount * ns.blocksize,
  async run({ ns, options, random, signal }) {
    const { maxnlb, count } = options
    const sessions = Math.min(options.sessions, ns.qcount)
    const queues = Math.min(options.queues, Math.floor(ns.qcount / sessions))
    const share = Math.floor(ns.blockcount / sessions)
    print(`sessions: ${sessions}, queues of each: ${queues}, ${count} operations of up to ${maxnlb} blocks`)
    const data: SessionData = { maxnlb, count, seed: random.below(2 ** 30) }
    const one = async (session: number) => {
      // A session of its own on the same controller: what it opens it closes.
      await using own = await ns.openNamespace(ns.id)
      const qids = Array.from({ length: queues }, (_, i) => session * queues + i)
      const blocks = await onQueues<number>(own, new URL('./support/mts-queue.js', import.meta.url), {
        ...{ qids, slba: session * share, nlb: share, signal },
        memory: maxnlb * ns.blocksize,
        data,
      })
      print(
        `session ${session}: ${qids.map((qid, i) => `${blocks[i]} blocks of queue ${qid}`).join(', ')} are as written`,
      )
    }
    const ends = Array.from({ length: sessions }, (_, session) => one(session))
    await Promise.allSettled(ends)
    await Promise.all(ends)
  },
})
