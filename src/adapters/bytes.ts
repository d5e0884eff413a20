// Any bytes of a namespace: reads, writes and clears at any position, in any length, from any buffer. It is the engine under
// the NBD server that reads, changes and writes the blocks at the edges, and locks them meanwhile: what several users of a
// namespace do at once leaves the bytes beside their ranges alone. Data is copied once, through a bounded amount of memory.

import { ArgumentTypeError, OutOfRangeError } from '../../lib/errors.ts'
import { ONCS } from '../../lib/nvme/spec/flags.ts'
import { show } from '../../lib/sys/show.ts'
import { Namespace } from '../namespace/namespace.ts'
import { checkBytes, checkInteger } from '../queue/validate.ts'
import {
  type BlockCapabilities,
  BlockRequest,
  BlockServer,
  type RequestOwner,
  TASK,
} from '../servers/block-server.ts'
import { limitsOf } from '../servers/clear-limits.ts'
import { PART_BYTES } from '../servers/memory.ts'

// Memory for the data of calls: more calls wait, in order.
const MEMORY_BYTES = 8 * PART_BYTES
// Of a range that is cleared, in one request: whole blocks of any size.
const CLEAR_BYTES = 2 ** 30
// Pieces of a long range at a time.
const PIECES = 8

class ByteRequest extends BlockRequest {
  /** What is written, or read into. */
  data: Uint8Array | null = null
  resolve: () => void = () => {}
  reject: (error: Error) => void = () => {}
}

/** The bytes of a namespace, see `bytes`. */
export class NamespaceBytes {
  /** Bytes of the namespace. */
  readonly size: number
  private readonly ns: Namespace
  private readonly engine: BlockServer
  private readonly can: BlockCapabilities
  // Asked for before the first range is cleared, since `bytes` does not wait.
  private limits: Promise<unknown> | null = null
  private readonly idle: ByteRequest[] = []
  private readonly owner: RequestOwner = {
    onMemory: (request, failure) => {
      if (failure === null) this.start(request as ByteRequest)
      else this.finish(request as ByteRequest, failure)
    },
    onDone: (request) => this.onDone(request as ByteRequest),
  }

  /** Made by `bytes`. */
  constructor(ns: Namespace) {
    const { oncs } = ns.controller.identity
    this.can = {
      writeZeroes: (oncs & ONCS.WRITE_ZEROES) !== 0,
      deallocate: (oncs & ONCS.DATASET_MANAGEMENT) !== 0,
      zeroesDeallocate: false,
    }
    this.ns = ns
    this.engine = new BlockServer(ns, this.can, MEMORY_BYTES)
    this.size = this.engine.bytes
    ns.onClose(() => this.engine.close())
  }

  /**
   * Reads `buffer.length` bytes from `position` on; `buffer` is left alone until then.
   * @returns `buffer`
   * @throws OutOfRangeError where the range ends after the namespace; ArgumentTypeError, ClosedError, QueueOwnerError,
   * NvmeError
   */
  async read<B extends Uint8Array>(buffer: B, position: number): Promise<B> {
    checkBytes('bytes.read', buffer)
    this.check('bytes.read', position, buffer.length)
    await this.inPieces(TASK.READ, 'bytes.read', position, buffer.length, PART_BYTES, buffer)
    return buffer
  }

  /**
   * Writes what `buffer` holds from `position` on; it must not be changed until this resolves. Of two writes of the same
   * bytes at a time, either's may be the ones that stay; bytes beside them are never lost.
   * @throws as `read`
   */
  async write(buffer: Uint8Array, position: number): Promise<void> {
    checkBytes('bytes.write', buffer)
    this.check('bytes.write', position, buffer.length)
    await this.inPieces(TASK.WRITE, 'bytes.write', position, buffer.length, PART_BYTES, buffer)
  }

  /** The range reads as zeroes when this resolves: by Write Zeroes where the device has it. Throws as `read`. */
  async zeroes(position: number, length: number): Promise<void> {
    this.check('bytes.zeroes', position, length)
    await this.findLimits()
    await this.inPieces(TASK.ZEROES, 'bytes.zeroes', position, length, CLEAR_BYTES, null)
  }

  /**
   * Tells the device that nothing of the range is needed, for the whole blocks in it; what they read as afterwards is the
   * device's affair. Does nothing on a device without Dataset Management. Throws as `read`.
   */
  async discard(position: number, length: number): Promise<void> {
    this.check('bytes.discard', position, length)
    await this.findLimits()
    await this.inPieces(TASK.DEALLOCATE, 'bytes.discard', position, length, CLEAR_BYTES, null)
  }

  /** What was written before is on the medium when this resolves. */
  async flush(): Promise<void> {
    await this.request(TASK.FLUSH, 'bytes.flush', 0, 0, null)
  }

  private onDone(request: ByteRequest): void {
    const { task, error, skip, parts, data } = request
    if (task === TASK.READ && error === null) data!.set(parts[0]!.bytes.subarray(skip, skip + data!.length))
    this.engine.release(request)
    this.finish(request, error)
  }

  private async findLimits(): Promise<void> {
    this.limits ??= limitsOf(this.ns).then((limits) => Object.assign(this.can, limits))
    try {
      await this.limits
    } catch (error) {
      this.limits = null
      throw error
    }
  }

  private check(call: string, position: number, length: number): void {
    checkInteger(`${call}: position`, position, 0)
    checkInteger(`${call}: length`, length, 0)
    if (length > this.size - position) {
      throw new OutOfRangeError(
        `${call}: ${length} bytes from position ${position} end after the ${this.size} bytes of ${this.ns.device}`,
      )
    }
  }

  // Pieces end at multiples of `step`, which are the edges of blocks: only the first and the last have others' bytes in them.
  // After a failure those that were sent are waited for, and the first of the range is thrown.
  private async inPieces(
    task: number,
    call: string,
    position: number,
    length: number,
    step: number,
    data: Uint8Array | null,
  ): Promise<void> {
    const end = position + length
    if (Math.floor(position / step) === Math.floor((end - 1) / step)) {
      return this.request(task, call, position, length, data)
    }
    let next = position
    const failures: { at: number; error: unknown }[] = []
    const work = async () => {
      while (next < end && failures.length === 0) {
        const at = next
        next = Math.min(end, (Math.floor(at / step) + 1) * step)
        const part = data === null ? null : data.subarray(at - position, next - position)
        try {
          await this.request(task, call, at, next - at, part)
        } catch (error) {
          failures.push({ at, error })
        }
      }
    }
    await Promise.all(Array.from({ length: Math.min(PIECES, Math.ceil(length / step) + 1) }, work))
    failures.sort((a, b) => a.at - b.at)
    if (failures.length > 0) throw failures[0]!.error
  }

  private request(
    task: number,
    call: string,
    offset: number,
    bytes: number,
    data: Uint8Array | null,
  ): Promise<void> {
    // Throws where the namespace is closed, or its queue is another thread's.
    this.ns.queue(0, call)
    if (bytes === 0 && task !== TASK.FLUSH) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const request = this.idle.pop() ?? new ByteRequest(this.owner, this.engine)
      Object.assign(request, { task, offset, bytes, data, resolve, reject, keep: true })
      if (data === null || this.engine.reserve(request)) this.start(request)
    })
  }

  private start(request: ByteRequest): void {
    if (request.task === TASK.WRITE) request.parts[0]!.bytes.set(request.data!, request.skip)
    this.engine.start(request)
  }

  private finish(request: ByteRequest, error: Error | null): void {
    const { resolve, reject } = request
    request.data = null
    if (this.idle.length < PIECES) this.idle.push(request)
    if (error === null) resolve()
    else reject(error)
  }
}

const known = new WeakMap<Namespace, NamespaceBytes>()

/**
 * The bytes of an open namespace: reads and writes at any position and in any length. It is one for each namespace, and
 * ends with it.
 *
 * Blocks that a range shares with others are locked against all that goes by `bytes`, the other adapters and NBD servers, of
 * this process. Blocks that `ns.write`, streams or another process write meanwhile are not.
 *
 * @throws ArgumentTypeError, ClosedError, QueueOwnerError where another thread has queue 0
 */
export function bytes(ns: Namespace): NamespaceBytes {
  if (!(ns instanceof Namespace)) {
    throw new ArgumentTypeError(`bytes: ns must be an open namespace, received ${show(ns)}`)
  }
  ns.queue(0, 'bytes')
  const found = known.get(ns) ?? new NamespaceBytes(ns)
  known.set(ns, found)
  return found
}
