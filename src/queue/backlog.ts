// What a queue has not posted yet: long operations, command after command as there is room, and those that wait.
// Trade-off: strictly in order, so that a long operation holds up those behind it; in return none is starved.

import type { Queue } from '../../lib/nvme/host/queue.ts'
import { high32 } from '../../lib/nvme/pcie/prp.ts'
import { MAX_BLOCKS } from './geometry.ts'
import { KIND, type Operation } from './operation.ts'
import type { Metadata } from './shared-metadata.ts'

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const { TRANSFER, SINGLE } = KIND

/** The operations of one queue that are not posted as a whole. */
export class Backlog {
  /** Where the commands of namespaces with separate metadata point; null where there is no such namespace. */
  metadata: Metadata | null = null

  private readonly pair: Queue
  // By command identifier: the queue's operations, and which of an operation's blocks a command has.
  private readonly ops: (Operation | null)[]
  private readonly slba: Float64Array
  private readonly nlb: Uint32Array
  // Operations with blocks left to post, then those that have not begun, each in order.
  private readonly partial: Operation[] = []
  private readonly waiting: Operation[] = []

  /** @param ops where an operation is noted for each command that is posted of it, by command identifier */
  constructor(pair: Queue, ops: (Operation | null)[]) {
    this.pair = pair
    this.ops = ops
    this.slba = new Float64Array(ops.length)
    this.nlb = new Uint32Array(ops.length)
  }

  /** True where nothing waits, and every operation was posted as a whole. */
  get empty(): boolean {
    return this.partial.length === 0 && this.waiting.length === 0
  }

  /**
   * Posts what is left of an operation, as far as there is room; the rest follows by `continue`.
   * @returns false where nothing of it was ever posted
   */
  post(op: Operation): boolean {
    if (this.metadata !== null) this.metadata.point(this.pair, op)
    if (op.kind === SINGLE) return this.postSingle(op)
    const stride = strideOf(op)
    const blockBytes = op.kind === TRANSFER ? op.geometry.blocksize : 0
    while (op.sent < op.nlb) {
      const n = Math.min(op.nlb - op.sent, stride)
      const bytes = n * blockBytes
      if (!this.postRange(op, op.slba + op.sent, n, bytes)) {
        if (op.sent === 0) return false
        this.partial.push(op)
        return true
      }
      op.pending++
      op.sent += n
      const { lo } = op
      op.lo = (lo + bytes) | 0
      if (op.lo >>> 0 < lo >>> 0) op.hi = (op.hi + 1) | 0
    }
    op.pending--
    return true
  }

  private postSingle(op: Operation): boolean {
    const { pair } = this
    const { opc, geometry, lo, hi, bytes, cdw10, cdw11, cdw12, cdw13, cdw14, cdw15 } = op
    const withMetadata = op.metadata !== null
    if (withMetadata) pair.pointMetadata(op.mptrLo, op.mptrHi)
    const cid = pair.post(opc, geometry.nsid, lo, hi, bytes, cdw10, cdw11, cdw12, cdw13, cdw14, cdw15)
    // It is this command's alone.
    if (withMetadata) pair.pointMetadata(0, 0)
    if (cid < 0) return false
    this.ops[cid] = op
    return true
  }

  private postRange(op: Operation, slba: number, nlb: number, bytes: number): boolean {
    const { opc, geometry, lo, hi } = op
    const high = high32(slba)
    const dw12 = (nlb - 1) | (bytes === 0 ? 0 : geometry.flags)
    const cid = this.pair.post(opc, geometry.nsid, lo, hi, bytes, slba | 0, high, dw12, 0, 0, 0)
    if (cid < 0) return false
    this.ops[cid] = op
    this.slba[cid] = slba
    this.nlb[cid] = nlb
    return true
  }

  /** Holds an operation of which nothing was posted, until there is room. */
  wait(op: Operation): void {
    this.waiting.push(op)
  }

  /** Posts what there is room for now. */
  continue(): void {
    while (this.partial.length > 0 && this.pair.available > 0) {
      const op = this.partial.shift()!
      this.post(op)
    }
    while (this.partial.length === 0 && this.waiting.length > 0 && this.post(this.waiting[0]!)) {
      this.waiting.shift()
    }
  }

  /** Sends nothing more of a failed operation. */
  stop(op: Operation): void {
    const at = this.partial.indexOf(op)
    if (at < 0) return
    this.partial.splice(at, 1)
    op.pending--
  }

  /** Everything that is held, in order, which is no longer. */
  takeAll(): Operation[] {
    return [...this.partial.splice(0), ...this.waiting.splice(0)]
  }

  /** The first LBA of one command of an operation. */
  slbaOf(op: Operation, cid: number): number {
    return isOneCommand(op) ? op.slba : this.slba[cid]!
  }

  /** The number of blocks of one command of an operation. */
  nlbOf(op: Operation, cid: number): number {
    return isOneCommand(op) ? op.nlb : this.nlb[cid]!
  }
}

// Nothing is noted for its command.
function isOneCommand(op: Operation): boolean {
  return op.nlb <= strideOf(op)
}

function strideOf({ kind, geometry }: Operation): number {
  return kind === TRANSFER ? geometry.maxbpio : MAX_BLOCKS
}
