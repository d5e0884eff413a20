// A queue of commands by ioctl, on threads of its own: the admin queue, and I/O where io_uring is refused.
// Trade-off: a thread for each command at once, and two switches between threads for each.

import { CommandIds } from '../host/command-ids.ts'
import type { Queue, QueueCounters, QueueOptions, QueueShareFacts } from '../host/queue.ts'
import { opcodeName } from '../spec/opcodes.ts'
import { IOCTL, PASSTHRU, PASSTHRU_BYTES } from './abi.ts'
import { faultOf } from './faults.ts'
import { IoctlThread, MAILBOX } from './ioctl-thread.ts'
import type { NamespaceFiles } from './uring-queue.ts'

const WORDS = PASSTHRU_BYTES / 4
const ID_BITS = 24

export interface IoctlOptions extends QueueOptions {
  /** As of UringOptions; 0 for the kernel's own. */
  readonly kernelTimeout: number
  /** Commands at once. */
  readonly threads: number
}

/** An idle queue as plain data. */
export interface IoctlQueueShare extends IoctlOptions, QueueShareFacts {
  readonly kind: 'ioctl'
}

interface Running {
  readonly thread: IoctlThread
  id: number
  nsid: number
}

export class IoctlQueue implements Queue {
  readonly qid: number
  readonly entries: number
  readonly maxBytes: number
  readonly counters: QueueCounters = { submitted: 0, doorbells: 0, late: 0, stray: 0 }
  onLate: ((cid: number) => void) | null = null
  status = 0
  result = 0
  resultHigh = 0
  fault: Error | null = null
  /** Counts commands that have ended; -1 for none. */
  eventfd = -1

  private readonly options: IoctlOptions
  private readonly files: NamespaceFiles
  private readonly request: number
  private readonly ids: CommandIds
  // By command index: the structure that is handed to ioctl.
  private readonly commands: Uint32Array
  // Identifiers that wait for a thread, and how many of them have been rung.
  private readonly waiting: number[] = []
  private rung = 0
  private readonly running: Running[] = []
  private readonly spare: IoctlThread[] = []
  private patience = 0
  private mptrLo = 0
  private mptrHi = 0
  private metadataBytes = 0

  constructor(files: NamespaceFiles, options: IoctlOptions) {
    const { qid, entries, maxBytes, timeout } = options
    this.options = options
    this.files = files
    this.qid = qid
    this.entries = entries
    this.maxBytes = maxBytes
    this.request = qid === 0 ? IOCTL.ADMIN64_CMD : IOCTL.IO64_CMD
    this.ids = new CommandIds(entries - 1, ID_BITS, timeout)
    this.commands = new Uint32Array(WORDS * (entries - 1))
  }

  share(): IoctlQueueShare {
    return { ...this.options, kind: 'ioctl' }
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

  get dirty(): boolean {
    return this.rung < this.waiting.length
  }

  pointMetadata(lo: number, hi: number, blockBytes = 0): void {
    this.mptrLo = lo
    this.mptrHi = hi
    this.metadataBytes = blockBytes
  }

  allow(milliseconds: number): void {
    this.patience = milliseconds
  }

  post(
    opcode: number,
    nsid: number,
    lo: number,
    hi: number,
    bytes: number,
    ...[cdw10, cdw11, cdw12, cdw13, cdw14, cdw15]: [number, number, number, number, number, number]
  ): number {
    const id = this.ids.take()
    if (id < 0) return -1
    const index = this.ids.indexOf(id)
    const command = this.commandAt(index)
    command.fill(0)
    command[PASSTHRU.OPCODE] = opcode
    command[PASSTHRU.NSID] = nsid
    if ((this.mptrLo | this.mptrHi) !== 0) {
      command.set([this.mptrLo, this.mptrHi], PASSTHRU.METADATA)
      command[PASSTHRU.METADATA_BYTES] = ((cdw12 & 0xffff) + 1) * this.metadataBytes
    }
    if (bytes > 0) command.set([lo, hi], PASSTHRU.ADDRESS)
    command[PASSTHRU.BYTES] = bytes
    command.set([cdw10, cdw11, cdw12, cdw13, cdw14, cdw15], PASSTHRU.CDW10)
    command[PASSTHRU.TIMEOUT_MS] = Math.max(this.options.kernelTimeout, this.patience)
    this.waiting.push(id)
    return index
  }

  private commandAt(index: number): Uint32Array {
    return this.commands.subarray(WORDS * index, WORDS * (index + 1))
  }

  ring(): void {
    this.rung = this.waiting.length
    this.start()
  }

  // As many as there are threads for.
  private start(): void {
    while (this.rung > 0 && this.running.length < this.options.threads) {
      const id = this.waiting.shift()!
      this.rung--
      const index = this.ids.indexOf(id)
      if (!this.ids.has(id)) {
        this.dropUnsent(id, index)
        continue
      }
      const command = this.commandAt(index)
      const nsid = command[PASSTHRU.NSID]!
      const thread = this.spare.pop() ?? IoctlThread.acquire()
      thread.ask(this.files.fdOf(this.qid === 0 ? 0 : nsid), this.request, command, this.eventfd)
      this.running.push({ thread, id, nsid })
      this.counters.submitted++
      this.counters.doorbells++
    }
  }

  // It was given up while it waited for a thread: what its caller was told of is never sent.
  private dropUnsent(id: number, index: number): void {
    if (!this.ids.wasLost(id)) return
    this.ids.releaseLost(id)
    this.onLate?.(index)
  }

  acknowledge(): void {}

  step(): void {
    this.start()
  }

  reap(): number {
    for (let i = 0; i < this.running.length; i++) {
      const { thread, id, nsid } = this.running[i]!
      if (!thread.done) continue
      this.running.splice(i--, 1)
      const index = this.finish(thread, id, nsid)
      if (index >= 0) return index
    }
    return -1
  }

  private finish(thread: IoctlThread, id: number, nsid: number): number {
    const opcode = thread.words[MAILBOX.ARGUMENT + PASSTHRU.OPCODE]! & 0xff
    this.result = thread.words[MAILBOX.ARGUMENT + PASSTHRU.RESULT]! >>> 0
    this.resultHigh = thread.words[MAILBOX.ARGUMENT + PASSTHRU.RESULT + 1]! >>> 0
    const value = thread.take()
    this.spare.push(thread)
    this.fault = null
    this.status = value >= 0 ? (value << 1) & 0xfffe : this.failed(-value, opcode, nsid)
    const index = this.ids.indexOf(id)
    if (this.ids.has(id)) {
      this.ids.release(id)
      return index
    }
    if (!this.ids.wasLost(id)) {
      this.counters.stray++
      return -1
    }
    this.counters.late++
    this.ids.releaseLost(id)
    this.onLate?.(index)
    return -1
  }

  private failed(error: number, opcode: number, nsid: number): number {
    const { address } = this.files
    const admin = this.qid === 0
    const what = `${opcodeName(opcode, { admin })} (opcode ${opcode.toString(16).padStart(2, '0')}h)`
    const file = this.files.fileOf(admin ? 0 : nsid)
    const fault = faultOf(error, { address, what, file, health: () => this.files.health() })
    this.fault = fault.error
    return fault.status
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
    this.waiting.length = 0
    this.rung = 0
    this.ids.abandon(give)
  }

  /** Commands that a thread still waits for are nobody's from now on. */
  reset(): void {
    this.ids.reset()
  }

  /** Resolves when every ioctl has returned, or after `limit` milliseconds: false then. */
  async settle(limit: number): Promise<boolean> {
    const until = performance.now() + limit
    while (this.outstanding > 0) {
      if (performance.now() > until) return false
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    return true
  }

  /** Commands that a thread has, and that have not ended. */
  get outstanding(): number {
    return this.running.filter(({ thread }) => !thread.done).length
  }

  free(): void {
    for (const thread of this.spare.splice(0)) void thread.release()
    for (const { thread } of this.running.splice(0)) {
      if (thread.done) thread.take()
      const ended = thread.release()
      if (ended !== null) this.endings.push(ended)
    }
  }

  /** After `free`: what resolves when no thread uses a file any more; empty where none does. */
  readonly endings: Promise<unknown>[] = []
}
