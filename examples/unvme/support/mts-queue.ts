// One queue of mts-test: writes its part of the namespace, then reads and compares it.
// Trade-off: promises, which let the other queues run where several share a thread, and cost a little of each.

import { VerifyError } from 'unvme'
import { expectBlocks, fillWith } from './compare.ts'
import type { WorkContext } from './queues.ts'
import { Random } from './random.ts'

export interface SessionData {
  readonly maxnlb: number
  readonly count: number
  readonly seed: number
}

/** Called for each queue by onQueues. Returns the number of blocks that were compared. */
export async function work(context: WorkContext): Promise<number> {
  const { ns, qid, queue, slba, nlb, data, signal } = context
  const { maxnlb, count, seed } = data as SessionData
  const random = new Random(seed + queue)
  const buf = ns.alloc(Math.min(maxnlb, nlb) * ns.blocksize)
  const expected = Buffer.alloc(buf.length)
  const operations: { at: number; n: number; seed: number }[] = []
  let used = 0
  while (operations.length < count && used < nlb) {
    const n = 1 + random.below(Math.min(maxnlb, nlb - used))
    operations.push({ at: slba + used, n, seed: random.word() })
    used += n
  }

  for (const { at, n, seed } of operations) {
    signal.throwIfAborted()
    await ns.promises.write(fillWith(buf.subarray(0, n * ns.blocksize), seed), at, n, { qid })
  }
  for (const { at, n, seed } of operations) {
    signal.throwIfAborted()
    const part = buf.subarray(0, n * ns.blocksize)
    await ns.promises.read(part.fill(0), at, n, { qid })
    expectBlocks(ns, part, fillWith(expected.subarray(0, part.length), seed), at, queue)
  }
  if (used === 0) throw new VerifyError(`queue ${queue}: its part of the namespace holds no block`)
  ns.free(buf)
  return used
}
