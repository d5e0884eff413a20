// The simple test: with each queue in turn, a pattern is written, the memory is zeroed, and the blocks are read
// back and compared. One call moves all of it: the driver splits it into commands.
//
//   node dist/examples/unvme/sim-test.js ADDR [--lba LBA] [--size SIZE]
//
// Trade-off: UNVMe's blocking calls, which hold the event loop for as long as they take: the least code there is.

import { setImmediate } from 'node:timers/promises'
import { type Namespace, OutOfRangeError } from 'unvme'
import { expectBlocks, fillWith } from './support/compare.ts'
import { integer, print, program, size, value, valueOr } from './support/program.ts'

const DEFAULT_SIZE = 100 * 2 ** 20

/** Bytes for each queue: as many as are asked for, or as there are. */
const sizeOf = (ns: Namespace, { lba, size }: { lba: number; size: number | undefined }) =>
  size ?? Math.max(ns.blocksize, Math.min(DEFAULT_SIZE, (ns.blockcount - lba) * ns.blocksize))

await program({
  name: 'sim-test',
  summary: 'Write, read back and compare with each queue in turn',
  details: 'All queues use the same blocks, each with a pattern of its own.',
  options: {
    lba: valueOr('LBA', integer(), 0, 'first block', 'a'),
    size: value(
      'SIZE',
      size({ min: 512, max: 2 ** 31 }),
      'bytes for each queue; default: 100M, or all there are',
      's',
    ),
    qcount: valueOr('N', integer({ max: 65535 }), 0, 'queues, where the device has as many; 0: all', 'q'),
  },
  examples: [
    ['sim:', '100 MiB with each of the 16 queues'],
    ['0a:00.0 -a 2048 -s 16M -q 4', 'a part of a device, four queues'],
  ],
  open: ({ qcount }) => ({ qcount }),
  fewerQueues: () => true,
  overwrites: (options, ns) => sizeOf(ns, options),
  async run({ ns, options, random, signal }) {
    const { lba } = options
    const nlb = Math.ceil(sizeOf(ns, options) / ns.blocksize)
    if (lba + nlb > ns.blockcount) {
      throw new OutOfRangeError(`--lba ${lba} and ${nlb} blocks: ${ns.device} has ${ns.blockcount} blocks`)
    }
    const buf = ns.alloc(nlb * ns.blocksize)
    const expected = Buffer.alloc(buf.length)
    for (let qid = 0; qid < ns.qcount; qid++) {
      fillWith(expected, random.word()).copy(buf)
      ns.write(qid, buf, lba, nlb)
      buf.fill(0)
      ns.read(qid, buf, lba, nlb)
      expectBlocks(ns, buf, expected, lba, qid)
      print(`queue ${qid}: ${nlb} blocks from LBA ${lba} on are as written`)
      await setImmediate()
      signal.throwIfAborted()
    }
    ns.free(buf)
  },
})
