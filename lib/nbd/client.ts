// A client of an NBD server: one connection, with any number of requests on their way.
// Data is read from the socket straight into the caller's buffer, where it is more than a few KiB.

import net from 'node:net'
import {
  AbortError,
  AddressError,
  AuthenticationError,
  ClosedError,
  DeviceRemovedError,
  NbdError,
  ProtocolError,
  SetupError,
  UnsupportedError,
} from '../errors.ts'
import { onAbort, throwIfAborted } from '../sys/abort.ts'
import { readInto } from '../sys/read-into.ts'
import { parseNbdAddress } from './address.ts'
import { type Agreement, negotiate } from './negotiation.ts'
import {
  CHUNK,
  CHUNK_DONE,
  CHUNK_MAGIC,
  COMMAND,
  EXTENT,
  OPTION_BYTES,
  Payload,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  SIMPLE_MAGIC,
  TRANSMISSION,
} from './protocol.ts'

/** A range of bytes, from where the one before it ends. */
export interface NbdExtent {
  readonly bytes: number
  /** Takes no space; reads as zeroes. Both are false of what holds data, or may. */
  readonly hole: boolean
  readonly zero: boolean
}

interface Pending {
  readonly command: number
  readonly offset: number
  /** Of a read. */
  readonly into: Buffer | null
  readonly what: string
  /** Bytes of `into` that have come. */
  covered: number
  extents: NbdExtent[]
  error: Error | null
  /** Of a write: its data is still being sent, though the server may have answered. */
  sending: boolean
  answered: boolean
  resolve(extents: NbdExtent[]): void
  reject(error: Error): void
}

const INCOMING_BYTES = 64 * 1024
const DIRECT_BYTES = 16 * 1024
// Of one request for zeroes: servers take as long for it as writing them may take.
const ZEROES_BYTES = 2 ** 27
/** For a server to answer while the connection is made. */
const CONNECT_MS = 10_000
// A server whose machine has gone says nothing: the system asks after this time of silence.
const TCP_OPTIONS = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 }

/** Connects to an export. Rejects with SetupError, AddressError, ProtocolError, AuthenticationError, AbortError. */
export async function connectNbd(uri: string, signal?: AbortSignal): Promise<NbdClient> {
  const address = parseNbdAddress(uri)
  throwIfAborted(signal)
  const plain = net.connect({ ...address.where, ...TCP_OPTIONS } as net.NetConnectOpts)
  const timer = setTimeout(() => plain.destroy(new Error(`no answer within ${CONNECT_MS} ms`)), CONNECT_MS)
  const forget = onAbort(signal, () => plain.destroy(new AbortError(signal!.reason)))
  let failure: Error | undefined
  plain.on('error', (error) => {
    failure ??= error
  })
  try {
    await new Promise<void>((resolve, reject) => {
      plain.once('connect', resolve)
      plain.once('close', () => reject(failure ?? new Error('the connection was closed')))
    })
    return new NbdClient(uri, await negotiate(plain, address))
  } catch (error) {
    plain.destroy()
    if (failure instanceof AbortError) throw failure
    if (error instanceof ProtocolError || error instanceof AddressError) throw error
    if (error instanceof AuthenticationError) throw error
    const cause = failure ?? (error as Error)
    const text = cause.message || (cause as NodeJS.ErrnoException).code
    throw new SetupError(`${uri}: no connection: ${text}`, { cause })
  } finally {
    clearTimeout(timer)
    forget()
  }
}

/** A connection to an export. */
export class NbdClient {
  readonly uri: string
  /** Bytes of the export, of the least unit of a request, and of the largest request. */
  readonly size: number
  readonly least: number
  readonly most: number
  readonly readOnly: boolean
  /** Block status can be asked for. */
  readonly tellsExtents: boolean

  private readonly flags: number
  private readonly structured: boolean
  private readonly context: number | null
  private readonly socket: net.Socket
  private readonly pending = new Map<number, Pending>()
  // Of writes that begin or end within a block: one block after the other is read, changed and written.
  private edges: Promise<unknown> = Promise.resolve()
  private cookie = 0
  private failure: Error | null = null
  private corked = false
  // What comes: a head in parts, then what is left of it.
  private readonly incoming = Buffer.allocUnsafeSlow(INCOMING_BYTES)
  private head = Buffer.alloc(64)
  private filled = 0
  private wanted = 16
  private chunk = { type: 0, flags: 0, bytes: 0 }
  private current: Pending | null = null
  private currentCookie = 0
  private place = 0
  private left = 0
  private small: Buffer | null = null
  private direct: Buffer | null = null

  constructor(uri: string, { socket, size, flags, least, most, structured, context }: Agreement) {
    this.uri = uri
    this.size = size
    this.least = least
    this.most = most - (most % least)
    this.flags = flags
    this.readOnly = (flags & TRANSMISSION.READ_ONLY) !== 0
    this.structured = structured
    this.context = context
    this.tellsExtents = context !== null
    this.socket = readInto(
      socket,
      () => this.memoryToRead(),
      (buffer, bytes) => this.onBytes(buffer, bytes),
    )
    const gone = (cause?: Error) =>
      this.fail(
        new DeviceRemovedError(`${uri}: the connection has ended${cause ? `: ${cause.message}` : ''}`, {
          cause,
        }),
      )
    this.socket.on('error', gone)
    this.socket.on('end', () => gone())
    this.socket.on('close', () => gone())
    this.socket.resume()
  }

  /** Fills `into` from `offset` on: any bytes of the export. */
  async read(into: Buffer, offset: number): Promise<void> {
    const { least } = this
    if (offset % least === 0 && into.length % least === 0) {
      await this.split(into.length, (at, bytes) =>
        this.request(COMMAND.READ, 0, offset + at, bytes, into.subarray(at, at + bytes)),
      )
      return
    }
    const { start, hull } = this.hullOf(offset, into.length)
    await this.read(hull, start)
    hull.copy(into, 0, offset - start, offset - start + into.length)
  }

  /** Writes `data` at `offset`: any bytes of the export. */
  async write(data: Buffer, offset: number): Promise<void> {
    if (this.readOnly) throw new UnsupportedError(`${this.uri} is read-only`)
    const { least } = this
    if (offset % least === 0 && data.length % least === 0) {
      await this.split(data.length, (at, bytes) =>
        this.request(COMMAND.WRITE, 0, offset + at, bytes, null, data.subarray(at, at + bytes)),
      )
      return
    }
    // The server takes whole blocks: what is beside the data stays.
    const first = Math.min(data.length, (least - (offset % least)) % least)
    const last = Math.max(first, data.length - ((offset + data.length) % least))
    const edge = (from: number, to: number) => this.writeEdge(data.subarray(from, to), offset + from)
    await allOf([
      first > 0 ? edge(0, first) : null,
      last > first ? this.write(data.subarray(first, last), offset + first) : null,
      data.length > last ? edge(last, data.length) : null,
    ])
  }

  private writeEdge(data: Buffer, offset: number): Promise<void> {
    const turn = this.edges.then(async () => {
      const { start, hull } = this.hullOf(offset, data.length)
      await this.read(hull, start)
      data.copy(hull, offset - start)
      await this.write(hull, start)
    })
    this.edges = turn.catch(() => {})
    return turn
  }

  /**
   * The range reads as zeroes then, without their bytes; the server may free the space.
   * @returns false, with nothing done, where the server has no such request, or `offset` and `bytes` are no multiples of
   * `least`
   */
  async writeZeroes(offset: number, bytes: number): Promise<boolean> {
    if (this.readOnly) throw new UnsupportedError(`${this.uri} is read-only`)
    if ((this.flags & TRANSMISSION.SEND_WRITE_ZEROES) === 0) return false
    if (offset % this.least !== 0 || bytes % this.least !== 0) return false
    for (let done = 0; done < bytes; ) {
      const part = Math.min(bytes - done, ZEROES_BYTES)
      await this.request(COMMAND.WRITE_ZEROES, 0, offset + done, part)
      done += part
    }
    return true
  }

  /** What was written is on the medium when it resolves, where the server has an answer to that. */
  async flush(): Promise<void> {
    if ((this.flags & TRANSMISSION.SEND_FLUSH) !== 0) await this.request(COMMAND.FLUSH, 0, 0, 0)
  }

  /**
   * What the server knows of a range: extents from `offset` on, to its end. All of it is data where it says nothing.
   * `offset` is a multiple of `least`.
   */
  async extents(offset: number, bytes: number): Promise<NbdExtent[]> {
    const extents: NbdExtent[] = []
    for (let done = 0; done < bytes; ) {
      const left = bytes - done
      const asked = Math.min(Math.ceil(left / this.least) * this.least, 2 ** 30)
      const found = this.tellsExtents ? await this.request(COMMAND.BLOCK_STATUS, 0, offset + done, asked) : []
      for (const extent of found.length > 0 ? found : [{ bytes: left, hole: false, zero: false }]) {
        const length = Math.min(extent.bytes, bytes - done)
        if (length > 0) extents.push({ ...extent, bytes: length })
        done += length
      }
    }
    return extents
  }

  /** Says goodbye. What is still waited for is rejected. */
  async close(): Promise<void> {
    if (this.failure !== null) return
    const { socket } = this
    const idle = this.pending.size === 0 && socket.writableLength === 0
    if (idle) socket.end(this.encode(COMMAND.DISC, 0, 0, 0, 0))
    this.fail(new ClosedError(`${this.uri} was closed`))
    // What is still on its way goes into memory, or comes from memory, that is its caller's again.
    if (idle) socket.destroySoon()
    else socket.destroy()
  }

  private hullOf(offset: number, bytes: number): { start: number; hull: Buffer } {
    const start = offset - (offset % this.least)
    const end = Math.ceil((offset + bytes) / this.least) * this.least
    return { start, hull: Buffer.allocUnsafe(end - start) }
  }

  private async split(bytes: number, send: (at: number, bytes: number) => Promise<unknown>): Promise<void> {
    if (bytes <= this.most) {
      if (bytes > 0) await send(0, bytes)
      return
    }
    const parts: Promise<unknown>[] = []
    for (let at = 0; at < bytes; at += this.most) parts.push(send(at, Math.min(this.most, bytes - at)))
    await allOf(parts)
  }

  private encode(command: number, flags: number, cookie: number, offset: number, bytes: number): Buffer {
    const head = Buffer.allocUnsafe(REQUEST_BYTES)
    head.writeUInt32BE(REQUEST_MAGIC, 0)
    head.writeUInt16BE(flags, 4)
    head.writeUInt16BE(command, 6)
    head.writeUInt32BE(0, 8)
    head.writeUInt32BE(cookie, 12)
    head.writeUInt32BE(Math.floor(offset / 2 ** 32), 16)
    head.writeUInt32BE(offset % 2 ** 32, 20)
    head.writeUInt32BE(bytes, 24)
    return head
  }

  private request(
    command: number,
    flags: number,
    offset: number,
    bytes: number,
    into: Buffer | null = null,
    data: Buffer | null = null,
  ): Promise<NbdExtent[]> {
    if (this.failure !== null) return Promise.reject(this.failure)
    return new Promise((resolve, reject) => {
      do this.cookie = (this.cookie + 1) >>> 0
      while (this.pending.has(this.cookie))
      const what = `${COMMAND_NAMES[command]} at ${offset}, ${bytes} bytes`
      const pending: Pending = {
        command,
        offset,
        into,
        what,
        covered: 0,
        extents: [],
        error: null,
        sending: data !== null,
        answered: false,
        resolve,
        reject,
      }
      this.pending.set(this.cookie, pending)
      // What a turn sends leaves in one system call.
      if (!this.corked) {
        this.corked = true
        this.socket.cork()
        queueMicrotask(() => {
          this.corked = false
          this.socket.uncork()
        })
      }
      this.socket.write(this.encode(command, flags, this.cookie, offset, bytes))
      if (data === null) return
      this.socket.write(data, () => {
        pending.sending = false
        if (pending.answered) settle(pending)
      })
    })
  }

  private fail(error: Error): void {
    if (this.failure !== null) return
    this.failure = error
    this.direct = null
    for (const { reject } of this.pending.values()) reject(error)
    this.pending.clear()
    if (!(error instanceof ClosedError)) this.socket.destroy()
  }

  private memoryToRead(): Buffer {
    const { current, left, place } = this
    if (this.failure !== null || left < DIRECT_BYTES || this.small !== null || current === null)
      return this.incoming
    this.direct = current.into!.subarray(place, place + left)
    return this.direct
  }

  private onBytes(buffer: Buffer, bytes: number): void {
    if (this.failure !== null) return
    try {
      if (buffer === this.direct) {
        this.direct = null
        this.place += bytes
        this.left -= bytes
        if (this.left === 0) this.endData()
        return
      }
      for (let at = 0; at < bytes && this.failure === null; ) at += this.take(buffer, at, bytes)
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error
      this.fail(new ProtocolError(`${this.uri}: ${error.message}`))
    }
  }

  /** Takes some bytes of what has come; returns how many. */
  private take(buffer: Buffer, at: number, end: number): number {
    if (this.left > 0) {
      const bytes = Math.min(this.left, end - at)
      buffer.copy(this.small ?? this.current!.into!, this.place, at, at + bytes)
      this.place += bytes
      this.left -= bytes
      if (this.left === 0) this.endData()
      return bytes
    }
    const bytes = Math.min(this.wanted - this.filled, end - at)
    buffer.copy(this.head, this.filled, at, at + bytes)
    this.filled += bytes
    if (this.filled === this.wanted) this.takeHead()
    return bytes
  }

  private takeHead(): void {
    const { head } = this
    const magic = head.readUInt32BE()
    if (magic === CHUNK_MAGIC && this.structured && this.wanted === 16) {
      this.wanted = 20
      return
    }
    if (magic !== SIMPLE_MAGIC && !(magic === CHUNK_MAGIC && this.structured)) {
      throw new ProtocolError(`a reply with the magic number ${magic.toString(16)}h`)
    }
    const cookie = head.readUInt32BE(12)
    const request = head.readUInt32BE(8) === 0 ? this.pending.get(cookie) : undefined
    if (request === undefined) throw new ProtocolError(`a reply to no request, cookie ${cookie}`)
    if (magic === SIMPLE_MAGIC) {
      const error = head.readUInt32BE(4)
      if (error !== 0) request.error = this.errorOf(request, error, '')
      else if (request.into !== null) {
        if (this.structured)
          throw new ProtocolError('a simple reply to a read, where structured ones were agreed on')
        this.begin(request, cookie, { type: CHUNK.OFFSET_DATA, flags: CHUNK_DONE, bytes: 0 })
        this.expectData(0, request.into.length)
        return
      } else if (request.command === COMMAND.BLOCK_STATUS)
        throw new ProtocolError('no block status in its reply')
      this.begin(request, cookie, { type: CHUNK.NONE, flags: CHUNK_DONE, bytes: 0 })
      this.endChunk()
      return
    }
    const chunk = { flags: head.readUInt16BE(4), type: head.readUInt16BE(6), bytes: head.readUInt32BE(16) }
    if (this.wanted === 20 && chunk.type === CHUNK.OFFSET_DATA) {
      if (chunk.bytes <= 8 || request.into === null)
        throw new ProtocolError('a chunk of data that was not requested')
      this.wanted = 28
      return
    }
    this.begin(request, cookie, chunk)
    if (chunk.type === CHUNK.OFFSET_DATA) {
      this.expectData(
        this.placeOf(request, new Payload(head.subarray(20, 28)).u64(), chunk.bytes - 8),
        chunk.bytes - 8,
      )
    } else if (chunk.bytes === 0) this.endChunk()
    else {
      if (chunk.bytes > OPTION_BYTES * 16) throw new ProtocolError(`a chunk of ${chunk.bytes} bytes`)
      this.small = Buffer.alloc(chunk.bytes)
      this.place = 0
      this.left = chunk.bytes
    }
  }

  private begin(request: Pending, cookie: number, chunk: NbdClient['chunk']): void {
    this.filled = 0
    this.wanted = 16
    this.current = request
    this.currentCookie = cookie
    this.chunk = chunk
  }

  private expectData(place: number, bytes: number): void {
    this.place = place
    this.left = bytes
    this.current!.covered += bytes
  }

  private placeOf({ into, offset }: Pending, at: number, bytes: number): number {
    if (into === null || at < offset || at + bytes > offset + into.length) {
      throw new ProtocolError(`data for ${at}, ${bytes} bytes, which were not requested`)
    }
    return at - offset
  }

  private endData(): void {
    const { small, chunk, current } = this
    this.small = null
    if (small !== null) this.takePayload(current!, chunk.type, new Payload(small))
    this.endChunk()
  }

  private takePayload(request: Pending, type: number, payload: Payload): void {
    if (type === CHUNK.OFFSET_HOLE) {
      const at = payload.u64()
      const bytes = payload.u32()
      const place = this.placeOf(request, at, bytes)
      request.into!.fill(0, place, place + bytes)
      request.covered += bytes
    } else if (type === CHUNK.BLOCK_STATUS) {
      if (payload.u32() !== this.context) return
      if (request.extents.length > 0) throw new ProtocolError('more than one block status in a reply')
      while (payload.left > 0) {
        const bytes = payload.u32()
        const flags = payload.u32()
        if (bytes === 0) throw new ProtocolError('an extent of no bytes')
        const { HOLE, ZERO } = EXTENT
        request.extents.push({ bytes, hole: (flags & HOLE) !== 0, zero: (flags & ZERO) !== 0 })
      }
    } else if (type >= 0x8000) {
      const error = payload.u32()
      const text = payload.left >= 2 ? payload.take(Math.min(payload.u16(), payload.left)).toString() : ''
      request.error ??= this.errorOf(request, error, text)
    }
    // Others are none that were agreed on: what is no error is no harm.
  }

  private endChunk(): void {
    const { current, currentCookie, chunk } = this
    this.current = null
    if ((chunk.flags & CHUNK_DONE) === 0) return
    this.pending.delete(currentCookie)
    const { error, reject, into, covered } = current!
    if (error === null && into !== null && covered !== into.length) {
      const short = new ProtocolError(
        `${this.uri}: ${covered} bytes in place of ${into.length}: ${current!.what}`,
      )
      reject(short)
      this.fail(short)
      return
    }
    current!.answered = true
    if (!current!.sending) settle(current!)
  }

  private errorOf({ what }: Pending, error: number, text: string): Error {
    return new NbdError(`${this.uri}: ${what}: error ${error}${text && `, ${text}`}`, error)
  }
}

function settle({ error, extents, resolve, reject }: Pending): void {
  if (error === null) resolve(extents)
  else reject(error)
}

// Until the last of them has ended, whatever the others came to: the memory is theirs.
async function allOf(parts: readonly (Promise<unknown> | null)[]): Promise<void> {
  const ends = await Promise.allSettled(parts)
  const failed = ends.find(({ status }) => status === 'rejected')
  if (failed?.status === 'rejected') throw failed.reason
}

const COMMAND_NAMES = [
  'read',
  'write',
  'disconnect',
  'flush',
  'trim',
  'cache',
  'write zeroes',
  'block status',
]
