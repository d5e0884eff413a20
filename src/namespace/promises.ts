// One-off reads, writes and other commands as promises, with any Buffer: `ns.promises`.
// DMA memory is used as it is, and so is any other buffer that is read into over TCP. Elsewhere it is copied
// through bounce buffers, a bounded amount in sizes of powers of two that stays for as long as the namespace is open, since
// mapping memory costs more than a command. Calls that find none left wait for it, in order.

import { type InspectOptions, inspect } from 'node:util'
import { AbortError, ClosedError, OutOfMemoryError, OutOfRangeError } from '../../lib/errors.ts'
import type { DmaPool } from '../../lib/memory/pool.ts'
import {
  type AllocationPool,
  type DmaAllocation,
  type DmaBuffer,
  type DmaTag,
  kDma,
  tagPart,
} from '../../lib/memory/tag.ts'
import { NVM } from '../../lib/nvme/spec/opcodes.ts'
import { onAbort } from '../../lib/sys/abort.ts'
import { rejectPaced } from '../../lib/sys/event-loop.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import { summary } from '../../lib/sys/show.ts'
import { PAGE_BYTES } from '../../lib/sys/units.ts'
import type { BlockIo } from '../queue/block-io.ts'
import type { Geometry } from '../queue/geometry.ts'
import type { IoQueue } from '../queue/io-queue.ts'
import type { Bounce } from '../queue/operation.ts'
import {
  deallocateCommand,
  errorIfTaken,
  type IoCommand,
  type LbaRange,
  prepareCommand,
  prepareRange,
  send,
  sendBounced,
  sendLent,
  sendTransfer,
} from '../queue/requests.ts'
import {
  ALIGNMENT,
  checkBoolean,
  checkBytes,
  checkOptions,
  checkRange,
  checkSignal,
} from '../queue/validate.ts'

export interface CallOptions {
  /** Queue, default 0. */
  qid?: number | undefined
  /** Rejects with AbortError at once; what was sent goes on, and owns DMA memory until it is done. */
  signal?: AbortSignal | undefined
  /** false: sent once only, also where the controller says that its failure may pass, or was reset. Default: true. */
  retry?: boolean | undefined
}

const CALL_NAMES: OptionNames<CallOptions> = { qid: true, signal: true, retry: true }

/** Throws ArgumentTypeError or ArgumentValueError for options that are none. */
function checkCallOptions(call: string, options: CallOptions | undefined): void {
  if (options === undefined) return
  checkSignal(call, checkOptions(call, options, CALL_NAMES).signal)
  checkBoolean(`${call}: retry`, options.retry)
}

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const DMA: typeof kDma = kDma
const { READ } = NVM
const MAX_INT = 0x7fff_ffff
// Of a buffer that is longer than a bounce buffer: at a time.
const PIECES = 16

/** What the calls need of their namespace. */
interface PromisesIo extends BlockIo {
  /** True where a transfer may be sent. */
  fits(buf: Uint8Array, tag: DmaTag, slba: number, nlb: number): boolean
}

/**
 * `ns.promises`: calls with any Buffer or Uint8Array. They wait for space in the queue, and never block the event loop.
 *
 * A buffer is the call's until its promise has settled: it must not be changed, freed or transferred before that. After an
 * abort, or without an answer in time, DMA memory is the device's for longer; any other buffer is not touched any more.
 */
export class NamespacePromises {
  private readonly ns: PromisesIo
  private readonly bounces: Bounces
  private readonly lends: boolean

  /** Made with its namespace. */
  constructor(ns: PromisesIo) {
    this.ns = ns
    this.bounces = new Bounces(ns.pool, ns.device)
    this.lends = ns.pool.lends
  }

  /**
   * Reads blocks from `slba` into `buf`.
   * @param nlb default: all of `buf`, whose length must be a whole number of blocks then
   * @returns `buf`
   */
  read<B extends Uint8Array>(buf: B, slba: number, nlb?: number, options?: CallOptions): Promise<B> {
    return this.transfer(NVM.READ, 'read', buf, slba, nlb, options)
  }

  /** Writes blocks from `slba` with what `buf` holds. See `read`. */
  write<B extends Uint8Array>(buf: B, slba: number, nlb?: number, options?: CallOptions): Promise<B> {
    return this.transfer(NVM.WRITE, 'write', buf, slba, nlb, options)
  }

  /** Compares blocks with `buf`; rejects with NvmeError, Compare Failure, where they differ. See `read`. */
  compare<B extends Uint8Array>(buf: B, slba: number, nlb?: number, options?: CallOptions): Promise<B> {
    return this.transfer(NVM.COMPARE, 'compare', buf, slba, nlb, options)
  }

  /** The blocks read as zeroes when this resolves. */
  async writeZeroes(slba: number, nlb: number, options: CallOptions = {}): Promise<void> {
    await this.range(NVM.WRITE_ZEROES, 'writeZeroes', slba, nlb, options)
  }

  /** The controller reads and checks the blocks; rejects with NvmeError where one can't be read. */
  async verify(slba: number, nlb: number, options: CallOptions = {}): Promise<void> {
    await this.range(NVM.VERIFY, 'verify', slba, nlb, options)
  }

  /** What was written before is on the medium when this resolves. */
  async flush(options: CallOptions = {}): Promise<void> {
    await this.cmd({ opcode: NVM.FLUSH }, options)
  }

  /** Tells the device that up to 256 ranges hold nothing that is needed. */
  async deallocate(ranges: readonly LbaRange[], options: CallOptions = {}): Promise<void> {
    const ns = this.ns
    checkCallOptions('deallocate', options)
    ns.queue(options.qid ?? 0, 'deallocate')
    const buf = await ns.pool.allocAsync(PAGE_BYTES)
    try {
      await this.cmd(deallocateCommand(buf, ranges, ns.geometry), options)
    } finally {
      ns.pool.discard(buf)
    }
  }

  /** Any I/O command, with DMA memory: resolves with dword 0 of its completion. */
  cmd(command: IoCommand, options: CallOptions = {}): Promise<number> {
    try {
      checkCallOptions('cmd', options)
      const queue = this.ns.queue(options.qid ?? 0, 'cmd')
      return send(queue, prepareCommand('cmd', queue, this.ns.geometry, this.ns.pool, command), options)
    } catch (error) {
      return rejectPaced(error)
    }
  }

  private transfer<B extends Uint8Array>(
    opc: number,
    call: string,
    buf: B,
    slba: number,
    nlb: number | undefined,
    options: CallOptions | undefined,
  ): Promise<B> {
    const { ns } = this
    const { geometry } = ns
    try {
      checkCallOptions(call, options)
      const queue = ns.queue(options?.qid ?? 0, call)
      const tag = (buf as DmaBuffer | undefined)?.[DMA]
      if (tag !== undefined) {
        const count = nlb ?? wholeBlocks(call, buf, geometry)
        if (ns.fits(buf, tag, slba, count)) {
          return sendTransfer(queue, geometry, opc, buf, tag, slba, count, options)
        }
      }
      return this.transferAny(queue, opc, call, buf, tag, slba, nlb, options)
    } catch (error) {
      return rejectPaced(error)
    }
  }

  // What is not in DMA memory, or not known to be, or can't be sent.
  private transferAny<B extends Uint8Array>(
    queue: IoQueue,
    opc: number,
    call: string,
    buf: B,
    known: DmaTag | undefined,
    slba: number,
    nlb: number | undefined,
    options: CallOptions | undefined,
  ): Promise<B> {
    const { geometry, pool } = this.ns
    const { blocksize } = geometry
    checkBytes(call, buf)
    const count = nlb ?? wholeBlocks(call, buf, geometry)
    checkRange(call, slba, count, geometry)
    const bytes = count * blocksize
    if (bytes > buf.length) {
      throw new OutOfRangeError(`${call}: ${count} blocks need ${bytes} bytes, the buffer has ${buf.length}`)
    }
    // A part of DMA memory may come here for the first time.
    const tag = known ?? tagPart(buf)
    // An error, for another device's, too: what a freed buffer shows is no data, and must not be written.
    if (tag !== undefined && tag.allocation.owner === null) pool.tagOf(buf, call)
    if (tag === undefined || (tag.lo & (ALIGNMENT - 1)) !== 0 || tag.allocation.pool !== pool) {
      const lent = this.lends && opc === READ && !options?.signal?.aborted ? pool.lend(buf) : null
      if (lent !== null) return sendLent(queue, geometry, buf, lent, slba, count, options)
      if (bytes <= BOUNCE_BYTES && bytes === buf.length) return this.bounced(queue, opc, buf, slba, options)
      return this.copied(queue, opc, buf, slba, count, options)
    }
    return sendTransfer(queue, geometry, opc, buf, tag, slba, count, options)
  }

  private copied<B extends Uint8Array>(
    queue: IoQueue,
    opc: number,
    buf: B,
    slba: number,
    nlb: number,
    options: CallOptions | undefined,
  ): Promise<B> {
    const { blocksize } = this.ns.geometry
    const bytes = nlb * blocksize
    const step = Math.max(1, Math.floor(BOUNCE_BYTES / blocksize))
    if (nlb <= step && bytes === buf.length) return this.bounced(queue, opc, buf, slba, options)
    return this.copiedInPart(queue, opc, buf, bytes, slba, step * blocksize, options)
  }

  private async copiedInPart<B extends Uint8Array>(
    queue: IoQueue,
    opc: number,
    buf: B,
    bytes: number,
    slba: number,
    pieceBytes: number,
    options: CallOptions | undefined,
  ): Promise<B> {
    const data = buf.subarray(0, bytes)
    if (bytes <= pieceBytes) await this.bounced(queue, opc, data, slba, options)
    else await this.inPieces(queue, opc, data, slba, pieceBytes, options)
    return buf
  }

  // Several pieces at a time; after a failure those that were sent are waited for, and the first failure of the range is the one that is thrown.
  private async inPieces(
    queue: IoQueue,
    opc: number,
    buf: Uint8Array,
    slba: number,
    pieceBytes: number,
    options: CallOptions | undefined,
  ): Promise<void> {
    const { geometry } = this.ns
    const { blocksize } = geometry
    // A transfer to another thread empties the buffer.
    const bytes = buf.length
    let next = 0
    // A namespace that is closed takes no more pieces, and waits for those that were sent.
    let ended = () => {}
    const end = new Promise<void>((resolve) => {
      ended = resolve
    })
    const forget = this.ns.onClose(() => end)
    const failures: { at: number; error: unknown }[] = []
    const work = async () => {
      while (next < bytes && failures.length === 0) {
        const at = next
        next += pieceBytes
        try {
          const error = errorIfTaken(opc, bytes / blocksize, geometry, buf)
          if (error !== null) throw error
          await this.bounced(queue, opc, buf.subarray(at, next), slba + at / blocksize, options)
        } catch (error) {
          failures.push({ at, error })
        }
      }
    }
    const pieces = Math.ceil(bytes / pieceBytes)
    await Promise.all(Array.from({ length: Math.min(PIECES, pieces) }, work))
    forget()
    ended()
    failures.sort((a, b) => a.at - b.at)
    if (failures.length > 0) throw failures[0]!.error
  }

  private bounced<B extends Uint8Array>(
    queue: IoQueue,
    opc: number,
    buf: B,
    slba: number,
    options: CallOptions | undefined,
  ): Promise<B> {
    // Nothing is taken for what is not sent.
    if (options?.signal?.aborted) return rejectPaced(new AbortError(options.signal.reason))
    const { geometry } = this.ns
    const nlb = buf.length >>> geometry.blockshift
    const bounce = this.bounces.take(buf.length)
    if (bounce === null) return this.bouncedLater(queue, opc, buf, slba, nlb, options)
    return sendBounced(queue, geometry, opc, buf, bounce, slba, nlb, options) as Promise<B>
  }

  private async bouncedLater<B extends Uint8Array>(
    queue: IoQueue,
    opc: number,
    buf: B,
    slba: number,
    nlb: number,
    options: CallOptions | undefined,
  ): Promise<B> {
    const { geometry } = this.ns
    const bounce = await this.bounces.wait(nlb * geometry.blocksize, options?.signal)
    return sendBounced(queue, geometry, opc, buf, bounce, slba, nlb, options) as Promise<B>
  }

  /** What a console shows of it: which namespace's calls they are. */
  [inspect.custom](depth: number, options: InspectOptions): string {
    return summary('NamespacePromises', this.toJSON(), depth, options)
  }

  /** For JSON.stringify: what a console shows. */
  toJSON() {
    const { device, geometry } = this.ns
    return { device, id: geometry.nsid }
  }

  /** @internal Ends what waits for a bounce buffer, and gives them back: other namespaces may go on with the pool. */
  close(): void {
    this.bounces.close()
  }

  private async range(
    opc: number,
    call: string,
    slba: number,
    nlb: number,
    options: CallOptions,
  ): Promise<void> {
    const { ns } = this
    try {
      checkCallOptions(call, options)
      const queue = ns.queue(options.qid ?? 0, call)
      checkRange(call, slba, nlb, ns.geometry)
      await send(queue, prepareRange(queue, ns.geometry, opc, slba, nlb), options)
    } catch (error) {
      return rejectPaced(error)
    }
  }
}

/** Blocks of a buffer whose length says how many are meant: a rest that is left out unseen would be data lost. */
function wholeBlocks(call: string, { length }: Uint8Array, { blocksize, blockshift }: Geometry): number {
  // A shift in place of a division, where V8 has the length as a small integer.
  if (length > 0 && length <= MAX_INT && (length & (blocksize - 1)) === 0) return length >>> blockshift
  if (length > 0 && length % blocksize === 0) return length / blocksize
  throw new OutOfRangeError(
    `${call}: buf has ${length} bytes, which are no whole number of blocks of ${blocksize}; nlb says how many are meant`,
  )
}

/** Bytes of the largest bounce buffer. */
export const BOUNCE_BYTES = 128 * 1024
// A page, the least that memory is given in, as a power of two.
const LEAST_SHIFT = 12
// A full queue of small ones many times over, and of the largest as many as keep any device busy.
const MOST_BYTES = 128 * BOUNCE_BYTES

interface Waiter {
  readonly bytes: number
  readonly resolve: (bounce: Bounce) => void
  readonly reject: (error: Error) => void
  /** Ends the listening for its signal. */
  unwatch: () => void
}

/** The bounce buffers of one namespace. One count for all of them, since that of each is seldom in a processor's cache. */
class Bounces implements AllocationPool {
  private readonly pool: DmaPool
  private readonly device: string
  // By the power of two that their length is.
  private readonly idle: Bounce[][] = []
  private readonly waiters: Waiter[] = []
  private idleBytes = 0
  private usedBytes = 0
  private closed = false
  // Memory has been asked of another process, and waiters are served when it has answered.
  private growing = false
  // There is no more memory: none is asked for until some is given back.
  private full = false
  private readonly allocation: DmaAllocation

  /** @param device named in messages */
  constructor(pool: DmaPool, device: string) {
    this.pool = pool
    this.device = device
    this.allocation = { pool: this, owner: this, iova: 0, bytes: 0, users: 0, discarded: false }
  }

  /**
   * Memory for `bytes` (up to BOUNCE_BYTES, or one block), which holds anything; null where `wait` gives it later.
   * Throws ClosedError, OutOfMemoryError.
   */
  take(bytes: number): Bounce | null {
    if (this.closed) throw this.closedError()
    return this.waiters.length > 0 ? null : this.obtain(bytes)
  }

  /** The same, as soon as others give theirs back, or another process has taken more. Rejects with AbortError, ClosedError. */
  wait(bytes: number, signal: AbortSignal | undefined): Promise<Bounce> {
    return new Promise((resolve, reject) => {
      if (this.closed) return reject(this.closedError())
      if (signal?.aborted) return reject(new AbortError(signal.reason))
      const waiter: Waiter = { bytes, resolve, reject, unwatch() {} }
      this.waiters.push(waiter)
      if (signal === undefined) return
      waiter.unwatch = onAbort(signal, () => {
        this.waiters.splice(this.waiters.indexOf(waiter), 1)
        reject(new AbortError(signal.reason))
        // It may have been what kept smaller ones from being served.
        this.serve()
      })
    })
  }

  give(bounce: Bounce): void {
    const { length } = bounce.buffer
    this.usedBytes -= length
    this.full = false
    // A command without an answer may still write to it: it goes with the last of those.
    if (this.closed || bounce.memory.users > 0) this.pool.discard(bounce.buffer)
    else {
      this.idleBytes += length
      this.idle[shiftOf(length)]!.push(bounce)
    }
    if (this.waiters.length > 0) this.serve()
  }

  tagOf(buffer: Uint8Array): DmaTag {
    return this.pool.tagOf(buffer)
  }

  // Each is given back by its call, and none by its last user.
  reclaim(): void {}

  /** Gives everything back that is not in use, and the rest as soon as it is not. */
  close(): void {
    this.closed = true
    this.dropIdle()
    this.refuse(this.closedError())
  }

  private closedError(): Error {
    return new ClosedError(`${this.device} was closed`)
  }

  private serve(): void {
    while (this.waiters.length > 0) {
      const { bytes, resolve, reject, unwatch } = this.waiters[0]!
      try {
        const bounce = this.obtain(bytes)
        if (bounce === null) return
        resolve(bounce)
      } catch (error) {
        reject(error as Error)
      }
      this.waiters.shift()
      unwatch()
    }
  }

  private obtain(bytes: number): Bounce | null {
    const shift = shiftOf(bytes)
    this.idle[shift] ??= []
    const known = this.idle[shift].pop()
    const bounce = known ?? this.alloc(2 ** shift)
    if (bounce === null) return null
    if (known !== undefined) this.idleBytes -= 1 << shift
    this.usedBytes += 1 << shift
    return bounce
  }

  private make(bytes: number): Bounce {
    const { allocation } = this
    const buffer = this.pool.alloc(bytes)
    const { iova, lo, hi, allocation: memory } = this.pool.tagOf(buffer)
    return { allocation, iova, lo, hi, buffer, memory, home: this }
  }

  // What is idle in other sizes makes space. Null where there is none, and some will be given back.
  private alloc(bytes: number): Bounce | null {
    if (this.usedBytes + this.idleBytes + bytes > MOST_BYTES) this.dropIdle()
    if (this.usedBytes + bytes > MOST_BYTES) return null
    if (this.growing || this.full) return null
    try {
      const waiting = this.pool.ready([bytes])
      if (waiting === null) return this.make(bytes)
      this.grow(waiting)
      return null
    } catch (error) {
      return this.insteadOf(error, bytes)
    }
  }

  // What can be had without more memory: of other sizes, or by waiting until some is given back.
  private insteadOf(error: unknown, bytes: number): Bounce | null {
    if (!(error instanceof OutOfMemoryError)) throw error
    if (this.idleBytes > 0) {
      this.dropIdle()
      return this.alloc(bytes)
    }
    if (this.usedBytes === 0) throw error
    return null
  }

  // Where `alloc` would block until another process has taken more memory, that is waited for instead.
  private grow(waiting: Promise<void>): void {
    this.growing = true
    waiting.then(
      () => this.grown(null),
      (error) => this.grown(error),
    )
  }

  private grown(error: Error | null): void {
    this.growing = false
    if (this.closed) return
    if (error instanceof OutOfMemoryError && this.idleBytes > 0) this.dropIdle()
    else if (error instanceof OutOfMemoryError && this.usedBytes > 0) this.full = true
    else if (error !== null) this.refuse(error)
    if (!this.full) this.serve()
  }

  private refuse(error: Error): void {
    for (const { reject, unwatch } of this.waiters.splice(0)) {
      unwatch()
      reject(error)
    }
  }

  private dropIdle(): void {
    for (const bounces of this.idle) {
      for (const { buffer } of bounces?.splice(0) ?? []) this.pool.discard(buffer)
    }
    this.idleBytes = 0
  }
}

function shiftOf(bytes: number): number {
  return Math.max(LEAST_SHIFT, 32 - Math.clz32(bytes - 1))
}
