// Queues in worker threads: loaded when it is called.

import type { Namespace } from '../namespace/namespace.ts'
import type { QueueTicket } from './protocol.ts'
import type { SpreadOptions } from './spread.ts'

export type { LendOptions } from './lend.ts'
export type { Loan } from './loan.ts'
export type { QueueTicket } from './protocol.ts'
export type { SpreadOptions } from './spread.ts'
export { type TaskContext, task } from './task.ts'

/**
 * The namespace of a loan, with the lent queues as its queues, numbered from 0. All calls are there; admin
 * commands go through the thread that opened the device, and `reset` is refused. `close`, or the end of this
 * thread, gives the queues back.
 *
 * @param ticket from `Namespace.lend`, with its `port` transferred to this thread
 * @throws QueueOwnerError where it has been attached already, or this is the thread that lent it; ClosedError
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
