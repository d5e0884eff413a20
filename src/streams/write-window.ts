// Writes a stream of bytes to consecutive LBAs: gathers them into chunks in DMA memory, and sends those.
// Trade-off: bytes are taken as soon as they are copied, long before they are on the medium; `end` waits for
// that, completes the last block from what the medium holds, and flushes.

import { ClosedError, EndOfRangeError, OutOfRangeError } from '../../lib/errors.ts'
import { NVM } from '../../lib/nvme/spec/opcodes.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import type { BlockIo } from '../queue/block-io.ts'
import type { IoQueue } from '../queue/io-queue.ts'
import { prepareCommand } from '../queue/prepare.ts'
import { send, sendTransfer } from '../queue/send.ts'
import { checkBoolean } from '../queue/validate.ts'
import { withBytesWritten } from './ending.ts'
import type { Range } from './range.ts'
import { errorOf, memoryFor, type Slot, Window } from './window.ts'

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
   * Called when there is room again, or a failure to report, once for each time that `write` took less than all: from
   * within a poll, so that it must not call what may throw.
   */
  onRoom: () => void = () => {}
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

  /** @param lends `lend` will be used: see Window */
  constructor(io: BlockIo, range: Range, options: WriteOptions, end: () => Promise<void>, lends = false) {
    this.#io = io
    this.#range = range
    this.#options = options
    this.#next = range.slba
    this.#window = new Window(io, range, end, { lends })
    this.#window.onSettled = (slot) => this.#settled(slot)
    this.#free = [...this.#window.slots].reverse()
  }

  /** What to wait for before such a window is made: see `memoryFor`. */
  static ready(io: BlockIo, range: Range, lends = false, signal?: AbortSignal): Promise<void> | null {
    return memoryFor(io, range, { lends }, signal)
  }

  /** Chunks that there is memory for. */
  get size(): number {
    return this.#window.slots.length
  }

  /** Bytes that the range has room for. */
  get room(): number {
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
   * @returns the offset of the first byte not taken; where that is not the end, wait for `onRoom`
   * @throws what an earlier chunk failed with; EndOfRangeError where the range is full
   */
  write(data: Uint8Array, offset: number): number {
    let at = offset
    while (at < data.length) {
      if (this.#failure !== null) throw this.#failure
      if (this.room === 0) throw this.#endOfRange(data.length - at)
      const slot = this.#current ?? this.#acquire()
      if (slot === null) return at
      at = this.#copy(slot, data, at)
    }
    return at
  }

  /**
   * A free slot for its user to fill, whose memory is the window's again with `commit`; null where there is none:
   * wait for `onRoom`. Not together with `write`.
   * @throws what an earlier chunk failed with
   */
  lend(): Slot | null {
    if (this.#failure !== null) throw this.#failure
    const slot = this.#acquire()
    this.#current = null
    return slot
  }

  /** Writes the first `bytes` of a lent slot, after those committed before it; all but the last must be full. */
  commit(slot: Slot, bytes: number): void {
    this.#current = slot
    this.#filled = bytes
    this.bytesTaken += bytes
    if (bytes === slot.buffer.length || this.room === 0) this.#send()
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

  #acquire(): Slot | null {
    if (this.#free.length === 0) {
      // A caller's room is made by this look, and need not be announced.
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
    const room = Math.min(buffer.length - this.#filled, this.room)
    const bytes = Math.min(room, data.length - at)
    const part = bytes === data.length ? data : data.subarray(at, at + bytes)
    buffer.set(part, this.#filled)
    this.#filled += bytes
    this.bytesTaken += bytes
    if (this.#filled === buffer.length || this.room === 0) this.#send()
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
      this.onRoom()
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
