// One NVMe controller: its admin commands, queue pairs, events, reset and shutdown.
// Trade-off: everything here is asynchronous and takes microseconds to seconds; what a read or write costs is
// in the queue pairs that it makes.

import {
  ClosedError,
  ControllerResetError,
  DeviceRemovedError,
  NvmeError,
  OutOfRangeError,
  UnsupportedError,
} from '../errors.ts'
import { logger } from '../log/index.ts'
import { DmaPool, type PciFunction } from '../pci/index.ts'
import { type AdminCommand, type AdminOptions, AdminQueue, type AdminResult } from './admin-queue.ts'
import {
  disableController,
  enableController,
  failureOf,
  removedError,
  shutdownController,
} from './bring-up.ts'
import {
  CNS,
  decodeIdentifyController,
  type IdentifyController,
  type IdentifyNamespace,
  OACS,
} from './identify/index.ts'
import {
  activeNamespaces,
  type IdentifyOptions,
  identify,
  identifyNamespace,
  withSignal,
} from './identify-commands.ts'
import { ADMIN } from './opcodes.ts'
import { PRP_PAGE_BYTES } from './prp.ts'
import { QueuePair } from './queue-pair.ts'
import {
  ALL_ONES,
  type Capabilities,
  CSS,
  cqHeadDoorbell,
  decodeCapabilities,
  formatVersion,
  NSSR_RESET,
  REGISTER,
} from './registers.ts'
import { ShadowDoorbells } from './shadow-doorbells.ts'

const log = logger('nvme')

/** Transfers are split at this size even where the controller takes more: it bounds the PRP lists. */
export const MAX_TRANSFER_BYTES = 2 ** 20
const FEATURE_NUMBER_OF_QUEUES = 0x07
const HEALTH_EVERY_MS = 50
const EVENT_POLL_MS = 1000

export interface ControllerOptions {
  /** Milliseconds that an I/O command may take, default 30 000. */
  timeout?: number
  /** Milliseconds that an admin command may take, default 60 000. */
  adminTimeout?: number
  /** Uses shadow doorbells where the controller offers them (Doorbell Buffer Config). Default: true. */
  shadowDoorbells?: boolean
  /**
   * Most bytes of one command, from 4096 to 1 MiB, in whole pages of 4096: where the controller's own limit (MDTS)
   * is lower, that one counts. One page is only to be had this way: MDTS 0 means no limit, MDTS 1 two pages.
   */
  maxTransferBytes?: number
  /** Ends the bringing up with AbortError, whatever it waits for; nothing once that is done. */
  signal?: AbortSignal | undefined
}

/** A ready controller. Made by `createController`. */
export class Controller {
  /** The PCI function: address, transport, registers. */
  readonly pci: PciFunction
  /** DMA memory of the controller. */
  readonly pool: DmaPool
  /** Controller Capabilities (CAP), decoded. */
  readonly cap: Capabilities
  /** As `1.4.0`. */
  readonly version: string
  /** Largest transfer of one command in bytes: MDTS in units of CAP.MPSMIN, and at most what was asked for. */
  maxTransferBytes: number
  /** Identify Controller data. */
  identity!: IdentifyController
  /** What ended the controller, once something has. */
  failure: Error | null = null
  /** Pairs by queue id; the admin queue is not among them. */
  readonly pairs = new Map<number, QueuePair>()
  /** Milliseconds that an I/O command may take. */
  readonly timeout: number
  readonly #vectors = new Map<number, number | null>()
  readonly #admin: AdminQueue
  readonly #onFailure = new Set<(cause: Error) => void>()
  readonly #onEvent = new Set<(result: number) => void>()
  #eventTimer: NodeJS.Timeout | undefined
  #watching = false
  #granted = 0
  #closed: Promise<void> | null = null
  readonly #wantsShadow: boolean
  readonly #mostBytes: number
  #shadow: ShadowDoorbells | null = null
  // Whether the controller knows of them: until its next reset.
  #shadowed = false
  #healthAt = 0

  constructor(pci: PciFunction, options: ControllerOptions = {}) {
    const { timeout = 30_000, adminTimeout = 60_000, shadowDoorbells = true } = options
    const { maxTransferBytes = MAX_TRANSFER_BYTES } = options
    if (!(maxTransferBytes >= PRP_PAGE_BYTES && maxTransferBytes <= MAX_TRANSFER_BYTES)) {
      throw new OutOfRangeError(
        `maxTransferBytes ${maxTransferBytes}: 4096 to ${MAX_TRANSFER_BYTES} are possible`,
      )
    }
    const lo = pci.readRegister(REGISTER.CAP_LO)
    const hi = pci.readRegister(REGISTER.CAP_HI)
    if (lo === ALL_ONES && hi === ALL_ONES) throw removedError(pci, 'CAP reads all-ones')
    this.pci = pci
    this.timeout = timeout
    this.#wantsShadow = shadowDoorbells
    this.#mostBytes = maxTransferBytes - (maxTransferBytes % PRP_PAGE_BYTES)
    this.maxTransferBytes = this.#mostBytes
    this.cap = decodeCapabilities(lo, hi)
    this.version = formatVersion(pci.readRegister(REGISTER.VS))
    if (this.cap.mpsmin > PRP_PAGE_BYTES) {
      throw new UnsupportedError(
        `${pci.address}: its smallest page (${this.cap.mpsmin} bytes) is larger than 4096`,
      )
    }
    if ((this.cap.css & (CSS.NVM | CSS.PROFILES)) === 0) {
      throw new UnsupportedError(`${pci.address}: no NVM command set (CAP.CSS ${this.cap.css.toString(16)}h)`)
    }
    this.pool = new DmaPool(pci)
    const entries = Math.min(64, this.cap.mqes, 4096)
    const admin = { dstrd: this.cap.dstrd, entries, timeout: adminTimeout }
    this.#admin = new AdminQueue(pci, this.pool, admin, () => this.checkHealth())
    pci.onRemoved = (cause) => this.fail(cause)
  }

  /** Sends any admin command: see AdminCommand. */
  admin(command: AdminCommand, { signal }: AdminOptions = {}): Promise<AdminResult> {
    if (this.#closed) return Promise.reject(new ClosedError(`${this.pci.address} is closed`))
    return this.#admin.submit(command, 0, signal)
  }

  /**
   * Calls `handler` with dword 0 of each asynchronous event (section 5.2): within 50 ms while I/O is in flight,
   * within a second otherwise. Does not keep the process alive.
   */
  onEvent(handler: (result: number) => void): void {
    this.#onEvent.add(handler)
    if (this.#onEvent.size === 1 && !this.failure) this.#watch()
    this.#eventTimer ??= setInterval(() => this.failure || this.#admin.poll(), EVENT_POLL_MS).unref()
  }

  // One request is always with the controller; it ends with the controller, and is made anew by `enable`.
  #watch(): void {
    this.#watching = true
    this.#admin.submit({ opcode: ADMIN.ASYNC_EVENT_REQUEST }).then(
      ({ result }) => {
        for (const handler of this.#onEvent) handler(result)
        this.#watch()
      },
      () => {
        this.#watching = false
      },
    )
  }

  /** Identify with any CNS (section 5.15): 4096 bytes. */
  identify(cns: number, options?: IdentifyOptions): Promise<Buffer> {
    return identify(this, cns, options)
  }

  /** Identify Namespace, decoded (section 5.15.2.1). */
  identifyNamespace(nsid: number): Promise<IdentifyNamespace> {
    return identifyNamespace(this, nsid)
  }

  /** Ids of all active namespaces, in order. */
  activeNamespaces(): Promise<number[]> {
    return activeNamespaces(this)
  }

  /** I/O queue pairs that can be had: asks for `count` with Set Features 07h, once in a controller's life. */
  async requestQueues(count: number): Promise<number> {
    if (this.#granted > 0) return this.#granted
    const wanted = Math.min(count, 65535) - 1
    const cdw11 = (wanted | (wanted << 16)) >>> 0
    const { result } = await this.admin({
      opcode: ADMIN.SET_FEATURES,
      cdw10: FEATURE_NUMBER_OF_QUEUES,
      cdw11,
    })
    this.#granted = Math.min((result & 0xffff) + 1, (result >>> 16) + 1)
    return this.#granted
  }

  /**
   * Creates I/O queue pair `qid`, completion queue first (sections 5.3 and 5.4).
   * Throws UnsupportedError for a queue whose doorbells can't be reached.
   * @param entries at least 2, at most CAP.MQES
   * @param vector interrupt vector, or null to poll only
   */
  async createQueuePair(qid: number, entries: number, vector: number | null = null): Promise<QueuePair> {
    if (entries > this.cap.mqes) {
      throw new OutOfRangeError(
        `queues of ${entries} entries: ${this.pci.address} takes 2 to ${this.cap.mqes}`,
      )
    }
    const { dstrd } = this.cap
    if (cqHeadDoorbell(qid, dstrd) >= this.pci.doorbells.length) {
      throw new UnsupportedError(
        `queue ${qid}: its doorbells in BAR 0 of ${this.pci.address} can't be mapped`,
      )
    }
    const pair = new QueuePair(this.pci, this.pool, {
      qid,
      entries,
      dstrd,
      maxBytes: this.maxTransferBytes,
      timeout: this.timeout,
    })
    try {
      await this.#announce(pair, vector)
    } catch (error) {
      if (!this.failure) pair.free()
      throw error
    }
    this.pairs.set(qid, pair)
    this.#vectors.set(qid, vector)
    return pair
  }

  async #announce(pair: QueuePair, vector: number | null): Promise<void> {
    const { qid, entries, sqIova, cqIova } = pair
    pair.useDoorbells((this.#shadowed && this.#shadow?.ofQueuePair(qid, entries)) || this.pci)
    const size = ((entries - 1) << 16) | qid
    const interrupts = vector === null ? 0 : (vector << 16) | 2
    await this.#admin.submit({ opcode: ADMIN.CREATE_IO_CQ, cdw10: size, cdw11: interrupts | 1 }, cqIova)
    try {
      await this.#admin.submit({ opcode: ADMIN.CREATE_IO_SQ, cdw10: size, cdw11: (qid << 16) | 1 }, sqIova)
    } catch (error) {
      if (!this.failure) await this.admin({ opcode: ADMIN.DELETE_IO_CQ, cdw10: qid }).catch(() => {})
      throw error
    }
  }

  /** Deletes a queue pair, submission queue first, and gives its memory back. */
  async deleteQueuePair(qid: number): Promise<void> {
    const pair = this.pairs.get(qid)
    if (pair === undefined) return
    await this.admin({ opcode: ADMIN.DELETE_IO_SQ, cdw10: qid })
    await this.admin({ opcode: ADMIN.DELETE_IO_CQ, cdw10: qid })
    this.pairs.delete(qid)
    pair.free()
  }

  /**
   * Deletes a queue pair and makes it anew in the same memory: whatever was in flight, of whichever thread, has
   * ended when this resolves.
   */
  async recreateQueuePair(qid: number): Promise<void> {
    const pair = this.pairs.get(qid)
    if (pair === undefined) return
    await this.admin({ opcode: ADMIN.DELETE_IO_SQ, cdw10: qid })
    await this.admin({ opcode: ADMIN.DELETE_IO_CQ, cdw10: qid })
    pair.reset()
    await this.#announce(pair, this.#vectors.get(qid) ?? null)
  }

  /** Calls `handler` when the controller fails: all-ones, CSTS.CFS, removal, reset. Returns what ends that. */
  onFailure(handler: (cause: Error) => void): () => void {
    this.#onFailure.add(handler)
    return () => this.#onFailure.delete(handler)
  }

  /** Looks at CSTS, at most every 50 ms: a controller that is gone or fatal fails everything that waits. */
  checkHealth(now = performance.now()): void {
    if (this.failure || now - this.#healthAt < HEALTH_EVERY_MS) return
    this.#healthAt = now
    const failure = failureOf(this.pci)
    if (failure !== null) this.fail(failure)
    else if (this.#watching) this.#admin.poll()
  }

  /** Ends the controller: every pending command gets `cause`. */
  fail(cause: Error): void {
    if (this.failure) return
    if (!(cause instanceof ClosedError)) log('%s failed: %s', this.pci.address, cause.message)
    this.failure = cause
    this.#admin.fail(cause)
    for (const handler of this.#onFailure) handler(cause)
  }

  /** Enables the controller, from whatever state it is in, and identifies it (section 7.6.1). */
  async enable(signal?: AbortSignal): Promise<void> {
    await disableController(this.pci, this.cap, signal)
    this.#shadowed = false
    this.#admin.pair.useDoorbells(this.pci)
    await enableController(this.pci, this.cap, this.#admin.pair, signal)
    if (this.#onEvent.size > 0) this.#watch()
    this.identity = decodeIdentifyController(await identify(withSignal(this, signal), CNS.CONTROLLER))
    const { mdts } = this.identity
    const limit = mdts === 0 ? Number.POSITIVE_INFINITY : 2 ** mdts * this.cap.mpsmin
    this.maxTransferBytes = Math.min(limit, this.#mostBytes)
    if (this.#wantsShadow && (this.identity.oacs & OACS.DOORBELL_BUFFER) !== 0)
      await this.#shadowDoorbells(signal)
    log('%s: %s %s, NVMe %s', this.pci.address, this.identity.mn, this.identity.fr, this.version)
  }

  /** True while queues are rung by shadow doorbells. */
  get shadowed(): boolean {
    return this.#shadowed
  }

  async #shadowDoorbells(signal: AbortSignal | undefined): Promise<void> {
    this.#shadow ??= new ShadowDoorbells(this.pci, this.pool, this.cap.dstrd)
    this.#shadow.clear()
    try {
      await this.admin({ opcode: ADMIN.DOORBELL_BUFFER_CONFIG, data: this.#shadow.memory }, { signal })
    } catch (error) {
      if (!(error instanceof NvmeError)) throw error
      log('%s: real doorbells, since Doorbell Buffer Config failed: %s', this.pci.address, error.message)
      return
    }
    this.#shadowed = true
    this.#admin.pair.useDoorbells(this.#shadow.ofAdminQueue(this.#admin.pair.rung))
  }

  /**
   * Controller reset: everything pending is rejected with ControllerResetError, then the controller and its
   * queue pairs are made anew in the same memory; lost identifiers are usable again.
   */
  async reset(how: 'controller' | 'subsystem' | 'function' = 'controller'): Promise<void> {
    if (this.#closed) throw new ClosedError(`${this.pci.address} is closed`)
    if (this.failure instanceof DeviceRemovedError) throw this.failure
    if (how === 'subsystem' && !this.cap.nssrs) {
      throw new UnsupportedError(`${this.pci.address} has no NVM subsystem reset (CAP.NSSRS)`)
    }
    this.failure = null
    this.fail(new ControllerResetError(`${this.pci.address} was reset with the command in flight`))
    try {
      if (how === 'function') await this.pci.reset()
      if (how === 'subsystem') this.pci.writeRegister(REGISTER.NSSR, NSSR_RESET)
      await disableController(this.pci, this.cap)
      this.#admin.reset()
      for (const pair of this.pairs.values()) pair.reset()
      this.failure = null
      await this.enable()
      await this.#restoreQueues()
    } catch (error) {
      this.failure ??= error as Error
      this.#admin.fail(this.failure)
      throw error
    }
  }

  async #restoreQueues(): Promise<void> {
    const granted = this.#granted
    this.#granted = 0
    if (granted > 0) await this.requestQueues(granted)
    for (const [qid, pair] of this.pairs) await this.#announce(pair, this.#vectors.get(qid) ?? null)
  }

  /**
   * Shuts down by the book (section 7.6.2): queues deleted, CC.SHN, disabled; then the function is closed and
   * all memory given back. Safe at any time, also for a controller that failed.
   */
  close(): Promise<void> {
    this.#closed ??= this.#shutdown()
    return this.#closed
  }

  async #shutdown(): Promise<void> {
    clearInterval(this.#eventTimer)
    try {
      if (!(this.failure instanceof DeviceRemovedError)) await this.#stop()
    } catch (error) {
      log('%s: shutdown failed: %s', this.pci.address, error)
    } finally {
      this.fail(new ClosedError(`${this.pci.address} was closed`))
      try {
        this.pci.quiesce()
        this.pool.close()
      } finally {
        await this.pci.close()
      }
    }
  }

  async #stop(): Promise<void> {
    if (!this.failure) {
      for (const qid of [...this.pairs.keys()]) {
        await this.#admin.submit({ opcode: ADMIN.DELETE_IO_SQ, cdw10: qid })
        await this.#admin.submit({ opcode: ADMIN.DELETE_IO_CQ, cdw10: qid })
        this.pairs.delete(qid)
      }
      // One that was ended before it was identified has said nothing of that.
      await shutdownController(this.pci, this.identity?.rtd3e ?? 0)
    }
    await disableController(this.pci, this.cap)
  }
}

/** Brings a controller up. On failure everything is given back, the function closed too. */
export async function createController(
  pci: PciFunction,
  options: ControllerOptions = {},
): Promise<Controller> {
  let controller: Controller | undefined
  try {
    controller = new Controller(pci, options)
    await controller.enable(options.signal)
    return controller
  } catch (error) {
    await (controller ?? pci).close()
    throw error
  }
}
