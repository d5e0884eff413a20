// One NVMe controller: its admin commands, I/O queues, events, reset and shutdown, on whatever transport it has.

import { type InspectOptions, inspect } from 'node:util'
import {
  ClosedError,
  ControllerResetError,
  DeviceRemovedError,
  OutOfRangeError,
  UnsupportedError,
} from '../../errors.ts'
import { logger } from '../../log/index.ts'
import { type DmaPool, PAGE_BYTES } from '../../memory/pool.ts'
import { rejectPaced } from '../../sys/event-loop.ts'
import { summary } from '../../sys/show.ts'
import {
  CNS,
  decodeIdentifyController,
  type IdentifyController,
  type IdentifyNamespace,
} from '../spec/identify.ts'
import { type Capabilities, CSS } from '../spec/registers.ts'
import { type AdminCommand, type AdminOptions, AdminQueue, type AdminResult } from './admin-queue.ts'
import { EventWatch } from './event-watch.ts'
import {
  activeNamespaces,
  type IdentifyOptions,
  identify,
  identifyNamespace,
  withSignal,
} from './identify-commands.ts'
import { IoQueues } from './io-queues.ts'
import type { ResetKind, Transport, TransportFacts } from './transport.ts'

const log = logger('nvme')

/** Transfers are split at this size even where the controller takes more: it bounds what describes their memory. */
export const MAX_TRANSFER_BYTES = 2 ** 20
const HEALTH_EVERY_MS = 50

export interface ControllerOptions {
  /** Milliseconds that an I/O command may take, default 30 000. */
  timeout?: number | undefined
  /** Milliseconds that an admin command may take, default 60 000. */
  adminTimeout?: number | undefined
  /**
   * Most bytes of one command, from 4096 to 1 MiB, in whole pages of 4096: where the controller's own limit (MDTS)
   * is lower, that one counts. One page is only to be had this way: MDTS 0 means no limit, MDTS 1 two pages.
   */
  maxTransferBytes?: number | undefined
  /** Ends the bringing up with AbortError, whatever it waits for; nothing once that is done. */
  signal?: AbortSignal | undefined
}

/** A ready controller. Made by `createController`. */
export class Controller {
  /** The way to it: address, properties, memory. */
  readonly transport: Transport
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
  /** Its I/O queues. */
  readonly queues: IoQueues
  /** Milliseconds that an I/O command may take. */
  readonly timeout: number
  readonly #admin: AdminQueue
  readonly #onFailure = new Set<(cause: Error) => void>()
  readonly #events: EventWatch
  #closed: Promise<void> | null = null
  readonly #mostBytes: number
  #healthAt = 0

  constructor(transport: Transport, options: ControllerOptions = {}) {
    const { timeout = 30_000, adminTimeout = 60_000, maxTransferBytes = MAX_TRANSFER_BYTES } = options
    if (!(maxTransferBytes >= PAGE_BYTES && maxTransferBytes <= MAX_TRANSFER_BYTES)) {
      throw new OutOfRangeError(
        `maxTransferBytes ${maxTransferBytes}: 4096 to ${MAX_TRANSFER_BYTES} are possible`,
      )
    }
    const { address, cap, pool, version } = transport
    if ((cap.css & (CSS.NVM | CSS.PROFILES)) === 0) {
      throw new UnsupportedError(`${address}: no NVM command set (CAP.CSS ${cap.css.toString(16)}h)`)
    }
    this.transport = transport
    this.timeout = timeout
    this.#mostBytes = maxTransferBytes - (maxTransferBytes % PAGE_BYTES)
    this.maxTransferBytes = this.#mostBytes
    this.cap = cap
    this.version = version
    this.pool = pool
    this.#admin = new AdminQueue(transport.admin, pool, adminTimeout, () => this.checkHealth())
    this.#events = new EventWatch(this.#admin)
    this.queues = new IoQueues(this, this.#admin)
    transport.onFailed = (cause) => this.fail(cause)
  }

  /** Sends any admin command: see AdminCommand. */
  admin(command: AdminCommand, { signal }: AdminOptions = {}): Promise<AdminResult> {
    if (this.#closed) return rejectPaced(new ClosedError(`${this.transport.address} is closed`))
    return this.#admin.submit(command, signal)
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
    const failure = this.transport.health()
    if (failure !== null) this.fail(failure)
    else this.#events.poll()
  }

  /** Ends the controller: every pending command gets `cause`. */
  fail(cause: Error): void {
    if (this.failure) return
    if (!(cause instanceof ClosedError)) log('%s failed: %s', this.transport.address, cause.message)
    this.failure = cause
    this.#admin.fail(cause)
    for (const handler of this.#onFailure) handler(cause)
  }

  /** Enables the controller, from whatever state it is in, and identifies it (section 7.6.1). */
  async enable(signal?: AbortSignal): Promise<void> {
    await this.transport.enable(signal)
    this.#events.resume()
    this.identity = decodeIdentifyController(await identify(withSignal(this, signal), CNS.CONTROLLER))
    const { mdts } = this.identity
    const limit = mdts === 0 ? Number.POSITIVE_INFINITY : 2 ** mdts * this.cap.mpsmin
    this.maxTransferBytes = Math.min(limit, this.#mostBytes)
    await this.transport.configure(this.identity, (command, options) => this.admin(command, options), signal)
    log('%s: %s %s, NVMe %s', this.transport.address, this.identity.mn, this.identity.fr, this.version)
  }

  /**
   * Controller reset: everything pending is rejected with ControllerResetError, then the controller and its
   * I/O queues are created again in the same memory; lost identifiers are usable again.
   */
  async reset(how: ResetKind = 'controller'): Promise<void> {
    if (this.#closed) throw new ClosedError(`${this.transport.address} is closed`)
    if (this.failure instanceof DeviceRemovedError) throw this.failure
    if (how === 'subsystem' && !this.cap.nssrs) {
      throw new UnsupportedError(`${this.transport.address} has no NVM subsystem reset (CAP.NSSRS)`)
    }
    this.failure = null
    this.fail(new ControllerResetError(`${this.transport.address} was reset with the command in flight`))
    try {
      await this.transport.reset(how)
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
    return summary('Controller', this.toJSON(), depth, options)
  }

  /** For JSON.stringify: what a console shows. */
  toJSON() {
    return shownOf(this)
  }

  async #shutdown(): Promise<void> {
    this.#events.close()
    try {
      if (!(this.failure instanceof DeviceRemovedError)) await this.#stop()
    } catch (error) {
      log('%s: shutdown failed: %s', this.transport.address, error)
    } finally {
      this.fail(new ClosedError(`${this.transport.address} was closed`))
      await this.transport.close()
    }
  }

  async #stop(): Promise<void> {
    if (!this.failure) {
      await this.queues.end()
      // One that was ended before it was identified has said nothing of that.
      await this.transport.shutdown(this.identity?.rtd3e ?? 0)
    }
    await this.transport.disable()
  }
}

/** What a console and JSON show of a controller, in whichever thread. */
export function shownOf(
  controller: Pick<Controller, 'version' | 'maxTransferBytes' | 'failure' | 'identity'> & {
    readonly transport: TransportFacts
  },
) {
  const { version, maxTransferBytes, failure } = controller
  // One that was ended before it was identified has none.
  const { mn, sn, fr } = controller.identity ?? {}
  const { address, kind: transport } = controller.transport
  return { address, transport, version, mn, sn, fr, maxTransferBytes, failure: failure?.message ?? null }
}

/** Brings a controller up. On failure everything is given back, the transport closed too. */
export async function createController(
  transport: Transport,
  options: ControllerOptions = {},
): Promise<Controller> {
  let controller: Controller | undefined
  try {
    controller = new Controller(transport, options)
    await controller.enable(options.signal)
    return controller
  } catch (error) {
    await (controller ?? transport).close()
    throw error
  }
}
