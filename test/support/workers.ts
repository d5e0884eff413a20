// Worker threads that attach to queues: see test/threads/worker.ts for what they can do.

import { Worker } from 'node:worker_threads'
import type { Namespace, QueueShare } from '../../src/index.ts'
import type { Task } from '../threads/worker.ts'
import { pattern } from './pattern.ts'

const FILE = new URL('../threads/worker.js', import.meta.url)

const workers = new Set<Worker>()

/** Starts a worker with the queues of a share; `endWorkers` ends it at the latest. */
export function start({ ticket }: QueueShare, task: Omit<Task, 'ticket'>): Worker {
  const workerData = { slba: 0, nlb: 0, ...task, ticket }
  const worker = new Worker(FILE, { workerData, transferList: [ticket.port] })
  workers.add(worker)
  return worker
}

/** Ends those that have not ended, where a test failed half-way: its process would never end otherwise. */
export async function endWorkers(): Promise<void> {
  for (const worker of workers) await worker.terminate()
  workers.clear()
}

/** Resolves with what a worker has to say next: its result, or a word before it. */
export function hear<T>(worker: Worker): Promise<T> {
  return new Promise((resolve, reject) => {
    worker.once('message', ({ result, word }) => resolve(word ?? result))
    worker.once('error', reject)
  })
}

/** Resolves with its exit code. */
export function ended(worker: Worker): Promise<number> {
  return new Promise((resolve) => worker.once('exit', resolve))
}

/** Writes and reads on a queue of this thread. */
export async function works(ns: Namespace, qid: number): Promise<boolean> {
  const data = pattern(4 * ns.blocksize, qid + 77)
  await ns.promises.write(data, 1, 4, { qid })
  return (await ns.promises.read(Buffer.alloc(data.length), 1, 4, { qid })).equals(data)
}
