// An I/O queue on io_uring: `post` fills an entry, `ring` enters the kernel once for a batch, `reap` reads the completion
// ring. Fields are `private`, not #private, as in every class of the hot path.

import { logger } from '../../log/index.ts'
import { ERRNO, errno, io_uring_enter, systemCallError } from '../../sys/libc.ts'
import { CommandIds } from '../host/command-ids.ts'
import type { Queue, QueueCounters, QueueOptions, QueueShareFacts } from '../host/queue.ts'
import { opcodeName } from '../spec/opcodes.ts'
import {
  CQ_EVENTFD_DISABLED,
  CQE_WORDS,
  ENTER,
  CQE as ENTRY_OUT,
  IORING_OP_URING_CMD,
  NVME_URING_CMD_IO,
  PASSTHRU,
  SQ_FLAG,
  SQE,
  SQE_WORDS,
} from './abi.ts'
import { type Fault, faultOf } from './faults.ts'
import { closeRing, type RingShare, viewsOfRing } from './ring.ts'

const log = logger('kernel')

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const WORDS_SHIFT = Math.log2(SQE_WORDS)
const CQE_SHIFT = Math.log2(CQE_WORDS)
const { COMMAND, USER_DATA, FD } = SQE
const OPCODE = COMMAND + PASSTHRU.OPCODE
const NSID = COMMAND + PASSTHRU.NSID
const METADATA = COMMAND + PASSTHRU.METADATA
const METADATA_BYTES = COMMAND + PASSTHRU.METADATA_BYTES
const ADDRESS = COMMAND + PASSTHRU.ADDRESS
const BYTES = COMMAND + PASSTHRU.BYTES
const CDW10 = COMMAND + PASSTHRU.CDW10
const CQE_ID = ENTRY_OUT.USER_DATA
const CQE_RES = ENTRY_OUT.RESULT
const CQE_RESULT = ENTRY_OUT.RESULT64
const { NEED_WAKEUP, CQ_OVERFLOW, TASKRUN } = SQ_FLAG
const LOOK = CQ_OVERFLOW | TASKRUN
const { GETEVENTS, SQ_WAKEUP } = ENTER
// An identifier's bits: as many as CommandIds takes, so that none comes again soon.
const ID_BITS = 24

/** The files of a controller's namespaces. */
export interface NamespaceFiles {
  readonly address: string
  /** Descriptor of the character device; -1 where the kernel has no such namespace. */
  fdOf(nsid: number): number
  /** Its path, for messages. */
  fileOf(nsid: number): string
  health(): Error | null
}

/** What a queue is made with. */
export interface UringOptions extends QueueOptions {
  /** Milliseconds after which the kernel takes a command for lost, aborts it, and then resets the controller. */
  readonly kernelTimeout: number
}

/** An idle queue as plain data. */
export interface UringQueueShare extends UringOptions, QueueShareFacts {
  readonly kind: 'io_uring'
  readonly ring: RingShare
}

export class UringQueue implements Queue {
  readonly qid: number
  readonly entries: number
  readonly maxBytes: number
  readonly counters: QueueCounters = { submitted: 0, doorbells: 0, late: 0, stray: 0 }
  onLate: ((cid: number) => void) | null = null
  status = 0
  /** Why the command that `reap` has just given did not come to the controller; of no meaning where its status is 0. */
  fault: Error | null = null
  readonly options: UringOptions

  private readonly files: NamespaceFiles
  private readonly ids: CommandIds
  readonly ringShare: RingShare
  private freed = false
  // Another thread has had it, and may have views of it still.
  private shared = false
  private readonly ringFd: number
  private words: Uint32Array
  private sqes: Uint32Array
  private readonly sqMask: number
  private readonly cqMask: number
  private readonly polled: boolean
  private readonly sqTailAt: number
  private readonly sqFlagsAt: number
  private readonly cqHeadAt: number
  private readonly cqTailAt: number
  private readonly cqesAt: number
  // Entries that were filled, and those that the kernel has taken.
  private sqTail = 0
  private sqTaken = 0
  // Completions that are there, as last looked, and those that were taken.
  private cqTail = 0
  private cqHead = 0
  private latest = 0
  // The namespace of the latest command, and its file.
  private nsid = 0
  private fd = -1
  private mptrLo = 0
  private mptrHi = 0
  private metadataBytes = 0
  // Entries that may hold more than a command without metadata and with three dwords has.
  private unclean: number
  private readonly opcodes: Uint8Array

  constructor(files: NamespaceFiles, options: UringOptions, ring: RingShare) {
    const { qid, entries, maxBytes, timeout } = options
    this.options = options
    this.files = files
    this.qid = qid
    this.entries = entries
    this.maxBytes = maxBytes
    this.ids = new CommandIds(entries - 1, ID_BITS, timeout)
    this.opcodes = new Uint8Array(entries - 1)
    this.sqMask = ring.sqEntries - 1
    this.cqMask = ring.cqEntries - 1
    this.polled = ring.polled
    this.sqTailAt = ring.sqTail
    this.sqFlagsAt = ring.sqFlags
    this.cqHeadAt = ring.cqHead
    this.cqTailAt = ring.cqTail
    this.cqesAt = ring.cqes
    this.unclean = ring.sqEntries
    const { words, sqes } = viewsOfRing(ring)
    this.words = words
    this.sqes = sqes
    this.ringShare = ring
    this.ringFd = ring.fd
    this.begin()
  }

  /** Entries that the kernel has taken, or that its thread is about to take, and not completed. */
  get outstanding(): number {
    const { words, ringShare } = this
    return (words[this.polled ? this.sqTailAt : ringShare.sqHead]! - words[this.cqTailAt]!) | 0
  }

  /** As new: goes on where the ring stands, with nothing in flight. */
  begin(): void {
    const { sqes, words, options } = this
    sqes.fill(0)
    for (let at = 0; at < sqes.length; at += SQE_WORDS) {
      sqes[at + SQE.OPCODE] = IORING_OP_URING_CMD
      sqes[at + SQE.CMD_OP] = NVME_URING_CMD_IO
      sqes[at + COMMAND + PASSTHRU.TIMEOUT_MS] = options.kernelTimeout
    }
    this.sqTail = this.sqTaken = words[this.sqTailAt]!
    this.cqHead = this.cqTail = words[this.cqTailAt]!
    words[this.cqHeadAt] = this.cqHead
    this.unclean = this.sqMask + 1
  }

  /** Whether completions count on the ring's eventfd. */
  set signals(on: boolean) {
    if (!this.freed) this.words[this.ringShare.cqFlags] = on ? 0 : CQ_EVENTFD_DISABLED
  }

  share(): UringQueueShare {
    this.shared = true
    return { ...this.options, kind: 'io_uring', ring: this.ringShare }
  }

  get sliceMs(): number {
    return this.ids.sliceMs
  }

  get lost(): number {
    return this.ids.lost
  }

  get inFlight(): number {
    return this.ids.inFlight
  }

  get available(): number {
    return this.ids.free
  }

  /** True where an entry was filled that the kernel has not taken. */
  get dirty(): boolean {
    return this.sqTail !== this.sqTaken
  }

  get result(): number {
    return this.words[this.latest + CQE_RESULT]!
  }

  get resultHigh(): number {
    return this.words[this.latest + CQE_RESULT + 1]!
  }

  pointMetadata(lo: number, hi: number, blockBytes = 0): void {
    this.mptrLo = lo
    this.mptrHi = hi
    this.metadataBytes = blockBytes
    this.unclean = this.sqMask + 1
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
    const id = this.ids.take()
    if (id < 0) return -1
    const { sqes } = this
    const at = (this.sqTail & this.sqMask) << WORDS_SHIFT
    if (nsid !== this.nsid) this.selectNamespace(nsid)
    sqes[at + FD] = this.fd
    sqes[at + USER_DATA] = id
    sqes[at + OPCODE] = opcode
    sqes[at + NSID] = nsid
    sqes[at + ADDRESS] = bytes === 0 ? 0 : lo
    sqes[at + ADDRESS + 1] = bytes === 0 ? 0 : hi
    sqes[at + BYTES] = bytes
    sqes[at + CDW10] = cdw10
    sqes[at + CDW10 + 1] = cdw11
    sqes[at + CDW10 + 2] = cdw12
    if (this.unclean !== 0 || (cdw13 | cdw14 | cdw15) !== 0) this.postRest(at, cdw12, cdw13, cdw14, cdw15)
    this.sqTail = (this.sqTail + 1) >>> 0
    const index = this.ids.indexOf(id)
    this.opcodes[index] = opcode
    return index
  }

  // What is 0 in most commands, and then stands in the entry already, where every entry's last command was such a one.
  private postRest(at: number, cdw12: number, cdw13: number, cdw14: number, cdw15: number): void {
    const { sqes, mptrLo, mptrHi } = this
    sqes[at + METADATA] = mptrLo
    sqes[at + METADATA + 1] = mptrHi
    sqes[at + METADATA_BYTES] = (mptrLo | mptrHi) === 0 ? 0 : ((cdw12 & 0xffff) + 1) * this.metadataBytes
    sqes[at + CDW10 + 3] = cdw13
    sqes[at + CDW10 + 4] = cdw14
    sqes[at + CDW10 + 5] = cdw15
    const clean = (cdw13 | cdw14 | cdw15 | mptrLo | mptrHi) === 0
    this.unclean = clean ? this.unclean - 1 : this.sqMask + 1
  }

  /** The next command looks its namespace's file up. */
  forgetFile(): void {
    this.nsid = -1
  }

  private selectNamespace(nsid: number): void {
    this.nsid = nsid
    this.fd = this.files.fdOf(nsid)
  }

  /** One system call for all that was posted; none where a thread of the kernel looks for entries, and is awake. */
  ring(): void {
    const posted = (this.sqTail - this.sqTaken) | 0
    if (posted === 0) return
    this.counters.doorbells++
    if (this.polled) {
      this.wakePoller(posted)
      return
    }
    this.words[this.sqTailAt] = this.sqTail
    const taken = io_uring_enter(this.ringFd, posted, 0, 0)
    if (taken >= 0) {
      this.counters.submitted += taken
      this.sqTaken = (this.sqTaken + taken) >>> 0
    } else this.refused()
  }

  // The kernel sleeps only after it has said so, and then looked once more: the store comes before the load.
  private wakePoller(posted: number): void {
    this.counters.submitted += posted
    this.sqTaken = this.sqTail
    Atomics.store(this.words, this.sqTailAt, this.sqTail)
    if ((Atomics.load(this.words, this.sqFlagsAt) & NEED_WAKEUP) !== 0) {
      io_uring_enter(this.ringFd, posted, 0, SQ_WAKEUP)
    }
  }

  // What was posted stays, and is taken at the next call, where there is room or time again.
  private refused(): void {
    const error = errno()
    if (error === ERRNO.EINTR || error === ERRNO.EAGAIN || error === ERRNO.EBUSY) return
    throw systemCallError('io_uring_enter')
  }

  /** A completion is acknowledged as it is taken. */
  acknowledge(): void {}

  step(): void {
    this.cqTail = this.words[this.cqTailAt]!
    if (this.cqTail === this.cqHead && (this.words[this.sqFlagsAt]! & LOOK) !== 0) this.enter()
  }

  /** Brings in completions that wait for this thread to come into the kernel. */
  enter(): void {
    if (this.freed) return
    io_uring_enter(this.ringFd, 0, 0, GETEVENTS)
    this.cqTail = this.words[this.cqTailAt]!
  }

  reap(): number {
    const { words } = this
    while (this.cqHead !== this.cqTail) {
      const at = this.cqesAt + ((this.cqHead & this.cqMask) << CQE_SHIFT)
      const id = words[at + CQE_ID]!
      const res = words[at + CQE_RES]! | 0
      this.cqHead = (this.cqHead + 1) >>> 0
      words[this.cqHeadAt] = this.cqHead
      this.latest = at
      const index = this.ids.indexOf(id)
      this.status = res === 0 ? 0 : this.failed(res, index)
      if (this.ids.has(id)) {
        this.ids.release(id)
        return index
      }
      this.reapOther(id, index)
    }
    return -1
  }

  private failed(res: number, index: number): number {
    this.fault = null
    if (res > 0) return (res << 1) & 0xfffe
    const { address } = this.files
    const opcode = this.opcodes[index] ?? 0
    const what = `${opcodeName(opcode)} (opcode ${opcode.toString(16).padStart(2, '0')}h) of queue ${this.qid}`
    const context = {
      ...{ address, what, file: this.files.fileOf(this.nsid) },
      health: () => this.files.health(),
    }
    const fault: Fault = faultOf(-res, context)
    this.fault = fault.error
    return fault.status
  }

  // One that was given up has an answer after all, or was one of the ring before a reset.
  private reapOther(id: number, index: number): void {
    if (!this.ids.wasLost(id)) {
      if (this.counters.stray++ === 0)
        log('queue %d: a completion of command %d, which is not in flight', this.qid, id)
      return
    }
    this.counters.late++
    this.ids.releaseLost(id)
    this.onLate?.(index)
  }

  expire(now: number, give: (cid: number) => void): void {
    this.ids.expire(now, give)
  }

  refresh(cid: number): void {
    this.ids.refresh(cid)
  }

  idOf(cid: number): number {
    return this.ids.idOf(cid)
  }

  abandon(give: (cid: number) => void): void {
    // What the kernel has not taken it never will.
    this.sqTail = this.sqTaken
    if (!this.polled) this.words[this.sqTailAt] = this.sqTail
    this.unclean = this.sqMask + 1
    this.ids.abandon(give)
  }

  /** After the kernel reset the controller: it has cancelled what was in flight. */
  reset(): void {
    this.sqTail = this.sqTaken
    this.enter()
    this.cqHead = this.cqTail
    this.words[this.cqHeadAt] = this.cqHead
    this.ids.reset()
  }

  free(): void {
    if (this.freed) return
    this.freed = true
    // Whoever polls it all the same finds nothing.
    this.words = new Uint32Array(this.words.length)
    this.sqes = new Uint32Array(this.sqes.length)
    closeRing(this.ringShare, this.shared)
  }
}
