// What two threads say to each other about lent queues, and the words that they share.
// Trade-off: messages for everything, since nothing of it is for every command; the words are for a thread that
// polls without letting its event loop run, and for an alloc that has to wait for its memory.

import type { MessagePort } from 'node:worker_threads'
import type { DmaArena } from '../../lib/memory/mapping.ts'
import type { SharedBuffer } from '../../lib/memory/pool.ts'
import type { QueuePairShare } from '../../lib/nvme/pcie/queue-pair-share.ts'
import type { IdentifyController } from '../../lib/nvme/spec/identify.ts'
import type { Capabilities } from '../../lib/nvme/spec/registers.ts'
import type { FunctionShare } from '../../lib/pci/share.ts'
import type { Geometry } from '../queue/geometry.ts'
import type { PackedError } from './errors.ts'
import type { ThreadFacts } from './thread-views.ts'

/** Indices of the shared words. */
export const WORD = {
  /** One of LOAN. */
  STATE: 0,
  /** Counts answers to requests that the borrower waits for without its event loop. */
  ANSWERS: 1,
} as const
export const WORD_COUNT = 2

export const LOAN = {
  OFFERED: 0,
  ATTACHED: 1,
  /** There is a message that the borrower must act upon, though it only polls. */
  URGENT: 2,
  /** The queues are the owner's again. */
  ENDED: 3,
} as const

/** Lent queues on their way to another thread: post it, with `port` in the transfer list, and `attach` it there. */
export interface QueueTicket {
  /** What it is, for who gets messages of several kinds. */
  readonly kind: 'unvme.queues'
  /** To be transferred with it. */
  readonly port: MessagePort
  /** @internal The owner's thread. */
  readonly owner: number
  /** @internal */
  readonly words: Int32Array
  /** @internal */
  readonly device: DeviceShare
}

/** What the borrower needs to know of the device. */
export interface DeviceShare {
  readonly address: string
  readonly fn: FunctionShare
  readonly cap: Capabilities
  readonly version: string
  readonly identity: IdentifyController
  readonly maxTransferBytes: number
  readonly timeout: number
  readonly retries: number
  readonly geometry: Geometry
  readonly namespaces: number[]
  readonly qsize: number
  readonly maxqcount: number
  readonly pairs: QueuePairShare[]
  readonly arenas: DmaArena[]
  readonly buffers: SharedBuffer[]
}

/** From the borrower to the owner. */
export type BorrowerMessage =
  | { readonly kind: 'attached'; readonly facts: ThreadFacts | null; readonly thread: number }
  | { readonly kind: 'admin'; readonly id: number; readonly command: PostedCommand }
  | { readonly kind: 'map'; readonly bytes: number }
  /** The controller looks dead from here. */
  | { readonly kind: 'look' }
  | { readonly kind: 'return' }
  /** A command had no answer; one of those has ended; queues post nothing any more. */
  | { readonly kind: 'expired'; readonly qid: number; readonly id: number; readonly error: PackedError }
  | { readonly kind: 'ended'; readonly qid: number; readonly id: number }
  | { readonly kind: 'suspended' }

/** From the owner to the borrower. */
export type OwnerMessage =
  | {
      readonly kind: 'answer'
      readonly id: number
      readonly result: number
      readonly data: Uint8Array | undefined
    }
  | { readonly kind: 'refusal'; readonly id: number; readonly error: PackedError }
  | { readonly kind: 'mapped'; readonly arena: DmaArena }
  | { readonly kind: 'notMapped'; readonly error: PackedError }
  | { readonly kind: 'failed'; readonly error: PackedError }
  | { readonly kind: 'recall' }
  /** An expired command is given up. */
  | { readonly kind: 'giveUp'; readonly qid: number; readonly id: number }
  /** The controller is about to be reset; it is back. */
  | { readonly kind: 'suspend'; readonly error: PackedError }
  | { readonly kind: 'resume' }
  | { readonly kind: 'returned'; readonly error: PackedError | undefined }

/** An admin command with a copy of its data. */
export interface PostedCommand {
  readonly opcode: number
  readonly nsid?: number | undefined
  readonly data?: Uint8Array | undefined
  readonly cdw10?: number | undefined
  readonly cdw11?: number | undefined
  readonly cdw12?: number | undefined
  readonly cdw13?: number | undefined
  readonly cdw14?: number | undefined
  readonly cdw15?: number | undefined
}
