// Several controllers of one subsystem as one controller: its queues go over all of them, and it has failed when every one
// of them has. Nothing is taken for the same but what has the same subsystem NQN, namespace id and identifiers.

import { setTimeout as delay } from 'node:timers/promises'
import { type InspectOptions, inspect } from 'node:util'
import {
  ClosedError,
  ControllerResetError,
  DeviceRemovedError,
  PathMismatchError,
  UnsupportedError,
} from '../../errors.ts'
import { logger } from '../../log/index.ts'
import type { DmaPool } from '../../memory/pool.ts'
import type { DmaSource } from '../../memory/source.ts'
import { throwIfAborted } from '../../sys/abort.ts'
import { rejectPaced } from '../../sys/event-loop.ts'
import { summary } from '../../sys/show.ts'
import type { AdminCommand, AdminOptions, AdminResult } from '../host/admin-queue.ts'
import { type Controller, shownOf } from '../host/controller.ts'
import {
  activeNamespaces,
  type IdentifyOptions,
  identify,
  identifyNamespace,
} from '../host/identify-commands.ts'
import type { Queue } from '../host/queue.ts'
import type { Pauses, QueueUser, RecoveryEvent } from '../host/recovery.ts'
import type { ResetKind, SendAdmin, Transport, TransportFacts, WakeUp } from '../host/transport.ts'
import type { IdentifyController, IdentifyNamespace } from '../spec/identify.ts'
import { ALL_ONES, type Capabilities } from '../spec/registers.ts'
import {
  type NamespaceIds,
  Path,
  type PathChange,
  type PathInfo,
  type PathOpener,
  type PathOwner,
  readIds,
} from './path.ts'
import { type PathPolicy, PathQueue, UNUSABLE } from './path-queue.ts'

const log = logger('paths')

// Once one path is there, how long opening waits for the others.
const GRACE_MS = 2000
const NEVER = -1
// In place of all namespaces that are not open.
const NOT_OPEN = 0

export interface PathsOptions {
  /** The address of all of them, for messages. */
  readonly address: string
  readonly subnqn: string
  /** Memory that all of them reach, which is closed with them. */
  readonly memory: DmaSource
  readonly pool: DmaPool
  readonly eventDriven: boolean
  readonly policy?: PathPolicy | undefined
  /** Milliseconds that an I/O command may take, as of the paths' controllers. Default: 30 000. */
  readonly timeout?: number | undefined
  readonly reconnectDelay?: number | undefined
  readonly ctrlLossTimeout?: number | undefined
  /** Milliseconds without any path to a namespace after which its I/O is rejected; -1, the default, never. */
  readonly fastIoFail?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/** How to get at a subsystem by several paths: each as the transport of a controller. */
export interface SeveralPaths extends Omit<PathsOptions, 'timeout' | 'signal'> {
  readonly paths: readonly {
    readonly address: string
    connect(signal: AbortSignal | undefined): Promise<Transport>
  }[]
  /** Whether another attempt to connect may end better than with this error. */
  mayPass(error: unknown): boolean
}

/** What `transport` of a controller with several paths says. */
export interface PathsTransport extends TransportFacts {
  readonly pool: DmaPool
  readonly cap: Capabilities
  readonly cheapWakeUps: boolean
  readonly removed: boolean
  enableWakeUps(queues: number): Promise<void>
  wakeUp(qid: number): WakeUp
}

export class Paths implements PathOwner {
  readonly transport: PathsTransport
  readonly pool: DmaPool
  readonly timeout: number
  readonly policy: PathPolicy
  readonly namespaces = new Map<number, NamespaceIds>()
  readonly reconnectDelay: number
  readonly ctrlLossTimeout: number
  /** As a controller has them: where there are several. */
  readonly paths = this
  /** Of the first path that was there. */
  cap!: Capabilities
  version!: string
  identity!: IdentifyController
  maxTransferBytes = 0
  failure: Error | null = null
  readonly #subnqn: string
  readonly #fastIoFail: number
  readonly #all: Path[]
  readonly #queues: PathQueue[] = []
  readonly #users = new Set<QueueUser>()
  readonly #onFailure = new Set<(cause: Error) => void>()
  readonly #onChange = new Set<(change: PathChange) => void>()
  readonly #onRecovery = new Set<(event: RecoveryEvent) => void>()
  readonly #onEvent = new Set<(result: number) => void>()
  readonly #watched = new WeakSet<Controller>()
  readonly #onFormat = new Set<(ended: Promise<unknown>) => void>()
  readonly #ending = new AbortController()
  #granted = 0
  readonly #pauses = new Map<number, NamespacePause>()
  readonly pauses: Pauses
  #resetting = false
  #opened = false
  #closed: Promise<void> | null = null
  // What must not come into one another: a path that is admitted, a namespace that is, queues that are made.
  #turn: Promise<unknown> = Promise.resolve()

  constructor(openers: readonly PathOpener[], options: PathsOptions) {
    const { address, pool, memory, subnqn, eventDriven, policy = 'round-robin', timeout = 30_000 } = options
    const { reconnectDelay = 2000, ctrlLossTimeout = 600_000, fastIoFail = NEVER } = options
    this.pool = pool
    this.timeout = timeout
    this.policy = policy
    this.reconnectDelay = reconnectDelay
    this.ctrlLossTimeout = ctrlLossTimeout === NEVER ? Number.POSITIVE_INFINITY : ctrlLossTimeout
    this.#subnqn = subnqn
    this.#fastIoFail = fastIoFail
    this.#all = openers.map((opener) => new Path(opener, this))
    const { paths } = this
    this.pauses = {
      get size() {
        return paths.#pauses.size
      },
      of: (nsid) => this.#pauses.get(this.namespaces.has(nsid) ? nsid : NOT_OPEN),
    }
    this.transport = {
      ...{ address, kind: 'tcp', emulated: false, eventDriven, memory, pool },
      ...{ cheapWakeUps: true, removed: false },
      get cap() {
        return paths.cap
      },
      get how() {
        const live = paths.#all.filter(({ state }) => state === 'live').length
        return `${live} of ${paths.#all.length} paths, ${paths.policy}`
      },
      readProperty: (offset) => paths.#controller?.transport.readProperty(offset) ?? ALL_ONES,
      health: () => paths.failure,
      enableWakeUps: async () => {},
      wakeUp: (qid) => paths.#wakeUp(qid),
    }
  }

  /** Connects all of them; resolves when each has, or one has and the others are late. */
  async open(signal?: AbortSignal): Promise<void> {
    const refused: Error[] = []
    let missing: Error = new DeviceRemovedError(`${this.transport.address}: no path`)
    let firstIsThere = () => {}
    const first = new Promise<void>((resolve) => {
      firstIsThere = resolve
    })
    const all = this.#all.map((path) =>
      path.connect(signal).then(
        () => {
          firstIsThere()
          if (this.#opened) this.changed('returned', path, null)
        },
        (error: Error) => {
          if (!path.mayPass(error)) refused.push(error)
          missing = error
          if (this.#ending.signal.aborted) return
          log('%s: %s', path.address, error.message)
          void path.connectLater(error)
        },
      ),
    )
    const settled = new AbortController()
    const late = first.then(() => delay(GRACE_MS, undefined, { signal: settled.signal }).catch(() => {}))
    await Promise.race([Promise.all(all), late])
    settled.abort()
    this.#opened = true
    throwIfAborted(signal)
    if (refused.length > 0) throw refused[0]
    if (this.identity === undefined) throw missing
  }

  // Paths

  /** What each path is to a namespace: the first that was opened, where none is named. */
  info(nsid = this.namespaces.keys().next().value ?? 0): PathInfo[] {
    return this.#all.map((path) => path.info(nsid))
  }

  /** Calls `handler` when a path is lost, comes back, is given up, or changes its access. Returns what ends that. */
  onPathChange(handler: (change: PathChange) => void): () => void {
    this.#onChange.add(handler)
    return () => this.#onChange.delete(handler)
  }

  get closing(): AbortSignal {
    return this.#ending.signal
  }

  admit(path: Path, controller: Controller): Promise<void> {
    return this.#exclusively(() => this.#admit(path, controller))
  }

  async #admit(path: Path, controller: Controller): Promise<void> {
    const { identity, cap, version, maxTransferBytes } = controller
    throwIfAborted(this.closing)
    if (identity.subnqn !== this.#subnqn) {
      throw new PathMismatchError(
        `${path.address}: its subsystem is ${identity.subnqn || 'without a name'}, that of the other paths ${this.#subnqn}`,
      )
    }
    if (this.identity !== undefined) {
      if (identity.sn !== this.identity.sn || identity.mn !== this.identity.mn) {
        throw new PathMismatchError(
          `${path.address}: its controller is ${identity.mn} ${identity.sn}, that of the other paths ${this.identity.mn} ${this.identity.sn}`,
        )
      }
      const less = this.#queues.length > 0 && maxTransferBytes < this.maxTransferBytes
      if (less) {
        throw new PathMismatchError(
          `${path.address}: takes ${maxTransferBytes} bytes with a command, the other paths ${this.maxTransferBytes}`,
        )
      }
    }
    await path.prepare((command, options) => controller.admin(command, options))
    const missing = await this.#createMissing(path, controller)
    if (!path.arrive(controller)) throw new DeviceRemovedError(`${path.address} was lost while it was opened`)
    for (const { queue, inner } of missing) this.#addLeg(path, controller, queue, inner)
    if (this.#onEvent.size > 0) this.#watch(controller)
    controller.onFormat((ended) => {
      for (const handler of this.#onFormat) handler(ended)
    })
    controller.onRecovery((event) => {
      for (const handler of this.#onRecovery) handler(event)
    })
    // The least of all is what every path takes.
    if (this.identity === undefined || cap.mqes < this.cap.mqes) this.cap = cap
    this.version ??= version
    this.identity ??= identity
    this.maxTransferBytes = Math.min(this.maxTransferBytes || maxTransferBytes, maxTransferBytes)
  }

  complete(path: Path, controller: Controller, send: SendAdmin): Promise<void> {
    return this.#exclusively(async () => {
      await path.prepare(send)
      const missing = await this.#createMissing(path, controller)
      for (const { queue, inner } of missing) this.#addLeg(path, controller, queue, inner)
    })
  }

  // Those that the other paths have: none of them is used before all are there.
  async #createMissing(path: Path, controller: Controller): Promise<{ queue: PathQueue; inner: Queue }[]> {
    const { queues, transport } = controller
    if (this.#granted > 0) {
      const granted = await queues.request(this.#granted)
      if (granted < this.#queues.length) {
        const what = `grants ${granted} queues, the other paths have ${this.#queues.length}`
        throw new PathMismatchError(`${transport.address}: ${what}`)
      }
    }
    const made: { queue: PathQueue; inner: Queue }[] = []
    for (const queue of this.#queues) {
      if (path.legs.some((leg) => leg.queue === queue)) continue
      const inner = queues.get(queue.qid) ?? (await queues.create(queue.qid, queue.entries))
      made.push({ queue, inner })
    }
    return made
  }

  #addLeg(path: Path, controller: Controller, queue: PathQueue, inner: Queue): void {
    path.addLeg(queue, queue.addLeg(path, inner, controller.transport.wakeUp(queue.qid)))
  }

  changed(kind: PathChange['kind'], path: Path, cause: Error | null): void {
    log('%s: %s%s', path.address, kind, cause === null ? '' : `: ${cause.message}`)
    this.#update()
    const change = { kind, path: path.info(this.namespaces.keys().next().value ?? 0), cause }
    // Not within a poll that has found the change; and what a listener throws is the program's.
    for (const handler of this.#onChange) process.nextTick(handler, change)
  }

  #update(): void {
    if (this.closing.aborted || this.identity === undefined) return
    for (const queue of this.#queues) queue.ranksChanged()
    const last = this.#all.find(({ cause }) => cause !== null)?.cause ?? null
    if (this.#all.every(({ state }) => state === 'failed')) {
      const what = `device removed: ${this.transport.address} has no path left: ${last?.message}`
      this.#fail(new DeviceRemovedError(what, { cause: last }))
      return
    }
    if (this.#resetting) return
    let ended = false
    for (const nsid of [...this.namespaces.keys(), NOT_OPEN]) {
      if (this.#best(nsid) !== undefined) ended = this.#unpause(nsid) || ended
      else if (!this.#pauses.has(nsid)) this.#pauses.set(nsid, this.#pause(nsid, last))
    }
    this.#tellPauses(ended)
  }

  #best(nsid: number): Path | undefined {
    const rated = this.#all.filter((path) => path.rank(nsid) !== UNUSABLE)
    return rated.sort((a, b) => a.rank(nsid) - b.rank(nsid))[0]
  }

  #pause(nsid: number, last: Error | null): NamespacePause {
    const { address } = this.transport
    const what = nsid === NOT_OPEN ? `${address}: no path` : `${address}: no path to namespace ${nsid}`
    const cause = new DeviceRemovedError(`${what} can be used`, { cause: last })
    const pause: NamespacePause = { cause, stalledBy: null, timer: undefined }
    if (this.#fastIoFail === NEVER) return pause
    pause.timer = setTimeout(() => {
      const gone = `${what} can be used for ${this.#fastIoFail} ms`
      pause.stalledBy = new DeviceRemovedError(gone, { cause })
      this.#tellPauses(false)
    }, this.#fastIoFail)
    return pause
  }

  // False where there is nothing to end.
  #unpause(nsid: number): boolean {
    clearTimeout(this.#pauses.get(nsid)?.timer)
    return this.#pauses.delete(nsid)
  }

  #tellPauses(ended: boolean): void {
    for (const user of this.#users) user.pausesChanged?.(ended)
  }

  #clearTimers(): void {
    for (const { timer } of this.#pauses.values()) clearTimeout(timer)
  }

  #fail(cause: Error): void {
    if (this.failure !== null) return
    this.failure = cause
    this.#clearTimers()
    for (const handler of this.#onFailure) handler(cause)
  }

  // As a controller: see Controller

  /** Namespace `nsid` is to be used: it has to be the same one on every path. Rejects with PathMismatchError. */
  admitNamespace(nsid: number): Promise<void> {
    return this.#exclusively(async () => {
      const before = this.namespaces.has(nsid)
      let ids = this.namespaces.get(nsid) ?? null
      for (const path of this.#all) {
        ids ??= await path.whileLive((controller) =>
          readIds((...command) => controller.admin(...command), nsid),
        )
        if (ids !== null && ids.nguid + ids.eui64 + ids.uuid === '') {
          throw new PathMismatchError(
            `${path.address}: namespace ${nsid} has no NGUID, EUI64 or UUID: nothing says that the paths lead to the same one`,
          )
        }
      }
      if (ids === null) throw new DeviceRemovedError(`${this.transport.address}: no path can be used`)
      this.namespaces.set(nsid, ids)
      try {
        for (const path of this.#all) {
          await path.whileLive((controller) => path.prepare((...command) => controller.admin(...command)))
        }
      } catch (error) {
        if (!before) {
          this.namespaces.delete(nsid)
          this.#unpause(nsid)
        }
        throw error
      } finally {
        this.#update()
      }
    })
  }

  readonly queues = {
    /** Queues that every path grants. */
    request: (count: number): Promise<number> =>
      this.#exclusively(async () => {
        const answers = this.#all.map((path) => path.whileLive(({ queues }) => queues.request(count)))
        const granted = (await Promise.all(answers)).filter((one) => one !== null)
        if (granted.length === 0)
          throw new DeviceRemovedError(`${this.transport.address}: no path can be used`)
        this.#granted = Math.min(...granted)
        return this.#granted
      }),
    create: (qid: number, entries: number): Promise<PathQueue> =>
      this.#exclusively(async () => {
        const { maxTransferBytes: maxBytes, timeout } = this
        const queue = new PathQueue({ qid, entries, maxBytes, timeout }, this.policy)
        const made: { path: Path; controller: Controller; inner: Queue }[] = []
        try {
          for (const path of this.#all) {
            const { controller } = path
            const inner = await path.whileLive(({ queues }) => queues.create(qid, entries))
            if (inner !== null && controller !== null) made.push({ path, controller, inner })
          }
        } catch (error) {
          for (const { controller } of made) await controller.queues.delete(qid).catch(() => {})
          throw error
        }
        for (const { path, controller, inner } of made) this.#addLeg(path, controller, queue, inner)
        this.#queues.push(queue)
        return queue
      }),
    delete: async (qid: number): Promise<void> => {
      const at = this.#queues.findIndex((queue) => queue.qid === qid)
      if (at >= 0) this.#queues.splice(at, 1)
      for (const { controller } of this.#all) await controller?.queues.delete(qid)
    },
  }

  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work)
    this.#turn = done.catch(() => {})
    return done
  }

  // Of the best path now; where none can be used, of one whose commands wait for it.
  get #controller(): Controller | null {
    const nsid = this.namespaces.keys().next().value ?? 0
    const best = this.#best(nsid) ?? this.#all.find(({ state }) => state === 'live')
    const any = best ?? this.#all.find(({ controller, state }) => controller !== null && state !== 'failed')
    return any?.controller ?? null
  }

  /** Sends an admin command on the best path; while there is none it waits for one that is lost. */
  admin(command: AdminCommand, options: AdminOptions = {}): Promise<AdminResult> {
    if (this.#closed !== null) return rejectPaced(new ClosedError(`${this.transport.address} is closed`))
    const controller = this.#controller
    if (this.failure !== null || controller === null) {
      return rejectPaced(
        this.failure ?? new DeviceRemovedError(`${this.transport.address}: no path can be used`),
      )
    }
    return controller.admin(command, options)
  }

  identify(cns: number, options?: IdentifyOptions): Promise<Buffer> {
    return identify(this, cns, options)
  }

  identifyNamespace(nsid: number): Promise<IdentifyNamespace> {
    return identifyNamespace(this, nsid)
  }

  activeNamespaces(): Promise<number[]> {
    return activeNamespaces(this)
  }

  /** Events of every path: what concerns the subsystem comes once from each. */
  onEvent(handler: (result: number) => void): () => void {
    this.#onEvent.add(handler)
    for (const { controller } of this.#all) if (controller !== null) this.#watch(controller)
    return () => this.#onEvent.delete(handler)
  }

  #watch(controller: Controller): void {
    if (this.#watched.has(controller)) return
    this.#watched.add(controller)
    controller.onEvent((result) => {
      for (const handler of this.#onEvent) handler(result)
    })
  }

  onFormat(handler: (ended: Promise<unknown>) => void): () => void {
    this.#onFormat.add(handler)
    return () => this.#onFormat.delete(handler)
  }

  onFailure(handler: (cause: Error) => void): () => void {
    this.#onFailure.add(handler)
    return () => this.#onFailure.delete(handler)
  }

  /** What was done about faults of the controllers of all paths. */
  onRecovery(handler: (event: RecoveryEvent) => void): () => void {
    this.#onRecovery.add(handler)
    return () => this.#onRecovery.delete(handler)
  }

  addQueueUser(user: QueueUser): () => void {
    this.#users.add(user)
    return () => this.#users.delete(user)
  }

  /** What was done about faults: of all paths together. A path that is recovered keeps no other from being used. */
  get recovery() {
    const sum = (kind: 'aborts' | 'resets') =>
      this.#all.reduce((total, { controller }) => total + (controller?.recovery[kind] ?? 0), 0)
    return { aborts: sum('aborts'), resets: sum('resets'), running: null as Promise<void> | null }
  }

  get closed(): boolean {
    return this.#closed !== null
  }

  checkHealth(now?: number): void {
    for (const { state, controller } of this.#all) if (state === 'live') controller!.checkHealth(now)
  }

  /** What a path's recovery has given up. */
  expired(): boolean {
    return false
  }

  /** Resets the controllers of all paths; rejects where none of them comes back. */
  async reset(how: ResetKind = 'controller'): Promise<void> {
    const { address } = this.transport
    if (this.#closed !== null) throw new ClosedError(`${address} is closed`)
    if (this.failure !== null) throw this.failure
    if (how === 'function' || (how === 'subsystem' && !this.cap.nssrs)) {
      throw new UnsupportedError(`${address} has no ${how} reset`)
    }
    this.#resetting = true
    const cause = new ControllerResetError(`${address} was reset with the command in flight`)
    for (const handler of this.#onFailure) handler(cause)
    const refused: Error[] = []
    const there = this.#all.filter(({ state }) => state === 'live' || state === 'lost')
    await Promise.all(
      there.map((path) =>
        path.reset(how).catch((error: Error) => {
          refused.push(error)
          path.giveUp(error)
        }),
      ),
    )
    for (const queue of this.#queues) queue.reset()
    this.#resetting = false
    for (const user of this.#users) user.resume()
    this.#update()
    // `onPathChange` reports what the others can do without.
    if (refused.length > 0 && refused.length === there.length) throw refused[0]
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.#ending.abort()
    this.#clearTimers()
    try {
      await Promise.all(this.#all.map((path) => path.close()))
      await this.#turn
    } finally {
      this.#fail(new ClosedError(`${this.transport.address} was closed`))
      this.pool.close()
    }
  }

  #wakeUp(qid: number): WakeUp {
    const queue = this.#queues.find((one) => one.qid === qid)
    return {
      interrupts: true,
      eventDriven: true,
      arm: (wake) => {
        queue?.arm(wake)
        return true
      },
      disarm: () => queue?.disarm(),
    }
  }

  /** What a console shows of it: not the driver behind it. */
  [inspect.custom](depth: number, options: InspectOptions): string {
    return summary('Controller', this.toJSON(), depth, options)
  }

  /** For JSON.stringify: what a console shows. */
  toJSON() {
    return { ...shownOf(this), paths: this.info() }
  }
}

interface NamespacePause {
  readonly cause: Error
  stalledBy: Error | null
  timer: NodeJS.Timeout | undefined
}

/** Opens a subsystem by several paths. On failure everything is given back. */
export async function openPaths(openers: readonly PathOpener[], options: PathsOptions): Promise<Paths> {
  const paths = new Paths(openers, options)
  try {
    await paths.open(options.signal)
    return paths
  } catch (error) {
    await paths.close()
    throw error
  }
}
