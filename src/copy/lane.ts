// One target of a copy: it writes the pieces of the source at its own pace, and no piece is let go before the last target has
// it. The window is the memory that pieces have.

import { EndOfRangeError, VerifyError } from '../../lib/errors.ts'
import type { DmaPool } from '../../lib/memory/pool.ts'
import type { BadBlocks, Difference, Endpoint, Writer } from './endpoint.ts'
import { RangeSet } from './extents.ts'
import { isMediaError, isZero } from './writers.ts'

/** How targets are written. */
export interface LaneOptions {
  /** Bytes of a piece, and how many of them there are. */
  readonly chunk: number
  readonly window: number
  readonly verify: boolean
  readonly flush: boolean
  readonly pad: boolean
  /** All of the targets reads as zeroes. */
  readonly known: boolean
  /** Devices are asked which of their blocks are holes already. */
  readonly askHoles: boolean
  readonly onError: 'stop' | 'skip' | 'fill'
  /** How often a block that fails is tried again. */
  readonly retries: number
  /** First byte of the targets. */
  readonly seek: number
  readonly signal: AbortSignal | undefined
}

/** What a target needs of its copy. */
interface LaneEngine {
  readonly options: LaneOptions
  readonly window: Window
  /** The target has done with a piece. */
  release(piece: Piece): void
  report(): void
  differenceOf(endpoint: Endpoint, at: number, expected: Buffer, found: Buffer): Difference
}

export interface Segment {
  readonly from: number
  readonly to: number
  readonly zero: boolean
}

/** A part of the source on its way: offsets are bytes from where the copy begins. */
export interface Piece {
  readonly at: number
  bytes: number
  buffer: Buffer | undefined
  segments: Segment[]
  /** Not all of it could be read. */
  isBad?: boolean
  /** Read, since what follows can't be had otherwise, and not written. */
  readonly drop: boolean
  /** Targets that have not done with it. */
  holders: number
  /** The piece that this one is the beginning of. */
  readonly whole?: Piece
}

/** Where pieces get memory, and wait for it: the window. */
export class Window {
  readonly #pool: DmaPool | null
  readonly #bytes: number
  readonly #idle: Buffer[] = []
  readonly #all: Buffer[] = []
  readonly #waiting: (() => void)[] = []
  #slots: number

  constructor(pool: DmaPool | null, bytes: number, slots: number) {
    this.#pool = pool
    this.#bytes = bytes
    this.#slots = slots
  }

  /** Waits for a slot of the window. */
  async enter(): Promise<void> {
    while (this.#slots === 0) await this.changed()
    this.#slots--
  }

  async buffer(): Promise<Buffer> {
    const known = this.#idle.pop()
    if (known !== undefined) return known
    const buffer =
      this.#pool === null ? Buffer.allocUnsafeSlow(this.#bytes) : await this.#pool.allocAsync(this.#bytes)
    this.#all.push(buffer)
    return buffer
  }

  get isFull(): boolean {
    return this.#slots === 0
  }

  leave(buffer: Buffer | undefined): void {
    if (buffer !== undefined) this.#idle.push(buffer)
    this.#slots++
    this.wake()
  }

  /** Resolves when a slot is left, or somebody has to look again. */
  changed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  /** Who waits looks again. */
  wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }

  close(): void {
    for (const buffer of this.#all.splice(0)) this.#pool?.discard(buffer)
  }
}

/** One target, and what it has of the copy. */
export class Lane {
  readonly endpoint: Endpoint
  readonly done: RangeSet
  /** What of it was on the medium when that was asked for last: see `sync`. */
  stored: RangeSet
  readonly bad: BadBlocks[] = []
  /** Bytes that it is done with, that were written, and that did not have to be. */
  completed = 0
  written = 0
  skipped = 0
  writer: Writer | undefined
  error: Error | undefined
  /** More came than it has space for; what fits is still to be written. */
  full: Error | undefined
  difference: Difference | undefined
  verified = 0
  readonly #engine: LaneEngine
  readonly #pending: Piece[] = []
  readonly #scratch: Buffer[] = []
  #opening: Promise<Writer> | undefined
  #active = 0
  // A later flush may end well and still know nothing of what this one has lost.
  #flushFailed = false

  constructor(engine: LaneEngine, endpoint: Endpoint, done: RangeSet) {
    this.#engine = engine
    this.endpoint = endpoint
    this.done = new RangeSet()
    for (const [from, to] of done) this.done.add(from, to)
    this.stored = done
    this.completed = done.bytes
  }

  get isIdle(): boolean {
    return this.#active === 0 && this.#pending.length === 0
  }

  open(): Promise<Writer> {
    const { pad, flush, known, askHoles, signal, seek } = this.#engine.options
    const keep = seek > 0 || !this.done.isEmpty
    this.#opening ??= this.endpoint.writer({ pad, flush, known, askHoles, signal, keep }).then((writer) => {
      this.writer = writer
      return writer
    })
    return this.#opening
  }

  /** Writes a piece, or what of it there is space for. */
  push(piece: Piece): void {
    this.#pending.push(this.#fitting(piece))
    this.#pump()
  }

  /** What it has, or is not meant to have. */
  pass(piece: Piece): void {
    const { at, bytes } = this.#fitting(piece)
    for (const part of this.done.split(at, at + bytes)) {
      if (part.inside) continue
      this.done.add(part.from, part.to)
      this.completed += part.to - part.from
      this.skipped += part.to - part.from
    }
  }

  fail(error: Error): void {
    this.error ??= error
    this.drop()
    // What an abort ends has not failed.
    if (!this.#engine.options.signal?.aborted) this.#engine.report()
  }

  /** Leaves what it has not begun with. */
  drop(): void {
    for (const piece of this.#pending.splice(0)) this.#engine.release(piece)
    this.#engine.window.wake()
  }

  /** Makes it as long as the copy, and flushes it. */
  async end(bytes: number): Promise<void> {
    const { flush, seek } = this.#engine.options
    await this.#flush(async () => (await this.open()).end(seek + bytes, flush), flush)
  }

  /** Has what is done put on the medium, for the map. What is being written goes on. */
  async sync(): Promise<void> {
    if (this.#flushFailed || this.stored.bytes === this.done.bytes) return
    await this.#flush(() => this.writer?.sync?.(this.#engine.options.seek + this.done.prefix), true)
  }

  async #flush(work: () => Promise<void> | undefined, flushes: boolean): Promise<void> {
    // What is done meanwhile is not flushed.
    const done = this.done.aligned(1, undefined)
    try {
      await work()
      if (flushes) this.stored = done
    } catch (error) {
      this.#flushFailed = true
      this.fail(error as Error)
    }
  }

  async close(): Promise<void> {
    await this.writer?.close()
    for (const buffer of this.#scratch.splice(0)) this.writer?.pool?.discard(buffer)
  }

  #fitting(piece: Piece): Piece {
    const { name, size = Number.POSITIVE_INFINITY, slba, blocksize } = this.endpoint
    const { seek } = this.#engine.options
    const space = size - seek
    const over = piece.at + piece.bytes - space
    if (over <= 0) return piece
    this.full ??= new EndOfRangeError(
      `${name}: the range of ${space / blocksize} blocks from slba ${slba + seek / blocksize} is full after ${space} bytes, at least ${over} more came`,
      space,
    )
    const segments = piece.segments
      .filter(({ from }) => from < space)
      .map((segment) => ({ ...segment, to: Math.min(segment.to, space) }))
    return { ...piece, bytes: Math.max(0, piece.bytes - over), segments, whole: piece }
  }

  #pump(): void {
    const most = Math.min(this.writer?.parallel ?? 1, this.#engine.options.window)
    while (this.#active < most && this.#pending.length > 0 && this.error === undefined) {
      this.#active++
      void this.#work(this.#pending.shift()!)
    }
  }

  async #work(piece: Piece): Promise<void> {
    try {
      await this.open()
      // What it had before is not written again.
      const left = [...this.done.split(piece.at, piece.at + piece.bytes)].filter(({ inside }) => !inside)
      for (const segment of piece.segments) {
        for (const part of left) {
          const [from, to] = [Math.max(segment.from, part.from), Math.min(segment.to, part.to)]
          if (from < to) await this.#put(piece, { ...segment, from, to })
          if (this.error !== undefined) return
        }
      }
      for (const { from, to } of left) {
        this.done.add(from, to)
        this.completed += to - from
      }
      this.#engine.report()
    } catch (error) {
      this.fail(error as Error)
    } finally {
      this.#active--
      this.#pump()
      this.#engine.release(piece)
    }
  }

  async #put(piece: Piece, { from, to, zero }: Segment): Promise<void> {
    const { verify, seek } = this.#engine.options
    const data = zero ? undefined : piece.buffer!.subarray(from - piece.at, to - piece.at)
    const whole = await this.#write(data, from, to - from)
    if (whole && verify && this.writer!.read !== undefined) await this.#check(data, from, to, seek)
  }

  /**
   * Writes data, or zeroes where there is none; what fails is halved down to the blocks that do.
   * @returns false where not all of it could be written
   */
  async #write(data: Buffer | undefined, at: number, bytes: number): Promise<boolean> {
    const { onError, retries, seek } = this.#engine.options
    const writer = this.writer!
    const send = async () => {
      if (data === undefined) {
        const moved = await writer.zero(seek + at, bytes)
        this.written += moved
        this.skipped += bytes - moved
      } else {
        await writer.write(data, seek + at)
        this.written += bytes
      }
    }
    try {
      await send()
      return true
    } catch (first) {
      if (onError === 'stop' || writer.inOrder || !isMediaError(first)) throw first
      if (bytes > writer.align) {
        const half = Math.ceil(bytes / 2 / writer.align) * writer.align
        const first = await this.#write(data?.subarray(0, half), at, half)
        return (await this.#write(data?.subarray(half), at + half, bytes - half)) && first
      }
      let error = first
      for (let left = retries; left > 0; left--) {
        try {
          await send()
          return true
        } catch (again) {
          if (!isMediaError(again)) throw again
          error = again
        }
      }
      this.bad.push({ at, bytes, side: 'write', error: error as Error })
      return false
    }
  }

  async #check(data: Buffer | undefined, from: number, to: number, seek: number): Promise<void> {
    const { chunk } = this.#engine.options
    const writer = this.writer!
    const scratch =
      this.#scratch.pop() ??
      (writer.pool === null ? Buffer.allocUnsafeSlow(chunk) : await writer.pool.allocAsync(chunk))
    try {
      for (let at = from; at < to; at += chunk) {
        const bytes = Math.min(chunk, to - at)
        await writer.read!(scratch, seek + at, bytes)
        const found = scratch.subarray(0, bytes)
        const wanted = data?.subarray(at - from, at - from + bytes)
        const equal = wanted === undefined ? isZero(found) : wanted.equals(found)
        if (!equal) {
          const expected = wanted ?? Buffer.alloc(bytes)
          this.difference = this.#engine.differenceOf(this.endpoint, at, expected, found)
          const { lba, byte, position } = this.difference.b
          const place = lba === undefined ? `byte ${position}` : `LBA ${lba}, byte ${byte}`
          throw new VerifyError(`${this.endpoint.name} reads back other data than was written: ${place}`)
        }
        this.verified += bytes
      }
    } finally {
      this.#scratch.push(scratch)
    }
  }
}
