// The I/O queue pairs of one controller: how many it grants, made, deleted and made anew (NVMe 1.4 base, sections
// 5.3 to 5.6). Trade-off: a pair keeps its memory for as long as it exists, whatever happens to the controller, so
// that no pointer to it ever goes stale.

import { ClosedError, NvmeError, OutOfRangeError, UnsupportedError } from '../../errors.ts'
import { logger } from '../../log/index.ts'
import type { AdminQueue } from '../host/admin-queue.ts'
import type { Controller } from '../host/controller.ts'
import { ADMIN } from '../spec/opcodes.ts'
import { cqHeadDoorbell } from '../spec/registers.ts'
import { pairMemory, QueuePair } from './queue-pair.ts'
import type { Doorbells } from './shadow-doorbells.ts'

const FEATURE_NUMBER_OF_QUEUES = 0x07

const log = logger('nvme')

/** What queue pairs need of their controller. */
type Owner = Pick<Controller, 'pci' | 'pool' | 'cap' | 'timeout' | 'maxTransferBytes' | 'failure' | 'admin'>

interface Made {
  readonly pair: QueuePair
  /** Its interrupt vector, or null. */
  readonly vector: number | null
}

/** Made by its controller, and `queues` there. */
export class IoQueuePairs {
  readonly #controller: Owner
  readonly #admin: AdminQueue
  readonly #doorbellsOf: (qid: number, entries: number) => Doorbells
  // By queue id.
  readonly #made = new Map<number, Made>()
  #granted = 0
  #ending = false

  /** @param doorbellsOf where a pair that is about to be created is to be rung */
  constructor(
    controller: Owner,
    admin: AdminQueue,
    doorbellsOf: (qid: number, entries: number) => Doorbells,
  ) {
    this.#controller = controller
    this.#admin = admin
    this.#doorbellsOf = doorbellsOf
  }

  /** Pairs that exist. */
  get size(): number {
    return this.#made.size
  }

  /** Pairs that can be had: asks for `count` with Set Features 07h, once in a controller's life. */
  async request(count: number): Promise<number> {
    if (this.#granted > 0) return this.#granted
    const wanted = Math.min(count, 65535) - 1
    const cdw11 = (wanted | (wanted << 16)) >>> 0
    const { result } = await this.#controller.admin({
      opcode: ADMIN.SET_FEATURES,
      cdw10: FEATURE_NUMBER_OF_QUEUES,
      cdw11,
    })
    this.#granted = Math.min((result & 0xffff) + 1, (result >>> 16) + 1)
    return this.#granted
  }

  /**
   * Creates pair `qid`, completion queue first. Throws UnsupportedError for one whose doorbells can't be reached.
   * @param entries at least 2, at most CAP.MQES
   * @param vector interrupt vector, or null to poll only
   */
  async create(qid: number, entries: number, vector: number | null = null): Promise<QueuePair> {
    const { pci, pool, cap, maxTransferBytes: maxBytes, timeout } = this.#controller
    const { mqes, dstrd } = cap
    if (entries > mqes) {
      throw new OutOfRangeError(`queues of ${entries} entries: ${pci.address} takes 2 to ${mqes}`)
    }
    if (cqHeadDoorbell(qid, dstrd) >= pci.doorbells.length) {
      throw new UnsupportedError(`queue ${qid}: its doorbells in BAR 0 of ${pci.address} can't be mapped`)
    }
    const options = { qid, entries, dstrd, maxBytes, timeout }
    const sizes = pairMemory(options)
    for (let waiting = pool.ready(sizes); waiting !== null; waiting = pool.ready(sizes)) await waiting
    const pair = new QueuePair(pci, pool, options)
    const made = { pair, vector }
    try {
      await this.#announce(made)
    } catch (error) {
      if (!this.#controller.failure) pair.free()
      throw error
    }
    this.#made.set(qid, made)
    return pair
  }

  async #announce({ pair, vector }: Made): Promise<void> {
    const { qid, entries, sqIova, cqIova } = pair
    const admin = this.#admin
    this.#check()
    pair.useDoorbells(this.#doorbellsOf(qid, entries))
    const size = ((entries - 1) << 16) | qid
    const interrupts = vector === null ? 0 : (vector << 16) | 2
    await admin.submit({ opcode: ADMIN.CREATE_IO_CQ, cdw10: size, cdw11: interrupts | 1 }, cqIova)
    try {
      this.#check()
      await admin.submit({ opcode: ADMIN.CREATE_IO_SQ, cdw10: size, cdw11: (qid << 16) | 1 }, sqIova)
    } catch (error) {
      if (!this.#controller.failure)
        await this.#controller.admin({ opcode: ADMIN.DELETE_IO_CQ, cdw10: qid }).catch(() => {})
      throw error
    }
  }

  // A controller that is being closed deletes what there is, and must find nothing new.
  #check(): void {
    if (this.#ending) throw new ClosedError(`${this.#controller.pci.address} is closed`)
  }

  /** Deletes a pair, and gives its memory back. */
  async delete(qid: number): Promise<void> {
    const made = this.#made.get(qid)
    if (made === undefined) return
    await withdraw(this.#controller, qid)
    this.#made.delete(qid)
    made.pair.free()
  }

  /**
   * Deletes a pair and makes it anew in the same memory: whatever was in flight, of whichever thread, has ended
   * when this resolves.
   */
  async recreate(qid: number): Promise<void> {
    const made = this.#made.get(qid)
    if (made === undefined) return
    await withdraw(this.#controller, qid)
    made.pair.reset()
    await this.#announce(made)
  }

  /** The controller was reset: it knows of no pair any more. */
  reset(): void {
    for (const { pair } of this.#made.values()) pair.reset()
  }

  /** Creates every pair again, for a controller that was reset. */
  async restore(): Promise<void> {
    const granted = this.#granted
    this.#granted = 0
    if (granted > 0) await this.request(granted)
    for (const made of this.#made.values()) await this.#announce(made)
  }

  /** Deletes every pair of a controller that is being closed; their memory goes with its pool. */
  async end(): Promise<void> {
    this.#ending = true
    // The controller itself takes no command any more.
    const last: Pick<Controller, 'admin'> = { admin: (command) => this.#admin.submit(command) }
    for (const qid of [...this.#made.keys()]) {
      try {
        await withdraw(last, qid)
      } catch (error) {
        log('%s: queue %d was not deleted: %s', this.#controller.pci.address, qid, error)
        // One that is half-way deleted, by who had it, does not keep the others; a controller that is silent does.
        if (!(error instanceof NvmeError)) return
      }
      this.#made.delete(qid)
    }
  }
}

// Submission queue first.
async function withdraw(controller: Pick<Controller, 'admin'>, qid: number): Promise<void> {
  await controller.admin({ opcode: ADMIN.DELETE_IO_SQ, cdw10: qid })
  await controller.admin({ opcode: ADMIN.DELETE_IO_CQ, cdw10: qid })
}
