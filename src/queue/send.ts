// Operations as promises: sent when there is room, polled by the scheduler.
// Trade-off: one function for all promises and none for each, since a closure costs more than a command's posting.

import { AbortError } from '../../lib/errors.ts'
import type { DmaTag } from '../../lib/memory/tag.ts'
import { onAbort } from '../../lib/sys/abort.ts'
import { rejectPaced } from '../../lib/sys/event-loop.ts'
import type { Geometry } from './geometry.ts'
import type { IoQueue } from './io-queue.ts'
import { KIND, type Operation } from './operation.ts'

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const { TRANSFER } = KIND

export interface SendOptions {
  readonly signal?: AbortSignal | undefined
  /** false: sent once only. */
  readonly retry?: boolean | undefined
}

/** Sends a transfer of checked arguments: resolves with its buffer. */
export function sendTransfer<B extends Uint8Array>(
  queue: IoQueue,
  geometry: Geometry,
  opc: number,
  buf: B,
  tag: DmaTag,
  slba: number,
  nlb: number,
  options: SendOptions | undefined,
): Promise<B> {
  const signal = options?.signal
  if (signal?.aborted) return rejectPaced(new AbortError(signal.reason))
  const op = queue.operations.take()
  if (options?.retry === false) op.once = true
  const promise = promiseOf<B>(op, signal)
  queue.requestTransfer(op, geometry, opc, buf as Uint8Array as Buffer, tag, slba, nlb)
  return promise
}

/** Sends an operation: resolves with dword 0 of its last completion. */
export function send(queue: IoQueue, op: Operation, options: SendOptions | undefined): Promise<number> {
  const signal = options?.signal
  if (signal?.aborted) {
    queue.operations.give(op)
    return rejectPaced(new AbortError(signal.reason))
  }
  if (options?.retry === false) op.once = true
  const promise = promiseOf<number>(op, signal)
  queue.request(op)
  return promise
}

// One function for all promises: a closure for each would be made, and its code looked up, with every call.
let nextResolve: (value: never) => void
const executor = (resolve: (value: never) => void) => {
  nextResolve = resolve
}

/** What settles when the operation is done: with its buffer, or dword 0 where it is no transfer. */
function promiseOf<T>(op: Operation, signal: AbortSignal | undefined): Promise<T> {
  const promise = new Promise<T>(executor as never)
  op.resolve = nextResolve
  op.onDone = settle
  if (signal !== undefined) watch(op, signal, nextResolve)
  return promise
}

function watch(op: Operation, signal: AbortSignal, resolve: (value: never) => void): void {
  op.context = onAbort(signal, () => {
    const error = new AbortError(signal.reason)
    op.onDone = settleUnheard
    resolve(rejection(error))
    op.queue.cancel(op, error)
  })
}

function settle(op: Operation): void {
  const { resolve, context } = op
  const error = op.field === 0 && op.cause === null ? null : op.takeError()
  const value = op.kind === TRANSFER ? op.buf : op.result
  op.onDone = null
  op.resolve = null
  op.once = false
  op.queue.operations.give(op)
  if (context !== null) {
    op.context = null
    ;(context as () => void)()
  }
  resolve!(error === null ? (value as never) : rejection(error))
}

// The promise has been rejected: an error that comes now has no listener, and must not be an unhandled rejection.
function settleUnheard(op: Operation): void {
  op.takeError()
  settle(op)
}

// Of the two functions of a promise one is kept: the way to an error may be longer.
function rejection(error: Error): never {
  return rejectPaced(error) as never
}
