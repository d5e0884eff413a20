// The I/O queues of one controller: how many it grants, which exist, and how they outlive its resets. A reset creates
// each of them again in the same memory, so that no pointer to one ever goes stale.

import { ClosedError, ControllerFatalError, NvmeError, OutOfRangeError } from '../../errors.ts'
import { logger } from '../../log/index.ts'
import { FEATURE } from '../spec/features.ts'
import { ADMIN } from '../spec/opcodes.ts'
import type { AdminQueue } from './admin-queue.ts'
import type { Queue } from './queue.ts'
import type { ConnectPermit, SendAdmin, Transport } from './transport.ts'

const log = logger('nvme')

/** What queues need of their controller. */
interface Owner {
  readonly transport: Transport
  readonly timeout: number
  readonly maxTransferBytes: number
  readonly failure: Error | null
  /** Does work that no reset of the controller may come into. */
  exclusively<T>(work: () => Promise<T>): Promise<T>
}

/** Made by its controller, and `queues` there. */
export class IoQueues {
  readonly #transport: Transport
  readonly #controller: Owner
  readonly #send: SendAdmin
  readonly #sendLast: SendAdmin
  // By queue id.
  readonly #made = new Map<number, Queue>()
  // Those that resets leave out: other threads have made them, or do not answer.
  readonly #left = new Set<number>()
  #granted = 0
  #ending = false

  constructor(controller: Owner, admin: AdminQueue) {
    const { transport } = controller
    this.#controller = controller
    this.#transport = transport
    this.#sendLast = (command) => admin.submit(command)
    // A controller that is being closed deletes what there is, and must find nothing new.
    this.#send = async (command) => {
      if (this.#ending) throw new ClosedError(`${transport.address} is closed`)
      return admin.submit(command)
    }
  }

  /** Queues that exist. */
  get size(): number {
    return this.#made.size
  }

  /** The queue of this id, where it exists. */
  get(qid: number): Queue | undefined {
    return this.#made.get(qid)
  }

  /** Queues that can be had: asks for `count` with Set Features 07h, once in a controller's life. */
  async request(count: number): Promise<number> {
    if (this.#granted > 0) return this.#granted
    if (this.#transport.grant !== undefined) {
      this.#granted = this.#transport.grant(count)
      return this.#granted
    }
    const wanted = Math.min(count, 65535) - 1
    const cdw11 = (wanted | (wanted << 16)) >>> 0
    const { result } = await this.#send({
      opcode: ADMIN.SET_FEATURES,
      cdw10: FEATURE.NUMBER_OF_QUEUES,
      cdw11,
    })
    this.#granted = Math.min((result & 0xffff) + 1, (result >>> 16) + 1)
    return this.#granted
  }

  /**
   * Creates queue `qid`. Throws UnsupportedError for one that the transport can't reach.
   * @param entries at least 2, at most CAP.MQES
   */
  create(qid: number, entries: number): Promise<Queue> {
    return this.#controller.exclusively(() => this.#create(qid, entries))
  }

  async #create(qid: number, entries: number): Promise<Queue> {
    const { address, cap } = this.#transport
    if (entries > cap.mqes) {
      throw new OutOfRangeError(`queues of ${entries} entries: ${address} takes 2 to ${cap.mqes}`)
    }
    const { maxTransferBytes: maxBytes, timeout } = this.#controller
    const queue = await this.#transport.allocQueue({ qid, entries, maxBytes, timeout })
    try {
      await this.#transport.createQueue(queue, this.#send)
    } catch (error) {
      // One that failed may still write to it.
      if (!this.#controller.failure) queue.free()
      throw error
    }
    this.#made.set(qid, queue)
    return queue
  }

  /** Deletes a queue, and gives its memory back. */
  delete(qid: number): Promise<void> {
    return this.#controller.exclusively(() => this.#delete(qid))
  }

  async #delete(qid: number): Promise<void> {
    const queue = this.#made.get(qid)
    if (queue === undefined) return
    await this.#transport.deleteQueue(qid, this.#send)
    this.#made.delete(qid)
    queue.free()
  }

  /**
   * Deletes a queue and creates it again in the same memory: whatever was in flight, of whichever thread, has ended
   * when this resolves.
   */
  recreate(qid: number): Promise<void> {
    return this.#controller.exclusively(() => this.#recreate(qid))
  }

  async #recreate(qid: number): Promise<void> {
    const queue = this.#made.get(qid)
    if (queue === undefined) return
    // It has been deleted already, by a reset or for its thread.
    if (!this.#left.delete(qid)) await this.#transport.deleteQueue(qid, this.#send)
    queue.reset()
    await this.#transport.createQueue(queue, this.#send)
  }

  /** Deletes queues for a thread that makes them itself: they do not exist here until `recreate`. */
  permit(qids: readonly number[]): Promise<ConnectPermit> {
    return this.#controller.exclusively(async () => {
      for (const qid of qids) {
        if (this.#left.has(qid)) continue
        await this.#transport.deleteQueue(qid, this.#send)
        this.#left.add(qid)
      }
      return this.#transport.permit!(qids)
    })
  }

  /** From the next reset on the queue does not exist, until `recreate`: a thread has it that does not answer. */
  leaveOut(qid: number): void {
    this.#left.add(qid)
  }

  /** From the next reset on the queue exists again, like those that no thread has. */
  rejoin(qid: number): void {
    this.#left.delete(qid)
  }

  /** The controller was reset: it knows of no queue any more. */
  reset(): void {
    for (const [qid, queue] of this.#made) if (!this.#left.has(qid)) queue.reset()
  }

  /** Creates every queue again, for a controller that was reset. */
  async restore(): Promise<void> {
    const granted = this.#granted
    this.#granted = 0
    if (granted > 0 && (await this.request(granted)) < granted) {
      throw new ControllerFatalError(
        `${this.#transport.address} grants ${this.#granted} queues after a reset, before ${granted}`,
      )
    }
    for (const [qid, queue] of this.#made) {
      if (!this.#left.has(qid)) await this.#transport.createQueue(queue, this.#send)
    }
  }

  /** Deletes every queue of a controller that is being closed; their memory goes with its pool. */
  async end(): Promise<void> {
    this.#ending = true
    for (const qid of [...this.#made.keys()]) {
      try {
        await this.#transport.deleteQueue(qid, this.#sendLast)
      } catch (error) {
        log('%s: queue %d was not deleted: %s', this.#transport.address, qid, error)
        // A queue that is half-way deleted already does not keep the others; a silent controller does.
        if (!(error instanceof NvmeError)) return
      }
      this.#made.delete(qid)
    }
  }
}
