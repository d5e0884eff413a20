// The thread of one queue: runs the `work` of the module that it is given, on the queue that is shared with it.
// One file for all programs, since what they do in a thread is a function that also runs without one.

import { task } from 'unvme'
import type { ThreadData, Work } from './queues.ts'

await task(async ({ ns, slba, nlb, index, data, signal }) => {
  const { module, qids, data: own } = data as ThreadData
  const { work }: { work: Work } = await import(module)
  return work({ ns, qid: 0, queue: qids[index]!, slba, nlb, index, data: own, signal })
})
