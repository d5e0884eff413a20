// One NVMe controller: its admin commands, I/O queues, events, reset and shutdown, on whatever transport it has.

import { type InspectOptions, inspect } from 'node:util'
import {
  ClosedError,
  ControllerFatalError,
  ControllerResetError,
  DeviceRemovedError,
  OutOfRangeError,
  UnsupportedError,
} from '../../errors.ts'
import { logger } from '../../log/index.ts'
import type { DmaPool } from '../../memory/pool.ts'
import { throwIfAborted } from '../../sys/abort.ts'
import { rejectPaced } from '../../sys/event-loop.ts'
import { summary } from '../../sys/show.ts'
import { PAGE_BYTES } from '../../sys/units.ts'
import {
  CNS,
  decodeIdentifyController,
  type IdentifyController,
  type IdentifyNamespace,
} from '../spec/identify.ts'
import { ALL_NAMESPACES, endsAllData, endsData } from '../spec/opcodes.ts'
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
import {
  type ExpiredCommand,
  type QueueUser,
  Recovery,
  type RecoveryEvent,
  type RecoveryPolicy,
} from './recovery.ts'
import type { ResetKind, SendAdmin, Transport, TransportFacts } from './transport.ts'

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
  /** What is done about commands without an answer, and a fatal controller: default `reset`. */
  recovery?: RecoveryPolicy | undefined
  /**
   * Milliseconds within which a controller that is gone may come back, where its transport can wait for that and
   * `recovery` is `reset`: default 0.
   */
  reconnect?: number | undefined
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
  /** Milliseconds within which a controller that is gone may come back. */
  readonly reconnect: number
  readonly #admin: AdminQueue
  readonly #onFailure = new Set<(cause: Error) => void>()
  readonly #events: EventWatch
  readonly #onFormat = new Set<(ended: Promise<unknown>) => void>()
  /** What is done about faults of the controller. */
  readonly recovery: Recovery
  #closed: Promise<void> | null = null
  readonly #mostBytes: number
  #healthAt = 0
  // Ends what waits for the controller to become ready.
  readonly #ending = new AbortController()
  #restarting = false
  // It has been enabled: not being ready is a failure.
  #enabled = false
  // Resets that were asked for, and are under way or wait for their turn.
  #resets = 0
  // What must not come into one another: resets, and the making of queues.
  #turn: Promise<unknown> = Promise.resolve()

  constructor(transport: Transport, options: ControllerOptions = {}) {
    const { timeout = 30_000, adminTimeout = 60_000, maxTransferBytes = MAX_TRANSFER_BYTES } = options
    const { recovery = 'reset', reconnect = 0 } = options
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
    this.reconnect = reconnect
    this.#mostBytes = maxTransferBytes - (maxTransferBytes % PAGE_BYTES)
    this.maxTransferBytes = this.#mostBytes
    this.cap = cap
    this.version = version
    this.pool = pool
    this.#admin = new AdminQueue(transport.admin, pool, adminTimeout, () => this.#checkAdmin())
    this.#events = new EventWatch(this.#admin)
    this.queues = new IoQueues(this, this.#admin)
    this.recovery = new Recovery(
      this,
      (command, options) => this.#send(command, options),
      transport.recovers ? 'none' : recovery,
    )
    this.#admin.onTimeout = (cause) => this.recovery.begin(cause)
    transport.onFailed = (cause) => this.#lost(cause)
    if (transport.onStalled === null) transport.onStalled = (cause) => this.#stall(cause)
  }

  /** Sends any admin command: see AdminCommand. One that comes while the controller is recovered waits for that. */
  admin(command: AdminCommand, options: AdminOptions = {}): Promise<AdminResult> {
    if (this.transport.mayWrite !== undefined) {
      const refusal = this.#refusal(command)
      if (refusal !== null) return rejectPaced(refusal)
    }
    const { running } = this.recovery
    const idle = running === null || this.#closed
    const result = idle ? this.#send(command, options) : running.then(() => this.#send(command, options))
    if (this.#onFormat.size > 0 && endsData(command?.opcode ?? 0, command?.cdw10 ?? 0)) {
      const ended = result.catch(() => {})
      for (const handler of this.#onFormat) handler(ended)
    }
    return result
  }

  /**
   * Calls `handler` when a command is sent that ends data, and may give a namespace another format, with what resolves when it has
   * ended, well or not: a controller has no event for whoever sent it. Returns what ends that.
   */
  onFormat(handler: (ended: Promise<unknown>) => void): () => void {
    this.#onFormat.add(handler)
    return () => this.#onFormat.delete(handler)
  }

  // What is no command at all is for the queue to say.
  #refusal(command: AdminCommand | undefined): Error | null {
    const { opcode = 0, nsid = 0, cdw10 = 0 } = command ?? {}
    if (!endsData(opcode, cdw10)) return null
    // One that was never identified is asked about as one that ends the least.
    const every = endsAllData(opcode, cdw10, this.identity?.fna ?? 0)
    return this.transport.mayWrite!(every ? ALL_NAMESPACES : nsid)
  }

  #send(command: AdminCommand, { signal }: AdminOptions = {}): Promise<AdminResult> {
    if (this.#closed) return rejectPaced(new ClosedError(`${this.transport.address} is closed`))
    return this.#admin.submit(command, signal)
  }

  /** Calls `handler` with what was done about a fault of the controller; returns what ends that. */
  onRecovery(handler: (event: RecoveryEvent) => void): () => void {
    return this.recovery.onEvent(handler)
  }

  /** One more who has commands in flight on its queues; returns what takes it out again. */
  addQueueUser(user: QueueUser): () => void {
    return this.recovery.add(user)
  }

  /** From the call of `close` on. */
  get closed(): boolean {
    return this.#closed !== null
  }

  /** True while the controller is being reset, or recovered: queues can't be used. */
  get resetting(): boolean {
    return this.#resets > 0 || this.recovery.running !== null
  }

  /** A command of queue `pair` had no answer. False: its queue gives it up. */
  expired(command: ExpiredCommand): boolean {
    return this.recovery.expired(command)
  }

  /** Does work that no reset may come into, and that comes into none. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work)
    this.#turn = done.catch(() => {})
    return done
  }

  /**
   * Calls `handler` with dword 0 of each asynchronous event (section 5.2): at once over TCP, elsewhere within 50 ms while I/O
   * is in flight, within a second otherwise. Does not keep the process alive. Returns what ends that. Throws UnsupportedError where
   * somebody else has them.
   */
  onEvent(handler: (result: number) => void): () => void {
    const { address, noEvents } = this.transport
    if (noEvents !== undefined) throw new UnsupportedError(`${address}: ${noEvents}`)
    return this.#events.add(handler)
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
    if (this.failure || this.resetting || now - this.#healthAt < HEALTH_EVERY_MS) return
    this.#healthAt = now
    const failure = this.transport.health()
    if (failure === null) this.#events.poll()
    else if (!this.#canRecover(failure) || !this.recovery.begin(failure)) this.fail(failure)
  }

  #canRecover(failure: Error): boolean {
    return failure instanceof ControllerFatalError || this.away
  }

  /** The device is gone, and its transport can wait for it. One that never was ready is not waited for. */
  get away(): boolean {
    return this.identity !== undefined && this.transport.away === true
  }

  /** It may come and go as often as it likes, for as long as its transport waits for it. */
  get patient(): boolean {
    return this.away && this.transport.patient === true
  }

  // The device is gone.
  #lost(cause: Error): void {
    if (!this.away) {
      this.fail(cause)
      return
    }
    // A recovery that is under way waits for answers that don't come any more.
    if (this.recovery.running !== null) this.#admin.fail(cause)
    else if (!this.recovery.begin(cause)) this.fail(cause)
  }

  // I/O ends without the controller: its recovery goes on, and lets what comes after it through.
  #stall(cause: Error): void {
    if (this.failure === null && this.recovery.running !== null) {
      for (const handler of this.#onFailure) handler(cause)
    }
  }

  // While it is reset there is no one else to look, and what brings it up would wait for its timeout.
  #checkAdmin(): void {
    const now = performance.now()
    if (!this.resetting) this.checkHealth(now)
    if (!this.resetting || !this.#enabled || now - this.#healthAt < HEALTH_EVERY_MS) return
    this.#healthAt = now
    const failure = this.transport.health()
    if (failure !== null) this.#admin.fail(failure)
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
    this.#enabled = true
    this.#events.resume()
    const send: SendAdmin = (command, options) => this.#send(command, options)
    const bytes = await identify(withSignal({ admin: send }, signal), CNS.CONTROLLER)
    const identity = decodeIdentifyController(bytes)
    checkSame(this.transport.address, this.identity, identity)
    this.identity = identity
    const { mdts } = this.identity
    const limit = mdts === 0 ? Number.POSITIVE_INFINITY : 2 ** mdts * this.cap.mpsmin
    const { maxTransferBytes = Number.POSITIVE_INFINITY } = this.transport
    this.maxTransferBytes = Math.min(limit, maxTransferBytes, this.#mostBytes)
    await this.transport.configure(this.identity, send, signal)
    log('%s: %s %s, NVMe %s', this.transport.address, this.identity.mn, this.identity.fr, this.version)
  }

  /**
   * Controller reset: everything pending is rejected with ControllerResetError, then the controller and its
   * I/O queues are created again in the same memory; lost identifiers are usable again.
   */
  async reset(how: ResetKind = 'controller'): Promise<void> {
    if (this.#closed) throw new ClosedError(`${this.transport.address} is closed`)
    this.#resets++
    try {
      if (this.recovery.running !== null) await this.recovery.running
      await this.#resetNow(how)
    } finally {
      this.#resets--
    }
  }

  async #resetNow(how: ResetKind): Promise<void> {
    // What the system took away is gone, and what came back in its place is another device; where registers only read
    // all-ones a reset may bring the device back.
    const { removed, reconnect } = this.transport
    if (this.failure instanceof DeviceRemovedError && (removed || reconnect !== undefined)) throw this.failure
    if (how === 'subsystem' && !this.cap.nssrs) {
      throw new UnsupportedError(`${this.transport.address} has no NVM subsystem reset (CAP.NSSRS)`)
    }
    const cause = new ControllerResetError(`${this.transport.address} was reset with the command in flight`)
    const interrupt = () => {
      this.failure = null
      this.fail(cause)
    }
    // What waits for an answer, and keeps others from their turn, ends now.
    if (!this.#restarting) interrupt()
    await this.exclusively(async () => {
      if (this.#closed) throw new ClosedError(`${this.transport.address} is closed`)
      if (this.failure !== cause) interrupt()
      // One that was fatal already, or is again before its queues are there, is reset once more.
      const restart = () => this.#restart(how, cause)
      await this.recovery.restartAgain(restart, (error) => error instanceof ControllerFatalError)
      // A recovery that has begun meanwhile resets once more, and lets them go on after that.
      if (this.recovery.running === null) this.recovery.resumeUsers()
    })
  }

  /** Resets and brings up again, without a word to those who wait for I/O: for `recovery`. */
  restart(how: ResetKind, cause: Error): Promise<void> {
    // What waits for an answer, and keeps this from its turn, ends now.
    if (!this.#restarting) this.#admin.fail(cause)
    return this.exclusively(() => this.#restart(how, cause))
  }

  async #restart(how: ResetKind, cause: Error): Promise<void> {
    const { signal } = this.#ending
    this.#restarting = true
    this.#enabled = false
    try {
      throwIfAborted(signal)
      this.#admin.fail(cause)
      if (this.away) await this.transport.reconnect?.(this.reconnect, signal)
      await this.transport.reset(how)
      this.#admin.reset()
      this.queues.reset()
      this.failure = null
      await this.enable(signal)
      await this.queues.restore()
    } catch (error) {
      // What recovery can't mend either it says itself.
      if (this.recovery.running === null) this.failure = error as Error
      this.#admin.fail(error as Error)
      throw error
    } finally {
      this.#restarting = false
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
    this.#ending.abort()
    await this.recovery.running
    await this.#turn
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

/** After a reset the same controller must be there, not another one behind the same address. */
function checkSame(address: string, before: IdentifyController | undefined, now: IdentifyController): void {
  if (before === undefined || (before.sn === now.sn && before.mn === now.mn)) return
  throw new DeviceRemovedError(
    `${address} is another controller after a reset: ${now.mn} ${now.sn}, before ${before.mn} ${before.sn}`,
  )
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
