// An open namespace: UNVMe's attributes and calls, and with them promises, streams and iterators, and its life.

import type { ReadableStream } from 'node:stream/web'
import { type InspectOptions, inspect } from 'node:util'
import {
  ClosedError,
  NoSuchQueueError,
  QueueFullError,
  QueueOwnerError,
  UnsupportedError,
} from '../../lib/errors.ts'
import type { DmaPool } from '../../lib/memory/pool.ts'
import { type DmaBuffer, type DmaTag, kDma } from '../../lib/memory/tag.ts'
import type { AdminCommand, AdminOptions, AdminResult } from '../../lib/nvme/host/admin-queue.ts'
import { getLbaStatus, type LbaStatusOptions } from '../../lib/nvme/host/lba-status.ts'
import type { PathChange, PathInfo } from '../../lib/nvme/paths/path.ts'
import type { LbaStatusList } from '../../lib/nvme/spec/lba-status.ts'
import { MAX_NSID, NVM } from '../../lib/nvme/spec/opcodes.ts'
import { rejectPaced } from '../../lib/sys/event-loop.ts'
import { show, summary } from '../../lib/sys/show.ts'
import { PAGE_BYTES } from '../../lib/sys/units.ts'
import type { Device, NamespaceController, OpeningOptions } from '../controller/device.ts'
import type { Geometry } from '../queue/geometry.ts'
import { type IoQueue, spin } from '../queue/io-queue.ts'
import { type IoDescriptor, notInFlight, type Operation, STATE } from '../queue/operation.ts'
import {
  deallocateCommand,
  type IoCommand,
  type LbaRange,
  prepareCommand,
  prepareRange,
} from '../queue/requests.ts'
import { collectStats, type Stats } from '../queue/stats.ts'
import {
  ALIGNMENT,
  checkInteger,
  checkOptions,
  checkRange,
  checkSignal,
  explainTransfer,
  SIGNAL_NAMES,
} from '../queue/validate.ts'
import type { QueueShare } from '../shares/share.ts'
import { SHARE_NAMES, type ShareOptions, shareQueues } from '../shares/share.ts'
import {
  BLOCKS_NAMES,
  type BlockIterator,
  type BlocksOptions,
  blocks,
  WRITE_BLOCKS_NAMES,
  type WriteBlocksOptions,
  type WriteSource,
  writeBlocks,
} from '../streams/blocks.ts'
import {
  READ_STREAM_NAMES,
  ReadStream,
  type ReadStreamOptions,
  WRITE_STREAM_NAMES,
  WriteStream,
  type WriteStreamOptions,
} from '../streams/node-streams.ts'
import {
  TRANSFER_FROM_NAMES,
  TRANSFER_TO_NAMES,
  type TransferFromOptions,
  type TransferSink,
  type TransferSource,
  type TransferToOptions,
  transferFrom,
  transferTo,
} from '../streams/transfer.ts'
import { type ReadableWebStreamOptions, readableWebStream, WEB_STREAM_NAMES } from '../streams/web-stream.ts'
import { NamespacePromises } from './promises.ts'

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const { IN_FLIGHT, DONE } = STATE
const { READ, WRITE } = NVM
const DMA: typeof kDma = kDma
const ALIGNMENT_MASK = ALIGNMENT - 1
const MAX_INT = 0x7fff_ffff
const PAGE_SHIFT = 12

/** An open namespace: what `open` gives. Closed by `close`, or at the end of an `await using`. */
export class Namespace implements AsyncDisposable {
  /** Namespace id. */
  readonly id!: number
  /** PCI vendor id, model, serial number and firmware revision of the controller. */
  readonly vid!: number
  readonly mn!: string
  readonly sn!: string
  readonly fr!: string
  /** The address it was opened by. */
  readonly device!: string
  /** LBAs of the namespace, and bytes in one: 2^blockshift. */
  readonly blockcount!: number
  readonly blocksize!: number
  readonly blockshift!: number
  /** Bytes in a memory page, 2^pageshift, and whole pages in the namespace. */
  readonly pagesize!: number
  readonly pageshift!: number
  readonly pagecount!: number
  /** Shift from blocks to pages, and blocks in a page (at least 1). */
  readonly bpshift!: number
  readonly nbpp!: number
  /** Most blocks and pages of one command; calls take any number and split. */
  readonly maxbpio!: number
  readonly maxppio!: number
  /** Most commands in flight in one queue: one less than its entries. */
  readonly maxiopq!: number
  /** Queues that are open, ids 0 to qcount - 1, and most that the device has. */
  readonly qcount!: number
  readonly maxqcount!: number
  /** Entries of each queue, and most that the device allows. */
  readonly qsize!: number
  readonly maxqsize!: number
  /** Active namespaces of the controller. */
  readonly nscount!: number
  /** One-off reads, writes and other commands as promises, with any Buffer. */
  readonly promises: NamespacePromises
  /** Buffers that came with shared queues, see `share`: DMA memory that the sharing thread sees, too. */
  readonly buffers: readonly Buffer[]

  readonly #device: Device
  readonly #closers = new Set<() => Promise<void>>()
  /** @internal */
  readonly geometry: Geometry
  /** @internal */
  readonly pool: DmaPool
  // From the call of `close` on.
  private ending: Promise<void> | null = null

  // All of the device, and those that this thread may use.
  private readonly all: readonly IoQueue[]
  private readonly queues: readonly (IoQueue | undefined)[]
  // Nothing can be waited for without turns of the event loop.
  private readonly eventDriven: boolean

  /** Made by `open` and `attach`. */
  constructor(device: Device, geometry: Geometry, address: string, buffers: readonly Buffer[] = []) {
    this.geometry = geometry
    this.pool = device.controller.pool
    this.all = device.queues
    this.queues = device.usable
    this.eventDriven = device.controller.transport.eventDriven === true
    Object.assign(this, attributesOf(device, geometry, address))
    device.provideMetadata(geometry)
    this.buffers = buffers
    this.#device = device.retain()
    this.promises = new NamespacePromises(this)
  }

  /** The controller: identify data, registers, admin commands. */
  get controller(): NamespaceController {
    return this.#device.controller
  }

  /** What has been done since open, and how full the queues were: all queues of the controller together. */
  get stats(): Stats {
    const { queues, controller } = this.#device
    return collectStats(queues, controller.recovery)
  }

  /** The paths to the namespace, where there are several: their state, and what went by them. Otherwise none. */
  get paths(): PathInfo[] {
    return this.controller.paths?.info(this.id) ?? []
  }

  /**
   * Calls `handler` when one of several paths is lost, returns, is given up, or changes its access (ANA). Returns what ends
   * that. Never called where there is one path.
   */
  onPathChange(handler: (change: PathChange) => void): () => void {
    return this.controller.paths?.onPathChange(handler) ?? (() => {})
  }

  /** Any admin command. */
  admin(command: AdminCommand, options: AdminOptions = {}): Promise<AdminResult> {
    try {
      this.check('admin')
      checkSignal('admin', checkOptions('admin', options, SIGNAL_NAMES).signal)
      return this.controller.admin(command, options)
    } catch (error) {
      return rejectPaced(error)
    }
  }

  /**
   * Which blocks are allocated, or can't be read: Get LBA Status (NVM command set 1.2, section 4.2.1), one command. Default:
   * all allocated blocks, as far as they fit in a list of 255 ranges; `cmpc` says whether there are more.
   * Rejects with NvmeError, Invalid Opcode or Invalid Field, where the controller does not have it.
   */
  lbaStatus(options: LbaStatusOptions = {}): Promise<LbaStatusList> {
    try {
      this.check('lbaStatus')
      checkSignal('lbaStatus', options.signal)
      return getLbaStatus(this.controller, this.id, options)
    } catch (error) {
      return rejectPaced(error)
    }
  }

  // Memory

  /** Zeroed DMA memory of `bytes` (1 to 2 GiB); any part that starts at a multiple of 512 is an I/O buffer. */
  alloc(bytes: number): Buffer {
    this.check('alloc')
    checkInteger('alloc: size', bytes, 1, 2 ** 31)
    return this.pool.alloc(bytes)
  }

  /** Gives DMA memory back; views of it become harmless. Throws where commands in flight still use it. */
  free(buf: Buffer): void {
    this.pool.free(buf)
  }

  // UNVMe's calls: send now and poll, or return when done

  /**
   * Sends a read of `nlb` blocks from `slba` into `buf`, and returns at once.
   *
   * @param qid queue, from 0 to qcount - 1
   * @param buf DMA memory from `alloc`, or a part of it at a multiple of 512
   * @returns a descriptor for `apoll`, which reports it once
   * @throws QueueFullError where no command can be sent now; ArgumentTypeError, OutOfRangeError,
   * NotDmaMemoryError, FreedBufferError, AlignmentError, NoSuchQueueError, ClosedError
   */
  aread(qid: number, buf: Buffer, slba: number, nlb: number): IoDescriptor {
    return this.sendTransfer('aread', READ, qid, buf, slba, nlb)
  }

  /** Sends a write: see `aread`. */
  awrite(qid: number, buf: Buffer, slba: number, nlb: number): IoDescriptor {
    return this.sendTransfer('awrite', WRITE, qid, buf, slba, nlb)
  }

  /** Sends a compare of the blocks with `buf`; the descriptor fails with Compare Failure (sct 2, sc 85h). */
  acompare(qid: number, buf: Buffer, slba: number, nlb: number): IoDescriptor {
    return this.sendTransfer('acompare', NVM.COMPARE, qid, buf, slba, nlb)
  }

  /** Sends Write Zeroes: the blocks read as zeroes from then on. */
  awriteZeroes(qid: number, slba: number, nlb: number): IoDescriptor {
    return this.sendRange('awriteZeroes', NVM.WRITE_ZEROES, qid, slba, nlb)
  }

  /** Sends Verify: the controller reads and checks the blocks, and transfers nothing. */
  averify(qid: number, slba: number, nlb: number): IoDescriptor {
    return this.sendRange('averify', NVM.VERIFY, qid, slba, nlb)
  }

  /** Sends Flush: completed writes are on the medium when it is done. */
  aflush(qid: number): IoDescriptor {
    return this.acmd(qid, { opcode: NVM.FLUSH })
  }

  /**
   * Sends Dataset Management, deallocate, for up to 256 ranges.
   * @param buf DMA memory that the ranges are written into: 16 bytes for each
   */
  adeallocate(qid: number, buf: Buffer, ranges: readonly LbaRange[]): IoDescriptor {
    return this.acmd(qid, deallocateCommand(buf, ranges, this.geometry))
  }

  /** Sends any I/O command as it is; dword 0 of its completion is what `cmd` returns. */
  acmd(qid: number, command: IoCommand): IoDescriptor {
    const queue = this.queue(qid, 'acmd')
    const op = prepareCommand('acmd', queue, this.geometry, this.pool, command)
    return this.start('acmd', queue, op)
  }

  /**
   * Looks once whether an operation is done, or for up to `timeout` ms, without returning to the event loop.
   * @returns true when done, false when not yet
   * @throws the operation's own NvmeError, CommandTimeoutError, DeviceRemovedError, …; DescriptorError for a
   * descriptor that is not in flight: each is reported once. UnsupportedError for a `timeout` on a device whose
   * completions come by the event loop alone
   */
  apoll(iod: IoDescriptor, timeout = 0): boolean {
    const op = iod as Operation
    if (op?.state !== DONE) {
      if (op?.state !== IN_FLIGHT) throw notInFlight(iod)
      const { queue } = op
      queue.poll()
      if (timeout !== 0 && this.eventDriven && (op.state as number) !== DONE) this.refuseToWait('apoll')
      if ((op.state as number) !== DONE && (timeout === 0 || !spin(queue, op, timeout))) return false
    }
    const error = op.field === 0 && op.cause === null ? null : op.takeError()
    op.queue.operations.give(op)
    if (error !== null) throw error
    return true
  }

  /** Reads, and returns when done: it blocks the event loop for that long. See `aread`. */
  read(qid: number, buf: Buffer, slba: number, nlb: number): void {
    if (this.eventDriven) this.refuseToWait('read')
    this.finish(this.sendTransfer('read', READ, qid, buf, slba, nlb))
  }

  /** Writes, and returns when done. See `awrite`. */
  write(qid: number, buf: Buffer, slba: number, nlb: number): void {
    if (this.eventDriven) this.refuseToWait('write')
    this.finish(this.sendTransfer('write', WRITE, qid, buf, slba, nlb))
  }

  /** Compares, and returns when done. See `acompare`. */
  compare(qid: number, buf: Buffer, slba: number, nlb: number): void {
    if (this.eventDriven) this.refuseToWait('compare')
    this.finish(this.sendTransfer('compare', NVM.COMPARE, qid, buf, slba, nlb))
  }

  /** Writes zeroes, and returns when done. See `awriteZeroes`. */
  writeZeroes(qid: number, slba: number, nlb: number): void {
    if (this.eventDriven) this.refuseToWait('writeZeroes')
    this.finish(this.sendRange('writeZeroes', NVM.WRITE_ZEROES, qid, slba, nlb))
  }

  /** Lets the controller check blocks, and returns when done. See `averify`. */
  verify(qid: number, slba: number, nlb: number): void {
    if (this.eventDriven) this.refuseToWait('verify')
    this.finish(this.sendRange('verify', NVM.VERIFY, qid, slba, nlb))
  }

  /** Completed writes are on the medium when it returns. See `aflush`. */
  flush(qid: number): void {
    if (this.eventDriven) this.refuseToWait('flush')
    this.finish(this.aflush(qid))
  }

  /** Deallocates ranges, and returns when done. See `adeallocate`. */
  deallocate(qid: number, ranges: readonly LbaRange[]): void {
    if (this.eventDriven) this.refuseToWait('deallocate')
    const buf = this.alloc(PAGE_BYTES)
    try {
      this.finish(this.adeallocate(qid, buf, ranges))
    } finally {
      this.pool.discard(buf)
    }
  }

  /** Any I/O command, done on return: dword 0 of its completion. */
  cmd(qid: number, command: IoCommand): number {
    if (this.eventDriven) this.refuseToWait('cmd')
    const op = this.acmd(qid, command) as Operation
    this.finish(op)
    return op.result
  }

  // Streams and iterators: see src/streams

  /** A Readable over a range of LBAs, as fs.createReadStream is over a file. */
  createReadStream(options: ReadStreamOptions = {}): ReadStream {
    this.check('createReadStream')
    return new ReadStream(this, checkOptions('createReadStream', options, READ_STREAM_NAMES))
  }

  /**
   * A WHATWG ReadableStream of bytes over a range of LBAs, as `readableWebStream` of fs.FileHandle is over a file.
   * Readers with a buffer of their own (`getReader({ mode: 'byob' })`) get it filled, and nothing is allocated.
   */
  readableWebStream(options: ReadableWebStreamOptions = {}): ReadableStream<Uint8Array> {
    this.check('readableWebStream')
    return readableWebStream(this, checkOptions('readableWebStream', options, WEB_STREAM_NAMES))
  }

  /** A Writable over a range of LBAs; its 'finish' means that the data is on the medium. */
  createWriteStream(options: WriteStreamOptions = {}): WriteStream {
    this.check('createWriteStream')
    return new WriteStream(this, checkOptions('createWriteStream', options, WRITE_STREAM_NAMES))
  }

  /** Iterates over a range of LBAs in chunks, reading ahead. Data is valid until the next step. */
  blocks(options: BlocksOptions = {}): BlockIterator {
    this.check('blocks')
    return blocks(this, checkOptions('blocks', options, BLOCKS_NAMES))
  }

  /** Writes what an iterable produces, chunk after chunk: the counterpart of `blocks`. */
  writeBlocks(source: WriteSource, options: WriteBlocksOptions = {}): Promise<number> {
    this.check('writeBlocks')
    return writeBlocks(this, source, checkOptions('writeBlocks', options, WRITE_BLOCKS_NAMES))
  }

  /**
   * Reads a range and hands its chunks to `sink`, in DMA memory, several at a time: what fs.write takes is written
   * without a copy in JavaScript. A chunk is `sink`'s until its promise is settled, and the device's after that.
   *
   * @param sink `(data, offset)`, with the offset in bytes from the start of the range; what it rejects with ends all.
   * It must not wait for `close`, which waits for it.
   * @returns the bytes read
   */
  transferTo(sink: TransferSink, options: TransferToOptions = {}): Promise<number> {
    this.check('transferTo')
    return transferTo(this, sink, checkOptions('transferTo', options, TRANSFER_TO_NAMES))
  }

  /**
   * Writes a range with what `source` fills DMA memory with, several buffers at a time: what fs.read gives is written
   * without a copy in JavaScript. A buffer is `source`'s until its promise is settled.
   *
   * @param source `(buffer, offset)` returns the bytes filled; fewer than `buffer` has are the end of all. Buffers after
   * it have been asked for by then. It must not wait for `close`, which waits for it.
   * @returns the bytes written, when they are on the medium
   */
  transferFrom(source: TransferSource, options: TransferFromOptions = {}): Promise<number> {
    this.check('transferFrom')
    return transferFrom(this, source, checkOptions('transferFrom', options, TRANSFER_FROM_NAMES))
  }

  /**
   * Shares queues with a worker thread, which has them with `attach(ticket)` until it closes its namespace or ends.
   * Meanwhile they can't be used here.
   *
   * @param qids one queue, or several; nothing may be in flight on them
   * @throws QueueOwnerError where one is shared already or in use; NoSuchQueueError; UnsupportedError where the
   * device can't be shared with another thread (`sim:` without `thread=1`), or `buffers` can't (over TCP)
   */
  share(qids: number | readonly number[], options: ShareOptions = {}): QueueShare {
    this.check('share')
    checkOptions('share', options, SHARE_NAMES)
    const queues = (typeof qids === 'number' ? [qids] : qids).map((qid) => this.queue(qid, 'share'))
    const share = shareQueues(this.#device, this.geometry, this.device, queues, options)
    share.onReturned(this.onClose(() => share.recall()))
    return share
  }

  // Life

  /** Another namespace of the same controller: it shares the queues, and is closed by itself. */
  async openNamespace(nsid: number, options: Pick<OpeningOptions, 'signal'> = {}): Promise<Namespace> {
    this.check('openNamespace')
    const { signal } = checkOptions('openNamespace', options, SIGNAL_NAMES)
    checkSignal('openNamespace', signal)
    checkInteger('openNamespace: nsid', nsid, 1, MAX_NSID)
    this.#device.retain()
    try {
      return new Namespace(this.#device, await this.#device.findGeometry(nsid, signal), this.device)
    } finally {
      await this.#device.release()
    }
  }

  /** Resets the controller: everything in flight on it is rejected with ControllerResetError. */
  async reset(how: 'controller' | 'subsystem' | 'function' = 'controller'): Promise<void> {
    this.check('reset')
    await this.#device.reset(how)
  }

  /** True from the call of `close` on. */
  get closed(): boolean {
    return this.ending !== null
  }

  /**
   * Ends streams and iterators of this namespace, waits for their commands, and with the last namespace shuts
   * the controller down. Calls on it are rejected from now on.
   */
  close(): Promise<void> {
    this.ending ??= this.#close()
    return this.ending
  }

  async #close(): Promise<void> {
    this.promises.close()
    // What fails, as the last flush of what was written, is thrown when all have ended and the device is free.
    const ends = await Promise.allSettled([...this.#closers].map((close) => close()))
    await this.#device.release()
    const failed = ends.find((end) => end.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** What a console shows of it: not the driver behind it. */
  [inspect.custom](depth: number, options: InspectOptions): string {
    return summary('Namespace', this.toJSON(), depth, options)
  }

  /** For JSON.stringify: what a console shows. */
  toJSON() {
    const { device, id, mn, sn, blockcount, blocksize, qcount, qsize, closed } = this
    return { device, id, mn, sn, blockcount, blocksize, qcount, qsize, closed }
  }

  /** @internal What has to be ended before the namespace is closed; returns the call that takes it back. */
  onClose(close: () => Promise<void>): () => void {
    this.#closers.add(close)
    return () => this.#closers.delete(close)
  }

  // What UNVMe's calls are made of

  /** @internal The queue of an id, or an error that names it. */
  queue(qid: number, call: string): IoQueue {
    this.check(call)
    const queue = this.queues[qid]
    if (queue === undefined) {
      if (this.all[qid] !== undefined) {
        throw new QueueOwnerError(`${call}: queue ${qid} of ${this.device}: another thread has it`)
      }
      throw new NoSuchQueueError(
        `${call}: queue ${show(qid)}: ${this.device} is open with queues 0 to ${this.qcount - 1}`,
      )
    }
    return queue
  }

  /**
   * @internal True where a transfer may be sent: the hot path's test of all that `explainTransfer` tells apart.
   * Small integers are tested by a mask: most LBAs, without a step through floating point.
   */
  fits(buf: Uint8Array, { allocation, lo }: DmaTag, slba: number, nlb: number): boolean {
    const { blockcount, blockshift } = this.geometry
    return (
      ((slba & MAX_INT) === slba || (Number.isSafeInteger(slba) && slba >= 0)) &&
      (nlb & MAX_INT) === nlb &&
      nlb !== 0 &&
      slba <= blockcount - nlb &&
      nlb <= buf.length >>> blockshift &&
      allocation.owner === this.pool &&
      (lo & ALIGNMENT_MASK) === 0
    )
  }

  private sendTransfer(
    call: string,
    opc: number,
    qid: number,
    buf: Buffer,
    slba: number,
    nlb: number,
  ): IoDescriptor {
    const queue = this.queues[qid]
    const tag = (buf as DmaBuffer | undefined)?.[DMA]
    if (queue === undefined || tag === undefined || this.ending !== null || !this.fits(buf, tag, slba, nlb)) {
      return this.explain(call, opc, qid, buf, slba, nlb)
    }
    const op = queue.operations.take()
    return queue.transfer(op, this.geometry, opc, buf, tag, slba, nlb) ? op : this.full(call, queue, op)
  }

  // What the hot path does not take: wrong arguments, and parts of DMA memory, which are tagged on their first use.
  private explain(
    call: string,
    opc: number,
    qid: number,
    buf: Buffer,
    slba: number,
    nlb: number,
  ): IoDescriptor {
    const { geometry, pool } = this
    if (this.queues[qid] === undefined || this.ending !== null) return this.refuseQueue(call, qid)
    const untagged = buf instanceof Buffer && (buf as DmaBuffer)[DMA] === undefined
    if (!untagged || !pool.owns(buf)) throw explainTransfer(call, pool, geometry, buf, slba, nlb)
    return this.sendTransfer(call, opc, qid, buf, slba, nlb)
  }

  private sendRange(call: string, opc: number, qid: number, slba: number, nlb: number): IoDescriptor {
    const queue = this.queues[qid]
    if (queue === undefined || this.ending !== null) return this.refuseQueue(call, qid)
    checkRange(call, slba, nlb, this.geometry)
    return this.start(call, queue, prepareRange(queue, this.geometry, opc, slba, nlb))
  }

  private start(call: string, queue: IoQueue, op: Operation): IoDescriptor {
    return queue.start(op) ? op : this.full(call, queue, op)
  }

  private full(call: string, queue: IoQueue, op: Operation): never {
    queue.operations.give(op)
    throw new QueueFullError(
      `${call}: queue ${queue.qid} has ${queue.pair.inFlight} commands in flight, and space for no more; poll first`,
    )
  }

  private refuseToWait(call: string): never {
    this.check(call)
    throw new UnsupportedError(
      call === 'apoll'
        ? `apoll: a timeout on ${this.device}: it would keep out the event loop, by which completions come`
        : `${call}: ${this.device} can't be waited for without the event loop: use ns.promises.${call}, or a${call}`,
    )
  }

  private finish(iod: IoDescriptor): void {
    while (!this.apoll(iod, 1000));
  }

  private refuseQueue(call: string, qid: number): never {
    this.queue(qid, call)
    throw new ClosedError(`${call}: ${this.device} is closed`)
  }

  // Throws where the namespace is closed; `call` is named then.
  private check(call: string): void {
    if (this.ending !== null) throw new ClosedError(`${call}: ${this.device} is closed`)
  }
}

/** The attributes: everything of a namespace that is a number or a string, read once at open. */
type Attributes = {
  -readonly [Name in keyof Namespace as Namespace[Name] extends number | string
    ? Name
    : never]: Namespace[Name]
}

function attributesOf(device: Device, geometry: Geometry, address: string): Attributes {
  const { controller, qsize } = device
  const { vid, mn, sn, fr } = controller.identity
  const { nsid, blockcount, blocksize, blockshift, maxbpio } = geometry
  const bpshift = Math.max(0, PAGE_SHIFT - blockshift)
  return {
    id: nsid,
    ...{ vid, mn, sn, fr },
    device: address,
    ...{ blockcount, blocksize, blockshift },
    pagesize: PAGE_BYTES,
    pageshift: PAGE_SHIFT,
    pagecount: Math.floor((blockcount * blocksize) / PAGE_BYTES),
    bpshift,
    nbpp: 2 ** bpshift,
    maxbpio,
    maxppio: Math.floor((maxbpio * blocksize) / PAGE_BYTES),
    maxiopq: qsize - 1,
    qcount: device.queues.length,
    maxqcount: device.maxqcount,
    qsize,
    maxqsize: controller.cap.mqes,
    nscount: device.namespaces.length,
  }
}
