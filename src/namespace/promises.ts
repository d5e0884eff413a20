// One-off reads, writes and other commands as promises, with any Buffer: `ns.promises`.
// Trade-off: DMA memory is used as it is; any other buffer is copied through DMA memory that is kept for that.

import { type InspectOptions, inspect } from 'node:util'
import { OutOfRangeError } from '../../lib/errors.ts'
import { type DmaBuffer, kDma } from '../../lib/memory/tag.ts'
import { NVM } from '../../lib/nvme/spec/opcodes.ts'
import { rejectPaced } from '../../lib/sys/event-loop.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import { summary } from '../../lib/sys/show.ts'
import type { Geometry } from '../queue/geometry.ts'
import type { IoQueue } from '../queue/io-queue.ts'
import {
  deallocateCommand,
  type IoCommand,
  type LbaRange,
  prepareCommand,
  prepareRange,
} from '../queue/prepare.ts'
import { send, sendTransfer } from '../queue/send.ts'
import { ALIGNMENT, checkBytes, checkOptions, checkRange, checkSignal } from '../queue/validate.ts'
import { BOUNCE_BYTES, Bounces } from './bounces.ts'
import type { Namespace } from './namespace.ts'

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
  if (options !== undefined) checkSignal(call, checkOptions(call, options, CALL_NAMES).signal)
}

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const DMA: typeof kDma = kDma
// Of a buffer that is longer than a bounce buffer: at a time.
const PIECES = 16

/**
 * `ns.promises`: calls with any Buffer or Uint8Array. They wait for room in the queue, and never block the event loop.
 */
export class NamespacePromises {
  private readonly ns: Namespace
  private readonly bounces: Bounces

  /** Made with its namespace. */
  constructor(ns: Namespace) {
    this.ns = ns
    this.bounces = new Bounces(ns.pool, ns.device)
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
    const buf = await ns.pool.allocAsync(ns.pagesize)
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
      return this.transferAny(queue, opc, call, buf, slba, nlb, options)
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
    slba: number,
    nlb: number | undefined,
    options: CallOptions | undefined,
  ): Promise<B> {
    const { geometry, pool, blocksize } = this.ns
    checkBytes(call, buf)
    const count = nlb ?? wholeBlocks(call, buf, geometry)
    checkRange(call, slba, count, geometry)
    const bytes = count * blocksize
    if (bytes > buf.length) {
      throw new OutOfRangeError(`${call}: ${count} blocks need ${bytes} bytes, the buffer has ${buf.length}`)
    }
    // A part of DMA memory that comes here for the first time, or was freed: which is an error.
    const tag = (buf as DmaBuffer)[kDma] ?? (pool.owns(buf) ? pool.tagOf(buf, call) : undefined)
    // Another device's, too: what a freed buffer shows is no data, and must not be written.
    if (tag?.allocation.owner === null) pool.tagOf(buf, call)
    if (tag === undefined || (tag.lo & (ALIGNMENT - 1)) !== 0 || tag.allocation.pool !== pool) {
      return this.copied(queue, opc, buf, slba, count, options)
    }
    return sendTransfer(queue, geometry, opc, buf, tag, slba, count, options)
  }

  private async copied<B extends Uint8Array>(
    queue: IoQueue,
    opc: number,
    buf: B,
    slba: number,
    nlb: number,
    options: CallOptions | undefined,
  ): Promise<B> {
    const { blocksize } = this.ns
    const bytes = nlb * blocksize
    const data = bytes === buf.length ? buf : buf.subarray(0, bytes)
    const step = Math.max(1, Math.floor(BOUNCE_BYTES / blocksize))
    if (nlb <= step) await this.bounced(queue, opc, data, slba, options)
    else await this.inPieces(queue, opc, data, slba, step * blocksize, options)
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
    const { blocksize } = this.ns
    let next = 0
    // A namespace that is closed takes no more pieces, and waits for those that were sent.
    let ended = () => {}
    const end = new Promise<void>((resolve) => {
      ended = resolve
    })
    const forget = this.ns.onClose(() => end)
    const failures: { at: number; error: unknown }[] = []
    const work = async () => {
      while (next < buf.length && failures.length === 0) {
        const at = next
        next += pieceBytes
        try {
          await this.bounced(queue, opc, buf.subarray(at, next), slba + at / blocksize, options)
        } catch (error) {
          failures.push({ at, error })
        }
      }
    }
    const pieces = Math.ceil(buf.length / pieceBytes)
    await Promise.all(Array.from({ length: Math.min(PIECES, pieces) }, work))
    forget()
    ended()
    failures.sort((a, b) => a.at - b.at)
    if (failures.length > 0) throw failures[0]!.error
  }

  private async bounced(
    queue: IoQueue,
    opc: number,
    buf: Uint8Array,
    slba: number,
    options: CallOptions | undefined,
  ): Promise<void> {
    const { ns, bounces } = this
    const nlb = buf.length / ns.blocksize
    const whole = bounces.take(buf.length) ?? (await bounces.wait(buf.length, options?.signal))
    try {
      if (opc !== NVM.READ) whole.set(buf)
      await sendTransfer(queue, ns.geometry, opc, whole, ns.pool.tagOf(whole), slba, nlb, options)
      if (opc === NVM.READ) whole.copy(buf, 0, 0, buf.length)
    } finally {
      bounces.give(whole)
    }
  }

  /** What a console shows of it: which namespace's calls they are. */
  [inspect.custom](depth: number, options: InspectOptions): string {
    return summary('NamespacePromises', this.toJSON(), depth, options)
  }

  /** For JSON.stringify: what a console shows. */
  toJSON() {
    const { device, id } = this.ns
    return { device, id }
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
function wholeBlocks(call: string, { length }: Uint8Array, { blocksize }: Geometry): number {
  if (length > 0 && length % blocksize === 0) return length / blocksize
  throw new OutOfRangeError(
    `${call}: buf has ${length} bytes, which are no whole number of blocks of ${blocksize}; nlb says how many are meant`,
  )
}
