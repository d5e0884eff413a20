// The test of several devices at once: on every queue of every namespace that is named, blocks are written, read
// back and compared, all at the same time.
//
//   node dist/examples/unvme/mcd-test.js ADDR ADDR… [--size SIZE] [--qcount N]
//
// One thread for all of them, by iterators: the driver's scheduler polls all queues that have work.

import { type Namespace, OutOfRangeError } from 'unvme'
import { expectBlocks, fillWith } from './support/compare.ts'
import { integer, print, program, size, valueOr } from './support/program.ts'

const CHUNK_BYTES = 128 * 1024
const MAX_DEVICES = 64

interface Part {
  readonly ns: Namespace
  readonly qid: number
  readonly slba: number
  readonly nlb: number
  readonly seed: number
}

/** A part's content, chunk after chunk, in one buffer. */
function* chunksOf({ ns, nlb, seed }: Part): Generator<Buffer> {
  const buffer = Buffer.alloc(CHUNK_BYTES)
  for (let left = nlb * ns.blocksize, i = 0; left > 0; left -= CHUNK_BYTES, i++) {
    yield fillWith(buffer, seed + i).subarray(0, Math.min(left, CHUNK_BYTES))
  }
}

async function writeAndCompare(part: Part, signal: AbortSignal): Promise<void> {
  const { ns, qid, slba, nlb } = part
  const range = { qid, slba, nlb, chunk: CHUNK_BYTES / ns.blocksize, signal }
  const bytes = await ns.writeBlocks(chunksOf(part), range)
  const expected = chunksOf(part)
  for await (const { slba: at, data } of ns.blocks(range)) {
    expectBlocks(ns, data, expected.next().value!, at, qid)
  }
  print(`${ns.device}, namespace ${ns.id}, queue ${qid}: ${bytes} bytes from LBA ${slba} on are as written`)
}

/** Bytes for each queue, a whole number of blocks. */
const shareOf = (ns: Namespace, bytes: number) =>
  Math.max(1, Math.min(Math.floor(bytes / ns.blocksize), Math.floor(ns.blockcount / ns.qcount)))

function refuseSame(namespaces: readonly Namespace[]): void {
  namespaces.forEach((ns, i) => {
    const same = namespaces
      .slice(0, i)
      .find(({ id, controller }) => id === ns.id && controller === ns.controller)
    if (same !== undefined)
      throw new OutOfRangeError(`${same.device} and ${ns.device} are the same namespace`)
  })
}

await program({
  name: 'mcd-test',
  summary: 'Write, read back and compare on several devices or namespaces at once',
  devices: { min: 2, max: MAX_DEVICES },
  options: {
    size: valueOr('SIZE', size({ min: 512 }), 256 * 2 ** 20, 'most bytes for each queue', {
      short: 's',
      fallbackText: '256M',
    }),
    qcount: valueOr('N', integer({ min: 1, max: 64 }), 4, 'queues of each device, where it has as many', 'q'),
  },
  examples: [
    ['sim: sim:?lba=4096', 'two software controllers'],
    ['0a:00.0/1 0a:00.0/2 0b:00.0', 'two namespaces of a device, and another device'],
  ],
  open: ({ qcount }) => ({ qcount }),
  fewerQueues: () => true,
  overwrites: ({ size }, ns) => ns.qcount * shareOf(ns, size) * ns.blocksize,
  async run({ namespaces, options, random, signal }) {
    refuseSame(namespaces)
    const parts = namespaces.flatMap((ns) => {
      const nlb = shareOf(ns, options.size)
      return Array.from({ length: ns.qcount }, (_, qid): Part => {
        return { ns, qid, slba: qid * nlb, nlb, seed: random.below(2 ** 30) }
      })
    })
    const ends = parts.map((part) => writeAndCompare(part, signal))
    await Promise.allSettled(ends)
    await Promise.all(ends)
  },
})
