// A ring of chunks in DMA memory, each with an operation of its own: what every stream and iterator works with.
// Trade-off: one allocation for the whole ring, made when work begins and given back when the last command has
// ended; a slot is reused as soon as its owner lets it go, never by waiting for the garbage collector.

import { AbortError } from '../../lib/errors.ts'
import type { DmaTag } from '../../lib/memory/tag.ts'
import { onAbort } from '../../lib/sys/abort.ts'
import type { BlockIo } from '../queue/block-io.ts'
import type { IoQueue } from '../queue/io-queue.ts'
import { Operation, STATE } from '../queue/operation.ts'
import { tuning } from '../queue/tuning.ts'
import type { Range } from './range.ts'

/** One chunk. */
export interface Slot {
  /** The whole slot, a chunk long. */
  readonly buffer: Buffer
  readonly tag: DmaTag
  readonly op: Operation
  readonly window: Window
  slba: number
  nlb: number
  inFlight: boolean
  /** Of a stream that writes: bytes of it before this chunk. */
  before: number
}

export interface WindowOptions {
  /** Its slots are shown to callers, who must not see the next window's data in them. */
  lends?: boolean
  /** Slots beyond those in flight, as a part of them. */
  spare?: number
}

/**
 * What to wait for before a window begins, so that the event loop is not blocked: null where its memory is there, in
 * the same turn. After the promise it is to be asked again: others may have been quicker.
 * Rejects with AbortError, and as `alloc` throws.
 */
export function memoryFor(
  io: BlockIo,
  range: Range,
  { lends = false, spare = 0 }: WindowOptions,
  signal?: AbortSignal,
): Promise<void> | null {
  const { length, bytes } = sizeOf(io, range, spare)
  const waiting = lends ? io.pool.ready([bytes * length]) : io.pool.readyToReuse(bytes * length)
  if (waiting === null || signal === undefined) return waiting
  return new Promise((resolve, reject) => {
    const forget = onAbort(signal, () => reject(new AbortError(signal.reason)))
    waiting.finally(forget).then(resolve, reject)
  })
}

/** Slots in flight at once, slots in all, and bytes of each. */
function sizeOf({ geometry }: BlockIo, { chunk, depth, nlb }: Range, spare: number) {
  const commands = Math.ceil(chunk / geometry.maxbpio)
  const chunks = Math.ceil(nlb / chunk)
  const count = Math.max(1, Math.min(Math.ceil(depth / commands), chunks))
  const length = count + Math.min(Math.ceil(count * spare), chunks - count)
  return { count, length, bytes: chunk * geometry.blocksize }
}

export class Window {
  readonly slots: readonly Slot[]
  /** Slots that may be in flight at once. */
  readonly limit: number
  readonly io: BlockIo
  /** Called when a slot's command has ended, successfully or not: see `errorOf`. */
  onSettled: (slot: Slot) => void = () => {}
  inFlight = 0
  private readonly queue: IoQueue
  private readonly memory: Buffer
  private readonly lends: boolean
  // Posted chunks are told to the device when so many have come together, or at the scheduler's next turn.
  private readonly batch: number
  private readonly forget: () => void
  private depth: number
  private posted = 0
  private closing: (() => void) | null = null
  private closedPromise: Promise<void> | null = null

  /**
   * @param end called when the namespace is closed: must end the stream, and with it this window
   * Where `memoryFor` the same is a promise, this would block until another process has taken the memory.
   */
  constructor(
    io: BlockIo,
    range: Range,
    end: () => Promise<void>,
    { lends = false, spare = 0 }: WindowOptions = {},
  ) {
    this.io = io
    this.lends = lends
    this.queue = io.queue(range.qid, 'stream')
    const { count, length, bytes } = sizeOf(io, range, spare)
    this.limit = count
    this.memory = lends ? io.pool.alloc(bytes * length) : io.pool.reuse(bytes * length)
    this.slots = Array.from({ length }, (_, i) => {
      const buffer = this.memory.subarray(i * bytes, (i + 1) * bytes)
      const op = new Operation(this.queue, io.geometry)
      op.onDone = settle
      const tag = io.pool.tagAt(this.memory, i * bytes)
      const slot = { buffer, tag, op, window: this, slba: 0, nlb: 0, inFlight: false, before: 0 }
      op.context = slot
      return slot
    })
    this.depth = range.depth
    this.batch = Math.max(1, Math.min(tuning.batch, count >> 2, Math.floor(tuning.batchBytes / bytes)))
    this.queue.occupancy.want(this.depth)
    this.forget = io.onClose(end)
  }

  /** Sends a slot's chunk, or the first `nlb` blocks of it. */
  issue(slot: Slot, opc: number, slba: number, nlb: number): void {
    slot.slba = slba
    slot.nlb = nlb
    slot.inFlight = true
    this.inFlight++
    const { op, buffer, tag } = slot
    op.field = 0
    op.cause = null
    this.queue.requestTransfer(op, this.io.geometry, opc, buffer, tag, slba, nlb)
    if (++this.posted >= this.batch) this.poll()
  }

  /** Rings and looks, without waiting for the scheduler's turn. */
  poll(): void {
    this.posted = 0
    this.queue.poll()
  }

  /** There is nothing more to send: the stream does not count for the queue's occupancy any longer. */
  last(): void {
    if (this.depth > 0) this.queue.occupancy.want(-this.depth)
    this.depth = 0
  }

  /** Sends nothing more, and gives the memory back when the last command has ended. */
  close(): Promise<void> {
    this.closedPromise ??= new Promise<void>((resolve) => {
      this.last()
      this.forget()
      this.closing = resolve
      if (this.inFlight === 0) this.finish()
    })
    return this.closedPromise
  }

  get closed(): boolean {
    return this.closedPromise !== null
  }

  /** @internal */
  settled(slot: Slot): void {
    slot.inFlight = false
    this.inFlight--
    if (this.closing === null) this.onSettled(slot)
    else if (this.inFlight === 0) this.finish()
  }

  private finish(): void {
    if (this.lends) this.io.pool.discard(this.memory)
    else this.io.pool.keep(this.memory)
    this.closing?.()
  }
}

function settle(op: Operation): void {
  op.state = STATE.FREE
  const slot = op.context as Slot
  slot.window.settled(slot)
}

/** What a slot's command ended with: null, or its error. */
export function errorOf({ op }: Slot): Error | null {
  return op.field === 0 && op.cause === null ? null : op.error()
}
