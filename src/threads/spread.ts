// Work on a range of LBAs by several threads, each with a queue and a part of the range of its own.
// All threads or none: the first that fails ends the others, and its error is the result.

import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { OutOfRangeError, ProtocolError } from '../../lib/errors.ts'
import { onAbort, throwIfAborted } from '../../lib/sys/abort.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import type { Namespace } from '../namespace/namespace.ts'
import { checkInteger, checkOptions, checkRange, checkSignal } from '../queue/validate.ts'
import type { PackedError, QueueTicket } from '../shares/protocol.ts'
import { packError, unpackError } from '../shares/protocol.ts'
import type { QueueShare } from '../shares/share.ts'

export interface SpreadOptions {
  /** Threads, each with one of the queues; default: as many as there are queues. */
  jobs?: number | undefined
  /** The queues, one for each thread in their order; default: 0, 1, … */
  qids?: readonly number[] | undefined
  /** First LBA and number of blocks of the range: default all of the namespace. */
  slba?: number | undefined
  nlb?: number | undefined
  /** Blocks: parts begin at multiples of this from the range's start. Default 1. */
  align?: number | undefined
  /** Anything that can be posted to a thread: each gets it as `data`. */
  data?: unknown
  /** Bytes of DMA memory for each thread: see `share`. */
  memory?: number | undefined
  /** Called with what a thread sends, and which of the parts it has. */
  onMessage?: ((message: unknown, index: number) => void) | undefined
  /** Ends all threads with AbortError. */
  signal?: AbortSignal | undefined
  /** @internal Called when nothing is refused any more, before the first thread begins. */
  prepare?: (() => Promise<void>) | undefined
}

const SPREAD_NAMES: OptionNames<SpreadOptions> = {
  jobs: true,
  qids: true,
  slba: true,
  nlb: true,
  align: true,
  data: true,
  memory: true,
  onMessage: true,
  signal: true,
  prepare: true,
}

/** @internal What a thread starts with. */
export interface TaskStart {
  readonly kind: 'unvme.task'
  readonly ticket: QueueTicket
  readonly slba: number
  readonly nlb: number
  readonly index: number
  readonly jobs: number
  readonly data: unknown
}

/** @internal */
export type TaskMessage =
  | { readonly kind: 'message'; readonly message: unknown }
  | { readonly kind: 'result'; readonly result: unknown }
  | { readonly kind: 'error'; readonly error: PackedError }

/** @internal */
export type TaskControl = { readonly kind: 'abort'; readonly reason: PackedError }

/** See index.ts. */
export async function spread<T = unknown>(
  ns: Namespace,
  file: URL,
  options: SpreadOptions = {},
): Promise<T[]> {
  checkOptions('spread', options, SPREAD_NAMES)
  const { qids = Array.from({ length: ns.qcount }, (_, qid) => qid), slba = 0, align = 1, signal } = options
  const { jobs = qids.length } = options
  const { nlb = ns.blockcount - slba } = options
  checkInteger('spread: jobs', jobs, 1)
  checkInteger('spread: align', align, 1)
  checkRange('spread', slba, nlb, ns.geometry)
  if (jobs > qids.length) {
    const given =
      options.qids === undefined ? `${ns.device} is open with ${ns.qcount}` : `qids has ${qids.length}`
    throw new OutOfRangeError(
      `spread: ${jobs} jobs need a queue each, ${given}; open it with { qcount: ${jobs} }`,
    )
  }
  checkSignal('spread', signal)
  throwIfAborted(signal)
  const parts = partsOf({ slba, nlb }, jobs, align)
  const shares: QueueShare[] = []
  try {
    for (const i of parts.keys()) shares.push(ns.share(qids[i]!, memoryOf(options)))
    await options.prepare?.()
    const threads = parts.map((part, index) =>
      startThread(file, shares[index]!, part, index, parts.length, options),
    )
    return await settle<T>(threads, signal)
  } finally {
    await Promise.all(shares.map((share) => share.recall()))
  }
}

const memoryOf = ({ memory }: SpreadOptions) => (memory === undefined ? {} : { memory })

interface Thread {
  readonly result: Promise<unknown>
  readonly ended: Promise<unknown>
  abort(reason: unknown): void
}

function startThread(
  file: URL,
  { ticket }: QueueShare,
  { slba, nlb }: Part,
  index: number,
  jobs: number,
  { data, onMessage }: SpreadOptions,
): Thread {
  const start: TaskStart = { kind: 'unvme.task', ticket, slba, nlb, index, jobs, data }
  const worker = new Worker(file, { workerData: start, transferList: [ticket.port] })
  const ended = once(worker, 'exit').catch(() => {})
  const result = new Promise((resolve, reject) => {
    worker.on('message', (message: TaskMessage) => {
      if (message.kind === 'message') onMessage?.(message.message, index)
      else if (message.kind === 'result') resolve(message.result)
      else reject(unpackError(message.error))
    })
    worker.on('error', reject)
    worker.on('exit', (code) =>
      reject(new ProtocolError(`the thread of part ${index} ended with code ${code}`)),
    )
  })
  return {
    result,
    ended,
    abort(reason) {
      const control: TaskControl = { kind: 'abort', reason: packError(reason) }
      worker.postMessage(control)
    },
  }
}

/** Waits for all; the first failure aborts the others. */
async function settle<T>(threads: readonly Thread[], signal: AbortSignal | undefined): Promise<T[]> {
  const abortAll = (reason: unknown) => {
    for (const thread of threads) thread.abort(reason)
  }
  const forget = onAbort(signal, () => abortAll(signal!.reason))
  let failure: Error | undefined
  const note = (error: Error) => {
    if (failure === undefined) abortAll(error)
    failure ??= error
  }
  const results = await Promise.all(threads.map(({ result }) => result.catch(note)))
  await Promise.all(threads.map(({ ended }) => ended))
  forget()
  throwIfAborted(signal)
  if (failure !== undefined) throw failure
  return results as T[]
}

export interface Part {
  readonly slba: number
  readonly nlb: number
}

/** Up to `count` parts, in order, none empty: fewer where the range has not as many times `align` blocks. */
export function partsOf({ slba, nlb }: Part, count: number, align = 1): Part[] {
  const units = Math.ceil(nlb / align)
  const parts = Math.min(count, units)
  return Array.from({ length: parts }, (_, i) => {
    const start = Math.floor((units * i) / parts) * align
    const end = Math.min(nlb, Math.floor((units * (i + 1)) / parts) * align)
    return { slba: slba + start, nlb: end - start }
  })
}
