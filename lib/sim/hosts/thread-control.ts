// What the two threads of a worker-hosted controller share beside BAR 0, and the messages between them.
// Messages for all that is rare (mappings, controls), with a count in shared memory, so that the
// worker looks for them without an event loop, and the host can wait until one was acted upon.

import type { MessagePort } from 'node:worker_threads'
import type { SimConfig } from '../address.ts'
import type { RangeDescriptor } from '../dma/dma-host.ts'
import type { Resources } from '../function.ts'
import type { ControlMessage } from '../model/controls.ts'

/** Words of the control block, which is a shared Int32Array. */
export const CONTROL = {
  /** 1 while the worker sleeps, or is about to. */
  SLEEPING: 0,
  /** Messages sent by the host, and those that the worker has acted upon. */
  SENT: 1,
  DONE: 2,
  /** Set by the host: end. */
  STOP: 3,
  /** Set by the worker: nothing will be answered any more. */
  DEAD: 4,
  /** Target of a locked access that is only there for its order. */
  FENCE: 5,
  /** How often the worker has gone to sleep. */
  SLEEPS: 6,
  /** Two for each vector: armed by the host; and an interrupt is on its way. */
  VECTORS: 7,
} as const

export function controlBytes(vectors: number): number {
  return (CONTROL.VECTORS + 2 * vectors) * 4
}

/** Index of a vector's armed flag; its fired flag is the next. */
export function armedAt(vector: number): number {
  return CONTROL.VECTORS + 2 * vector
}

export interface WorkerStart {
  /** Of this controller alone: the thread serves another one after it. */
  readonly port: MessagePort
  readonly config: SimConfig
  readonly resources: Resources
  readonly bar: SharedArrayBuffer
  readonly control: SharedArrayBuffer
}

export type HostMessage =
  | { readonly kind: 'map'; readonly range: RangeDescriptor }
  | { readonly kind: 'unmap'; readonly iova: number }
  | { readonly kind: 'quiesce' }
  | ControlMessage

export type WorkerMessage =
  | { readonly kind: 'ready' }
  | { readonly kind: 'ended' }
  | { readonly kind: 'interrupt'; readonly vector: number }
  | { readonly kind: 'gone'; readonly notify: boolean }
