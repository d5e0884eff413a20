// The same work on several queues at once: a thread for each, where the device's queues can be shared with threads.
// Where they can't (a vfio-user device whose doorbells are messages), the work takes turns in this
// thread, and says so: the program runs everywhere, but only threads show what threads do to one another.

import { type Namespace, type SpreadOptions, spread, UnsupportedError } from 'unvme'
import { print } from './program.ts'

/** What a module of work exports as `work`. */
export type Work = (context: WorkContext) => Promise<unknown>

export interface WorkContext {
  readonly ns: Namespace
  /** The queue as `ns` counts it, and as the program does. */
  readonly qid: number
  readonly queue: number
  /** This queue's own part of the namespace. */
  readonly slba: number
  readonly nlb: number
  readonly index: number
  readonly data: unknown
  readonly signal: AbortSignal
}

/** What the thread of a queue is started with: see thread.ts. */
export interface ThreadData {
  readonly module: string
  readonly qids: readonly number[]
  readonly data: unknown
}

interface QueuesOptions extends Pick<SpreadOptions, 'slba' | 'nlb' | 'memory' | 'data'> {
  readonly qids: readonly number[]
  readonly signal: AbortSignal
}

let said = false

/** Runs a module's `work` on each of the queues, and returns the results in their order. */
export async function onQueues<T>(ns: Namespace, module: URL, options: QueuesOptions): Promise<T[]> {
  const { qids, data, ...rest } = options
  const start: ThreadData = { module: module.href, qids, data }
  const file = new URL('./thread.js', import.meta.url)
  try {
    return await spread<T>(ns, file, { ...rest, qids, jobs: qids.length, data: start })
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error
    if (!said) print(`the queues take turns in this thread: ${error.message}`)
    said = true
    return inThisThread<T>(ns, module, options)
  }
}

async function inThisThread<T>(ns: Namespace, module: URL, options: QueuesOptions): Promise<T[]> {
  const { slba = 0, nlb = ns.blockcount - slba, data, signal } = options
  const { work }: { work: Work } = await import(module.href)
  const qids = options.qids.slice(0, nlb)
  const share = Math.floor(nlb / qids.length)
  const parts = qids.map((qid, index) =>
    work({ ns, qid, queue: qid, slba: slba + index * share, nlb: share, index, data, signal }),
  )
  // All have ended before an error goes on: the namespace is closed then.
  await Promise.allSettled(parts)
  return (await Promise.all(parts)) as T[]
}
