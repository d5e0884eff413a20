// A ring of chunks in DMA memory, each with an operation of its own: what every stream and iterator works with.
// One allocation for the whole ring, made when work begins and given back when the last command has
// ended; a slot is reused as soon as its owner lets it go, never by waiting for the garbage collector.

import { AbortError, ClosedError, EndOfRangeError, OutOfRangeError } from '../../lib/errors.ts'
import { keepFreedMemory } from '../../lib/memory/heap.ts'
import type { DmaTag } from '../../lib/memory/tag.ts'
import { NVM } from '../../lib/nvme/spec/opcodes.ts'
import { onAbort } from '../../lib/sys/abort.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import type { BlockIo } from '../queue/block-io.ts'
import type { IoQueue } from '../queue/io-queue.ts'
import { Operation, STATE } from '../queue/operation.ts'
import { prepareCommand, send, sendTransfer } from '../queue/requests.ts'
import { checkBoolean } from '../queue/validate.ts'
import type { Range } from './range.ts'
import { withBytesWritten } from './session.ts'

// Chunks that a stream posts before it rings; what is posted is rung at the scheduler's next turn at the latest.
// Fewer where a chunk is large, since a doorbell then costs nothing beside its copy: at most so many bytes.
const BATCH = 8
const BATCH_BYTES = 256 * 1024
// Chunks of memory that a stream which copies has beyond its depth, in parts of that: while what arrived is copied,
// the device goes on. Without them a device of 2 ms was kept 0.94 to 0.98 full, with half as much again 0.998.
const SPARE = 0.5

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

interface WindowOptions {
  /** Its slots are shown to callers, who must not see the next window's data in them. */
  shown?: boolean
  /** Slots beyond those in flight, as a part of them. */
  spare?: number
}

/**
 * What to wait for before a window begins, so that the event loop is not blocked: null where its memory is there, in
 * the same turn. After the promise it is to be asked again: others may have been quicker.
 * Rejects with AbortError, and as `alloc` throws.
 */
function memoryFor(
  io: BlockIo,
  range: Range,
  { shown = false, spare = 0 }: WindowOptions,
  signal?: AbortSignal,
): Promise<void> | null {
  const { length, bytes } = sizeOf(io, range, spare)
  const waiting = shown ? io.pool.ready([bytes * length]) : io.pool.readyToReuse(bytes * length)
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

class Window {
  readonly slots: readonly Slot[]
  /** Slots that may be in flight at once. */
  readonly limit: number
  readonly io: BlockIo
  /** Called when a slot's command has ended, successfully or not: see `errorOf`. */
  onSettled: (slot: Slot) => void = () => {}
  inFlight = 0
  private readonly queue: IoQueue
  private readonly memory: Buffer
  private readonly shown: boolean
  // Posted chunks are rung when so many have come together, or at the scheduler's next turn.
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
    { shown = false, spare = 0 }: WindowOptions = {},
  ) {
    this.io = io
    this.shown = shown
    this.queue = io.queue(range.qid, 'stream')
    const { count, length, bytes } = sizeOf(io, range, spare)
    this.limit = count
    this.memory = shown ? io.pool.alloc(bytes * length) : io.pool.reuse(bytes * length)
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
    this.batch = Math.max(1, Math.min(BATCH, count >> 2, Math.floor(BATCH_BYTES / bytes)))
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
    if (this.shown) this.io.pool.discard(this.memory)
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
function errorOf({ op }: Slot): Error | null {
  return op.field === 0 && op.cause === null ? null : op.error()
}

const SLAB_BYTES = 64 * 1024

/** Chunks for one stream. */
export class ChunkMemory {
  #slab: Buffer | null = null
  #used = 0

  /** A Buffer with what `data` holds. */
  copy(data: Buffer): Buffer {
    const chunk = this.alloc(data.length)
    data.copy(chunk)
    return chunk
  }

  /** A Buffer of `bytes`, whose content is anything. */
  alloc(bytes: number): Buffer {
    if (bytes > SLAB_BYTES / 4) {
      keepFreedMemory()
      return Buffer.allocUnsafeSlow(bytes)
    }
    if (this.#slab === null || this.#used + bytes > SLAB_BYTES) {
      this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
      this.#used = 0
    }
    const at = this.#used
    this.#used += bytes
    return this.#slab.subarray(at, at + bytes)
  }
}

const optionsOf = (shown: boolean): WindowOptions => ({ shown, spare: shown ? 0 : SPARE })

export class ReadWindow {
  /**
   * Called when the oldest chunk has arrived, once for each time that `peek` found none: from within a poll, so that it
   * must not call what may throw.
   */
  onReady: () => void = () => {}
  private readonly window: Window
  private readonly range: Range
  private readonly endSlba: number
  private next: number
  // Slots are used in turn: `held` of them, from `head` on, are acquired, then those that are sent or arrived.
  private head = 0
  private held = 0
  private acquired = 0
  private waiting = false
  private filling = false

  /** @param shown chunks are shown to callers: see Window; where not, they are copied, and the next read does not wait */
  constructor(io: BlockIo, range: Range, end: () => Promise<void>, shown = false) {
    this.range = range
    this.next = range.slba
    this.endSlba = range.slba + range.nlb
    this.window = new Window(io, range, end, optionsOf(shown))
    const ahead = this.window.slots.length > this.window.limit
    this.window.onSettled = (slot) => {
      if (ahead) this.fill()
      if (this.waiting && slot === this.oldest) {
        this.waiting = false
        this.onReady()
      }
    }
    this.fill()
  }

  /** What to wait for before such a window is made: see `memoryFor`. */
  static ready(io: BlockIo, range: Range, shown = false, signal?: AbortSignal): Promise<void> | null {
    return memoryFor(io, range, optionsOf(shown), signal)
  }

  /** Chunks that there is memory for. */
  get size(): number {
    return this.window.slots.length
  }

  /** True when every chunk has been handed out: acquired, or released. */
  get done(): boolean {
    return this.held === this.acquired && this.next === this.endSlba
  }

  /**
   * The oldest chunk that is not acquired, where it has arrived. It stays the oldest until `acquire` or `release`.
   * @throws what its command failed with
   */
  peek(): Slot | null {
    let slot = this.arrived()
    if (slot === null && this.held > this.acquired) {
      this.waiting = false
      this.window.poll()
      slot = this.arrived()
    }
    if (slot === null) {
      this.waiting = true
      return null
    }
    const error = errorOf(slot)
    if (error !== null) throw error
    return slot
  }

  /** Calls back when the oldest chunk has arrived, or failed; true where it has already. */
  watch(onReady: () => void): boolean {
    this.onReady = onReady
    try {
      return this.peek() !== null
    } catch {
      // Thrown again by the next `peek`, which reports it.
      return true
    }
  }

  /** The oldest chunk is its user's until a `release`: `peek` gives the one after it. */
  acquire(): void {
    this.acquired++
  }

  /** The oldest chunk, acquired before the others or not at all, is not needed any more: its slot is sent on. */
  release(): void {
    if (this.acquired > 0) this.acquired--
    this.head = this.head + 1 === this.window.slots.length ? 0 : this.head + 1
    this.held--
    this.fill()
  }

  /** Waits for what is in flight, then gives the memory back. */
  close(): Promise<void> {
    return this.window.close()
  }

  private get oldest(): Slot {
    const { slots } = this.window
    const at = this.head + this.acquired
    return slots[at >= slots.length ? at - slots.length : at]!
  }

  private arrived(): Slot | null {
    const slot = this.oldest
    return this.held > this.acquired && !slot.inFlight ? slot : null
  }

  private fill(): void {
    // A command may end while it is sent, or others while it is rung: the loop that sends takes their slots, too.
    if (this.filling) return
    this.filling = true
    try {
      this.send()
    } finally {
      this.filling = false
    }
  }

  private send(): void {
    const { window } = this
    const { slots, limit } = window
    while (
      this.held < slots.length &&
      window.inFlight < limit &&
      this.next < this.endSlba &&
      !window.closed
    ) {
      const at = this.head + this.held
      const nlb = Math.min(this.range.chunk, this.endSlba - this.next)
      const slba = this.next
      this.held++
      this.next += nlb
      this.window.issue(slots[at >= slots.length ? at - slots.length : at]!, NVM.READ, slba, nlb)
      if (this.next === this.endSlba) this.window.last()
    }
  }
}

export interface WriteOptions {
  /** Flush before the end is reported, default true. */
  flush?: boolean | undefined
  /** Fill the last block with zeroes, instead of keeping what the medium has after the end. */
  pad?: boolean | undefined
}

/** Names of WriteOptions. */
export const WRITE_NAMES: OptionNames<WriteOptions> = { flush: true, pad: true }

/** Throws ArgumentTypeError for what is no switch. */
export function checkWriteOptions(call: string, { flush, pad }: WriteOptions): void {
  checkBoolean(`${call}: flush`, flush)
  checkBoolean(`${call}: pad`, pad)
}

export class WriteWindow {
  /** Bytes taken so far. */
  bytesTaken = 0
  /**
   * Called when there is space again, or a failure to report, once for each time that `write` took less than all: from
   * within a poll, so that it must not call what may throw.
   */
  onSpace: () => void = () => {}
  readonly #io: BlockIo
  readonly #range: Range
  readonly #options: WriteOptions
  readonly #window: Window
  readonly #free: Slot[]
  #current: Slot | null = null
  // Bytes in the current slot, and where it begins.
  #filled = 0
  #next: number
  // Bytes in the chunks that were sent, and those before the first one that failed.
  #sent = 0
  #sound = Number.POSITIVE_INFINITY
  #failure: Error | null = null
  #wanting = false
  #idle: (() => void) | null = null

  /** @param shown `acquire` will be used: see Window */
  constructor(io: BlockIo, range: Range, options: WriteOptions, end: () => Promise<void>, shown = false) {
    this.#io = io
    this.#range = range
    this.#options = options
    this.#next = range.slba
    this.#window = new Window(io, range, end, { shown })
    this.#window.onSettled = (slot) => this.#settled(slot)
    this.#free = [...this.#window.slots].reverse()
  }

  /** What to wait for before such a window is made: see `memoryFor`. */
  static ready(io: BlockIo, range: Range, shown = false, signal?: AbortSignal): Promise<void> | null {
    return memoryFor(io, range, { shown }, signal)
  }

  /** Chunks that there is memory for. */
  get size(): number {
    return this.#window.slots.length
  }

  /** Bytes that the range has space for. */
  get space(): number {
    const { slba, nlb } = this.#range
    return (slba + nlb - this.#next) * this.#io.geometry.blocksize - this.#filled
  }

  /**
   * Bytes from the start of what was taken that are known to be on the device, without a gap: whole chunks, where one
   * failed or is in flight.
   */
  get bytesWritten(): number {
    let bytes = Math.min(this.#sent, this.#sound)
    for (const slot of this.#window.slots) {
      // After `close` failures are not noted any more, and stay where they are.
      if (slot.inFlight || (this.#window.closed && errorOf(slot) !== null))
        bytes = Math.min(bytes, slot.before)
    }
    return bytes
  }

  /**
   * Takes as much of `data`, from `offset` on, as there are free slots for.
   * @returns the offset of the first byte not taken; where that is not the end, wait for `onSpace`
   * @throws what an earlier chunk failed with; EndOfRangeError where the range is full
   */
  write(data: Uint8Array, offset: number): number {
    let at = offset
    while (at < data.length) {
      if (this.#failure !== null) throw this.#failure
      if (this.space === 0) throw this.#endOfRange(data.length - at)
      const slot = this.#current ?? this.#takeFree()
      if (slot === null) return at
      at = this.#copy(slot, data, at)
    }
    return at
  }

  /**
   * A free slot for its user to fill, whose memory is the window's again with `commit`; null where there is none:
   * wait for `onSpace`. Not together with `write`.
   * @throws what an earlier chunk failed with
   */
  acquire(): Slot | null {
    if (this.#failure !== null) throw this.#failure
    const slot = this.#takeFree()
    this.#current = null
    return slot
  }

  /** Writes the first `bytes` of an acquired slot, after those committed before it; all but the last must be full. */
  commit(slot: Slot, bytes: number): void {
    this.#current = slot
    this.#filled = bytes
    this.bytesTaken += bytes
    if (bytes === slot.buffer.length || this.space === 0) this.#send()
  }

  /** What is gathered so far is sent, and writing goes on at another LBA of the range. */
  async seek(slba: number): Promise<void> {
    await this.#sendRest()
    const { slba: first, nlb } = this.#range
    if (!Number.isSafeInteger(slba) || slba < first || slba >= first + nlb) {
      throw new OutOfRangeError(`slba ${slba} is outside the range of ${nlb} blocks from ${first}`)
    }
    this.#next = slba
  }

  /** Sends the rest, waits until everything is written, and flushes. */
  async end(): Promise<void> {
    await this.#sendRest()
    this.#window.last()
    await this.drain()
    if (this.#options.flush ?? true) await this.#flush()
  }

  /** Waits for everything that was sent. Throws the first failure, ClosedError where `close` came before that. */
  async drain(): Promise<void> {
    this.#window.poll()
    if (this.#window.inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve
      })
    }
    if (this.#failure !== null) throw this.#failure
    // How the rest ended is not known, and some of it may never have been sent.
    if (this.#window.closed) {
      throw new ClosedError(
        `${this.#io.device} was closed after ${this.bytesWritten} of ${this.bytesTaken} bytes`,
      )
    }
  }

  /** Waits for what is in flight, then gives the memory back. Gathered bytes that were not sent are dropped. */
  close(): Promise<void> {
    this.#current = null
    const closed = this.#window.close()
    this.#idle?.()
    return closed
  }

  /**
   * Closes it because of `error`, and returns what is to be reported. What was taken before the end of the range is
   * written out first, so that the number of bytes in that error is true.
   */
  async abandon(error: unknown): Promise<unknown> {
    let cause = error
    if (error instanceof EndOfRangeError) {
      await this.end().catch((failure) => {
        cause = failure
      })
    }
    await this.close()
    return withBytesWritten(cause, this.bytesWritten)
  }

  #takeFree(): Slot | null {
    if (this.#free.length === 0) {
      // A caller's space is made by this look, and need not be announced.
      this.#wanting = false
      this.#window.poll()
    }
    const slot = this.#free.pop() ?? null
    this.#wanting = slot === null
    this.#current = slot
    this.#filled = 0
    return slot
  }

  #copy(slot: Slot, data: Uint8Array, at: number): number {
    const { buffer } = slot
    const space = Math.min(buffer.length - this.#filled, this.space)
    const bytes = Math.min(space, data.length - at)
    const part = bytes === data.length ? data : data.subarray(at, at + bytes)
    buffer.set(part, this.#filled)
    this.#filled += bytes
    this.bytesTaken += bytes
    if (this.#filled === buffer.length || this.space === 0) this.#send()
    return at + bytes
  }

  /** Sends the whole blocks of the current slot, which must be all that is in it. */
  #send(): void {
    const slot = this.#current!
    const nlb = Math.floor(this.#filled / this.#io.geometry.blocksize)
    this.#current = null
    this.#filled = 0
    slot.before = this.#sent
    this.#sent = this.bytesTaken
    this.#window.issue(slot, NVM.WRITE, this.#next, nlb)
    this.#next += nlb
  }

  async #sendRest(): Promise<void> {
    const slot = this.#current
    if (slot === null || this.#filled === 0) return
    const { blocksize } = this.#io.geometry
    const rest = this.#filled % blocksize
    if (rest > 0) await this.#completeBlock(slot, this.#filled - rest, rest)
    if (this.#current !== slot) return
    this.#filled += rest > 0 ? blocksize - rest : 0
    this.#send()
  }

  /** The bytes after the end of the data, up to the end of its block: zeroes, or what the medium has there. */
  async #completeBlock(slot: Slot, start: number, rest: number): Promise<void> {
    const { geometry, pool } = this.#io
    const { blocksize } = geometry
    if (this.#options.pad) {
      slot.buffer.fill(0, start + rest, start + blocksize)
      return
    }
    const block = await pool.allocAsync(blocksize)
    try {
      const slba = this.#next + start / blocksize
      await sendTransfer(this.#queue(), geometry, NVM.READ, block, pool.tagOf(block), slba, 1, undefined)
      block.copy(slot.buffer, start + rest, rest)
    } finally {
      pool.discard(block)
    }
  }

  async #flush(): Promise<void> {
    const { geometry, pool } = this.#io
    const queue = this.#queue()
    await send(queue, prepareCommand('flush', queue, geometry, pool, { opcode: NVM.FLUSH }), undefined)
  }

  #queue(): IoQueue {
    return this.#io.queue(this.#range.qid, 'stream')
  }

  #settled(slot: Slot): void {
    const error = errorOf(slot)
    if (error !== null) {
      this.#failure ??= error
      this.#sound = Math.min(this.#sound, slot.before)
    }
    this.#free.push(slot)
    if (this.#window.inFlight === 0 && this.#idle !== null) {
      this.#idle()
      this.#idle = null
    }
    if (this.#wanting) {
      this.#wanting = false
      this.onSpace()
    }
  }

  #endOfRange(more: number): Error {
    const { slba, nlb } = this.#range
    return new EndOfRangeError(
      `the range of ${nlb} blocks from slba ${slba} is full after ${this.bytesTaken} bytes, at least ${more} more came`,
      this.bytesTaken,
    )
  }
}
