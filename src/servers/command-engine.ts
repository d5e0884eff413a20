// The engine under the servers of open namespaces: the requests of any number of clients become commands of the device's queues.
// Commands are sent, and sent again where somebody has reset the controller; their requests are counted, waited for, and
// flushed at the end. What a request is, and what a client hears of it, is the business of those that stand on it.

import { AbortError, ControllerResetError, QueueOwnerError } from '../../lib/errors.ts'
import type { DmaTag } from '../../lib/memory/tag.ts'
import { NVM } from '../../lib/nvme/spec/opcodes.ts'
import type { BlockIo } from '../queue/block-io.ts'
import type { Geometry } from '../queue/geometry.ts'
import type { IoQueue } from '../queue/io-queue.ts'
import { KIND, type Operation, STATE } from '../queue/operation.ts'
import { setCommand } from '../queue/requests.ts'

/** Whose a command is. */
export interface CommandOwner {
  /** It has ended: `op` tells how, during this call, by `field`, `cause`, `result` and `lost`. */
  onCommand(op: Operation): void
}

// What is sent once only: what it does, or says, is about the moment.
const ONCE: ReadonlySet<number> = new Set([NVM.COMPARE, NVM.COPY])
const MOST_ATTEMPTS = 12
const FIRST_DELAY_MS = 10
const MOST_DELAY_MS = 1000

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const { TRANSFER } = KIND

/** The queues of a namespace that no worker thread has; at least the first. */
export function usableQueues(io: BlockIo & { readonly qcount: number }, call: string): number[] {
  const here = Array.from({ length: io.qcount }, (_, qid) => qid).filter((qid) => {
    try {
      return io.queue(qid, call) !== undefined
    } catch (error) {
      if (error instanceof QueueOwnerError) return false
      throw error
    }
  })
  return here.length > 0 ? here : [0]
}

export class CommandEngine {
  readonly io: BlockIo
  /** Taken at the beginning, since the last flush comes when the namespace is being closed already. */
  readonly queues: readonly IoQueue[]
  /** Requests that were begun and have not ended. */
  requests = 0
  /** Why nothing is sent again any more. */
  refusal: Error | null = null
  // How often commands were sent again, or are about to be.
  private readonly resends = new Map<Operation, { readonly attempts: number }>()
  private readonly lost = new Set<() => void>()
  private readonly idle: (() => void)[] = []

  constructor(io: BlockIo, qids: readonly number[]) {
    this.io = io
    this.queues = qids.map((qid) => io.queue(qid, 'serve'))
  }

  /** One of them has ended. */
  end(): void {
    if (--this.requests === 0 && this.idle.length > 0) for (const act of this.idle.splice(0)) act()
  }

  /** Resolves when there are no requests. */
  settled(): Promise<void> {
    return this.requests === 0 ? Promise.resolve() : new Promise((resolve) => this.idle.push(resolve))
  }

  /** Sends a transfer of checked arguments, which the queue splits, or holds while it has no space. */
  transfer(
    owner: CommandOwner,
    queue: IoQueue,
    geometry: Geometry,
    opcode: number,
    data: Buffer,
    tag: DmaTag,
    slba: number,
    nlb: number,
  ): void {
    const op = queue.operations.take()
    op.onDone = this.ended
    op.context = owner
    queue.requestTransfer(op, geometry, opcode, data, tag, slba, nlb)
  }

  /** A command as it is, ready for `send`. */
  prepare(
    owner: CommandOwner,
    queue: IoQueue,
    opcode: number,
    tag: DmaTag | null = null,
    bytes = 0,
    cdw10 = 0,
    cdw11 = 0,
    cdw12 = 0,
    cdw13 = 0,
  ): Operation {
    const op = queue.operations.take()
    setCommand(op, opcode, tag, bytes, cdw10, cdw11, cdw12, cdw13)
    op.geometry = this.io.geometry
    // As the device's own promises: what may be repeated is, after a reset of the device.
    op.retry = true
    op.onDone = this.ended
    op.context = owner
    return op
  }

  /** Its owner may hear of its end before this returns. */
  send(op: Operation): void {
    ;(op.queue as IoQueue).request(op)
  }

  /** Has `start` send a command of the owner that it is given: resolves when it has ended, rejects with its error. */
  promise(start: (owner: CommandOwner) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      start({
        onCommand(op) {
          const error = op.takeError()
          if (error === null) resolve()
          else reject(error)
        },
      })
    })
  }

  /** What was completed before it, on whatever queue, is on the medium (NVMe 1.4 base, section 6.8). */
  flush(): Promise<void> {
    return this.promise((owner) => this.send(this.prepare(owner, this.queues[0]!, NVM.FLUSH)))
  }

  // One function for all commands.
  private readonly ended = (op: Operation): void => {
    if (op.cause !== null && this.sendAgain(op)) return
    if (this.resends.size > 0) this.resends.delete(op)
    ;(op.context as CommandOwner).onCommand(op)
    if (op.field !== 0 || op.cause !== null) op.takeError()
    this.discard(op)
  }

  /** It has ended, or is not sent. */
  discard(op: Operation): void {
    op.onDone = null
    op.context = null
    op.queue.operations.give(op)
  }

  // Somebody has reset the controller, with which all that was in flight has ended: clients need not know.
  private sendAgain(op: Operation): boolean {
    if (!(op.cause instanceof ControllerResetError) || ONCE.has(op.opc)) return false
    const attempts = this.resends.get(op)?.attempts ?? 0
    if (attempts >= MOST_ATTEMPTS) return false
    const resend = { attempts: attempts + 1 }
    this.resends.set(op, resend)
    op.takeError()
    const act = () => this.resends.get(op) === resend && this.resend(op)
    setTimeout(act, Math.min(MOST_DELAY_MS, FIRST_DELAY_MS * 2 ** attempts))
    return true
  }

  private resend(op: Operation): void {
    const { kind, geometry, opc, buf, allocation, slba, nlb } = op
    op.cause = this.refusal
    if (this.refusal !== null) this.ended(op)
    else if (kind !== TRANSFER) this.send(op)
    else {
      const tag = allocation!.pool.tagOf(buf!)
      ;(op.queue as IoQueue).requestTransfer(op, geometry, opc, buf!, tag, slba, nlb)
    }
  }

  /** Ends a command that the device does not have: it waits for space in a queue, or to be sent again. False for others. */
  withdraw(op: Operation): boolean {
    const cause = new AbortError('by Abort')
    if (op.state !== STATE.DONE) return (op.queue as IoQueue).withdraw(op, cause)
    op.cause = cause
    this.ended(op)
    return true
  }

  /** Calls `act` when no command of the queue that had no answer can be written any more to its memory; at `endLost` anyway. */
  afterLost(queue: IoQueue, act: () => void): void {
    const once = () => {
      if (this.lost.delete(once)) act()
    }
    this.lost.add(once)
    queue.afterLost(once)
  }

  /** What waits for the end of commands without an answer waits no more: their memory must go to no other from now on. */
  endLost(): void {
    for (const act of this.lost) act()
  }
}
