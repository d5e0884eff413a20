// One NVMe controller: its admin commands, queue pairs, events, reset and shutdown.
// Trade-off: everything here is asynchronous and takes microseconds to seconds; what a read or write costs is
// in the queue pairs that it makes.

import { type InspectOptions, inspect } from 'node:util'

import {
  ClosedError,
  ControllerResetError,
  DeviceRemovedError,
  NvmeError,
  OutOfRangeError,
  UnsupportedError,
} from '../../errors.ts'
import { logger } from '../../log/index.ts'
import { DmaPool } from '../../memory/pool.ts'
import { type PciFunction, readRegister, writeRegister } from '../../pci/function.ts'
import { rejectPaced } from '../../sys/event-loop.ts'
import { summary } from '../../sys/show.ts'
import {
  disableController,
  enableController,
  failureOf,
  removedError,
  shutdownController,
} from '../pcie/bring-up.ts'
import { IoQueuePairs } from '../pcie/io-queue-pairs.ts'
import { PRP_PAGE_BYTES } from '../pcie/prp.ts'
import { type Doorbells, ShadowDoorbells } from '../pcie/shadow-doorbells.ts'
import {
  CNS,
  decodeIdentifyController,
  type IdentifyController,
  type IdentifyNamespace,
  OACS,
} from '../spec/identify/index.ts'
import { ADMIN } from '../spec/opcodes.ts'
import {
  ALL_ONES,
  type Capabilities,
  CSS,
  decodeCapabilities,
  formatVersion,
  NSSR_RESET,
  REGISTER,
} from '../spec/registers.ts'
import { type AdminCommand, type AdminOptions, AdminQueue, type AdminResult } from './admin-queue.ts'
import { EventWatch } from './event-watch.ts'
import {
  activeNamespaces,
  type IdentifyOptions,
  identify,
  identifyNamespace,
  withSignal,
} from './identify-commands.ts'

const log = logger('nvme')

/** Transfers are split at this size even where the controller takes more: it bounds the PRP lists. */
export const MAX_TRANSFER_BYTES = 2 ** 20
const HEALTH_EVERY_MS = 50
const ADMIN_ENTRIES = 64

export interface ControllerOptions {
  /** Milliseconds that an I/O command may take, default 30 000. */
  timeout?: number | undefined
  /** Milliseconds that an admin command may take, default 60 000. */
  adminTimeout?: number | undefined
  /** Uses shadow doorbells where the controller offers them (Doorbell Buffer Config). Default: true. */
  shadowDoorbells?: boolean | undefined
  /**
   * Most bytes of one command, from 4096 to 1 MiB, in whole pages of 4096: where the controller's own limit (MDTS)
   * is lower, that one counts. One page is only to be had this way: MDTS 0 means no limit, MDTS 1 two pages.
   */
  maxTransferBytes?: number | undefined
  /** Ends the bringing up with AbortError, whatever it waits for; nothing once that is done. */
  signal?: AbortSignal | undefined
}

/** Registers that say what the controller is: both halves of CAP, and VS. */
interface IdentityRegisters {
  readonly lo: number
  readonly hi: number
  readonly vs: number
}

async function readIdentity(pci: PciFunction): Promise<IdentityRegisters> {
  const lo = await readRegister(pci, REGISTER.CAP_LO)
  const hi = await readRegister(pci, REGISTER.CAP_HI)
  return { lo, hi, vs: await readRegister(pci, REGISTER.VS) }
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
  /** Its I/O queue pairs. */
  readonly queues: IoQueuePairs
  /** Milliseconds that an I/O command may take. */
  readonly timeout: number
  readonly #admin: AdminQueue
  readonly #onFailure = new Set<(cause: Error) => void>()
  readonly #events: EventWatch
  #closed: Promise<void> | null = null
  readonly #wantsShadow: boolean
  readonly #mostBytes: number
  #shadow: ShadowDoorbells | null = null
  // Whether the controller knows of them: until its next reset.
  #shadowed = false
  #healthAt = 0

  /**
   * @param pool has room for the admin queue
   * @param registers what `readIdentity` gave
   */
  constructor(
    pci: PciFunction,
    pool: DmaPool,
    { lo, hi, vs }: IdentityRegisters,
    options: ControllerOptions = {},
  ) {
    const { timeout = 30_000, adminTimeout = 60_000, shadowDoorbells = true } = options
    const { maxTransferBytes = MAX_TRANSFER_BYTES } = options
    if (!(maxTransferBytes >= PRP_PAGE_BYTES && maxTransferBytes <= MAX_TRANSFER_BYTES)) {
      throw new OutOfRangeError(
        `maxTransferBytes ${maxTransferBytes}: 4096 to ${MAX_TRANSFER_BYTES} are possible`,
      )
    }
    if (lo === ALL_ONES && hi === ALL_ONES) throw removedError(pci, 'CAP reads all-ones')
    this.pci = pci
    this.timeout = timeout
    this.#wantsShadow = shadowDoorbells
    this.#mostBytes = maxTransferBytes - (maxTransferBytes % PRP_PAGE_BYTES)
    this.maxTransferBytes = this.#mostBytes
    this.cap = decodeCapabilities(lo, hi)
    this.version = formatVersion(vs)
    if (this.cap.mpsmin > PRP_PAGE_BYTES) {
      throw new UnsupportedError(
        `${pci.address}: its smallest page (${this.cap.mpsmin} bytes) is larger than 4096`,
      )
    }
    if ((this.cap.css & (CSS.NVM | CSS.PROFILES)) === 0) {
      throw new UnsupportedError(`${pci.address}: no NVM command set (CAP.CSS ${this.cap.css.toString(16)}h)`)
    }
    this.pool = pool
    const entries = Math.min(ADMIN_ENTRIES, this.cap.mqes)
    const admin = { dstrd: this.cap.dstrd, entries, timeout: adminTimeout }
    this.#admin = new AdminQueue(pci, this.pool, admin, () => this.checkHealth())
    this.#events = new EventWatch(this.#admin)
    this.queues = new IoQueuePairs(this, this.#admin, (qid, entries) => this.#doorbellsOf(qid, entries))
    pci.onRemoved = (cause) => this.fail(cause)
  }

  /** Sends any admin command: see AdminCommand. */
  admin(command: AdminCommand, { signal }: AdminOptions = {}): Promise<AdminResult> {
    if (this.#closed) return rejectPaced(new ClosedError(`${this.pci.address} is closed`))
    return this.#admin.submit(command, 0, signal)
  }

  /**
   * Calls `handler` with dword 0 of each asynchronous event (section 5.2): within 50 ms while I/O is in flight,
   * within a second otherwise. Does not keep the process alive.
   */
  onEvent(handler: (result: number) => void): void {
    this.#events.add(handler)
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
    else this.#events.poll()
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
    this.#events.resume()
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

  #doorbellsOf(qid: number, entries: number): Doorbells {
    return (this.#shadowed && this.#shadow?.ofQueuePair(qid, entries)) || this.pci
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
      if (how === 'subsystem') await writeRegister(this.pci, REGISTER.NSSR, NSSR_RESET)
      await disableController(this.pci, this.cap)
      this.#admin.reset()
      this.queues.reset()
      this.failure = null
      await this.enable()
      await this.queues.restore()
    } catch (error) {
      this.failure ??= error as Error
      this.#admin.fail(this.failure)
      throw error
    }
  }

  /**
   * Shuts down by the book (section 7.6.2): queues deleted, CC.SHN, disabled; then the function is closed and
   * all memory given back. Safe at any time, also for a controller that failed.
   */
  close(): Promise<void> {
    this.#closed ??= this.#shutdown()
    return this.#closed
  }

  /** What a console shows of it: not the driver behind it. */
  [inspect.custom](depth: number, options: InspectOptions): string {
    const { version, maxTransferBytes, failure } = this
    // One that was ended before it was identified has none.
    const { mn, sn, fr } = this.identity ?? {}
    const { address, transport } = this.pci
    const shown = {
      address,
      transport,
      version,
      mn,
      sn,
      fr,
      maxTransferBytes,
      failure: failure?.message ?? null,
    }
    return summary('Controller', shown, depth, options)
  }

  async #shutdown(): Promise<void> {
    this.#events.close()
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
      await this.queues.end()
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
    const pool = new DmaPool(pci)
    // What bringing up allocates at once: the admin queue, and a few pages.
    await pool.ready([ADMIN_ENTRIES * 2 * PRP_PAGE_BYTES])
    controller = new Controller(pci, pool, await readIdentity(pci), options)
    await controller.enable(options.signal)
    return controller
  } catch (error) {
    await (controller ?? pci).close()
    throw error
  }
}
