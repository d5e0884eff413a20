// Ranges of bytes on a namespace, read, written and cleared for any number of clients: the NBD server's and the adapters' side of
// the command engine. A client's connection brings requests, which it makes once and uses again; an aligned one becomes
// commands without an allocation. Where a range begins or ends within a block, the block is read, changed and written, and
// until then no other request that changes any of its blocks is started, of this engine or another on the namespace.

import type { DmaPool } from '../../lib/memory/pool.ts'
import { DSM_RANGE_BYTES, encodeDsmAttributes, encodeDsmRanges } from '../../lib/nvme/spec/commands.ts'
import { NVM } from '../../lib/nvme/spec/opcodes.ts'
import type { BlockIo } from '../queue/block-io.ts'
import { type Geometry, MAX_BLOCKS } from '../queue/geometry.ts'
import type { IoQueue } from '../queue/io-queue.ts'
import type { Operation } from '../queue/operation.ts'
import { CommandEngine, type CommandOwner } from './command-engine.ts'
import { PART_BYTES, type Part, type PartHolder, ServerMemory } from './memory.ts'

export const TASK = { READ: 0, WRITE: 1, FLUSH: 2, ZEROES: 3, DEALLOCATE: 4 } as const

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const { READ, WRITE, FLUSH, ZEROES, DEALLOCATE } = TASK
const NVM_READ: number = NVM.READ
const NVM_WRITE: number = NVM.WRITE
const FUA = 2 ** 30
// Write Zeroes may deallocate what it clears.
const DEAC = 1 << 25
// Bytes of one write of a device without Write Zeroes.
const ZEROES_BYTES = 128 * 1024
const DSM_DEALLOCATE = encodeDsmAttributes({ ad: true })

/** What the device behind can do. */
export interface BlockCapabilities {
  readonly writeZeroes: boolean
  /** Write Zeroes may give the blocks back, too. */
  readonly zeroesDeallocate: boolean
  readonly deallocate: boolean
  /** Most blocks of one Write Zeroes, and of one range of Dataset Management; default: no limit of the device's. */
  readonly zeroesBlocks?: number
  readonly deallocateBlocks?: number
}

/** One request of a client. Its fields are set before it is given to the server, and left alone until it is done. */
export class BlockRequest implements PartHolder, CommandOwner {
  task: number = READ
  /** In bytes. */
  offset = 0
  bytes = 0
  /** On the medium before it is done. */
  fua = false
  /** ZEROES: blocks stay allocated. */
  keep = false
  /** Its memory: of a read what was read, of a write what is to be written, from `skip` of the first part on. */
  readonly parts: Part[] = []
  skip = 0
  /** How it ended. */
  error: Error | null = null
  /** Of its connection. */
  cookieHigh = 0
  cookieLow = 0
  readonly owner: RequestOwner
  private readonly server: BlockServer
  /** @internal Where its commands go. */
  readonly queue: IoQueue
  /** @internal The blocks that it touches, in whole. */
  first = 0
  end = 0
  /** @internal */
  aligned = true
  /** @internal Commands in flight. */
  pending = 0
  /** @internal The device may still write to its memory: a command had no answer. */
  lost = false
  /** @internal Its place among those that change blocks; -1 where it is not among them. */
  place = -1

  /** @param queue a number from 0 on, for each connection another: they are spread over the server's queues */
  constructor(owner: RequestOwner, server: BlockServer, queue = 0) {
    this.owner = owner
    this.server = server
    const { queues } = server.engine
    this.queue = queues[queue % queues.length]!
  }

  /** A command of it has ended. */
  onCommand(op: Operation): void {
    if (op.field !== 0 || op.cause !== null) {
      this.lost ||= op.lost
      this.error ??= op.takeError()
    }
    this.server.step(this)
  }

  /** @internal What it had to wait for has ended. */
  run(): void {
    this.server.run(this)
  }

  onParts(failure: Error | null): void {
    this.owner.onMemory(this, failure)
  }
}

/** A connection. */
export interface RequestOwner {
  /** Its request has the memory that it waited for, or will have none. */
  onMemory(request: BlockRequest, failure: Error | null): void
  /** Its request has ended. */
  onDone(request: BlockRequest): void
}

export interface BlockServerStats {
  /** Requests that were done. */
  reads: number
  writes: number
  flushes: number
  /** Ranges that were cleared or given back. */
  clears: number
  readBytes: number
  writtenBytes: number
  failed: number
  /** Requests that began or ended within a block. */
  unaligned: number
}

/** The requests in flight that change blocks of a namespace, by whichever engine. */
class Changes {
  private readonly changing: BlockRequest[] = []
  // Those that others may have to wait for.
  private unaligned = 0
  private readonly deferred: BlockRequest[] = []

  /**
   * False where it has to wait for others that change its blocks; it is run after them. What does not begin or end within
   * a block leaves the rest of no block to anyone, so that two such requests may overlap.
   */
  admit(request: BlockRequest): boolean {
    if (this.unaligned > 0 || !request.aligned) {
      if (!request.aligned) this.unaligned++
      const before = (other: BlockRequest) =>
        other.first < request.end && request.first < other.end && !(other.aligned && request.aligned)
      if (this.changing.some(before) || this.deferred.some(before)) {
        this.deferred.push(request)
        return false
      }
    }
    request.place = this.changing.push(request) - 1
    return true
  }

  leave(request: BlockRequest): void {
    const { changing } = this
    const last = changing.pop()!
    if (last !== request) {
      changing[request.place] = last
      last.place = request.place
    }
    request.place = -1
    if (!request.aligned) this.unaligned--
    if (this.deferred.length === 0) return
    for (const waiting of this.deferred.splice(0)) {
      if (!waiting.aligned) this.unaligned--
      if (this.admit(waiting)) waiting.run()
    }
  }
}

// By the memory of their controller, then by namespace.
const changesOf = new WeakMap<DmaPool, Map<number, Changes>>()

function findChanges({ pool, geometry: { nsid } }: BlockIo): Changes {
  const known = changesOf.get(pool) ?? new Map<number, Changes>()
  changesOf.set(pool, known)
  const changes = known.get(nsid) ?? new Changes()
  known.set(nsid, changes)
  return changes
}

export class BlockServer {
  readonly io: BlockIo
  readonly engine: CommandEngine
  readonly memory: ServerMemory
  readonly bytes: number
  readonly stats: BlockServerStats = {
    ...{ reads: 0, writes: 0, flushes: 0, clears: 0 },
    ...{ readBytes: 0, writtenBytes: 0, failed: 0, unaligned: 0 },
  }

  // Reads and writes go to that of their connection, everything else to this: a Flush is for all.
  private readonly queue: IoQueue
  private readonly can: BlockCapabilities
  private readonly geometry: Geometry
  private readonly fuaGeometry: Geometry
  private readonly changes: Changes
  // One block, for edges; who has it.
  private scratch: Buffer | null = null
  private edges: Promise<unknown> = Promise.resolve()
  private zeroes: Promise<Buffer> | null = null

  /**
   * @param bytes most memory for the data of requests
   * @param queues which queues of `io` it may use
   */
  constructor(io: BlockIo, can: BlockCapabilities, bytes: number, queues: readonly number[] = [0]) {
    this.io = io
    this.can = can
    this.engine = new CommandEngine(io, queues)
    this.queue = this.engine.queues[0]!
    this.changes = findChanges(io)
    this.memory = new ServerMemory(io.pool, bytes)
    const { geometry } = io
    this.geometry = geometry
    this.fuaGeometry = { ...geometry, flags: geometry.flags | FUA }
    this.bytes = geometry.blockcount * geometry.blocksize
  }

  /** Most bytes of one request that moves data. */
  get mostBytes(): number {
    return Math.min(this.memory.bytes / 2, 32 * PART_BYTES)
  }

  /**
   * Memory for a read or a write, for its whole blocks; its range is within the device.
   * @returns false where its owner will hear of it
   */
  reserve(request: BlockRequest): boolean {
    const { blockshift, blocksize } = this.geometry
    const { offset, bytes } = request
    const skip = offset & (blocksize - 1)
    request.skip = skip
    const whole = ((skip + bytes + blocksize - 1) >>> blockshift) << blockshift
    return this.memory.reserve(request, whole)
  }

  /** Gives its memory back. */
  release(request: BlockRequest): void {
    if (request.parts.length === 0) return
    if (request.lost) this.engine.afterLost(request.queue, this.memory.lose(request))
    else this.memory.release(request)
  }

  /** Starts a request, and calls its owner at the end. */
  start(request: BlockRequest): void {
    const { blocksize, blockshift } = this.geometry
    const { task, offset, bytes } = request
    this.engine.requests++
    request.error = null
    request.lost = false
    request.pending = 1
    if (task !== FLUSH) {
      const end = offset + bytes
      request.aligned = (offset & (blocksize - 1)) === 0 && (end & (blocksize - 1)) === 0
      if (offset <= 0x7fff_ffff && end <= 0x7fff_ffff) {
        request.first = offset >>> blockshift
        request.end = (end + blocksize - 1) >>> blockshift
      } else {
        request.first = Math.floor(offset / blocksize)
        request.end = Math.ceil(end / blocksize)
      }
      if (task === DEALLOCATE) {
        // A hint is for whole blocks, and touches no edges.
        request.aligned = true
        request.first = Math.ceil(offset / blocksize)
        request.end = Math.max(request.first, Math.floor(end / blocksize))
      } else if (!request.aligned) this.stats.unaligned++
      if (task !== READ && !this.changes.admit(request)) return
    }
    this.run(request)
  }

  /** Resolves when nothing is in flight, and what was written is on the medium. The memory is given back. */
  async close(): Promise<void> {
    await this.engine.settled()
    try {
      if (this.stats.writes + this.stats.clears > 0) await this.engine.flush()
    } finally {
      this.memory.close()
      for (const buffer of [this.scratch, await this.zeroes])
        if (buffer !== null) this.io.pool.discard(buffer)
    }
  }

  /** @internal Starts its commands. */
  run(request: BlockRequest): void {
    const { task, aligned } = request
    if (task === READ) this.transfer(request, NVM_READ, this.geometry)
    else if (task === WRITE && aligned) {
      this.transfer(request, NVM_WRITE, request.fua ? this.fuaGeometry : this.geometry)
    } else {
      this.runOther(request).then(
        () => this.step(request),
        (error) => {
          request.error ??= error
          this.step(request)
        },
      )
      return
    }
    this.step(request)
  }

  // All of its parts at once: the queue splits them, and holds what it has no space for.
  private transfer(request: BlockRequest, opc: number, geometry: Geometry): void {
    const { parts, queue } = request
    let slba = request.first
    for (let i = 0; i < parts.length; i++) {
      const { bytes, tag } = parts[i]!
      const nlb = bytes.length >>> geometry.blockshift
      request.pending++
      this.engine.transfer(request, queue, geometry, opc, bytes, tag, slba, nlb)
      slba += nlb
    }
  }

  private async runOther(request: BlockRequest): Promise<void> {
    const { task, first, end, fua } = request
    if (task === WRITE) {
      await this.withScratch((scratch) => this.fillEdges(request, scratch))
      this.transfer(request, NVM_WRITE, fua ? this.fuaGeometry : this.geometry)
      return
    }
    if (task === ZEROES) await this.clear(request)
    else if (task === DEALLOCATE) await this.deallocate(first, end - first)
    if (task === FLUSH || fua) await this.engine.flush()
  }

  // What the first and the last block hold beside the range is read into the memory that is written.
  private async fillEdges({ first, end, skip, bytes, parts }: BlockRequest, scratch: Buffer): Promise<void> {
    const { blocksize } = this.geometry
    const tail = (skip + bytes) % blocksize
    if (skip > 0) {
      await this.move(NVM_READ, scratch, first, 1)
      scratch.copy(parts[0]!.bytes, 0, 0, skip)
    }
    if (tail === 0) return
    if (skip === 0 || end - first > 1) await this.move(NVM_READ, scratch, end - 1, 1)
    const at = skip + bytes - (parts.length - 1) * PART_BYTES
    scratch.copy(parts[parts.length - 1]!.bytes, at, tail, blocksize)
  }

  private async clear({ first, end, offset, bytes, keep }: BlockRequest): Promise<void> {
    const { blocksize } = this.geometry
    const last = offset + bytes
    const from = Math.ceil(offset / blocksize)
    const to = Math.floor(last / blocksize)
    if (from > first) await this.clearEdge(first, offset, last)
    if (to < end && end - 1 >= from) await this.clearEdge(end - 1, offset, last)
    if (to > from) await this.clearBlocks(from, to - from, keep)
  }

  private clearEdge(block: number, offset: number, end: number): Promise<void> {
    const { blocksize } = this.geometry
    const start = block * blocksize
    return this.withScratch(async (scratch) => {
      await this.move(NVM_READ, scratch, block, 1)
      scratch.fill(0, Math.max(0, offset - start), Math.min(blocksize, end - start))
      await this.move(NVM_WRITE, scratch, block, 1)
    })
  }

  private async clearBlocks(slba: number, nlb: number, keep: boolean): Promise<void> {
    const { can } = this
    if (!can.writeZeroes) return this.writeZeroes(slba, nlb)
    const flags = keep || !can.zeroesDeallocate ? 0 : DEAC
    const most = Math.min(MAX_BLOCKS, can.zeroesBlocks ?? MAX_BLOCKS)
    for (let at = slba; at < slba + nlb; at += most) {
      const cdw12 = (Math.min(most, slba + nlb - at) - 1) | flags
      const cdw11 = Math.floor(at / 2 ** 32)
      await this.command(NVM.WRITE_ZEROES, null, at >>> 0, cdw11, cdw12)
    }
  }

  // On a device without Write Zeroes.
  private async writeZeroes(slba: number, nlb: number): Promise<void> {
    const zeroes = await this.takeZeroes()
    const step = ZEROES_BYTES / this.geometry.blocksize
    for (let at = slba; at < slba + nlb; at += step) {
      await this.move(NVM_WRITE, zeroes, at, Math.min(step, slba + nlb - at))
    }
  }

  // For all of them, whoever is first.
  private takeZeroes(): Promise<Buffer> {
    this.zeroes ??= this.io.pool.allocAsync(ZEROES_BYTES).catch((error) => {
      this.zeroes = null
      throw error
    })
    return this.zeroes
  }

  private async deallocate(slba: number, nlb: number): Promise<void> {
    if (nlb === 0 || !this.can.deallocate) return
    const most = this.can.deallocateBlocks ?? nlb
    await this.withScratch(async (scratch) => {
      const buf = scratch.subarray(0, DSM_RANGE_BYTES)
      for (let at = slba; at < slba + nlb; at += most) {
        scratch.set(encodeDsmRanges([{ slba: at, nlb: Math.min(most, slba + nlb - at) }]))
        await this.command(NVM.DATASET_MANAGEMENT, buf, 0, DSM_DEALLOCATE)
      }
    })
  }

  // One block of memory for one at a time.
  private withScratch<T>(work: (scratch: Buffer) => Promise<T>): Promise<T> {
    const turn = this.edges.then(async () => {
      // Whose command had no answer, may still be written to.
      if (this.scratch !== null && this.io.pool.tagOf(this.scratch).allocation.users > 0) {
        this.io.pool.discard(this.scratch)
        this.scratch = null
      }
      this.scratch ??= await this.io.pool.allocAsync(this.geometry.blocksize)
      return work(this.scratch)
    })
    this.edges = turn.catch(() => {})
    return turn
  }

  private move(opc: number, data: Buffer, slba: number, nlb: number): Promise<void> {
    const { engine, queue, geometry, io } = this
    return engine.promise((owner) =>
      engine.transfer(owner, queue, geometry, opc, data, io.pool.tagOf(data), slba, nlb),
    )
  }

  private command(opc: number, data: Buffer | null, cdw10: number, cdw11: number, cdw12 = 0): Promise<void> {
    const { engine, queue, io } = this
    const tag = data === null ? null : io.pool.tagOf(data)
    return engine.promise((owner) =>
      engine.send(engine.prepare(owner, queue, opc, tag, data?.length ?? 0, cdw10, cdw11, cdw12)),
    )
  }

  /** @internal One thing less that it waits for. */
  step(request: BlockRequest): void {
    if (--request.pending > 0) return
    const { stats } = this
    const { task, bytes, error } = request
    if (error !== null) stats.failed++
    else if (task === READ) {
      stats.reads++
      stats.readBytes += bytes
    } else if (task === WRITE) {
      stats.writes++
      stats.writtenBytes += bytes
    } else if (task === FLUSH) stats.flushes++
    else stats.clears++
    if (request.place >= 0) this.changes.leave(request)
    request.owner.onDone(request)
    this.engine.end()
  }
}
