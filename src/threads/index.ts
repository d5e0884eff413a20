// Queues in worker threads, loaded when they are asked for, and what a worker of `spread` runs.
// One task for a thread, which ends with it: starting a thread takes longer than anything that could be saved
// by keeping it.

import { parentPort, workerData } from 'node:worker_threads'
import { UnsupportedError } from '../../lib/errors.ts'
import { throwIfAborted } from '../../lib/sys/abort.ts'
import type { Namespace } from '../namespace/namespace.ts'
import type { QueueTicket } from '../shares/protocol.ts'
import { packError, unpackError } from '../shares/protocol.ts'
import type { SpreadOptions, TaskControl, TaskMessage, TaskStart } from './spread.ts'

export type { QueueTicket } from '../shares/protocol.ts'
export type { QueueShare, ShareOptions } from '../shares/share.ts'
export type { SpreadOptions } from './spread.ts'

/**
 * The namespace of a ticket, with the shared queues as its queues, numbered from 0. All calls are there; admin
 * commands go through the thread that opened the device, and `reset` is refused. `close`, or the end of this
 * thread, gives the queues back.
 *
 * @param ticket from `Namespace.share`, with its `port` transferred to this thread
 * @throws QueueOwnerError where it has been attached already, or this is the thread that shares it; ClosedError
 * where it was recalled; ArgumentTypeError
 */
export async function attach(ticket: QueueTicket): Promise<Namespace> {
  const module = await import('./attach.ts')
  return module.attach(ticket)
}

/**
 * Runs the file's `task` on worker threads, one for each part of the range, and returns their results in the
 * parts' order. With fewer blocks than threads, there are fewer threads.
 *
 * @param ns opened with as many queues as jobs; a `sim:` address with `{ threads: true }`
 * @param file a module that calls `task`
 * @throws OutOfRangeError, QueueOwnerError and UnsupportedError before anything has begun; what the first thread
 * failed with; AbortError. In any case all threads have ended, and the queues are back.
 */
export async function spread<T = unknown>(
  ns: Namespace,
  file: URL,
  options: SpreadOptions = {},
): Promise<T[]> {
  const module = await import('./spread.ts')
  return module.spread<T>(ns, file, options)
}

/** What a task gets. */
export interface TaskContext {
  /** The namespace, with the one queue of this thread. */
  readonly ns: Namespace
  /** This thread's part of the range. */
  readonly slba: number
  readonly nlb: number
  /** Which of the parts it is, from 0, and how many there are. */
  readonly index: number
  readonly jobs: number
  /** As given to `spread`. */
  readonly data: unknown
  /** Aborted when another part has failed, or `spread` was aborted. */
  readonly signal: AbortSignal
  /** Calls `onMessage` of `spread` with a structured clone. */
  send(message: unknown): void
}

/**
 * Runs `run` for the part of the range that this thread was started for, and closes the namespace after it.
 * Call it once, at the top level of the file that was given to `spread`. What `run` returns, or throws, is
 * posted back.
 */
export async function task(run: (context: TaskContext) => unknown): Promise<void> {
  const start = workerData as TaskStart | null
  const port = parentPort
  if (port === null || start?.kind !== 'unvme.task') {
    throw new UnsupportedError('task: this is no thread that spread has started')
  }
  const post = (message: TaskMessage) => port.postMessage(message)
  const controller = new AbortController()
  port.on('message', ({ reason }: TaskControl) => controller.abort(unpackError(reason)))
  // Waiting for an abort does not keep the thread alive.
  port.unref()
  const { ticket, slba, nlb, index, jobs, data } = start
  try {
    const { attach } = await import('./attach.ts')
    const ns = await attach(ticket)
    const { signal } = controller
    const send = (message: unknown) => post({ kind: 'message', message })
    const result = await run({ ns, slba, nlb, index, jobs, data, signal, send })
    await ns.close()
    throwIfAborted(signal)
    post({ kind: 'result', result })
  } catch (error) {
    post({ kind: 'error', error: packError(error) })
  }
}
