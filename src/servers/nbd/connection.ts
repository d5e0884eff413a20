// A connection after its negotiation: requests come in, commands go to the device, replies go out.
// What a turn has brought goes out in one write: heads and small data gathered in a buffer, large data from DMA
// memory as it is. One write is on its way at a time; what is done meanwhile keeps its memory, and where there is none
// left, or the client has as many requests as it may have, nothing more is read from the socket.

import type net from 'node:net'
import { NvmeError } from '../../../lib/errors.ts'
import { logger } from '../../../lib/log/index.ts'
import {
  CHUNK,
  CHUNK_BYTES,
  CHUNK_DONE,
  COMMAND,
  COMMAND_FLAG,
  EXTENT,
  NBD_ERROR,
  PAYLOAD_BYTES,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  SIMPLE_BYTES,
  TRANSMISSION,
  writeChunkHead,
  writeOffset,
  writeSimpleReply,
} from '../../../lib/nbd/protocol.ts'
import { STATUS } from '../../../lib/nvme/spec/status.ts'
import { readInto, unsentBytes } from '../../../lib/sys/read-into.ts'
import { BlockRequest, type BlockServer, type RequestOwner, TASK } from '../block-server.ts'
import { PART_BYTES } from '../memory.ts'
import { ALLOCATION_ID, type NbdExport, type Negotiated } from './negotiation.ts'

const log = logger('nbd')

/** A range of blocks, as block status tells it. */
export interface Extent {
  readonly bytes: number
  /** EXTENT. */
  readonly flags: number
}

/** An export that is served. */
export interface ServedExport extends NbdExport {
  readonly server: BlockServer
  readonly fastZeroes: boolean
  /** Where the device knows holes: extents of a range, up to `most`. Without this all is data. */
  readonly extents?: ((offset: number, bytes: number, most: number) => Promise<readonly Extent[]>) | undefined
}

export interface ConnectionLimits {
  /** Requests of a client at a time. */
  readonly requests: number
  /** Milliseconds in which something has to go on, while a reply is sent or half a request has come: LEAST_BYTES. */
  readonly stallTimeout: number
}

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const { READ, WRITE, FLUSH, ZEROES, DEALLOCATE } = TASK
const REQUEST_SIZE: number = REQUEST_BYTES
const MAGIC: number = REQUEST_MAGIC
const PART: number = PART_BYTES
const PART_SHIFT = Math.log2(PART_BYTES)
const INCOMING_BYTES = 64 * 1024
// What is left of a payload is read straight into its place from this many bytes on: below, requests after it come along.
const DIRECT_BYTES = 16 * 1024
/** What is gathered for one write. */
const GATHER_BYTES = 256 * 1024
// Data up to this many bytes is copied beside its head: cheaper than a piece of its own.
const COPIED_BYTES = 16 * 1024
// Of large data in one write, so that the memory of the first comes back before the last is sent.
const WRITE_BYTES = 4 * 2 ** 20
const HEAD_BYTES = CHUNK_BYTES + 8
const LONGEST_MESSAGE = 512
const EXTENTS = 2048
// A client that has half a request here, or a reply on its way, keeps memory: in stallTimeout this much has to go on.
const LEAST_BYTES = 64 * 1024
// A reply whose size is not known before.
const REPLY_ROOM = 64 + LONGEST_MESSAGE

/** What all connections of a server have in common: what is read into, and buffers for what is gathered. */
export class ConnectionBuffers {
  readonly incoming = Buffer.allocUnsafeSlow(INCOMING_BYTES)
  private readonly idle: Buffer[] = []

  take(): Buffer {
    return this.idle.pop() ?? Buffer.allocUnsafeSlow(GATHER_BYTES)
  }

  give(buffer: Buffer): void {
    if (this.idle.length < 8) this.idle.push(buffer)
  }
}

const NO_EXTENTS: readonly Extent[] = []

/** A request with its reply. */
class NbdRequest extends BlockRequest {
  command = 0
  /** NBD_ERROR of what was refused before it was started. */
  refusal = 0
  message = ''
  /** Of a write: bytes of its payload that have come. */
  received = 0
  requestFlags = 0
  /** Of a block status. */
  extents: readonly Extent[] = NO_EXTENTS
}

export class Connection implements RequestOwner {
  readonly closed: Promise<void>
  /** Requests that it has answered. */
  answered = 0

  private readonly socket: net.Socket
  private readonly target: ServedExport
  private readonly server: BlockServer
  private readonly structured: boolean
  private readonly allocation: boolean
  private readonly limits: ConnectionLimits
  private readonly buffers: ConnectionBuffers
  private readonly readOnly: boolean
  // Which of the server's queues it uses.
  private readonly queue: number

  // What comes: the head of a request in parts, the write whose payload is coming, and bytes to be skipped.
  private readonly head = Buffer.alloc(REQUEST_BYTES)
  private filled = 0
  private writing: NbdRequest | null = null
  private skipping = 0
  // The request that waits for memory; what has come and was not looked at yet.
  private blocked: NbdRequest | null = null
  private rest: Buffer | null = null
  // Until the first turn, in which nothing is read yet.
  private paused = true
  // Where the next read goes, where that is in the memory of `writing`.
  private direct: Buffer | null = null
  private feeding = false

  private readonly idle: NbdRequest[] = []
  private inUse = 0
  // Bytes of data of its requests: one client alone does not have all of the memory.
  private held = 0
  private readonly mostHeld: number
  // Done and not yet sent; and those whose data is being sent.
  private done: NbdRequest[] = []
  private next = 0
  private sending: NbdRequest[] = []
  private sendingBuffer: Buffer | null = null
  private flushArmed = false
  // No more requests are read: the client has said goodbye, or the server has; and nothing is sent any more.
  private ending = false
  private dead = false
  // Requests that have been read, and writes to the socket, with what had gone on at the last look.
  private begun = 0
  private sent = 0
  private readonly last = { begun: -1, sent: -1, bytesRead: 0, unsent: 0 }
  private readonly watch: NodeJS.Timeout
  private resolveClosed!: () => void

  constructor(
    { socket, target, structured, allocation }: Negotiated<ServedExport>,
    limits: ConnectionLimits,
    buffers: ConnectionBuffers,
    queue: number,
  ) {
    this.buffers = buffers
    this.queue = queue
    this.socket = readInto(
      socket,
      () => this.memoryToRead(),
      (buffer, bytes) => this.onBytes(buffer, bytes),
    )
    this.target = target
    this.server = target.server
    this.structured = structured
    this.allocation = allocation
    this.limits = limits
    this.mostHeld = this.server.memory.bytes / 4
    this.readOnly = (target.flags & TRANSMISSION.READ_ONLY) !== 0
    this.closed = new Promise((resolve) => {
      this.resolveClosed = resolve
    })
    this.watch = setInterval(() => this.look(), limits.stallTimeout).unref()
    this.socket.on('error', (error) => log('%s', error.message))
    this.socket.on('end', () => this.end())
    this.socket.on('close', () => this.die())
    // What had come before is first. A socket of TLS flows already.
    setImmediate(() => {
      this.paused = this.rest === null
      this.regulate()
    })
  }

  /** Takes no more requests; what is in flight is answered, then the connection ends. */
  end(): void {
    this.ending = true
    this.finishIfDone()
  }

  /** Ends it at once; commands in flight go on. */
  destroy(): void {
    this.socket.destroy()
    this.die()
  }

  private die(): void {
    if (this.dead) return
    this.dead = true
    this.ending = true
    if (this.blocked !== null) {
      this.server.memory.forget(this.blocked)
      this.recycle(this.blocked)
      this.blocked = null
    }
    if (this.writing !== null) this.recycle(this.writing)
    this.writing = null
    this.rest = null
    for (const request of this.done.splice(0).slice(this.next)) this.recycle(request)
    this.next = 0
    this.written()
    this.finishIfDone()
  }

  // A client that takes nothing, or sends a byte now and then, has memory that others wait for; one that says nothing has none.
  private look(): void {
    const { last, begun, sent, socket } = this
    const { bytesRead } = socket
    const unsent = unsentBytes(socket)
    const receiving = (this.filled > 0 || this.writing !== null || this.skipping > 0) && !this.paused
    const stalled =
      (receiving && begun === last.begun && bytesRead - last.bytesRead < LEAST_BYTES) ||
      (this.sendingBuffer !== null && sent === last.sent && last.unsent - unsent < LEAST_BYTES)
    // What has just come, or is just being sent, has its time from now on.
    last.begun = receiving ? begun : -1
    last.sent = this.sendingBuffer === null ? -1 : sent
    last.bytesRead = bytesRead
    last.unsent = unsent
    if (!stalled) return
    log('a client has not gone on for %d ms', this.limits.stallTimeout)
    this.destroy()
  }

  private finishIfDone(): void {
    if (!this.ending || this.inUse > (this.writing === null ? 0 : 1) || this.sendingBuffer !== null) return
    clearInterval(this.watch)
    if (!this.dead) {
      this.dead = true
      // Nothing more is read into its memory.
      this.socket.pause()
      if (this.writing !== null) this.recycle(this.writing)
      this.writing = null
      this.socket.end()
      this.socket.destroySoon()
    }
    this.resolveClosed()
  }

  // What comes

  // The rest of a long payload goes straight to where the device takes it from.
  private memoryToRead(): Buffer {
    const { writing } = this
    const { incoming } = this.buffers
    if (writing === null || this.rest !== null) return incoming
    const place = writing.skip + writing.received
    const offset = place & (PART - 1)
    const bytes = Math.min(writing.bytes - writing.received, PART - offset)
    if (bytes < DIRECT_BYTES) return incoming
    this.direct = writing.parts[place >>> PART_SHIFT]!.bytes.subarray(offset, offset + bytes)
    return this.direct
  }

  private onBytes(buffer: Buffer, bytes: number): void {
    if (this.ending) return
    const { direct, writing } = this
    if (direct !== null && buffer === direct) {
      this.direct = null
      // It is in its place already.
      writing!.received += bytes
      if (writing!.received === writing!.bytes) this.startWrite(writing!)
      this.regulate()
      return
    }
    this.feed(buffer.length === bytes ? buffer : buffer.subarray(0, bytes))
  }

  private feed(chunk: Buffer): void {
    if (this.rest !== null) {
      this.rest = Buffer.concat([this.rest, chunk])
      return
    }
    const used = this.parse(chunk)
    // A copy: the next read goes into the same memory.
    if (used < chunk.length && !this.ending) this.rest = Buffer.from(chunk.subarray(used))
    this.regulate()
  }

  // Whether the socket is read: not while something is left over.
  private regulate(): void {
    const wanted = this.rest !== null
    if (wanted === this.paused || this.dead) return
    this.paused = wanted
    if (wanted) this.socket.pause()
    else this.socket.resume()
  }

  private goOn(): void {
    if (this.rest === null || this.feeding || this.ending) return
    const chunk = this.rest
    this.rest = null
    const used = this.parse(chunk)
    if (used < chunk.length && !this.ending) this.rest = chunk.subarray(used)
    this.regulate()
  }

  /** Returns the bytes that were used: all, unless it has to wait. */
  private parse(chunk: Buffer): number {
    const { length } = chunk
    let at = 0
    this.feeding = true
    while (at < length && !this.ending && this.blocked === null) {
      if (this.writing !== null) {
        at = this.receive(this.writing, chunk, at)
        continue
      }
      if (this.skipping > 0) {
        const bytes = Math.min(this.skipping, length - at)
        this.skipping -= bytes
        at += bytes
        continue
      }
      if (this.inUse >= this.limits.requests || this.held >= this.mostHeld) break
      if (this.filled === 0 && length - at >= REQUEST_SIZE) {
        this.take(chunk, at)
        at += REQUEST_SIZE
        continue
      }
      const bytes = Math.min(REQUEST_SIZE - this.filled, length - at)
      chunk.copy(this.head, this.filled, at, at + bytes)
      this.filled += bytes
      at += bytes
      if (this.filled === REQUEST_SIZE) {
        this.filled = 0
        this.take(this.head, 0)
      }
    }
    this.feeding = false
    return at
  }

  private receive(request: NbdRequest, chunk: Buffer, from: number): number {
    const { parts, skip, bytes } = request
    let at = from
    while (at < chunk.length && request.received < bytes) {
      const place = skip + request.received
      const part = parts[place >>> PART_SHIFT]!
      const offset = place & (PART - 1)
      const count = Math.min(bytes - request.received, chunk.length - at, PART - offset)
      chunk.copy(part.bytes, offset, at, at + count)
      request.received += count
      at += count
    }
    if (request.received === bytes) this.startWrite(request)
    return at
  }

  private startWrite(request: NbdRequest): void {
    this.writing = null
    this.server.start(request)
  }

  private take(bytes: Buffer, at: number): void {
    if (bytes.readUInt32BE(at) !== MAGIC) {
      log('a request without its magic number')
      this.destroy()
      return
    }
    const command = bytes.readUInt16BE(at + 6)
    if (command === COMMAND.DISC) {
      this.end()
      return
    }
    const request = this.idle.pop() ?? new NbdRequest(this, this.server, this.queue)
    this.inUse++
    this.begun++
    request.command = command
    request.requestFlags = bytes.readUInt16BE(at + 4)
    request.cookieHigh = bytes.readUInt32BE(at + 8)
    request.cookieLow = bytes.readUInt32BE(at + 12)
    request.offset = bytes.readUInt32BE(at + 16) * 4294967296 + bytes.readUInt32BE(at + 20)
    request.bytes = bytes.readUInt32BE(at + 24)
    request.fua = (request.requestFlags & 1) !== 0 && command !== COMMAND.READ
    const refusal = this.refusal(request)
    if (refusal !== 0) {
      // Its payload comes all the same.
      if (command === COMMAND.WRITE) this.skipping = request.bytes
      request.refusal = refusal
      this.onDone(request)
      return
    }
    switch (command) {
      case COMMAND.READ:
        request.task = READ
        this.held += request.bytes
        if (this.server.reserve(request)) this.server.start(request)
        else this.blocked = request
        return
      case COMMAND.WRITE:
        request.task = WRITE
        request.received = 0
        this.held += request.bytes
        if (this.server.reserve(request)) this.writing = request
        else this.blocked = request
        return
      case COMMAND.FLUSH:
        request.task = FLUSH
        break
      case COMMAND.TRIM:
        request.task = DEALLOCATE
        break
      case COMMAND.WRITE_ZEROES:
        request.task = ZEROES
        request.keep = (request.requestFlags & COMMAND_FLAG.NO_HOLE) !== 0
        break
      case COMMAND.BLOCK_STATUS:
        void this.describe(request)
        return
      default:
        this.onDone(request)
        return
    }
    this.server.start(request)
  }

  private async describe(request: NbdRequest): Promise<void> {
    const { offset, bytes } = request
    const { extents } = this.target
    const all = [{ bytes, flags: 0 }]
    try {
      request.extents = extents === undefined ? all : await extents(offset, bytes, mostExtents(request))
    } catch (error) {
      request.error = error as Error
    }
    this.onDone(request)
  }

  /** NBD_ERROR, or 0 where it can be done. */
  private refusal(request: NbdRequest): number {
    const { command, offset, bytes, requestFlags } = request
    const { READ, WRITE, FLUSH, TRIM, WRITE_ZEROES, BLOCK_STATUS } = COMMAND
    if (command > BLOCK_STATUS) return refuse(request, NBD_ERROR.EINVAL, 'command is not known')
    if ((command === READ || command === WRITE) && bytes > this.server.mostBytes) {
      // So large a payload is no write: the connection would be busy with it for long.
      if (bytes > PAYLOAD_BYTES && command === WRITE) this.end()
      return refuse(request, NBD_ERROR.EINVAL, `${bytes} bytes, at most ${this.server.mostBytes} are taken`)
    }
    const unknown = requestFlags & ~(this.structured ? FLAGS[command]! : FLAGS[command]! & ~COMMAND_FLAG.DF)
    if (unknown !== 0)
      return refuse(request, NBD_ERROR.EINVAL, `flags ${unknown.toString(16)}h of the command`)
    if (command === FLUSH) return 0
    const changes = command === WRITE || command === TRIM || command === WRITE_ZEROES
    if (changes && this.readOnly) return refuse(request, NBD_ERROR.EPERM, 'the export is read-only')
    if (offset + bytes > this.target.bytes) {
      const error = changes ? NBD_ERROR.ENOSPC : NBD_ERROR.EINVAL
      return refuse(request, error, `offset ${offset}, ${bytes} bytes: the export has ${this.target.bytes}`)
    }
    if (bytes === 0) return refuse(request, NBD_ERROR.EINVAL, 'a length of 0')
    if (
      command === WRITE_ZEROES &&
      (requestFlags & COMMAND_FLAG.FAST_ZERO) !== 0 &&
      !this.target.fastZeroes
    ) {
      return refuse(request, NBD_ERROR.ENOTSUP, 'writing zeroes is as slow as writing')
    }
    if (command === BLOCK_STATUS && !this.allocation) {
      return refuse(request, NBD_ERROR.EINVAL, 'no context was agreed on')
    }
    return 0
  }

  onMemory(request: BlockRequest, failure: Error | null): void {
    if (this.blocked !== request) return
    this.blocked = null
    if (failure !== null) {
      const mine = request as NbdRequest
      if (mine.task === WRITE) this.skipping = mine.bytes
      this.held -= mine.bytes
      mine.refusal = NBD_ERROR.ENOMEM
      mine.message = failure.message
      this.onDone(mine)
    } else if (request.task === WRITE) this.writing = request as NbdRequest
    else this.server.start(request)
    // Of a write whose payload does not come any more nothing is left to be done.
    this.finishIfDone()
    this.goOn()
  }

  // What goes out

  onDone(request: BlockRequest): void {
    if (this.dead) {
      this.recycle(request as NbdRequest)
      this.finishIfDone()
      return
    }
    this.done.push(request as NbdRequest)
    if (this.flushArmed || this.sendingBuffer !== null) return
    this.flushArmed = true
    queueMicrotask(this.flush)
  }

  private recycle(request: NbdRequest): void {
    this.server.release(request)
    if (request.refusal === 0 && request.command <= COMMAND.WRITE) this.held -= request.bytes
    request.refusal = 0
    request.error = null
    request.message = ''
    request.extents = NO_EXTENTS
    this.inUse--
    this.idle.push(request)
  }

  private readonly flush = (): void => {
    this.flushArmed = false
    if (this.dead || this.sendingBuffer !== null || this.next === this.done.length) return
    const { socket } = this
    const buffer = this.buffers.take()
    this.sendingBuffer = buffer
    this.sent++
    socket.cork()
    // Of the buffer: what has been handed to the socket, and what is filled.
    let sent = 0
    let at = 0
    let large = 0
    while (this.next < this.done.length && large < WRITE_BYTES) {
      const request = this.done[this.next]!
      const reads = request.command === COMMAND.READ && request.error === null && request.refusal === 0
      const copied = reads && request.bytes <= COPIED_BYTES
      if (GATHER_BYTES - at < (copied ? HEAD_BYTES + request.bytes : this.roomFor(request))) break
      this.next++
      this.answered++
      at = this.writeHead(request, reads, buffer, at)
      if (copied) {
        const part = request.parts[0]!
        // A small read that is not aligned may be in two parts.
        if (request.parts.length === 1) {
          part.bytes.copy(buffer, at, request.skip, request.skip + request.bytes)
          at += request.bytes
        } else at = copyParts(request, buffer, at)
      } else if (reads) {
        if (at > sent) socket.write(buffer.subarray(sent, at))
        sent = at
        this.writeParts(request)
        large += request.bytes
        this.sending.push(request)
        continue
      }
      this.recycle(request)
    }
    if (this.next === this.done.length) {
      this.done.length = 0
      this.next = 0
    }
    // The last piece tells that all are out.
    socket.write(at > sent ? buffer.subarray(sent, at) : EMPTY, this.written)
    socket.uncork()
    this.goOn()
  }

  private readonly written = (): void => {
    const { sending } = this
    if (this.sendingBuffer !== null) this.buffers.give(this.sendingBuffer)
    this.sendingBuffer = null
    for (let i = 0; i < sending.length; i++) this.recycle(sending[i]!)
    sending.length = 0
    if (this.next < this.done.length) this.flush()
    this.finishIfDone()
    this.goOn()
  }

  private writeParts({ parts, skip, bytes }: NbdRequest): void {
    let left = bytes
    for (let i = 0; i < parts.length; i++) {
      const from = i === 0 ? skip : 0
      const count = Math.min(left, PART - from)
      this.socket.write(parts[i]!.bytes.subarray(from, from + count))
      left -= count
    }
  }

  private roomFor(request: NbdRequest): number {
    return request.command === COMMAND.BLOCK_STATUS ? REPLY_ROOM + EXTENTS * 8 : REPLY_ROOM
  }

  private writeHead(request: NbdRequest, reads: boolean, to: Buffer, at: number): number {
    const { cookieHigh: high, cookieLow: low, command, offset, bytes } = request
    const error =
      request.refusal !== 0 ? request.refusal : request.error === null ? 0 : errorOf(request.error)
    if (!this.structured) {
      writeSimpleReply(to, at, error, high, low)
      return at + SIMPLE_BYTES
    }
    if (error !== 0) return writeError(request, error, to, at)
    if (reads) {
      writeChunkHead(to, at, CHUNK_DONE, CHUNK.OFFSET_DATA, high, low, 8 + bytes)
      writeOffset(to, at + CHUNK_BYTES, offset)
      return at + CHUNK_BYTES + 8
    }
    if (command === COMMAND.BLOCK_STATUS) return this.writeStatus(request, to, at)
    writeChunkHead(to, at, CHUNK_DONE, CHUNK.NONE, high, low, 0)
    return at + CHUNK_BYTES
  }

  private writeStatus(request: NbdRequest, to: Buffer, at: number): number {
    const { extents, cookieHigh, cookieLow } = request
    let place = at + CHUNK_BYTES + 4
    for (const { bytes, flags } of extents) {
      to.writeUInt32BE(bytes, place)
      to.writeUInt32BE(flags & (EXTENT.HOLE | EXTENT.ZERO), place + 4)
      place += 8
    }
    writeChunkHead(to, at, CHUNK_DONE, CHUNK.BLOCK_STATUS, cookieHigh, cookieLow, place - at - CHUNK_BYTES)
    to.writeUInt32BE(ALLOCATION_ID, at + CHUNK_BYTES)
    return place
  }
}

const EMPTY = Buffer.alloc(0)
/** By command: the flags that it may have. FUA is taken by all. */
const FLAGS = [1 | 4, 1, 1, 1, 1, 1, 1 | 2 | 16, 1 | 8]

const mostExtents = ({ requestFlags }: NbdRequest) =>
  (requestFlags & COMMAND_FLAG.REQ_ONE) !== 0 ? 1 : EXTENTS

function refuse(request: NbdRequest, error: number, message: string): number {
  request.message = message
  return error
}

function writeError(request: NbdRequest, error: number, to: Buffer, at: number): number {
  const text = request.message || (request.error?.message ?? '')
  const bytes = to.write(text.slice(0, LONGEST_MESSAGE / 4), at + CHUNK_BYTES + 6, LONGEST_MESSAGE, 'utf8')
  writeChunkHead(to, at, CHUNK_DONE, CHUNK.ERROR, request.cookieHigh, request.cookieLow, 6 + bytes)
  to.writeUInt32BE(error, at + CHUNK_BYTES)
  to.writeUInt16BE(bytes, at + CHUNK_BYTES + 4)
  return at + CHUNK_BYTES + 6 + bytes
}

function copyParts({ parts, skip, bytes }: NbdRequest, to: Buffer, from: number): number {
  let at = from
  let left = bytes
  for (let i = 0; i < parts.length; i++) {
    const start = i === 0 ? skip : 0
    const count = Math.min(left, PART - start)
    parts[i]!.bytes.copy(to, at, start, start + count)
    at += count
    left -= count
  }
  return at
}

function errorOf(error: Error): number {
  if (!(error instanceof NvmeError)) return NBD_ERROR.EIO
  switch ((error.sct << 8) | error.sc) {
    case STATUS.NAMESPACE_WRITE_PROTECTED:
    case STATUS.RESERVATION_CONFLICT:
      return NBD_ERROR.EPERM
    case STATUS.CAPACITY_EXCEEDED:
    case STATUS.LBA_OUT_OF_RANGE:
      return NBD_ERROR.ENOSPC
    default:
      return NBD_ERROR.EIO
  }
}
