// Copies what is in the extents of a source to one target or several: the source is read once, in pieces of a bounded window;
// each target writes them at its own pace, and no piece is let go before the last of them has it.
// Trade-off: the slowest target paces all of them once the window is full, since a target that may fall back without a bound
// needs memory without a bound. A target that fails leaves, and the others go on.

import { createHash, type Hash } from 'node:crypto'
import { onAbort, throwIfAborted } from '../../lib/sys/abort.ts'
import { withBytesWritten } from '../streams/session.ts'
import { readBlocks } from './device-endpoint.ts'
import type { BadBlocks, Chunks, CopyReport, CopyResult, Difference, Endpoint } from './endpoint.ts'
import { alignedExtents, type Extents, type RangeSet } from './extents.ts'
import { Lane, type LaneOptions, type Piece, type Segment, Window } from './lane.ts'
import { isMediaError, isZero, zeroBuffer } from './writers.ts'

/** How a copy goes, checked and completed. */
export interface EngineOptions extends LaneOptions {
  /** Zeroes that are found in so many bytes or more are not sent; 0: all is sent. */
  readonly zeroBytes: number
  /** First byte of the source. */
  readonly skip: number
  /** SHA-256 of what is read. */
  readonly hash: boolean
  /** Checks what is read, in order and with gaps; throws where it is wrong. */
  readonly check: ((data: Buffer, at: number) => void) | undefined
  /** What is in each target already. */
  readonly done: readonly RangeSet[]
  /** Writes down what is in a target, when it is on the medium. */
  readonly save: ((target: number, state: EngineState) => Promise<void>) | undefined
  /** How often; undefined: only where something is left to be done. */
  readonly saveMs: number | undefined
  readonly onReport: ((report: CopyReport) => void) | undefined
}

/** How far a copy is, in one target: what is on its medium. */
export interface EngineState {
  readonly done: RangeSet
  readonly bad: readonly BadBlocks[]
  readonly bytes: number | undefined
}

export type EngineResult = Omit<CopyResult, 'seconds'>

/** Zeroes that are known before are sent so many bytes at a time, fewer where they are hashed. */
const ZERO_PIECE_BYTES = 2 ** 28
const HASHED_PIECE_BYTES = 2 ** 23
const FILE_READS = 4
// A block of a file, where a read of more has failed.
const FILE_BLOCK_BYTES = 4096

export class Engine {
  readonly options: EngineOptions
  readonly window: Window
  readonly #source: Endpoint
  readonly #lanes: Lane[]
  readonly #bytes: number | undefined
  readonly #extents: Extents | undefined
  readonly #align: number
  readonly #hash: Hash | undefined
  readonly #bad: BadBlocks[] = []
  /** In every target, before. */
  readonly #done: RangeSet
  #read = 0
  #end = 0
  #reported = -1
  #saved = performance.now()

  /**
   * @param bytes bytes to copy; undefined: to the end of a source that has no size
   * @param extents what they are, where that is known
   */
  constructor(
    source: Endpoint,
    targets: readonly Endpoint[],
    bytes: number | undefined,
    extents: Extents | undefined,
    options: EngineOptions,
  ) {
    this.options = options
    this.#source = source
    this.#bytes = bytes
    this.#extents = extents
    const align = Math.max(source.blocksize, ...targets.map((target) => target.blocksize))
    this.#align = align
    // Two pieces that share a block would each write back what the other one has replaced.
    const done = options.done.map((set) => set.aligned(align, bytes))
    this.#lanes = targets.map((target, at) => new Lane(this, target, done[at]!))
    this.#done = done.reduce((all, one) => all.intersect(one))
    this.#hash = options.hash ? createHash('sha256') : undefined
    const ns = source.ns ?? targets.find((target) => target.ns !== null)?.ns
    this.window = new Window(ns?.pool ?? null, options.chunk, options.window)
  }

  /** Does it. Throws what ended it, with what was done; errors of one target of several are in the result. */
  async run(): Promise<EngineResult> {
    const { signal } = this.options
    throwIfAborted(signal)
    const forget = onAbort(signal, () => this.window.wake())
    try {
      await this.#move()
      await this.#settled()
      throwIfAborted(signal)
      for (const lane of this.#lanes) lane.error ??= lane.full
      this.#throwIfAllFailed()
      await Promise.all(this.#live().map((lane) => lane.end(this.#end)))
      this.#throwIfAllFailed()
      const isWhole = this.#live().length === this.#lanes.length && this.#allBad().length === 0
      if (this.options.saveMs !== undefined || !isWhole) await this.#save(this.#lanes)
      this.#throwIfAllFailed()
      return this.#result()
    } catch (error) {
      await this.#settled()
      await this.#save(this.#lanes)
      throw withBytesWritten(error, this.#prefix())
    } finally {
      forget()
      await Promise.all(this.#lanes.map((lane) => lane.close()))
      this.window.close()
    }
  }

  /** Called by a lane that is done with a piece. */
  release(part: Piece): void {
    const piece = part.whole ?? part
    if (--piece.holders > 0) return
    this.window.leave(piece.buffer)
    piece.buffer = undefined
  }

  report(): void {
    const { onReport } = this.options
    // Each target moves on by itself: one that waits keeps no report of the others.
    const moved = this.#lanes.reduce((sum, { completed, error }) => sum + completed + Number(!!error), 0)
    if (onReport === undefined || moved <= this.#reported) return
    this.#reported = moved
    const live = this.#lanes.filter((lane) => lane.error === undefined)
    const bytes = live.length === 0 ? 0 : Math.min(...live.map((lane) => lane.completed))
    onReport({
      bytes,
      total: this.#bytes,
      read: this.#read,
      written: (live[0] ?? this.#lanes[0]!).written,
      skipped: (live[0] ?? this.#lanes[0]!).skipped,
      bad: this.#allBad().reduce((sum, bad) => sum + bad.bytes, 0),
      targets: this.#lanes.map((lane) => ({
        name: lane.endpoint.name,
        bytes: lane.completed,
        ...(lane.error !== undefined && { error: lane.error }),
      })),
    })
  }

  /** Where `found`, read from `at` on, is not what it should be. */
  differenceOf(target: Endpoint, at: number, wanted: Buffer, found: Buffer): Difference {
    let byte = 0
    while (byte < wanted.length && wanted[byte] === found[byte]) byte++
    const start = byte - (byte % 16)
    const side = (endpoint: Endpoint, base: number, data: Buffer) => {
      const position = endpoint.slba * endpoint.blocksize + base + at + byte
      const part = { name: endpoint.name, position, data: Buffer.from(data.subarray(start, start + 32)) }
      const where = { ...part, at: byte - start }
      const { blocksize } = endpoint
      if (endpoint.ns === null) return where
      return { ...where, lba: Math.floor(position / blocksize), byte: position % blocksize }
    }
    const { skip, seek } = this.options
    return { offset: at + byte, a: side(this.#source, skip, wanted), b: side(target, seek, found) }
  }

  // A difference is a result.
  #throwIfAllFailed(): void {
    if (this.#lanes.some((lane) => lane.error === undefined || lane.difference !== undefined)) return
    throw this.#lanes[0]!.error
  }

  #live(): Lane[] {
    return this.#lanes.filter((lane) => lane.error === undefined && lane.full === undefined)
  }

  // In order: reads are sent ahead, and each piece is handed on when it and those before it are there.
  async #move(): Promise<void> {
    const { signal, window: slots } = this.options
    const reads: { piece: Piece; ready: Promise<boolean> }[] = []
    const ahead = Math.max(1, this.#source.ns === null ? Math.min(FILE_READS, slots >> 1) : slots >> 1)
    const stream =
      this.#source.readAt === undefined && this.#source.ns === null ? this.#openStream() : undefined
    const handOn = async (): Promise<boolean> => {
      const { piece, ready } = reads[0]!
      const more = await ready
      reads.shift()
      this.#dispatch(piece)
      return more
    }
    try {
      for await (const planned of this.#plan(stream !== undefined)) {
        // What reads are done is handed on before the window is waited for: the oldest may be all that fills it.
        while (reads.length >= ahead) if (!(await handOn())) return
        while (reads.length > 0 && this.window.isFull) if (!(await handOn())) return
        await this.window.enter()
        throwIfAborted(signal)
        if (this.#live().length === 0) {
          this.window.leave(undefined)
          return
        }
        const piece: Piece = { ...planned, buffer: undefined, holders: 0 }
        const ready = this.#fill(piece, planned.wanted, stream)
        ready.catch(() => {})
        reads.push({ piece, ready })
        // A stream is read by one at a time.
        if (stream !== undefined && !(await handOn())) return
        await this.#saveWhenDue()
      }
      while (reads.length > 0) if (!(await handOn())) return
    } finally {
      await Promise.allSettled(reads.map(({ ready }) => ready))
      for (const { piece } of reads) this.window.leave(piece.buffer)
      await stream?.close()
    }
  }

  /** Pieces in order. `wanted`: it has to be read. */
  async *#plan(isStream: boolean): AsyncGenerator<Omit<Piece, 'buffer' | 'holders'> & { wanted: boolean }> {
    const { chunk, hash, check } = this.options
    const end = this.#bytes ?? Number.MAX_SAFE_INTEGER
    const most = hash || check !== undefined ? HASHED_PIECE_BYTES : ZERO_PIECE_BYTES
    const all: Extents = [{ at: 0, bytes: end, kind: 'data' }]
    for await (const extent of alignedExtents(this.#extents ?? all, this.#align, end)) {
      for (const part of this.#done.split(extent.at, extent.at + extent.bytes)) {
        const { kind } = extent
        const drop = part.inside || kind === 'unmapped'
        // A stream has no other way past them. Zeroes of it are found to be that when they are read.
        const wanted = kind === 'data' || (drop && kind === 'unmapped') ? !drop || isStream || hash : isStream
        const step = wanted ? chunk : most
        for (let at = part.from; at < part.to; at += step) {
          const bytes = Math.min(step, part.to - at)
          yield { at, bytes, drop, wanted, segments: [{ from: at, to: at + bytes, zero: !wanted }] }
        }
      }
    }
  }

  /** Reads a piece. False where the source ends in it. */
  async #fill(piece: Piece, wanted: boolean, stream: StreamReader | undefined): Promise<boolean> {
    if (!wanted) return true
    piece.buffer = await this.window.buffer()
    const asked = piece.bytes
    const bad: BadBlocks[] = []
    const count = stream
      ? await stream.fill(piece.buffer.subarray(0, asked))
      : await this.#readAt(piece.buffer, piece.at, asked, piece.buffer, bad)
    piece.bytes = count
    this.#read += count
    this.#bad.push(...bad)
    piece.isBad = bad.length > 0
    piece.segments = this.#segments(piece, bad)
    return count === asked
  }

  // What fails is halved down to the blocks that do; those are filled with zeroes in the buffer.
  async #readAt(whole: Buffer, at: number, bytes: number, buffer: Buffer, bad: BadBlocks[]): Promise<number> {
    const { onError, retries, skip } = this.options
    const { ns, slba, blocksize, readAt } = this.#source
    const read = async (): Promise<number> => {
      if (ns === null) return readAt!(buffer.subarray(0, bytes), skip + at)
      // Whole blocks: of the last one more than is wanted.
      const length = Math.ceil(bytes / blocksize) * blocksize
      await readBlocks(ns, buffer.subarray(0, length), slba + (skip + at) / blocksize)
      return bytes
    }
    try {
      return await read()
    } catch (first) {
      if (onError === 'stop' || !isMediaError(first)) throw first
      const block = ns === null ? FILE_BLOCK_BYTES : blocksize
      if (bytes > block) {
        const half = Math.ceil(bytes / 2 / block) * block
        const count = await this.#readAt(whole, at, half, buffer, bad)
        if (count < half) return count
        return half + (await this.#readAt(whole, at + half, bytes - half, buffer.subarray(half), bad))
      }
      let error = first
      for (let left = retries; left > 0; left--) {
        try {
          return await read()
        } catch (again) {
          if (!isMediaError(again)) throw again
          error = again
        }
      }
      buffer.fill(0, 0, bytes)
      bad.push({ at, bytes, side: 'read', error: error as Error })
      return bytes
    }
  }

  /** Which parts of a piece are written as data, and which as zeroes. What could not be read is left out, or zeroes. */
  #segments({ at, bytes, buffer }: Piece, bad: readonly BadBlocks[]): Segment[] {
    const { zeroBytes, onError } = this.options
    const segments: { from: number; to: number; zero: boolean }[] = []
    const add = (from: number, to: number, zero: boolean) => {
      const last = segments.at(-1)
      if (last !== undefined && last.zero === zero && last.to === from) last.to = to
      else segments.push({ from, to, zero })
    }
    const scan = (from: number, to: number) => {
      if (zeroBytes === 0) return add(from, to, false)
      for (let start = from; start < to; ) {
        const stop = Math.min(to, start - (start % zeroBytes) + zeroBytes)
        // A part of a whole that is no zero is data, and is written with what stands beside it.
        add(
          start,
          stop,
          stop - start >= Math.min(zeroBytes, to - from) && isZero(buffer!.subarray(start - at, stop - at)),
        )
        start = stop
      }
    }
    let from = at
    for (const range of bad) {
      if (range.at > from) scan(from, range.at)
      if (onError === 'fill') add(range.at, range.at + range.bytes, true)
      from = range.at + range.bytes
    }
    if (from < at + bytes) scan(from, at + bytes)
    return segments
  }

  #dispatch(piece: Piece): void {
    const { buffer, at, bytes } = piece
    const data = buffer?.subarray(0, bytes)
    if (bytes > 0) {
      // What could not be read has no checksum.
      if (data !== undefined && !piece.isBad) this.options.check?.(data, at)
      this.#hashPiece(data, bytes)
    }
    this.#end = Math.max(this.#end, at + bytes)
    const lanes = this.#live()
    // One that holds it until all have it.
    piece.holders = 1
    if (!piece.drop && bytes > 0) {
      piece.holders += lanes.length
      for (const lane of lanes) lane.push(piece)
    } else {
      for (const lane of lanes) lane.pass(piece)
    }
    this.release(piece)
  }

  #hashPiece(data: Buffer | undefined, bytes: number): void {
    if (this.#hash === undefined) return
    if (data !== undefined) this.#hash.update(data)
    else {
      for (let left = bytes; left > 0; ) {
        const part = zeroBuffer().subarray(0, left)
        this.#hash.update(part)
        left -= part.length
      }
    }
  }

  #openStream(): StreamReader {
    const { skip, signal } = this.options
    const bytes = this.#bytes === undefined ? undefined : skip + this.#bytes
    return new StreamReader(this.#source.read(bytes, { signal }), skip)
  }

  /** Waits until no target has anything left to do. */
  async #settled(): Promise<void> {
    while (this.#lanes.some((lane) => !lane.isIdle)) {
      if (this.options.signal?.aborted) for (const lane of this.#lanes) lane.drop()
      await this.window.changed()
    }
  }

  #prefix(): number {
    return Math.min(...this.#lanes.map((lane) => lane.done.prefix))
  }

  #allBad(lanes = this.#lanes): BadBlocks[] {
    return [...this.#bad, ...lanes.flatMap((lane) => lane.bad)].sort((a, b) => a.at - b.at)
  }

  async #saveWhenDue(): Promise<void> {
    const { save, saveMs } = this.options
    if (save === undefined || saveMs === undefined || performance.now() - this.#saved < saveMs) return
    await this.#save(this.#live())
    this.#saved = performance.now()
  }

  // What is written down is on the medium. Where that can't be, it is that target's failure, as any of its own.
  async #save(lanes: readonly Lane[]): Promise<void> {
    const { save } = this.options
    if (save === undefined) return
    const saveOne = async (lane: Lane) => {
      await lane.sync()
      const state = { done: lane.stored, bad: this.#allBad([lane]), bytes: this.#bytes }
      await save(this.#lanes.indexOf(lane), state).catch((error) => lane.fail(error))
    }
    await Promise.all(lanes.map(saveOne))
  }

  #result(): EngineResult {
    const bad = this.#allBad()
    const targets = this.#lanes.map(({ endpoint, written, completed, verified, error, difference }) => ({
      name: endpoint.name,
      bytes: completed,
      written,
      verified,
      ...(error !== undefined && { error }),
      ...(difference !== undefined && { difference }),
    }))
    const { written, skipped } = this.#live()[0] ?? this.#lanes[0]!
    return {
      bytes: this.#end,
      read: this.#read,
      written,
      skipped,
      ...(bad.length === 0 && this.#hash !== undefined && { sha256: this.#hash.digest('hex') }),
      bad,
      targets,
    }
  }
}

/** Reads a stream into buffers of any length. */
class StreamReader {
  readonly #chunks: AsyncIterator<Uint8Array>
  #chunk: Uint8Array = Buffer.alloc(0)
  #skip: number

  /** @param skip bytes that are left out at the start */
  constructor(chunks: Chunks, skip: number) {
    this.#chunks = chunks[Symbol.asyncIterator]()
    this.#skip = skip
  }

  /** Returns the bytes that there were: fewer than fit at the end. */
  async fill(buffer: Buffer): Promise<number> {
    let filled = 0
    while (filled < buffer.length) {
      if (this.#chunk.length === 0) {
        const { done, value } = await this.#chunks.next()
        if (done) break
        this.#chunk = value.subarray(Math.min(this.#skip, value.length))
        this.#skip -= value.length - this.#chunk.length
        continue
      }
      const part = this.#chunk.subarray(0, buffer.length - filled)
      buffer.set(part, filled)
      filled += part.length
      this.#chunk = this.#chunk.subarray(part.length)
    }
    return filled
  }

  async close(): Promise<void> {
    await this.#chunks.return?.()
  }
}
