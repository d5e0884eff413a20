// What two threads say to each other about shared queues, the words that they share, and errors on their way.
// Messages for everything, since nothing of it is for every command; the words are for a thread that
// polls without letting its event loop run, and for an alloc that has to wait for its memory.

import { inspect } from 'node:util'
import type { MessagePort } from 'node:worker_threads'
import * as errors from '../../lib/errors.ts'
import type { DmaArena } from '../../lib/memory/mapping.ts'
import type { SharedBuffer } from '../../lib/memory/pool.ts'
import type { QueueShareFacts } from '../../lib/nvme/host/queue.ts'
import type { TransportShare } from '../../lib/nvme/host/transport.ts'
import type { IdentifyController } from '../../lib/nvme/spec/identify.ts'
import type { Capabilities } from '../../lib/nvme/spec/registers.ts'
import type { Geometry } from '../queue/geometry.ts'

/** An error as plain data. */
export interface PackedError {
  readonly name: string
  readonly message: string
  readonly stack: string | undefined
  readonly cause: PackedError | string | undefined
  readonly fields: Readonly<Record<string, unknown>>
}

const MAX_DEPTH = 8

/** Takes anything that was thrown. */
export function packError(thrown: unknown, depth = 0): PackedError {
  if (!(thrown instanceof Error)) {
    return { name: 'Error', message: describe(thrown), stack: undefined, cause: undefined, fields: {} }
  }
  const { name, message, stack, cause } = thrown
  const fields = Object.fromEntries(Object.entries(thrown).filter(([key, value]) => isField(key, value)))
  return { name, message, stack, cause: packCause(cause, depth), fields }
}

function packCause(cause: unknown, depth: number): PackedError | string | undefined {
  if (cause === undefined || depth === MAX_DEPTH) return undefined
  return cause instanceof Error ? packError(cause, depth + 1) : describe(cause)
}

// What was thrown may be anything: an object without a prototype, or with a toString that is no function.
function describe(thrown: unknown): string {
  return typeof thrown === 'string' ? thrown : inspect(thrown, { depth: 1, breakLength: Infinity })
}

function isField(key: string, value: unknown): boolean {
  return key !== 'name' && ['string', 'number', 'boolean'].includes(typeof value)
}

/** The error, of its own class where that is one of this package's. */
export function unpackError({ name, message, stack, cause, fields }: PackedError): Error {
  const inner = typeof cause === 'object' ? unpackError(cause) : cause
  const error = new Error(message, inner === undefined ? undefined : { cause: inner })
  const known = (errors as unknown as Record<string, { prototype: object } | undefined>)[name]
  if (known !== undefined) Object.setPrototypeOf(error, known.prototype)
  if (stack !== undefined) error.stack = stack
  error.name = name
  return Object.assign(error, fields)
}

/** Indices of the shared words. */
export const WORD = {
  /** One of SHARE. */
  STATE: 0,
  /** Counts answers to requests that the worker waits for without its event loop. */
  ANSWERS: 1,
} as const
export const WORD_COUNT = 2

export const SHARE = {
  OFFERED: 0,
  ATTACHED: 1,
  /** There is a message that the worker must act upon, though it only polls. */
  URGENT: 2,
  /** The queues are the owner's again. */
  ENDED: 3,
} as const

/** Shared queues on their way to another thread: post it, with `port` in the transfer list, and `attach` it there. */
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

/** What the worker needs to know of the device. */
interface DeviceShare {
  readonly address: string
  readonly transport: TransportShare
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
  readonly pairs: QueueShareFacts[]
  readonly arenas: DmaArena[]
  readonly buffers: SharedBuffer[]
}

/** From the worker to the owner. */
export type WorkerMessage =
  /** With a port that tells of the thread's end, where the owner has none of it: see thread-end.ts. */
  | { readonly kind: 'attached'; readonly alive: MessagePort | null; readonly thread: number }
  | { readonly kind: 'admin'; readonly id: number; readonly command: PostedCommand }
  | { readonly kind: 'map'; readonly bytes: number }
  /** The controller looks dead from here. */
  | { readonly kind: 'look' }
  | { readonly kind: 'return' }
  /** A command had no answer; one of those has ended; queues post nothing any more. */
  | { readonly kind: 'expired'; readonly qid: number; readonly id: number; readonly error: PackedError }
  | { readonly kind: 'ended'; readonly qid: number; readonly id: number }
  | { readonly kind: 'suspended' }
  /** Nothing of permits before this one is used any more. */
  | { readonly kind: 'taken'; readonly permit: number }
  /** Queues could not be made with it, or one that was is lost. */
  | { readonly kind: 'lost'; readonly permit: number; readonly error: PackedError }

/** From the owner to the worker. */
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
  /** The controller is about to be reset; it is back, or the queues can be made. */
  | { readonly kind: 'suspend'; readonly error: PackedError }
  | { readonly kind: 'resume'; readonly permit: Permit | undefined }
  | { readonly kind: 'returned'; readonly error: PackedError | undefined }

/** Where the worker makes its queues itself: what with. The first one comes once it has attached. */
export interface Permit {
  /** From 1 on. */
  readonly id: number
  readonly data: unknown
}

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
