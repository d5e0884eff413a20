// The admin queue with a promise for each command (NVMe 1.4 base, section 5).
// Trade-off: it polls on the event loop, at once for 2 ms and then by timer: admin commands are rare, and some
// take minutes. Asynchronous Event Requests wait outside of that, and cost nothing while they do.

import { AbortError, CommandTimeoutError, OutOfRangeError } from '../../errors.ts'
import type { DmaPool } from '../../memory/pool.ts'
import { onAbort, throwIfAborted } from '../../sys/abort.ts'
import { isEventLoopDue, rejectPaced } from '../../sys/event-loop.ts'
import type { OptionNames } from '../../sys/options.ts'
import { adminDataBytes } from '../spec/commands.ts'
import { ADMIN, dataDirection, opcodeName } from '../spec/opcodes.ts'
import { COMMAND_NAMES, type CommandFields, checkCommand, checkDataBytes } from './check-command.ts'
import { nvmeError } from './failure.ts'
import type { Queue } from './queue.ts'

/** Any admin command. Dwords that are left out are 0. */
export interface AdminCommand extends CommandFields {
  /** Data to or from the device, by the opcode's direction: any buffer; DMA memory is used as it is. */
  data?: Uint8Array | undefined
  /** Milliseconds that it may take, where that is more than the controller's `adminTimeout`. */
  timeout?: number | undefined
}

const ADMIN_COMMAND_NAMES: OptionNames<AdminCommand> = { ...COMMAND_NAMES, data: true, timeout: true }

export interface AdminOptions {
  /** Rejects with AbortError at once; a command that was sent goes on, and owns its memory until it is done. */
  signal?: AbortSignal | undefined
}

/** What an admin command was answered with. */
export interface AdminResult {
  /** Dword 0 of the completion. */
  result: number
}

interface Call {
  readonly command: AdminCommand
  readonly resolve: (value: AdminResult) => void
  readonly reject: (error: Error) => void
}

interface Pending extends Call {
  /** Where the data is: the caller's own DMA memory, or a bounce buffer in its place. */
  dma: Uint8Array | undefined
  bounce: boolean
  /** Until when its age does not count. */
  patience: number
  /** No one waits for it any more. */
  aborted: boolean
  /** Ends the listening for its signal. */
  unwatch: () => void
}

const EAGER_MS = 2
const NO_DATA = { lo: 0, hi: 0 }

export class AdminQueue {
  readonly queue: Queue
  readonly #pool: DmaPool
  readonly #timeout: number
  readonly #health: () => void
  readonly #pending = new Map<number, Pending>()
  /** Commands that the caller waits for: event requests are not among them. */
  #awaited = 0
  #polling = false
  // Posted when an identifier is free: more admin commands at once than the queue holds are possible.
  readonly #waiting: Pending[] = []
  #failure: Error | null = null
  // Those without an answer, whose memory the device may still write to: until one comes, or the next reset.
  readonly #lost = new Map<number, Pending>()
  /** Called when a command had no answer in time. */
  onTimeout: (cause: Error) => void = () => {}

  /**
   * @param timeout milliseconds for a command without an answer
   * @param health called now and then while commands wait: fails the queue where the controller is gone
   */
  constructor(queue: Queue, pool: DmaPool, timeout: number, health: () => void) {
    this.queue = queue
    this.#pool = pool
    this.#timeout = timeout
    this.#health = health
    queue.onLate = (cid) => this.#forget(cid)
  }

  /**
   * Sends a command; resolves with its result, rejects with NvmeError, CommandTimeoutError, what ended the
   * queue, AbortError, or ArgumentTypeError, ArgumentValueError and OutOfRangeError where nothing is sent.
   */
  submit(command: AdminCommand, signal?: AbortSignal): Promise<AdminResult> {
    if (this.#failure) return rejectPaced(this.#failure)
    return new Promise((resolve, reject) => {
      this.#check(command, signal)
      // What was checked is what is sent, even where that has to wait.
      this.#send({ command: { ...command }, resolve, reject }, signal)
    })
  }

  #check(command: AdminCommand, signal: AbortSignal | undefined): void {
    checkCommand('admin', command, ADMIN_COMMAND_NAMES, ['data'])
    const { data, opcode } = command
    const { maxBytes } = this.queue
    if (data !== undefined && data.length > maxBytes && !isQueueMemory(opcode)) {
      throw new OutOfRangeError(
        `admin: data has ${data.length} bytes, one command's data at most ${maxBytes}`,
      )
    }
    throwIfAborted(signal)
    checkDataBytes('admin', opcodeName(opcode, { admin: true }), data, adminDataBytes(command))
  }

  #send(call: Call, signal: AbortSignal | undefined): void {
    const { data, opcode, timeout = 0 } = call.command
    const bounce = data !== undefined && data.length > 0 && !this.#pool.owns(data)
    const waiting = bounce ? this.#pool.ready([data.length]) : null
    if (waiting !== null) {
      this.#sendAfter(waiting, call, signal)
      return
    }
    const dma = bounce ? this.#pool.alloc(data.length) : data?.length ? data : undefined
    if (bounce && dataDirection(opcode) !== 'read') dma!.set(data)
    if (dma) this.#pool.tagOf(dma).allocation.users++
    const patience = isEndless(opcode)
      ? Number.POSITIVE_INFINITY
      : performance.now() + timeout - this.#timeout
    const pending: Pending = { ...call, dma, bounce, patience, aborted: false, unwatch: () => {} }
    if (signal !== undefined) this.#watch(pending, signal)
    if (!this.#post(pending)) this.#waiting.push(pending)
    if (!isEndless(opcode)) this.#awaited++
    this.#start()
  }

  // Memory has to be asked of another process: nothing is sent before that, and the signal counts meanwhile.
  #sendAfter(waiting: Promise<void>, call: Call, signal: AbortSignal | undefined): void {
    let aborted = false
    const unwatch = onAbort(signal, () => {
      aborted = true
      call.reject(new AbortError(signal!.reason))
    })
    const send = () => {
      unwatch()
      if (aborted) return
      if (this.#failure) throw this.#failure
      this.#send(call, signal)
    }
    waiting.then(send).catch((error) => {
      unwatch()
      call.reject(error)
    })
  }

  /** Takes what has completed: also done by itself while a command waits. */
  poll(): void {
    const { queue } = this
    queue.step()
    for (let cid = queue.reap(); cid >= 0; cid = queue.reap()) this.#complete(cid)
    while (this.#waiting.length > 0 && this.#post(this.#waiting[0]!)) this.#waiting.shift()
    queue.ring()
    queue.acknowledge()
  }

  /** Rejects everything that waits, and everything to come until `reset`. */
  fail(cause: Error): void {
    this.#failure = cause
    this.queue.abandon((cid) => this.#settle(cid, cause))
    this.#rejectWaiting(cause)
    this.#awaited = 0
  }

  #rejectWaiting(cause: Error): void {
    for (const pending of this.#waiting.splice(0)) {
      pending.unwatch()
      this.#release(pending)
      pending.reject(cause)
      if (!isEndless(pending.command.opcode)) this.#awaited--
    }
  }

  reset(): void {
    this.queue.reset()
    for (const cid of [...this.#lost.keys()]) this.#forget(cid)
    this.#failure = null
  }

  // The device has no use for its memory any more.
  #forget(cid: number): void {
    const pending = this.#lost.get(cid)
    this.#lost.delete(cid)
    if (pending !== undefined) this.#release(pending)
  }

  #watch(pending: Pending, signal: AbortSignal): void {
    pending.unwatch = onAbort(signal, () => {
      pending.aborted = true
      pending.reject(new AbortError(signal.reason))
      const at = this.#waiting.indexOf(pending)
      if (at < 0) return
      this.#waiting.splice(at, 1)
      this.#release(pending)
      if (!isEndless(pending.command.opcode)) this.#awaited--
    })
  }

  #post(pending: Pending): boolean {
    const { command, dma } = pending
    const { lo, hi } = dma ? this.#pool.tagOf(dma) : NO_DATA
    // What is contiguous is named by its address alone.
    const bytes = dma ? (isQueueMemory(command.opcode) ? 4 : dma.length) : 0
    const { opcode, nsid = 0, cdw10 = 0, cdw11 = 0, cdw12 = 0, cdw13 = 0, cdw14 = 0, cdw15 = 0 } = command
    this.queue.allow?.(command.timeout ?? 0)
    const dwords = [cdw10, cdw11, cdw12, cdw13, cdw14, cdw15] as const
    const cid = this.queue.post(opcode, nsid, lo, hi, bytes, ...dwords)
    if (cid < 0) return false
    this.#pending.set(cid, pending)
    this.queue.ring()
    return true
  }

  #complete(cid: number): void {
    const pending = this.#take(cid)
    if (pending === undefined) return
    const { command, dma, bounce, aborted, resolve, reject } = pending
    const field = this.queue.status
    if (field === 0) {
      if (bounce && !aborted && dataDirection(command.opcode) !== 'write') command.data!.set(dma!)
      resolve({ result: this.queue.result })
    } else {
      const failure = { opcode: command.opcode, qid: 0, nsid: command.nsid ?? 0 }
      reject(this.queue.fault ?? nvmeError(failure, field))
    }
    this.#release(pending)
  }

  #release({ dma, bounce }: Pending): void {
    if (dma === undefined) return
    this.#pool.tagOf(dma).allocation.users--
    if (bounce) this.#pool.free(dma as Buffer)
  }

  // For commands that will have no answer: their memory stays in use, since the device may still write to it.
  #settle(cid: number, error: Error): void {
    const pending = this.#take(cid)
    if (pending === undefined) return
    this.#lost.set(cid, pending)
    pending.reject(error)
  }

  #take(cid: number): Pending | undefined {
    const pending = this.#pending.get(cid)
    this.#pending.delete(cid)
    pending?.unwatch()
    if (pending && !isEndless(pending.command.opcode)) this.#awaited--
    return pending
  }

  #start(): void {
    if (this.#polling || this.#awaited === 0) return
    this.#polling = true
    const started = performance.now()
    const turn = () => {
      this.poll()
      if (this.#awaited <= 0) {
        this.#polling = false
        return
      }
      const now = performance.now()
      this.#expire(now)
      if (now - started < EAGER_MS) setImmediate(turn)
      else setTimeout(turn, 1)
    }
    this.#expire(started)
    // A controller that answers at once would let a loop over admin commands starve the event loop.
    if (isEventLoopDue(started)) setImmediate(turn)
    else turn()
  }

  #expire(now: number): void {
    for (const [cid, { patience }] of this.#pending) {
      if (patience > now) this.queue.refresh(cid)
    }
    this.queue.expire(now, (cid) => {
      const { opcode = 0, timeout = 0 } = this.#pending.get(cid)?.command ?? {}
      const name = opcodeName(opcode, { admin: true })
      const limit = Math.max(timeout, this.#timeout)
      const cause = new CommandTimeoutError(`${name} (admin) had no answer within ${limit} ms`)
      this.#settle(cid, cause)
      this.onTimeout(cause)
    })
    // None of them has an answer, so none of those that wait for one is ever sent.
    if (this.#waiting.length > 0 && this.queue.available === 0 && this.queue.inFlight === 0) {
      const { lost } = this.queue
      this.#rejectWaiting(
        new CommandTimeoutError(`the admin queue is full: ${lost} commands had no answer; a reset frees it`),
      )
    }
    this.#health()
  }
}

/** True for a command whose data is a queue, contiguous (PC; sections 5.3 and 5.4): PRP1 has it all, PRP2 is reserved. */
function isQueueMemory(opcode: number): boolean {
  return opcode === ADMIN.CREATE_IO_CQ || opcode === ADMIN.CREATE_IO_SQ
}

/** True for a command that may rightly wait for ever. */
function isEndless(opcode: number): boolean {
  return opcode === ADMIN.ASYNC_EVENT_REQUEST
}
