// A queue of an NVMe/TCP controller: one connection, whose commands are capsules and whose completions come by turns of the
// event loop, or where the connection is polled. State for each command is in typed arrays by command identifier, as in the rings of lib/nvme/pcie.
// Trade-off: data of up to the capsule's limit is copied into the capsule, so that a batch is one buffer for the system;
// what is longer goes out from where it is. Each piece of data costs a view of its memory, without which JavaScript
// copies no bytes.

import { CommandTimeoutError, OutOfRangeError, ProtocolError, UnsupportedError } from '../../errors.ts'
import { logger } from '../../log/index.ts'
import type { Queue, QueueCounters, QueueOptions, QueueShareFacts } from '../host/queue.ts'
import { STATUS } from '../spec/status.ts'
import { CHUNK_BYTES, type Chunk, giveChunk, takeChunk } from './chunks.ts'
import { crc32c } from './crc32c.ts'
import { type Entry, PSDT_SGL, SGL } from './fabrics.ts'
import type { Link, LinkEnd, LinkOwner } from './link.ts'
import type { PlainMemory, Region } from './memory.ts'
import { describeTermReq, FES, FLAG, PDU, pduName, typeSet, violation } from './pdu.ts'
import type { Receiver } from './receiver.ts'

const log = logger('tcp')

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const CAPSULE = PDU.CAPSULE_CMD | (72 << 16)
const DATA = PDU.H2C_DATA | (24 << 16)
const CHUNK = CHUNK_BYTES
const SGL_IN_CAPSULE = SGL.IN_CAPSULE << 24
const SGL_TRANSPORT = SGL.TRANSPORT << 24
const PSDT = PSDT_SGL << 8
const HDGST = FLAG.HDGST << 8
const DDGST = FLAG.DDGST << 8
const LAST = FLAG.LAST << 8
const { CAPSULE_RESP, C2H_DATA, R2T } = PDU
const TRANSFER_ERROR = STATUS.DATA_TRANSFER_ERROR << 1

/** Data of admin and Fabrics commands that is always taken within the capsule. */
export const ADMIN_IN_CAPSULE = 8192
/** Commands of the transport itself that may be in flight, beside those of the queue's user. */
export const OWN_COMMANDS = 3

// A command's age is counted in slices of its timeout: no clock is read for a command.
const SLICES = 8
const SLICE_MASK = 0x7f
// What is known of an identifier, as in QueuePair of lib/nvme/pcie: FREE; in flight (its wire identifier in the upper bits,
// its slice in the lower eight, never negative); or without an answer (the complement of its wire identifier).
const FREE = -0x2_0000
// What has come of its answer.
const NONE = 0
const ANSWERED = 1
/** Data of it is still being sent: it ends after that. */
const HELD = 2
// Directions, as an opcode's low two bits have them.
const TO_TARGET = 1
const TO_HOST = 2

/** What a command of the transport itself was answered with. */
export interface Reply {
  /** Bits 31:16 of the completion's dword 3. */
  readonly status: number
  readonly result: number
  readonly resultHigh: number
}

/** A queue as plain data: all but its connection. */
export interface TcpQueueShare extends QueueShareFacts, QueueOptions {}

interface OwnCommand {
  readonly resolve: (reply: Reply) => void
  readonly reject: (error: Error) => void
  readonly timer: NodeJS.Timeout
}

export class TcpQueue implements Queue, LinkOwner {
  readonly qid: number
  readonly entries: number
  readonly maxBytes: number
  readonly sliceMs: number
  readonly counters: QueueCounters = { submitted: 0, doorbells: 0, late: 0, stray: 0 }
  /** NVMe/TCP moves metadata within the blocks alone. */
  readonly takesMetadata = false
  lost = 0
  onLate: ((cid: number) => void) | null = null
  onCompletions: (() => void) | null = null
  status = 0
  result = 0
  resultHigh = 0
  /** Called once when completions have come, after `arm`. */
  private waker: (() => void) | null = null
  /** Called when its connection has ended otherwise than by `reset`. */
  onLost: ((end: LinkEnd) => void) | null = null
  /** Hash, group, and who has proved itself, where the target has asked for it. */
  authenticated: string | null = null

  readonly accepted = typeSet(PDU.CAPSULE_RESP, PDU.C2H_DATA, PDU.R2T, PDU.C2H_TERM_REQ)
  readonly mostData: number

  private readonly memory: PlainMemory
  private link: Link | null = null
  // Commands of the queue's user have gone out on it.
  private used = false
  // The next look is needless: the event loop has just been asked to watch, and what has come it says at once.
  private early = false
  // Most bytes of data within a capsule.
  private inCapsule = 0
  private hdgst = 0
  private ddgst = 0
  // Where data begins in a capsule, and in H2CData.
  private capsulePdo = 72
  private dataPdo = 24
  // The batch: capsules that were posted and not yet sent.
  private chunk: Chunk | null = null
  private at = 0
  private readonly full: { chunk: Chunk; bytes: number }[] = []
  private posted = 0
  // Free identifiers as they are sent next, a stack: the index in the lower bits, and above it a generation, so that
  // a second completion of one command is no completion of the next.
  private readonly freeIds: Uint16Array
  private freeCount: number
  private readonly ownIds: number[] = []
  private readonly own = new Map<number, OwnCommand>()
  private readonly indexMask: number
  // By command identifier: see FREE, and NONE.
  private readonly slots: Int32Array
  private readonly answers: Uint8Array
  // Its data: where it is, how much, the direction, how much came or was asked for, what is being sent, whether intact.
  private readonly regions: (Region | undefined)[]
  private readonly offsets: Uint32Array
  private readonly lengths: Uint32Array
  private readonly directions: Uint8Array
  private readonly moved: Uint32Array
  private readonly sending: Uint16Array
  private readonly corrupt: Uint8Array
  private readonly statuses: Uint16Array
  private readonly results: Uint32Array
  // Identifiers with an answer that `reap` has not given.
  private readonly done: Uint16Array
  private doneHead = 0
  private doneTail = 0
  private slice = 0
  private seen = 0
  private seenAt = 0
  private readonly sliceEnds = new Float64Array(SLICE_MASK + 1)
  private readonly timeout: number

  constructor(memory: PlainMemory, { qid, entries, maxBytes, timeout }: QueueOptions) {
    if (!Number.isInteger(entries) || entries < 2 || entries > 32768) {
      throw new OutOfRangeError(`queue ${qid} of ${entries} entries: from 2 to 32768 are possible`)
    }
    this.qid = qid
    this.entries = entries
    this.memory = memory
    this.maxBytes = maxBytes
    this.mostData = maxBytes
    this.timeout = timeout
    this.sliceMs = timeout / SLICES
    const indices = entries - 1 + OWN_COMMANDS
    this.indexMask = 2 ** Math.ceil(Math.log2(indices)) - 1
    const size = this.indexMask + 1
    this.slots = new Int32Array(size).fill(FREE)
    this.answers = new Uint8Array(size)
    this.regions = new Array(size).fill(undefined)
    this.offsets = new Uint32Array(size)
    this.lengths = new Uint32Array(size)
    this.directions = new Uint8Array(size)
    this.moved = new Uint32Array(size)
    this.sending = new Uint16Array(size)
    this.corrupt = new Uint8Array(size)
    this.statuses = new Uint16Array(size)
    this.results = new Uint32Array(2 * size)
    this.done = new Uint16Array(size)
    this.freeIds = Uint16Array.from({ length: entries - 1 }, (_, i) => entries - 2 - i)
    this.freeCount = entries - 1
  }

  // The connection

  /** A new connection, for a queue that has none. @param inCapsule most bytes of data within a capsule */
  attach(link: Link, inCapsule: number): void {
    this.link = link
    this.used = false
    this.ownIds.length = 0
    for (let i = this.entries - 1; i < this.entries - 1 + OWN_COMMANDS; i++) {
      this.ownIds.push(i)
      this.slots[i] = FREE
    }
    this.inCapsule = inCapsule
    this.hdgst = link.agreement.hdgst ? 4 : 0
    this.ddgst = link.agreement.ddgst ? 4 : 0
    this.capsulePdo = roundUp(72 + this.hdgst, link.alignment)
    this.dataPdo = roundUp(24 + this.hdgst, link.alignment)
    link.own(this)
    // A program that waits for nothing may end.
    if (this.waker === null) link.keepAlive(false)
  }

  get connected(): boolean {
    return this.link !== null
  }

  /** 4 or 6: the protocol of its connection. */
  get family(): number {
    return this.link?.family ?? 4
  }

  /** Most bytes of data in one H2CData, as the target has it; 0 without a connection. */
  get maxH2cData(): number {
    return this.link?.maxH2cData ?? 0
  }

  /** Ends the connection from here. */
  disconnect(cause: Error): void {
    const { link } = this
    this.link = null
    link?.close()
    this.dropBatch()
    this.rejectOwn(cause)
  }

  onEnd(end: LinkEnd): void {
    this.link = null
    this.dropBatch()
    this.rejectOwn(end.cause)
    this.onLost?.(end)
    this.wake()
  }

  onFed(): void {
    if (this.doneHead === this.doneTail) return
    this.wake()
    this.onCompletions?.()
  }

  private wake(): void {
    const { waker } = this
    if (waker === null) return
    this.waker = null
    this.link?.keepAlive(false)
    waker()
  }

  /** Calls `wake` once, when completions have come or the connection has ended; keeps the process alive until then. */
  arm(wake: () => void): void {
    this.waker = wake
    this.early = true
    this.link?.keepAlive(true)
  }

  disarm(): void {
    if (this.waker === null) return
    this.waker = null
    this.link?.keepAlive(false)
  }

  // Commands of the transport itself

  /**
   * Sends a command of the transport, at once. Rejects with what ended the connection, and CommandTimeoutError.
   * @param entry submission queue entry, without identifier and SGL
   * @param data within the capsule
   * @param limit milliseconds
   * @param urgent a caller waits for it: it keeps the process alive
   * @param into what data of the target go to
   */
  command(
    what: string,
    entry: Entry,
    data: Buffer | null,
    limit: number,
    urgent = true,
    into: Buffer | null = null,
  ): Promise<Reply> {
    const { link } = this
    const index = this.ownIds.pop()
    if (link === null || index === undefined) {
      if (index !== undefined) this.ownIds.push(index)
      return Promise.reject(new ProtocolError(`${what}: queue ${this.qid} has no connection, or is in use`))
    }
    return new Promise((resolve, reject) => {
      const own: OwnCommand = { resolve, reject, timer: setTimeout(() => setImmediate(expire), limit) }
      // Where the event loop stood still, what came meanwhile is looked at first.
      const expire = () => {
        if (this.own.get(index) !== own) return
        this.own.delete(index)
        // Its identifier stays out of use, for as long as the connection lives.
        reject(new CommandTimeoutError(`${what} had no answer within ${limit} ms`))
      }
      if (!urgent) own.timer.unref()
      this.own.set(index, own)
      this.slots[index] = index << 8
      this.answers[index] = NONE
      this.lengths[index] = into?.length ?? 0
      this.directions[index] = into === null ? 0 : TO_HOST
      this.regions[index] = into === null ? undefined : { bytes: into, page: 0 }
      this.offsets[index] = this.moved[index] = this.corrupt[index] = 0
      const bytes = this.capsulePdo + (data === null ? 0 : data.length + this.ddgst)
      const chunk = takeChunk(bytes)
      const length = (data ?? into)?.length ?? 0
      const end = this.encode(chunk, 0, index, entry[0]!, entry[1]!, length, data, 0)
      const { words } = chunk
      // FCTYPE is the low byte of what is the namespace id elsewhere.
      for (let i = 10; i < 16; i++) words[2 + i] = entry[i]!
      const sent = this.digest(chunk, 0, end)
      link.write(chunk.bytes.subarray(0, sent), () => giveChunk(chunk))
    })
  }

  private answerOwn(index: number, status: number, result: number, resultHigh: number): void {
    const own = this.own.get(index)
    this.slots[index] = FREE
    this.regions[index] = undefined
    this.ownIds.push(index)
    if (own === undefined) return
    this.own.delete(index)
    clearTimeout(own.timer)
    own.resolve({ status, result, resultHigh })
  }

  private rejectOwn(cause: Error): void {
    for (const [, { reject, timer }] of this.own) {
      clearTimeout(timer)
      reject(cause)
    }
    this.own.clear()
  }

  // Posting

  get inFlight(): number {
    return this.entries - 1 - this.freeCount - this.lost
  }

  get available(): number {
    return this.freeCount
  }

  get dirty(): boolean {
    return this.posted !== 0
  }

  pointMetadata(lo: number, hi: number): void {
    if ((lo | hi) !== 0) throw new UnsupportedError('NVMe/TCP has no buffer of its own for metadata')
  }

  post(
    opcode: number,
    nsid: number,
    lo: number,
    hi: number,
    bytes: number,
    cdw10: number,
    cdw11: number,
    cdw12: number,
    cdw13: number,
    cdw14: number,
    cdw15: number,
  ): number {
    if (this.freeCount === 0) return -1
    const id = this.freeIds[--this.freeCount]!
    const cid = id & this.indexMask
    this.slots[cid] = (id << 8) | this.slice
    this.answers[cid] = NONE
    this.corrupt[cid] = 0
    this.moved[cid] = 0
    this.lengths[cid] = bytes
    let data: Uint8Array | null = null
    let from = 0
    if (bytes === 0) {
      this.directions[cid] = 0
    } else {
      const region = this.memory.find(lo, hi)!
      // Shifted as an unsigned number: a page's number is below 2^20 in the low half.
      from = (hi * 0x10_0000 + (lo >>> 12) - region.page) * 4096 + (lo & 4095)
      this.regions[cid] = region
      this.offsets[cid] = from
      const direction = opcode & 3
      this.directions[cid] = direction
      if (direction === TO_TARGET && bytes <= this.inCapsule) data = region.bytes
    }
    this.posted++
    // What is posted without a connection is given up with all the rest.
    if (this.link === null) return cid
    if (data !== null) this.directions[cid] = 0
    const need = this.capsulePdo + (data === null ? 0 : bytes + this.ddgst)
    let { chunk } = this
    if (chunk === null || this.at + need > chunk.bytes.length) chunk = this.nextChunk(need)
    const at = this.at
    const end = this.encode(chunk, at, id, opcode, nsid, bytes, data, from)
    const { words } = chunk
    const sqe = (at >> 2) + 2
    words[sqe + 10] = cdw10
    words[sqe + 11] = cdw11
    words[sqe + 12] = cdw12
    words[sqe + 13] = cdw13
    words[sqe + 14] = cdw14
    words[sqe + 15] = cdw15
    this.at = this.hdgst === 0 ? end : this.digest(chunk, at, end)
    // The next capsule begins on a dword.
    if ((this.at & 3) !== 0) this.closeChunk()
    return cid
  }

  /** Puts a capsule at `at`, but for its last six dwords and its header digest. Returns where it ends. */
  private encode(
    chunk: Chunk,
    at: number,
    id: number,
    opcode: number,
    nsid: number,
    bytes: number,
    data: Uint8Array | null,
    from: number,
  ): number {
    const { words } = chunk
    const w = at >> 2
    const withData = data !== null
    const pdo = withData ? this.capsulePdo : 72 + this.hdgst
    const plen = pdo + (withData ? bytes + this.ddgst : 0)
    const flags = (this.hdgst === 0 ? 0 : HDGST) | (withData && this.ddgst !== 0 ? DDGST : 0)
    words[w] = CAPSULE | flags | (withData ? pdo << 24 : 0)
    words[w + 1] = plen
    words[w + 2] = (opcode & 0xff) | PSDT | (id << 16)
    words[w + 3] = nsid
    words[w + 4] = 0
    words[w + 5] = 0
    words[w + 6] = 0
    words[w + 7] = 0
    words[w + 8] = 0
    words[w + 9] = 0
    words[w + 10] = bytes
    words[w + 11] = withData ? SGL_IN_CAPSULE : SGL_TRANSPORT
    if (withData) {
      chunk.bytes.fill(0, at + 72 + this.hdgst, at + pdo)
      chunk.bytes.set(data.subarray(from, from + bytes), at + pdo)
      if (this.ddgst !== 0) chunk.bytes.writeUInt32LE(crc32c(data, from, from + bytes), at + pdo + bytes)
    }
    return at + plen
  }

  private digest(chunk: Chunk, at: number, end: number): number {
    if (this.hdgst !== 0) chunk.words[(at + 72) >> 2] = crc32c(chunk.bytes, at, at + 72)
    return end
  }

  private nextChunk(need: number): Chunk {
    this.closeChunk()
    this.chunk = takeChunk(Math.max(need, CHUNK))
    return this.chunk
  }

  private closeChunk(): void {
    if (this.chunk !== null) this.full.push({ chunk: this.chunk, bytes: this.at })
    this.chunk = null
    this.at = 0
  }

  private dropBatch(): void {
    this.closeChunk()
    for (const { chunk } of this.full.splice(0)) giveChunk(chunk)
    this.posted = 0
  }

  ring(): void {
    if (this.posted === 0) return
    this.counters.submitted += this.posted
    this.counters.doorbells++
    this.posted = 0
    const { link, full } = this
    if (link === null) return
    this.used = true
    this.closeChunk()
    if (full.length > 1) link.cork()
    for (let i = 0; i < full.length; i++) {
      const { chunk, bytes } = full[i]!
      link.write(chunk.bytes.subarray(0, bytes), () => giveChunk(chunk))
    }
    full.length = 0
    link.flush()
  }

  acknowledge(): void {}

  /** Completions come by themselves, unless the connection is polled. What is here already is to be taken first. */
  step(): void {
    const { link } = this
    if (link === null || !link.polled || this.doneHead !== this.doneTail) return
    if (this.early) this.early = false
    else link.step()
  }

  // What comes

  onHeader(receiver: Receiver): void {
    const type = receiver.head[0]!
    if (type === C2H_DATA) this.onData(receiver)
    else if (type === R2T) this.checkReady(receiver.words)
  }

  onPdu(receiver: Receiver, intact: boolean): void {
    const { head, words } = receiver
    switch (head[0]) {
      case CAPSULE_RESP:
        this.complete(words[5]! & 0xffff, words[5]! >>> 16, words[2]!, words[3]!)
        break
      case C2H_DATA: {
        const id = words[2]! & 0xffff
        if (!intact) {
          log('queue %d: data of command %d came with a wrong digest', this.qid, id)
          this.corrupt[id & this.indexMask] = 1
        }
        if ((head[1]! & FLAG.SUCCESS) !== 0) this.complete(id, 0, 0, 0)
        break
      }
      case R2T:
        this.sendData(words[2]! & 0xffff, words[2]! >>> 16, words[3]!, words[4]!)
        break
      default:
        throw violation(FES.SEQUENCE_ERROR, 0, `the target ends the connection: ${describeTermReq(head)}`)
    }
  }

  /** The index of a command that has no answer yet. Throws a violation where `id` is none. */
  private indexOf(id: number, type: number, field: string, fei: number): number {
    const index = id & this.indexMask
    const slot = this.slots[index]!
    if ((slot >= 0 ? slot >> 8 === id : slot === ~id) && this.answers[index] === NONE) return index
    this.counters.stray++
    const what = slot >= 0 && slot >> 8 === id ? 'has its answer already' : 'is not in flight'
    throw violation(
      FES.INVALID_HEADER_FIELD,
      fei,
      `${pduName(type)}: ${field} is ${id.toString(16)}h, a command that ${what}`,
    )
  }

  private onData(receiver: Receiver): void {
    const { words, layout, head } = receiver
    const id = words[2]! & 0xffff
    const index = this.indexOf(id, C2H_DATA, 'CCCID', 8)
    const offset = words[3]!
    const bytes = words[4]!
    const flags = head[1]!
    if (bytes !== layout.data) {
      throw violation(
        FES.INVALID_HEADER_FIELD,
        16,
        `C2HData: DATAL is ${bytes}, and PLEN leaves ${layout.data} bytes of data`,
      )
    }
    if ((this.directions[index]! & TO_HOST) === 0) {
      throw violation(
        FES.INVALID_HEADER_FIELD,
        8,
        `C2HData: CCCID is ${id.toString(16)}h, a command that gets no data`,
      )
    }
    const moved = this.moved[index]!
    if (offset !== moved) {
      throw violation(FES.DATA_OUT_OF_RANGE, 12, `C2HData: DATAO is ${offset}, ${moved} is the next byte`)
    }
    const length = this.lengths[index]!
    if (offset + bytes > length) {
      throw violation(
        FES.DATA_OUT_OF_RANGE,
        16,
        `C2HData: DATAL is ${bytes} at DATAO ${offset}, the command asked for ${length} bytes`,
      )
    }
    const last = (flags & FLAG.LAST) !== 0
    if ((flags & FLAG.SUCCESS) !== 0 && !last) {
      throw violation(FES.INVALID_HEADER_FIELD, 1, 'C2HData: SUCCESS without LAST_PDU')
    }
    if (last && this.qid !== 0 && offset + bytes !== length) {
      throw violation(
        FES.INVALID_HEADER_FIELD,
        1,
        `C2HData: LAST_PDU after ${offset + bytes} bytes, the command asked for ${length}`,
      )
    }
    this.moved[index] = offset + bytes
    // Of a command that was given up nothing is stored any more.
    const alive = this.slots[index]! >= 0
    receiver.store(alive ? this.regions[index]! : null, this.offsets[index]! + offset)
  }

  private checkReady(words: Uint32Array): void {
    const id = words[2]! & 0xffff
    const index = this.indexOf(id, R2T, 'CCCID', 8)
    const offset = words[3]!
    const bytes = words[4]!
    if ((this.directions[index]! & TO_TARGET) === 0) {
      throw violation(
        FES.INVALID_HEADER_FIELD,
        8,
        `R2T: CCCID is ${id.toString(16)}h, a command without data to send`,
      )
    }
    // Of a command that moves data both ways only the other direction is counted.
    if (this.directions[index] === TO_TARGET && offset !== this.moved[index]) {
      throw violation(
        FES.DATA_OUT_OF_RANGE,
        12,
        `R2T: R2TO is ${offset}, ${this.moved[index]} is the next byte`,
      )
    }
    const length = this.lengths[index]!
    if (bytes === 0 || offset + bytes > length) {
      throw violation(
        FES.DATA_OUT_OF_RANGE,
        16,
        `R2T: R2TL is ${bytes} at R2TO ${offset}, the command has ${length} bytes`,
      )
    }
  }

  // What the target asked for, at once, in PDUs of at most MAXH2CDATA. The memory of a command is its own until it is
  // answered, or its connection has ended.
  private sendData(id: number, ttag: number, offset: number, bytes: number): void {
    const link = this.link!
    const index = id & this.indexMask
    const { dataPdo, hdgst, ddgst } = this
    if (this.directions[index] === TO_TARGET) this.moved[index] = offset + bytes
    const memory = this.regions[index]!.bytes
    const start = this.offsets[index]! + offset
    const most = link.maxH2cData
    const pdus = Math.ceil(bytes / most)
    const step = roundUp(dataPdo + ddgst, 4)
    const chunk = takeChunk(pdus * step)
    const { words, bytes: heads } = chunk
    this.sending[index]!++
    this.memory.beginSending()
    link.cork()
    for (let i = 0, sent = 0; i < pdus; i++) {
      const n = Math.min(most, bytes - sent)
      const at = i * step
      const w = at >> 2
      const last = sent + n === bytes
      words[w] =
        DATA | (hdgst === 0 ? 0 : HDGST) | (ddgst === 0 ? 0 : DDGST) | (last ? LAST : 0) | (dataPdo << 24)
      words[w + 1] = dataPdo + n + ddgst
      words[w + 2] = id | (ttag << 16)
      words[w + 3] = offset + sent
      words[w + 4] = n
      words[w + 5] = 0
      if (hdgst !== 0) words[w + 6] = crc32c(heads, at, at + 24)
      heads.fill(0, at + 24 + hdgst, at + dataPdo)
      link.write(heads.subarray(at, at + dataPdo))
      const data = memory.subarray(start + sent, start + sent + n)
      sent += n
      const done = last ? this.sentAll(link, index, chunk) : undefined
      if (ddgst === 0) {
        link.write(data, done)
        continue
      }
      link.write(data)
      heads.writeUInt32LE(crc32c(data), at + dataPdo)
      link.write(heads.subarray(at + dataPdo, at + dataPdo + 4), done)
    }
  }

  private sentAll(link: Link, index: number, chunk: Chunk): () => void {
    return () => {
      giveChunk(chunk)
      this.memory.endSending()
      if (this.link !== link || --this.sending[index]! > 0 || this.answers[index] !== HELD) return
      this.answers[index] = ANSWERED
      this.finish(this.wireId(index))
      this.onFed()
    }
  }

  private complete(id: number, status: number, result: number, resultHigh: number): void {
    const index = this.indexOf(id, CAPSULE_RESP, 'CID', 20)
    if (index >= this.entries - 1) {
      this.answerOwn(index, this.corrupt[index] === 0 ? status & 0xfffe : TRANSFER_ERROR, result, resultHigh)
      return
    }
    const field = this.verdict(index, status & 0xfffe)
    this.statuses[index] = field
    this.results[2 * index] = result
    this.results[2 * index + 1] = resultHigh
    // Nothing of its memory is touched after its end.
    this.answers[index] = this.sending[index] === 0 ? ANSWERED : HELD
    if (this.answers[index] === ANSWERED) this.finish(id)
  }

  // A command that succeeds has moved all of its data. Admin commands may have less than their buffers hold.
  private verdict(index: number, field: number): number {
    if (field !== 0) return field
    if (this.corrupt[index] !== 0) return TRANSFER_ERROR
    const direction = this.directions[index]!
    const moved = this.moved[index]!
    const length = this.lengths[index]!
    const whole = direction === TO_TARGET || (direction === TO_HOST && this.qid !== 0)
    if (whole && moved !== length) {
      throw violation(
        FES.SEQUENCE_ERROR,
        0,
        `CapsuleResp: success after ${moved} of ${length} bytes of the command's data`,
      )
    }
    return field
  }

  private finish(id: number): void {
    this.done[this.doneTail] = id
    this.doneTail = (this.doneTail + 1) & this.indexMask
  }

  reap(): number {
    while (this.doneHead !== this.doneTail) {
      const id = this.done[this.doneHead]!
      this.doneHead = (this.doneHead + 1) & this.indexMask
      const cid = id & this.indexMask
      const late = this.slots[cid]! < 0
      this.release(cid, id)
      if (late) {
        this.counters.late++
        this.lost--
        this.onLate?.(cid)
        continue
      }
      this.status = this.statuses[cid]!
      this.result = this.results[2 * cid]!
      this.resultHigh = this.results[2 * cid + 1]!
      return cid
    }
    return -1
  }

  // Free for a command of the next generation.
  private release(cid: number, id: number): void {
    this.slots[cid] = FREE
    this.freeIds[this.freeCount++] = id + this.indexMask + 1
  }

  private wireId(cid: number): number {
    const slot = this.slots[cid]!
    return slot >= 0 ? slot >> 8 : ~slot & 0xffff
  }

  idOf(cid: number): number {
    return this.wireId(cid)
  }

  // Time, as in QueuePair of lib/nvme/pcie.

  expire(now: number, give: (cid: number) => void): void {
    this.seen += Math.min(now - this.seenAt, 2 * this.sliceMs)
    this.seenAt = now
    const last = (this.slice - 1) & SLICE_MASK
    if (this.seen - this.sliceEnds[last]! < this.sliceMs) return
    this.sliceEnds[this.slice] = this.seen
    this.slice = (this.slice + 1) & SLICE_MASK
    if (this.inFlight === 0) return
    for (let cid = 0; cid < this.entries - 1; cid++) {
      const slot = this.slots[cid]!
      const old = slot >= 0 && this.seen - this.sliceEnds[slot & SLICE_MASK]! >= this.timeout
      // What has its answer is only to be taken.
      if (old && this.answers[cid] === NONE) this.lose(cid, give)
    }
  }

  refresh(cid: number): void {
    this.slots[cid] = (this.slots[cid]! & ~0xff) | this.slice
  }

  abandon(give: (cid: number) => void): void {
    this.dropBatch()
    for (let cid = 0; cid < this.entries - 1; cid++) {
      if (this.slots[cid]! >= 0) this.lose(cid, give)
    }
  }

  private lose(cid: number, give: (cid: number) => void): void {
    this.slots[cid] = ~(this.slots[cid]! >> 8)
    this.lost++
    give(cid)
  }

  /** As new: every identifier free. A connection stays where it has just been made. Counters go on. */
  reset(): void {
    if (this.used) this.disconnect(new ProtocolError(`queue ${this.qid} was reset`))
    this.dropBatch()
    for (let cid = 0; cid < this.entries - 1; cid++) {
      if (this.slots[cid] !== FREE) this.release(cid, this.wireId(cid))
    }
    this.answers.fill(NONE)
    this.sending.fill(0)
    this.regions.fill(undefined)
    this.lost = 0
    this.doneHead = this.doneTail = 0
  }

  /** Another thread makes a connection of its own for it. */
  share(): TcpQueueShare {
    const { qid, entries, maxBytes, timeout } = this
    return { qid, entries, maxBytes, timeout }
  }

  free(): void {
    this.disconnect(new ProtocolError(`queue ${this.qid} is gone`))
    this.regions.fill(undefined)
  }
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit
}
