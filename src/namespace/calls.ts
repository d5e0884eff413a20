// UNVMe's calls on a namespace: memory, and reads, writes and other commands that are sent now and polled for, or
// done on return.
// Trade-off: they take DMA memory only and never wait for room; promises, streams and iterators do.

import { ClosedError, NoSuchQueueError, QueueFullError, QueueOwnerError } from '../../lib/errors.ts'
import type { DmaPool } from '../../lib/memory/pool.ts'
import { type DmaBuffer, type DmaTag, kDma } from '../../lib/memory/tag.ts'
import { NVM } from '../../lib/nvme/spec/opcodes.ts'
import { show } from '../../lib/sys/show.ts'
import type { Device } from '../controller/device.ts'
import { type Geometry, PAGE_SIZE } from '../queue/geometry.ts'
import { type IoQueue, spin } from '../queue/io-queue.ts'
import { type IoDescriptor, notInFlight, type Operation, STATE } from '../queue/operation.ts'
import {
  deallocateCommand,
  type IoCommand,
  type LbaRange,
  prepareCommand,
  prepareRange,
} from '../queue/prepare.ts'
import { ALIGNMENT, checkInteger, checkRange, explainTransfer } from '../queue/validate.ts'
import { NamespaceAttributes } from './attributes.ts'

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const { IN_FLIGHT, DONE } = STATE
const { READ, WRITE } = NVM
const DMA: typeof kDma = kDma
const ALIGNMENT_MASK = ALIGNMENT - 1
const MAX_INT = 0x7fff_ffff

/** The part of a namespace that is UNVMe's. */
export class NamespaceCalls extends NamespaceAttributes {
  /** @internal */
  readonly geometry: Geometry
  /** @internal */
  readonly pool: DmaPool
  /** @internal From the call of `close` on. */
  protected ending: Promise<void> | null = null

  // All of the device, and those that this thread may use.
  private readonly all: readonly IoQueue[]
  private readonly queues: readonly (IoQueue | undefined)[]

  constructor(device: Device, geometry: Geometry, address: string) {
    super(device, geometry, address)
    this.geometry = geometry
    this.all = device.queues
    this.queues = device.usable
    this.pool = device.controller.pool
  }

  /** True from the call of `close` on. */
  get closed(): boolean {
    return this.ending !== null
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
   * descriptor that is not in flight: each is reported once
   */
  apoll(iod: IoDescriptor, timeout = 0): boolean {
    const op = iod as Operation
    if (op?.state !== DONE) {
      if (op?.state !== IN_FLIGHT) throw notInFlight(iod)
      const { queue } = op
      queue.poll()
      if ((op.state as number) !== DONE && (timeout === 0 || !spin(queue, op, timeout))) return false
    }
    const error = op.field === 0 && op.cause === null ? null : op.takeError()
    op.queue.operations.give(op)
    if (error !== null) throw error
    return true
  }

  /** Reads, and returns when done: it blocks the event loop for that long. See `aread`. */
  read(qid: number, buf: Buffer, slba: number, nlb: number): void {
    this.finish(this.sendTransfer('read', READ, qid, buf, slba, nlb))
  }

  /** Writes, and returns when done. See `awrite`. */
  write(qid: number, buf: Buffer, slba: number, nlb: number): void {
    this.finish(this.sendTransfer('write', WRITE, qid, buf, slba, nlb))
  }

  /** Compares, and returns when done. See `acompare`. */
  compare(qid: number, buf: Buffer, slba: number, nlb: number): void {
    this.finish(this.sendTransfer('compare', NVM.COMPARE, qid, buf, slba, nlb))
  }

  /** Writes zeroes, and returns when done. See `awriteZeroes`. */
  writeZeroes(qid: number, slba: number, nlb: number): void {
    this.finish(this.sendRange('writeZeroes', NVM.WRITE_ZEROES, qid, slba, nlb))
  }

  /** Lets the controller check blocks, and returns when done. See `averify`. */
  verify(qid: number, slba: number, nlb: number): void {
    this.finish(this.sendRange('verify', NVM.VERIFY, qid, slba, nlb))
  }

  /** Completed writes are on the medium when it returns. See `aflush`. */
  flush(qid: number): void {
    this.finish(this.aflush(qid))
  }

  /** Deallocates ranges, and returns when done. See `adeallocate`. */
  deallocate(qid: number, ranges: readonly LbaRange[]): void {
    const buf = this.alloc(PAGE_SIZE)
    try {
      this.finish(this.adeallocate(qid, buf, ranges))
    } finally {
      this.pool.discard(buf)
    }
  }

  /** Any I/O command, done on return: dword 0 of its completion. */
  cmd(qid: number, command: IoCommand): number {
    const op = this.acmd(qid, command) as Operation
    this.finish(op)
    return op.result
  }

  // What they are made of

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
   * Small integers are told by a mask: most LBAs, without a step through floating point.
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
      `${call}: queue ${queue.qid} has ${queue.pair.inFlight} commands in flight, and room for no more; poll first`,
    )
  }

  private finish(iod: IoDescriptor): void {
    while (!this.apoll(iod, 1000));
  }

  private refuseQueue(call: string, qid: number): never {
    this.queue(qid, call)
    throw new ClosedError(`${call}: ${this.device} is closed`)
  }

  /** @internal Throws where the namespace is closed; `call` is named then. */
  protected check(call: string): void {
    if (this.ending !== null) throw new ClosedError(`${call}: ${this.device} is closed`)
  }
}
