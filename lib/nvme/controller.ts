// One NVMe controller: bring-up, admin commands, queue pairs, reset and shutdown (NVMe 1.4 base, section 7.6).
// Trade-off: registers are polled, at once and then by the event loop's turns, so that a quick controller is
// ready in microseconds and a slow one blocks nobody.

import {
  ClosedError,
  ControllerFatalError,
  ControllerResetError,
  DeviceRemovedError,
  OutOfRangeError,
  UnsupportedError,
} from '../errors.ts'
import { logger } from '../log/index.ts'
import { DmaPool, type PciFunction } from '../pci/index.ts'
import { type AdminCommand, AdminQueue, type AdminResult } from './admin-queue.ts'
import {
  CNS,
  decodeIdentifyController,
  decodeIdentifyNamespace,
  decodeNamespaceList,
  type IdentifyController,
  type IdentifyNamespace,
} from './identify/index.ts'
import { ADMIN } from './opcodes.ts'
import { high32, low32, PRP_PAGE_BYTES } from './prp.ts'
import { QueuePair } from './queue-pair.ts'
import {
  ALL_ONES,
  type Capabilities,
  CSS,
  CSTS,
  decodeCapabilities,
  encodeConfiguration,
  formatVersion,
  NSSR_RESET,
  REGISTER,
  SHN,
  SHST,
} from './registers.ts'

const log = logger('nvme')

// Transfers are split at this size even where the controller takes more: it bounds the PRP lists.
const MAX_TRANSFER_BYTES = 2 ** 20
// A controller that reports a timeout of 0 still gets a moment.
const LEAST_READY_MS = 500
const SHUTDOWN_MS = 5000
const FEATURE_NUMBER_OF_QUEUES = 0x07
const HEALTH_EVERY_MS = 50

export interface ControllerOptions {
  /** Milliseconds that an I/O command may take, default 30 000. */
  timeout?: number
  /** Milliseconds that an admin command may take, default 60 000. */
  adminTimeout?: number
}

/** A ready controller. Made by `createController`. */
export class Controller {
  readonly pci: PciFunction
  readonly pool: DmaPool
  readonly cap: Capabilities
  /** As `1.4.0`. */
  readonly version: string
  /** Largest transfer of one command in bytes: MDTS in units of CAP.MPSMIN, and at most 1 MiB. */
  maxTransferBytes = MAX_TRANSFER_BYTES
  /** Identify Controller data. */
  identity!: IdentifyController
  /** What ended the controller, once something has. */
  failure: Error | null = null
  /** Pairs by queue id; the admin queue is not among them. */
  readonly pairs = new Map<number, QueuePair>()
  readonly timeout: number
  readonly #vectors = new Map<number, number | null>()
  readonly #admin: AdminQueue
  readonly #onFailure = new Set<(cause: Error) => void>()
  #granted = 0
  #closed: Promise<void> | null = null
  #healthAt = 0

  constructor(pci: PciFunction, { timeout = 30_000, adminTimeout = 60_000 }: ControllerOptions = {}) {
    const lo = pci.readRegister(REGISTER.CAP_LO)
    const hi = pci.readRegister(REGISTER.CAP_HI)
    if (lo === ALL_ONES && hi === ALL_ONES) throw removed(pci, 'CAP reads all-ones')
    this.pci = pci
    this.timeout = timeout
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
    const options = { dstrd: this.cap.dstrd, entries, timeout: adminTimeout }
    this.#admin = new AdminQueue(pci, this.pool, options, () => this.checkHealth())
    pci.onRemoved = (cause) => this.fail(cause)
  }

  /** Sends any admin command: see AdminCommand. */
  admin(command: AdminCommand): Promise<AdminResult> {
    if (this.#closed) return Promise.reject(new ClosedError(`${this.pci.address} is closed`))
    return this.#admin.submit(command)
  }

  /** Looks for completed admin commands, asynchronous events among them. */
  pollAdmin(): void {
    if (!this.failure) this.#admin.poll()
  }

  /** Identify with any CNS (section 5.15): 4096 bytes. */
  async identify(cns: number, { nsid = 0, cdw10 = 0, cdw11 = 0 } = {}): Promise<Buffer> {
    const data = Buffer.alloc(4096)
    await this.admin({ opcode: ADMIN.IDENTIFY, nsid, data, cdw10: (cns | cdw10) >>> 0, cdw11 })
    return data
  }

  async identifyNamespace(nsid: number): Promise<IdentifyNamespace> {
    return decodeIdentifyNamespace(await this.identify(CNS.NAMESPACE, { nsid }))
  }

  /** Ids of all active namespaces, in order. */
  async activeNamespaces(): Promise<number[]> {
    const all: number[] = []
    for (;;) {
      const after = all.at(-1) ?? 0
      const ids = decodeNamespaceList(await this.identify(CNS.ACTIVE_NAMESPACES, { nsid: after }))
      all.push(...ids)
      if (ids.length < 1024) return all
    }
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

  /** Calls `handler` when the controller fails: all-ones, CSTS.CFS, removal, reset. */
  onFailure(handler: (cause: Error) => void): void {
    this.#onFailure.add(handler)
  }

  /** Looks at CSTS, at most every 50 ms: a controller that is gone or fatal fails everything that waits. */
  checkHealth(now = performance.now()): void {
    if (this.failure || now - this.#healthAt < HEALTH_EVERY_MS) return
    this.#healthAt = now
    const csts = this.pci.readRegister(REGISTER.CSTS)
    if (csts === ALL_ONES) this.fail(removed(this.pci, 'its registers read all-ones'))
    else if ((csts & CSTS.CFS) !== 0) this.fail(fatal(this.pci, csts))
  }

  /** Ends the controller: every pending command gets `cause`. */
  fail(cause: Error): void {
    if (this.failure) return
    log('%s failed: %s', this.pci.address, cause.message)
    this.failure = cause
    this.#admin.fail(cause)
    for (const handler of this.#onFailure) handler(cause)
  }

  /** Enables the controller, from whatever state it is in, and identifies it (section 7.6.1). */
  async enable(): Promise<void> {
    const { pci } = this
    await this.#disable()
    const { pair } = this.#admin
    const size = pair.entries - 1
    pci.writeRegister(REGISTER.AQA, ((size << 16) | size) >>> 0)
    writeAddress(pci, REGISTER.ASQ_LO, pair.sqIova)
    writeAddress(pci, REGISTER.ACQ_LO, pair.cqIova)
    const css = (this.cap.css & CSS.NVM) !== 0 ? 0 : 6
    const cc = { en: true, css, mps: PRP_PAGE_BYTES, ams: 0, shn: SHN.NONE, iosqes: 6, iocqes: 4 }
    pci.writeRegister(REGISTER.CC, encodeConfiguration(cc))
    await this.#waitFor('become ready', CSTS.RDY, CSTS.RDY, Math.max(this.cap.to, LEAST_READY_MS))
    this.identity = decodeIdentifyController(await this.identify(CNS.CONTROLLER))
    const { mdts } = this.identity
    const limit = mdts === 0 ? Number.POSITIVE_INFINITY : 2 ** mdts * this.cap.mpsmin
    this.maxTransferBytes = Math.min(limit, MAX_TRANSFER_BYTES)
    log('%s: %s %s, NVMe %s', pci.address, this.identity.mn, this.identity.fr, this.version)
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
      await this.#disable()
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
      const cc = this.pci.readRegister(REGISTER.CC)
      this.pci.writeRegister(REGISTER.CC, ((cc & ~0xc000) | (SHN.NORMAL << 14)) >>> 0)
      // RTD3E, in microseconds, is how long a normal shutdown may take.
      const limit = Math.max(SHUTDOWN_MS, (this.identity?.rtd3e ?? 0) / 1000)
      await this.#waitFor('shut down', CSTS.SHST, SHST.COMPLETE, limit)
    }
    await this.#disable()
  }

  async #disable(): Promise<void> {
    const cc = this.pci.readRegister(REGISTER.CC)
    if (cc === ALL_ONES) throw removed(this.pci, 'CC reads all-ones')
    this.pci.writeRegister(REGISTER.CC, (cc & ~1) >>> 0)
    await this.#waitFor('become disabled', CSTS.RDY, 0, Math.max(this.cap.to, LEAST_READY_MS), {
      fatal: false,
    })
  }

  /** Waits until the masked CSTS has a value, for `limit` ms. CFS ends the wait, unless it is being cleared. */
  async #waitFor(
    what: string,
    mask: number,
    value: number,
    limit: number,
    { fatal: cfs = true } = {},
  ): Promise<void> {
    const started = performance.now()
    for (;;) {
      const csts = this.pci.readRegister(REGISTER.CSTS)
      if (csts === ALL_ONES) throw removed(this.pci, 'CSTS reads all-ones')
      if ((csts & mask) === value) return
      if (cfs && (csts & CSTS.CFS) !== 0) throw fatal(this.pci, csts)
      const waited = performance.now() - started
      if (waited > limit) {
        const text = `${this.pci.address} did not ${what} within ${limit} ms (CSTS ${csts.toString(16)}h)`
        throw new ControllerFatalError(text)
      }
      await (waited < 2 ? new Promise(setImmediate) : new Promise((resolve) => setTimeout(resolve, 1)))
    }
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
    await controller.enable()
    return controller
  } catch (error) {
    await (controller ?? pci).close()
    throw error
  }
}

function writeAddress(pci: PciFunction, register: number, iova: number): void {
  pci.writeRegister(register, low32(iova) >>> 0)
  pci.writeRegister(register + 4, high32(iova) >>> 0)
}

function removed(pci: PciFunction, how: string): DeviceRemovedError {
  return new DeviceRemovedError(`device removed: ${pci.address} is gone, ${how}`)
}

function fatal(pci: PciFunction, csts: number): ControllerFatalError {
  return new ControllerFatalError(`${pci.address} reports a fatal status (CSTS ${csts.toString(16)}h)`)
}
