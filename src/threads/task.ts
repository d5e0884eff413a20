// What a worker of `spread` runs. Trade-off: one task for a thread, which ends with it: starting a thread takes
// longer than anything that could be saved by keeping it.

import { parentPort, workerData } from 'node:worker_threads'
import { UnsupportedError } from '../../lib/errors.ts'
import { throwIfAborted } from '../../lib/sys/abort.ts'
import type { Namespace } from '../namespace/namespace.ts'
import { type PackedError, packError, unpackError } from './errors.ts'
import type { QueueTicket } from './protocol.ts'

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

/** @internal What a thread starts with. */
export interface TaskStart extends Pick<TaskContext, 'slba' | 'nlb' | 'index' | 'jobs' | 'data'> {
  readonly kind: 'unvme.task'
  readonly ticket: QueueTicket
}

/** @internal */
export type TaskMessage =
  | { readonly kind: 'message'; readonly message: unknown }
  | { readonly kind: 'result'; readonly result: unknown }
  | { readonly kind: 'error'; readonly error: PackedError }

/** @internal */
export type TaskControl = { readonly kind: 'abort'; readonly reason: PackedError }

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
