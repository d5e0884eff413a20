// An open namespace: UNVMe's attributes and calls, and with them promises, streams and iterators, and its life.
// Trade-off: one class for users to find everything on; what it does is done elsewhere, by what it is named after.

import type { ReadableStream } from 'node:stream/web'
import { type InspectOptions, inspect } from 'node:util'
import type { AdminCommand, AdminOptions, AdminResult } from '../../lib/nvme/host/admin-queue.ts'
import { MAX_NSID } from '../../lib/nvme/spec/opcodes.ts'
import { rejectPaced } from '../../lib/sys/event-loop.ts'
import { summary } from '../../lib/sys/show.ts'
import type { Device, NamespaceController, OpeningOptions } from '../controller/device.ts'
import type { Geometry } from '../queue/geometry.ts'
import { collectStats, type Stats } from '../queue/stats.ts'
import { checkInteger, checkOptions, checkSignal, SIGNAL_NAMES } from '../queue/validate.ts'
import { BLOCKS_NAMES, type BlockIterator, type BlocksOptions, blocks } from '../streams/blocks.ts'
import { READ_STREAM_NAMES, ReadStream, type ReadStreamOptions } from '../streams/read-stream.ts'
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
import {
  WRITE_BLOCKS_NAMES,
  type WriteBlocksOptions,
  type WriteSource,
  writeBlocks,
} from '../streams/write-blocks.ts'
import { WRITE_STREAM_NAMES, WriteStream, type WriteStreamOptions } from '../streams/write-stream.ts'
import { LEND_NAMES, type LendOptions, lend } from '../threads/lend.ts'
import type { Loan } from '../threads/loan.ts'
import { NamespaceCalls } from './calls.ts'
import { NamespacePromises } from './promises.ts'

/** An open namespace: what `open` gives. Closed by `close`, or at the end of an `await using`. */
export class Namespace extends NamespaceCalls implements AsyncDisposable {
  /** One-off reads, writes and other commands as promises, with any Buffer. */
  readonly promises: NamespacePromises
  /** Buffers that came with lent queues, see `lend`: DMA memory that the lending thread sees, too. */
  readonly buffers: readonly Buffer[]

  readonly #device: Device
  readonly #closers = new Set<() => Promise<void>>()

  /** Made by `open` and `attach`. */
  constructor(device: Device, geometry: Geometry, address: string, buffers: readonly Buffer[] = []) {
    super(device, geometry, address)
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
   * Lends queues to a worker thread, which has them with `attach(ticket)` until it closes its namespace or ends.
   * Meanwhile they can't be used here.
   *
   * @param qids one queue, or several; nothing may be in flight on them
   * @throws QueueOwnerError where one is lent already or in use; NoSuchQueueError; UnsupportedError where the
   * device can't be shared with another thread (`sim:` without `thread=1`)
   */
  lend(qids: number | readonly number[], options: LendOptions = {}): Loan {
    this.check('lend')
    checkOptions('lend', options, LEND_NAMES)
    const queues = (typeof qids === 'number' ? [qids] : qids).map((qid) => this.queue(qid, 'lend'))
    const loan = lend(this.#device, this.geometry, this.device, queues, options)
    loan.onReturned(this.onClose(() => loan.recall()))
    return loan
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
    await Promise.all([...this.#closers].map((close) => close()))
    await this.#device.release()
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
}
