// A submission queue and its completion queue: post, ring and reap, as separate steps (NVMe 1.4 base, section 4.1).
// One thread at a time owns a pair, so that nothing here locks; who calls what when is the owner's
// business. State for each command is in typed arrays indexed by command identifier: nothing is allocated. Fields
// are `private`, not #private, as in every class of the hot path: V8 checks the key of a #private one at each
// access, which was a third of a command's cost.

import { OutOfRangeError } from '../../errors.ts'
import { logger } from '../../log/index.ts'
import type { DmaPool, SharedBuffer } from '../../memory/pool.ts'
import type { PciFunction } from '../../pci/function.ts'
import { high32, low32 } from '../../sys/int64.ts'
import { PAGE_BYTES } from '../../sys/units.ts'
import type { Queue, QueueCounters } from '../host/queue.ts'
import { cqHeadDoorbell, sqTailDoorbell } from '../spec/registers.ts'
import { bytesDescribed, listPagesNeeded, writePrps } from './prp.ts'
import { attachRing, type QueuePairOptions, type QueuePairShare } from './queue-pair-share.ts'
import { attachShadow, type Doorbells } from './shadow-doorbells.ts'

/** Bytes of a submission and of a completion queue entry. */
export const SQE_BYTES = 64
export const CQE_BYTES = 16

const log = logger('nvme')

// A data pointer that is an SGL (NVMe 1.4 base, section 4.4): PSDT 01b in dword 0, and the type of a data block's descriptor.
const PSDT_SGL = 0x4000
const SGL_DATA_BLOCK = 0

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const PAGE = PAGE_BYTES
const PAGE_MASK = PAGE_BYTES - 1
// Data of more bytes needs a list, wherever it starts.
const TWO_PAGES = 2 * PAGE_BYTES

// So many identifiers are looked at for one without a PRP list.
const LOOKS = 4
// Hashes for an identifier: two addresses that have one in common would take it from each other.
const HASHES = 4

// A command's age is counted in slices of its timeout: no clock is read for a command.
const SLICES = 8
const SLICE_MASK = 0x7f
// What is known of an identifier: nothing is in flight (FREE), a command in flight (its wire identifier in the upper
// bits, its slice in the lower eight, never negative), or one without an answer (the complement of its wire identifier).
const FREE = -0x2_0000

/** Bytes of a pair's submission queue, completion queue and PRP lists: what it allocates, in this order. */
export function pairMemory({
  entries,
  maxBytes,
}: Pick<QueuePairOptions, 'entries' | 'maxBytes'>): [sq: number, cq: number, lists: number] {
  const listBytes = listPagesNeeded(maxBytes) * PAGE_BYTES
  return [entries * SQE_BYTES, entries * CQE_BYTES, (entries - 1) * listBytes]
}

/** Rings in DMA memory, with the identifiers of the commands in them. */
export class QueuePair implements Queue {
  readonly qid: number
  readonly entries: number
  /** Identifiers that are out of use since their commands had no answer, until one comes after all. */
  lost = 0
  onLate: ((cid: number) => void) | null = null
  readonly counters: QueueCounters = { submitted: 0, doorbells: 0, late: 0, stray: 0 }
  /** Status field of the completion that `reap` has just given: bits 31:16 of its dword 3, phase cleared. */
  status = 0
  /** Most bytes of a command's data: what its PRP lists have room for, at least what was asked for. */
  readonly maxBytes: number
  readonly sqIova: number
  readonly cqIova: number

  private readonly pool: DmaPool
  private readonly options: QueuePairOptions
  // What is to be given back: nothing where another thread's pair has it.
  private readonly memory: Buffer[]
  private doorbells: Uint32Array
  private notify: (() => void) | null
  private shadow: SharedBuffer | null = null
  // Shadow doorbells of a pair that another thread has created, as they are now.
  private readonly findDoorbells: (() => Doorbells) | null
  private readonly stepHost: (() => void) | null
  private readonly sqDoorbell: number
  private readonly cqDoorbell: number
  private readonly sq: Uint32Array
  private readonly cq: Uint32Array
  private readonly sgl: boolean
  private readonly lists: Uint32Array
  private readonly listBytes: number
  private readonly listLo: Int32Array
  private readonly listHi: Int32Array
  // Free identifiers as they are sent next, a stack: the index in the lower bits, and above it a generation, so that
  // a second completion of one command is no completion of the next.
  private readonly freeIds: Uint16Array
  private freeCount: number
  // By identifier: where in that stack it is, while it is free.
  private readonly freeAt: Uint16Array
  // By identifier: which data its PRP list describes, in halves of an IOVA and bytes; 0 bytes where there is none. And
  // by a hash of the address, the identifier that described it last. The slots of a stream have the same memory each time.
  private readonly listedLo: Int32Array
  private readonly listedHi: Int32Array
  private readonly listedBytes: Int32Array
  private readonly listedBy: Uint16Array
  private nextPlace = 0
  private readonly indexMask: number
  // Metadata pointer of the commands posted from now on, in halves.
  private mptrLo = 0
  private mptrHi = 0
  // Slots of the submission queue, from the tail on, that may hold more than a command of one page has.
  private unclean: number
  private sqTail = 0
  private sqRung = 0
  private cqHead = 0
  private cqRung = 0
  private phase = 1
  // By command identifier: see FREE.
  private readonly slots: Int32Array
  private slice = 0
  // Milliseconds that calls of `expire` have seen pass: at its latest call, and at the end of each slice.
  private seen = 0
  private seenAt = 0
  private readonly sliceEnds = new Float64Array(SLICE_MASK + 1)
  private readonly timeout: number
  /** Milliseconds between two calls of `expire`, at most, for timeouts to be kept. */
  readonly sliceMs: number

  /** @param share where the memory is another thread's, which shares the pair */
  constructor(pci: PciFunction, pool: DmaPool, options: QueuePairOptions, share?: QueuePairShare) {
    const { qid, entries, dstrd, maxBytes, timeout } = options
    if (!Number.isInteger(entries) || entries < 2 || entries > 65536) {
      throw new OutOfRangeError(`queue ${qid} of ${entries} entries: from 2 to 65536 are possible`)
    }
    this.qid = qid
    this.entries = entries
    this.pool = pool
    this.options = options
    this.memory = []
    this.sgl = options.sgl === true
    const listPages = listPagesNeeded(maxBytes)
    this.listBytes = listPages * PAGE_BYTES
    this.maxBytes = bytesDescribed(listPages)
    const [sqBytes, cqBytes, listsBytes] = pairMemory(options)
    const ring = (bytes: number, shared?: SharedBuffer) =>
      shared ? attachRing(pool, shared) : this.allocate(bytes)
    const sq = ring(sqBytes, share?.sq)
    const cq = ring(cqBytes, share?.cq)
    const lists = ring(listsBytes, share?.lists)
    this.sq = sq.words
    this.cq = cq.words
    this.lists = lists.words
    this.sqIova = sq.iova
    this.cqIova = cq.iova
    const listIova = lists.iova
    const listAt = (_: unknown, cid: number) => listIova + cid * this.listBytes
    this.listLo = Int32Array.from({ length: entries - 1 }, (_, cid) => low32(listAt(_, cid)))
    this.listHi = Int32Array.from({ length: entries - 1 }, (_, cid) => high32(listAt(_, cid)))
    this.doorbells = pci.doorbells
    this.notify = pci.notify
    this.stepHost = pci.step
    this.sqDoorbell = sqTailDoorbell(qid, dstrd)
    this.cqDoorbell = cqHeadDoorbell(qid, dstrd)
    this.indexMask = 2 ** Math.ceil(Math.log2(entries - 1)) - 1
    // One for each index that an identifier can name: none is out of bounds.
    this.slots = new Int32Array(this.indexMask + 1).fill(FREE)
    this.freeIds = Uint16Array.from({ length: entries - 1 }, (_, i) => entries - 2 - i)
    this.freeCount = entries - 1
    this.freeAt = Uint16Array.from({ length: entries - 1 }, (_, cid) => entries - 2 - cid)
    this.listedLo = new Int32Array(this.slots.length)
    this.listedHi = new Int32Array(this.slots.length)
    this.listedBytes = new Int32Array(this.slots.length)
    this.listedBy = new Uint16Array(HASHES * this.slots.length)
    this.timeout = timeout
    this.sliceMs = timeout / SLICES
    this.unclean = entries
    const shadow = share?.shadow ? attachRing(pool, share.shadow).words : null
    this.findDoorbells = shadow === null ? null : () => attachShadow(pci, shadow, options)
    if (share === undefined) return
    this.sqTail = this.sqRung = share.sqTail
    this.cqHead = this.cqRung = share.cqHead
    this.phase = share.phase
    if (this.findDoorbells !== null) this.useDoorbells(this.findDoorbells())
  }

  private allocate(bytes: number) {
    const buffer = this.pool.alloc(bytes)
    this.memory.push(buffer)
    return { words: words(buffer), iova: this.pool.tagOf(buffer).iova }
  }

  /**
   * The pair for another thread, which gets it as the constructor's last argument. Until the pair was made again
   * (`IoQueuePairs.recreate`) nothing may be posted here. Only for a pair with nothing in flight.
   */
  share(): QueuePairShare {
    this.acknowledge()
    const [sq, cq, lists] = this.memory.map((buffer) => this.pool.share(buffer))
    return {
      ...this.options,
      sq: sq!,
      cq: cq!,
      lists: lists!,
      sqTail: this.sqTail,
      cqHead: this.cqHead,
      phase: this.phase,
      shadow: this.shadow,
    }
  }

  /** Stores doorbells elsewhere from now on: before the first command, or while nothing is posted. */
  useDoorbells({ doorbells, notify, shadow = null }: Doorbells): void {
    this.doorbells = doorbells
    this.notify = notify
    this.shadow = shadow
  }

  /** Dword 0 of the completion that `reap` has just given. */
  get result(): number {
    return this.cq[this.latest << 2]!
  }

  /** Dword 1 of it. */
  get resultHigh(): number {
    return this.cq[(this.latest << 2) | 1]!
  }

  /** The controller's submission queue head, as the latest completion reported it. */
  get sqHead(): number {
    return this.cq[(this.latest << 2) + 2]! & 0xffff
  }

  private get latest(): number {
    return (this.cqHead === 0 ? this.entries : this.cqHead) - 1
  }

  /** The rings' memory, for the commands that create the queues. */
  get rings(): { readonly sq: Buffer; readonly cq: Buffer } {
    return { sq: this.memory[0]!, cq: this.memory[1]! }
  }

  /** The doorbells as the controller last saw them. */
  get rung(): { tail: number; head: number } {
    return { tail: this.sqRung, head: this.cqRung }
  }

  /** Commands posted and not reaped: nothing is counted for a command that follows from the rest. */
  get inFlight(): number {
    return this.entries - 1 - this.freeCount - this.lost
  }

  /** Commands that can be posted now. */
  get available(): number {
    return this.freeCount
  }

  /** True where something was posted that the controller has not seen. */
  get dirty(): boolean {
    return this.sqTail !== this.sqRung
  }

  /** Metadata pointer of the commands posted from now on, in halves; 0 where there is no metadata. */
  pointMetadata(lo: number, hi: number): void {
    this.mptrLo = lo
    this.mptrHi = hi
    this.unclean = this.entries
  }

  /**
   * Puts a command into the submission queue; the controller sees it at the next `ring`.
   * All numbers are taken modulo 2^32.
   *
   * @param lo @param hi IOVA of the data in halves, dword-aligned; `bytes` 0 where there is none
   * @returns the command identifier, or -1 where all are in use
   */
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
    let cid = id & this.indexMask
    this.slots[cid] = (id << 8) | this.slice
    const { sq } = this
    const at = this.sqTail << 4
    sq[at] = opcode | (id << 16)
    sq[at | 1] = nsid
    if (this.unclean !== 0 || (cdw13 | cdw14 | cdw15) !== 0) this.postRest(at, cdw13, cdw14, cdw15)
    if ((lo & PAGE_MASK) + bytes <= PAGE) {
      // The commonest case, without a call.
      sq[at | 6] = bytes === 0 ? 0 : lo
      sq[at | 7] = bytes === 0 ? 0 : hi
    } else {
      cid = this.postPages(cid, at, lo, hi, bytes)
    }
    sq[at | 10] = cdw10
    sq[at | 11] = cdw11
    sq[at | 12] = cdw12
    const tail = this.sqTail + 1
    this.sqTail = tail === this.entries ? 0 : tail
    return cid
  }

  // What is 0 in most commands, and then stands in the queue already, where every slot's last command was such a one.
  private postRest(at: number, cdw13: number, cdw14: number, cdw15: number): void {
    const { sq, mptrLo, mptrHi } = this
    sq[at | 4] = mptrLo
    sq[at | 5] = mptrHi
    sq[at | 8] = 0
    sq[at | 9] = 0
    sq[at | 13] = cdw13
    sq[at | 14] = cdw14
    sq[at | 15] = cdw15
    this.unclean = (cdw13 | cdw14 | cdw15 | mptrLo | mptrHi) === 0 ? this.unclean - 1 : this.entries
  }

  // Data of several pages. Returns the command's identifier, which may be another one than it had.
  private postPages(cid: number, at: number, lo: number, hi: number, bytes: number): number {
    this.unclean = this.entries
    const { sq } = this
    const needsList = (lo & PAGE_MASK) + bytes > TWO_PAGES
    // Aligned to dwords, as some controllers need it. Two pages need no list.
    if (needsList && this.sgl && ((lo | bytes) & 3) === 0) {
      sq[at] = sq[at]! | PSDT_SGL
      sq[at | 6] = lo
      sq[at | 7] = hi
      sq[at | 8] = bytes
      sq[at | 9] = SGL_DATA_BLOCK
      return cid
    }
    const lister = needsList ? this.findLister(cid, lo, hi, bytes) : cid
    if (lister !== cid) this.exchange(cid, lister, at)
    cid = lister
    if (needsList && this.describes(cid, lo, hi, bytes)) {
      sq[at | 6] = lo
      sq[at | 7] = hi
      sq[at | 8] = this.listLo[cid]!
      sq[at | 9] = this.listHi[cid]!
      return cid
    }
    const listAt = (cid * this.listBytes) >> 2
    writePrps(sq, at, lo, hi, bytes, this.lists, listAt, this.listLo[cid]!, this.listHi[cid]!)
    if (needsList) {
      this.listedLo[cid] = lo
      this.listedHi[cid] = hi
      this.listedBytes[cid] = bytes
      this.listedBy[this.hashOf(lo)] = cid
    }
    return cid
  }

  // True where the identifier's list describes this data.
  private describes(cid: number, lo: number, hi: number, bytes: number): boolean {
    return (
      this.listedBytes[cid] === bytes && this.listedLo[cid] === (lo | 0) && this.listedHi[cid] === (hi | 0)
    )
  }

  private hashOf(lo: number): number {
    return (Math.imul(lo >>> 12, 0x9e3779b1) >>> 12) & (this.listedBy.length - 1)
  }

  // Which identifier a command of this data is to have: one that is free, or its own.
  private findLister(cid: number, lo: number, hi: number, bytes: number): number {
    const known = this.listedBy[this.hashOf(lo)]!
    if (this.describes(known, lo, hi, bytes)) return this.slots[known] === FREE ? known : cid
    // One without a list, where some are looked at: the one on top is that of the data before.
    for (let i = 0; i < LOOKS && this.freeCount > 0; i++) {
      const place = this.nextPlace < this.freeCount ? this.nextPlace : 0
      this.nextPlace = place + 1
      const free = this.freeIds[place]! & this.indexMask
      if (this.listedBytes[free] === 0) return free
    }
    return cid
  }

  // The command at `at` gets the free identifier, and that of its own is free.
  private exchange(cid: number, free: number, at: number): void {
    const { slots, sq } = this
    const place = this.freeAt[free]!
    const id = this.freeIds[place]!
    this.freeIds[place] = slots[cid]! >> 8
    this.freeAt[cid] = place
    slots[cid] = FREE
    slots[free] = (id << 8) | this.slice
    sq[at] = (sq[at]! & 0xffff) | (id << 16)
  }

  /**
   * Tells the controller what was posted, and what was reaped where it may be short of room: its completion
   * queue never fills up, since unacknowledged and expected ones, those of lost commands too, stay below its size.
   */
  ring(): void {
    if (this.sqTail !== this.sqRung) {
      const unacknowledged = this.cqHead - this.cqRung
      // Those in flight and lost are one less than the entries without the free ones.
      if ((unacknowledged < 0 ? unacknowledged + this.entries : unacknowledged) > this.freeCount)
        this.acknowledge()
      const posted = this.sqTail - this.sqRung
      this.counters.submitted += posted < 0 ? posted + this.entries : posted
      this.sqRung = this.sqTail
      this.doorbells[this.sqDoorbell] = this.sqTail
      this.counters.doorbells++
      if (this.notify !== null) this.notify()
    }
  }

  /** Writes the completion queue head doorbell where it is behind. `ring` does so in time by itself. */
  acknowledge(): void {
    if (this.cqHead === this.cqRung) return
    this.cqRung = this.cqHead
    this.doorbells[this.cqDoorbell] = this.cqHead
    this.counters.doorbells++
    if (this.notify !== null) this.notify()
  }

  /** Lets a controller without a processor of its own work: before a series of `reap`. */
  step(): void {
    if (this.stepHost !== null) this.stepHost()
  }

  /**
   * Takes the next completion: the command's identifier, free again from now on, with its `status` and
   * `result` until the next call; or -1 where there is none.
   */
  reap(): number {
    for (let strays = 0; ; strays++) {
      const at = this.cqHead << 2
      const dw3 = this.cq[at | 3]!
      if (((dw3 >>> 16) & 1) !== this.phase) return -1
      const id = dw3 & 0xffff
      const head = this.cqHead + 1
      if (head === this.entries) {
        this.cqHead = 0
        this.phase ^= 1
      } else {
        this.cqHead = head
      }
      const cid = id & this.indexMask
      if (this.slots[cid]! >> 8 === id) {
        this.status = (dw3 >>> 16) & 0xfffe
        this.release(cid, id)
        return cid
      }
      this.status = (dw3 >>> 16) & 0xfffe
      this.reapOther(cid, id)
      // A controller that goes on like this has the queue's owner back after each round.
      if (strays === this.entries) return -1
    }
  }

  // Free for a command of the next generation.
  private release(cid: number, id: number): void {
    this.slots[cid] = FREE
    this.freeAt[cid] = this.freeCount
    this.freeIds[this.freeCount++] = id + this.indexMask + 1
  }

  // No command in flight has this identifier: one that was given up has an answer after all, or nothing has.
  private reapOther(cid: number, id: number): void {
    // They take room in the completion queue that nothing was posted for.
    this.acknowledge()
    if (this.slots[cid] !== ~id) {
      if (this.counters.stray++ === 0)
        log('queue %d: a completion of command %d, which is not in flight', this.qid, id)
      return
    }
    this.counters.late++
    this.lost--
    this.release(cid, id)
    this.onLate?.(cid)
  }

  /** The identifier that the controller knows a command by that is in flight, or had no answer: for Abort. */
  idOf(cid: number): number {
    const slot = this.slots[cid]!
    return slot >= 0 ? slot >> 8 : ~slot & 0xffff
  }

  /**
   * Counts time: commands older than the timeout are lost from now on, and handed to `give` one by one.
   * Early never; late by up to an eighth of the timeout, by what a call comes late, and by what goes beyond a quarter
   * of the timeout between two calls: time in which nothing was looked at counts for no command's age.
   * @param now milliseconds of a steady clock
   */
  expire(now: number, give: (cid: number) => void): void {
    this.seen += Math.min(now - this.seenAt, 2 * this.sliceMs)
    this.seenAt = now
    const last = (this.slice - 1) & SLICE_MASK
    if (this.seen - this.sliceEnds[last]! < this.sliceMs) return
    this.sliceEnds[this.slice] = this.seen
    this.slice = (this.slice + 1) & SLICE_MASK
    if (this.inFlight === 0) return
    for (let cid = 0; cid < this.slots.length; cid++) {
      const slot = this.slots[cid]!
      if (slot >= 0 && this.seen - this.sliceEnds[slot & SLICE_MASK]! >= this.timeout) this.lose(cid, give)
    }
  }

  /** Makes a command young again: for those that may rightly wait for ever, as Asynchronous Event Request. */
  refresh(cid: number): void {
    this.slots[cid] = (this.slots[cid]! & ~0xff) | this.slice
  }

  /** Gives up every command in flight: the controller is gone, or about to be reset, or this pair another's. */
  abandon(give: (cid: number) => void): void {
    // What the controller has not seen it never will.
    this.sqTail = this.sqRung
    this.unclean = this.entries
    for (let cid = 0; cid < this.slots.length; cid++) {
      if (this.slots[cid]! >= 0) this.lose(cid, give)
    }
  }

  private lose(cid: number, give: (cid: number) => void): void {
    this.slots[cid] = ~(this.slots[cid]! >> 8)
    this.lost++
    give(cid)
  }

  /** As new, for a controller that was reset: rings empty, every identifier free. Counters go on. */
  reset(): void {
    this.sq.fill(0)
    this.cq.fill(0)
    for (let cid = 0; cid < this.freeIds.length; cid++) {
      // What was in flight or lost: its identifier is not the next one's.
      if (this.slots[cid] !== FREE) this.release(cid, this.idOf(cid))
    }
    this.freeCount = this.freeIds.length
    // Another thread that had the pair has written lists of its own.
    this.listedBytes.fill(0)
    this.lost = 0
    this.sqTail = this.sqRung = this.cqHead = this.cqRung = 0
    this.phase = 1
    // They remember what was rung last.
    if (this.findDoorbells !== null) this.useDoorbells(this.findDoorbells())
  }

  /** Gives the rings' memory back. The controller must not know the queues any more. */
  free(): void {
    for (const buffer of this.memory) this.pool.free(buffer)
  }
}

function words(buffer: Buffer): Uint32Array {
  return new Uint32Array(buffer.buffer, buffer.byteOffset, buffer.length >> 2)
}
