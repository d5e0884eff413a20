// One path to the namespaces of a subsystem: a controller of it, what that says of its access to each namespace (ANA), and
// what becomes of the path when its controller is lost, comes back, or refuses commands.

import { setTimeout as delay } from 'node:timers/promises'
import {
  AddressError,
  ClosedError,
  ControllerFatalError,
  ControllerResetError,
  NvmeError,
  PathMismatchError,
} from '../../errors.ts'
import { logger } from '../../log/index.ts'
import { getFeature, getLogPage, setFeature } from '../host/admin-commands.ts'
import type { Controller } from '../host/controller.ts'
import { identify, identifyNamespace } from '../host/identify-commands.ts'
import type { ExpiredCommand, QueueUser } from '../host/recovery.ts'
import type { ResetKind, SendAdmin } from '../host/transport.ts'
import {
  ANA_GROUPS_ONLY,
  ANA_STATE,
  type AnaStateName,
  anaLogBytes,
  anaStateName,
  anaStateOf,
  decodeAnaLog,
} from '../spec/ana.ts'
import { ASYNC_EVENT, ASYNC_NOTICE, decodeAsyncEvent } from '../spec/async-event.ts'
import { FEATURE } from '../spec/features.ts'
import { CMIC } from '../spec/flags.ts'
import { CNS, decodeNamespaceDescriptors, formattedLba, NAMESPACE_ID_TYPE } from '../spec/identify.ts'
import { LOG_PAGE } from '../spec/logs.ts'
import { type PathLeg, type PathQueue, type QueuePath, UNUSABLE } from './path-queue.ts'

const log = logger('paths')

// How soon the state is asked for again: while it changes, and while nothing can be sent though the controller answers.
const CHANGE_MS = 250
const UNUSABLE_MS = 5000
// Of NANAGRPID, which is the controller's word alone.
const MOST_GROUPS = 32_768
/** In OAES and in Asynchronous Event Configuration: namespace attributes, ANA change. */
const NOTICES = 0x900

/**
 * `connecting`: it has not been reached yet; `live`: its controller answers; `lost`: it is looked for; `failed`: it is given
 * up.
 */
export type PathState = 'connecting' | 'live' | 'lost' | 'failed'

/** What tells a namespace from every other one: identifiers as hexadecimal digits, empty where it has none of a kind. */
export interface NamespaceIds {
  readonly eui64: string
  readonly nguid: string
  readonly uuid: string
  /** LBAs, and bytes in one: the same on every path, until a format. */
  readonly nsze: string
  readonly blocksize: string
}

const IDS = ['nguid', 'eui64', 'uuid', 'nsze', 'blocksize'] as const

/** How to get at the controller of a path. */
export interface PathOpener {
  readonly address: string
  /** Brings its controller up. */
  open(signal?: AbortSignal): Promise<Controller>
  /** Whether another attempt may end better than with this error. */
  mayPass(error: unknown): boolean
}

/** Several paths together, as each of them needs them. */
export interface PathOwner {
  /** Namespaces that are open, with what was found on the first path. */
  readonly namespaces: ReadonlyMap<number, NamespaceIds>
  readonly reconnectDelay: number
  readonly ctrlLossTimeout: number
  readonly closing: AbortSignal
  /** Takes a controller that is up as this path's: queues are made on it, what differs is refused. */
  admit(path: Path, controller: Controller): Promise<void>
  /** A controller that is back has what the others have: namespaces, which are the same ones, and queues. */
  complete(path: Path, controller: Controller, send: SendAdmin): Promise<void>
  changed(kind: PathChange['kind'], path: Path, cause: Error | null): void
}

/** What has become of a path. */
export interface PathChange {
  /** `ana`: the state of its access to a namespace has changed. */
  readonly kind: 'lost' | 'returned' | 'failed' | 'ana'
  /** As it is from now on. */
  readonly path: PathInfo
  /** Why it was lost, or given up. */
  readonly cause: Error | null
}

export interface PathInfo {
  /** Of its controller, in full. */
  readonly address: string
  /** Whether its controller answers. */
  readonly state: PathState
  /** Its access to the namespace; null while it is not known. `optimized` where the controller reports none. */
  readonly ana: AnaStateName | null
  /** Controller id; null before it was reached. */
  readonly cntlid: number | null
  /** Commands that went there, and that are in flight there. */
  readonly commands: number
  readonly inFlight: number
  /** Commands that came back without having been done there, as far as is known: another path may have done them. */
  readonly retries: number
  /** How often it was lost, and how often its access to a namespace has changed. */
  readonly losses: number
  readonly changes: number
}

const RANKS: Readonly<Record<number, number>> = { [ANA_STATE.OPTIMIZED]: 0, [ANA_STATE.NON_OPTIMIZED]: 1 }

export class Path implements QueuePath, QueueUser {
  readonly address: string
  state: PathState = 'connecting'
  cause: Error | null = null
  controller: Controller | null = null
  losses = 0
  changes = 0
  readonly legs: { readonly queue: PathQueue; readonly leg: PathLeg }[] = []
  readonly #opener: PathOpener
  readonly #owner: PathOwner
  // By namespace, one of ANA_STATE.
  readonly #ana = new Map<number, number>()
  #reading: Promise<void> | null = null
  #readAgain = false
  #timer: NodeJS.Timeout | undefined
  // Since when a state has been CHANGE.
  #changeSince = 0
  // It was ended by a reset that somebody asked for, after which what is there is looked at before it is used.
  #interrupted = false
  #verifying: Promise<void> | null = null
  #connecting: Promise<void> | null = null
  // Who waits for the loss of it, and for the end of what was in flight then.
  readonly #onLoss = new Set<() => void>()
  readonly #onOver = new Set<() => void>()

  constructor(opener: PathOpener, owner: PathOwner) {
    this.address = opener.address
    this.#opener = opener
    this.#owner = owner
  }

  info(nsid: number): PathInfo {
    const { address, state, losses, changes, controller } = this
    const ana = this.#ana.get(nsid)
    const sum = (pick: (one: { queue: PathQueue; leg: PathLeg }) => number) =>
      this.legs.reduce((total, one) => total + pick(one), 0)
    return {
      ...{ address, state, losses, changes },
      ana: ana === undefined ? null : anaStateName(ana),
      cntlid: controller?.identity.cntlid ?? null,
      commands: sum(({ leg }) => leg.queue.counters.submitted),
      inFlight: sum(({ queue, leg }) => queue.loadOf(leg)),
      retries: sum(({ leg }) => leg.retries),
    }
  }

  // Coming up

  /** Connects for the first time. Rejects where that fails. */
  connect(signal?: AbortSignal): Promise<void> {
    const { closing } = this.#owner
    this.#connecting = this.#connect(signal === undefined ? closing : AbortSignal.any([signal, closing]))
    return this.#connecting
  }

  async #connect(signal: AbortSignal): Promise<void> {
    const controller = await this.#opener.open(signal)
    // What is asked of it would wait for its recovery otherwise, and the other paths with it.
    let forget = () => {}
    const lost = new Promise<never>((_, reject) => {
      forget = controller.addQueueUser({ suspend: reject, resume() {} })
    })
    this.controller = controller
    try {
      await Promise.race([this.#owner.admit(this, controller), lost])
    } catch (error) {
      // It had arrived before that.
      if (this.state !== 'connecting') return
      this.controller = null
      await controller.close()
      throw error
    } finally {
      forget()
    }
  }

  /** Its controller has what the others have: it is used from now on. False where it is this path's no more. */
  arrive(controller: Controller): boolean {
    if (this.controller !== controller) return false
    this.#own(controller)
    this.state = 'live'
    this.cause = null
    this.#look()
    return true
  }

  /** True where `connectLater` may succeed after this error. */
  mayPass(error: unknown): boolean {
    const final = [PathMismatchError, AddressError].some((type) => error instanceof type)
    return !final && this.#opener.mayPass(error)
  }

  /** Connects every `reconnectDelay`, until `ctrlLossTimeout`. Does not keep the process alive. */
  async connectLater(first: Error): Promise<void> {
    const { reconnectDelay, ctrlLossTimeout, closing } = this.#owner
    const since = performance.now()
    this.cause = first
    for (;;) {
      await delay(reconnectDelay, undefined, { signal: closing, ref: false }).catch(() => {})
      if (closing.aborted) return
      try {
        await this.connect(closing)
        this.#owner.changed('returned', this, null)
        return
      } catch (error) {
        this.cause = error as Error
        log('%s: %s', this.address, this.cause.message)
        const over = performance.now() - since + reconnectDelay > ctrlLossTimeout
        if (closing.aborted || (this.mayPass(error) && !over)) continue
        this.giveUp(this.cause)
        return
      }
    }
  }

  #own(controller: Controller): void {
    controller.addQueueUser(this)
    controller.onFailure((cause) => this.#failed(cause))
    controller.transport.onEnded = () => this.#over(this.cause ?? new ClosedError(this.address))
    try {
      controller.onEvent((result) => this.#onEvent(result))
    } catch (error) {
      log('%s: %s', this.address, (error as Error).message)
    }
  }

  /** A queue of it takes commands. Before the path is used. */
  addLeg(queue: PathQueue, leg: PathLeg): void {
    this.legs.push({ queue, leg })
  }

  // Access

  rank(nsid: number): number {
    if (this.state !== 'live') return UNUSABLE
    // What is known is the access to those that are open: the others' the controller may say itself.
    if (!this.#owner.namespaces.has(nsid)) return 0
    return RANKS[this.#ana.get(nsid) ?? ANA_STATE.INACCESSIBLE] ?? UNUSABLE
  }

  refused(nsid: number, field: number): void {
    const state = anaStateOf(field)
    if (state === undefined || this.state !== 'live' || !this.#owner.namespaces.has(nsid)) return
    if (this.#ana.get(nsid) !== state) {
      this.#ana.set(nsid, state)
      this.changes++
      this.#owner.changed('ana', this, null)
    }
    this.readAna()
  }

  #onEvent(result: number): void {
    const { type, info } = decodeAsyncEvent(result)
    if (type !== ASYNC_EVENT.NOTICE) return
    if (info === ASYNC_NOTICE.ANA_CHANGE || info === ASYNC_NOTICE.NAMESPACE_ATTRIBUTE_CHANGED) this.readAna()
  }

  /** Reads the states again, soon. */
  readAna(): void {
    if (this.#reading !== null) {
      this.#readAgain = true
      return
    }
    const { controller } = this
    if (controller === null || this.state !== 'live' || this.#owner.closing.aborted) return
    this.#reading = this.#read((command, options) => controller.admin(command, options))
      .catch((error: Error) => log('%s: ANA log: %s', this.address, error.message))
      .then(() => {
        this.#reading = null
        if (this.#readAgain) {
          this.#readAgain = false
          this.readAna()
          return
        }
        this.#look()
      })
  }

  async #read(send: SendAdmin): Promise<void> {
    const { namespaces } = this.#owner
    const states = new Map<number, number>()
    const { identity, maxTransferBytes } = this.controller!
    const sender = { admin: send, maxTransferBytes }
    if ((identity.cmic & CMIC.ANA) === 0) {
      for (const nsid of namespaces.keys()) states.set(nsid, ANA_STATE.OPTIMIZED)
    } else if (namespaces.size > 0) {
      const bytes = anaLogBytes(Math.min(identity.nanagrpid, MOST_GROUPS), 0)
      const page = await getLogPage(sender, LOG_PAGE.ASYMMETRIC_NAMESPACE_ACCESS, bytes, {
        lsp: ANA_GROUPS_ONLY,
      })
      const { groups } = decodeAnaLog(page)
      for (const nsid of namespaces.keys()) {
        const anagrpid = await groupOf(sender, nsid)
        const group = groups.find(({ grpid }) => grpid === anagrpid)
        states.set(nsid, group?.state ?? ANA_STATE.INACCESSIBLE)
      }
    }
    // A command was refused meanwhile: what was read may be older than that.
    if (this.#readAgain) return
    let changed = false
    for (const [nsid, state] of states) {
      const before = this.#ana.get(nsid)
      if (before === state) continue
      changed = true
      if (before !== undefined) this.changes++
      this.#ana.set(nsid, state)
    }
    if (changed && this.state === 'live') this.#owner.changed('ana', this, null)
  }

  // While something is not usable it is looked at again, without waiting for an event. A controller leaves CHANGE within
  // ANATT, or is reset.
  #look(): void {
    clearTimeout(this.#timer)
    const { namespaces, closing } = this.#owner
    if (this.state !== 'live' || closing.aborted) return
    const states = [...namespaces.keys()].map((nsid) => this.#ana.get(nsid))
    const changing = states.includes(ANA_STATE.CHANGE)
    const now = performance.now()
    if (!changing) this.#changeSince = 0
    else if (this.#changeSince === 0) this.#changeSince = now
    const { anatt } = this.controller!.identity
    if (changing && anatt > 0 && now - this.#changeSince > anatt * 1000) {
      this.#changeSince = 0
      const what = `${this.address} has been changing its access for longer than ${anatt} s (ANATT)`
      this.controller!.recovery.begin(new ControllerFatalError(what))
      return
    }
    if (states.every((state) => state !== undefined && RANKS[state] !== undefined)) return
    this.#timer = setTimeout(() => this.readAna(), changing ? CHANGE_MS : UNUSABLE_MS).unref()
  }

  /**
   * What a namespace is here, before it is used here: asks for events of its access, reads that, and its identifiers.
   * Rejects with PathMismatchError where a namespace is not the one that the other paths have.
   */
  async prepare(send: SendAdmin): Promise<void> {
    for (const [nsid, ids] of this.#owner.namespaces) await this.check(nsid, ids, send)
    await this.#askForEvents(send)
    await this.#read(send)
    this.#look()
  }

  async check(nsid: number, ids: NamespaceIds, send: SendAdmin): Promise<void> {
    const here = await readIds(send, nsid)
    const differing = IDS.find((name) => here[name] !== ids[name])
    if (differing === undefined) return
    throw new PathMismatchError(
      `${this.address}: namespace ${nsid} is not the one of the other paths: ${differing} ${here[differing] || 'none'}, there ${ids[differing] || 'none'}`,
    )
  }

  async #askForEvents(send: SendAdmin): Promise<void> {
    const { identity, maxTransferBytes } = this.controller!
    const wanted = identity.oaes & NOTICES
    if (wanted === 0) return
    const sender = { admin: send, maxTransferBytes }
    try {
      const { value } = await getFeature(sender, FEATURE.ASYNC_EVENT_CONFIGURATION)
      await setFeature(sender, FEATURE.ASYNC_EVENT_CONFIGURATION, (value | wanted) >>> 0)
    } catch (error) {
      // Without events the state is read when a command is refused.
      if (!(error instanceof NvmeError)) throw error
      log('%s: %s', this.address, error.message)
    }
  }

  // Its controller's recovery: see QueueUser

  suspend(cause: Error): void {
    if (this.state === 'live') this.#lose(cause)
  }

  #lose(cause: Error): void {
    this.state = 'lost'
    this.cause = cause
    this.losses++
    clearTimeout(this.#timer)
    for (const { queue, leg } of this.legs) queue.lose(leg, cause)
    for (const tell of [...this.#onLoss]) tell()
    this.#owner.changed('lost', this, cause)
  }

  /** What `work` does with its controller; null where the path is lost before that is done, and has to catch up later. */
  async whileLive<T>(work: (controller: Controller) => Promise<T>): Promise<T | null> {
    const { controller } = this
    if (controller === null || this.state !== 'live') return null
    let tell = () => {}
    const lost = new Promise<null>((resolve) => {
      tell = () => resolve(null)
    })
    this.#onLoss.add(tell)
    try {
      return await Promise.race([work(controller), lost])
    } catch (error) {
      // A connection that could not be made tells of the loss first of all.
      const isLoss = controller.transport.health() !== null && this.mayPass(error)
      if (this.state === 'live' && !(isLoss && controller.recovery.begin(error as Error))) throw error
      return null
    } finally {
      this.#onLoss.delete(tell)
    }
  }

  // Nothing that was in flight before its loss will be executed, or that is not known: see PathQueue.over.
  #over(cause: Error, final = false): void {
    for (const { queue, leg } of this.legs) queue.over(leg, cause, final)
    for (const tell of [...this.#onOver]) tell()
    this.#onOver.clear()
  }

  async verify(send: SendAdmin): Promise<void> {
    await this.#owner.complete(this, this.controller!, send)
  }

  resume(): void {
    if (!this.#interrupted) {
      this.#return()
      return
    }
    // One that was reset because somebody asked for it has not been verified.
    this.#interrupted = false
    const controller = this.controller!
    this.#verifying = this.#owner
      .complete(this, controller, (command, options) => controller.admin(command, options))
      .then(
        () => this.#return(),
        (error: Error) => {
          if (!this.mayPass(error) || !controller.recovery.begin(error)) controller.fail(error)
        },
      )
  }

  #return(): void {
    if (this.state !== 'lost') return
    this.state = 'live'
    this.cause = null
    this.#look()
    this.#owner.changed('returned', this, null)
  }

  /** Resets its controller, or waits until nothing of what was in flight on a lost one will be executed any more. */
  async reset(how: ResetKind): Promise<void> {
    if (this.state === 'lost') {
      await new Promise<void>((resolve) => {
        this.#onOver.add(resolve)
        if (!this.legs.some(({ queue, leg }) => queue.isWaitedFor(leg))) resolve()
      })
      return
    }
    await this.controller!.reset(how)
    await this.#verifying
  }

  #failed(cause: Error): void {
    // I/O that must not be kept waiting is ended by the paths together.
    if (this.controller?.failure == null || this.#owner.closing.aborted) return
    if (cause instanceof ControllerResetError) {
      this.#interrupted = true
      if (this.state === 'live') this.#lose(cause)
      return
    }
    if (this.state === 'live') this.#lose(cause)
    // It may have been given up without a word of the target that what was in flight is over.
    this.#over(cause, true)
    this.giveUp(cause)
  }

  /** It is not used any more. */
  giveUp(cause: Error): void {
    if (this.state === 'failed') return
    this.state = 'failed'
    this.cause = cause
    this.#owner.changed('failed', this, cause)
  }

  expired(command: ExpiredCommand): boolean {
    return this.controller?.expired(command) ?? false
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer)
    await this.#connecting?.catch(() => {})
    await this.controller?.close()
  }
}

// Null where the controller does not have the namespace now, which says nothing of the others.
async function groupOf(sender: { admin: SendAdmin }, nsid: number): Promise<number | null> {
  try {
    return (await identifyNamespace(sender, nsid)).anagrpid
  } catch (error) {
    if (error instanceof NvmeError) return null
    throw error
  }
}

/** The identifiers of a namespace: of its descriptors, and where there are none of Identify Namespace. */
export async function readIds(send: SendAdmin, nsid: number): Promise<NamespaceIds> {
  const sender = { admin: send }
  const id = await identifyNamespace(sender, nsid)
  const { nguid, eui64, nsze } = id
  const descriptors = await identify(sender, CNS.NAMESPACE_DESCRIPTORS, { nsid })
    .then(decodeNamespaceDescriptors)
    .catch((error: unknown) => {
      if (error instanceof NvmeError) return []
      throw error
    })
  const of = (type: number) => given(descriptors.find(({ nidt }) => nidt === type)?.nid ?? '')
  return {
    eui64: of(NAMESPACE_ID_TYPE.EUI64) || given(eui64),
    nguid: of(NAMESPACE_ID_TYPE.NGUID) || given(nguid),
    uuid: of(NAMESPACE_ID_TYPE.UUID),
    nsze: `${nsze}`,
    blocksize: `${2 ** formattedLba(id).lbads}`,
  }
}

// Zeroes are no identifier.
function given(digits: string): string {
  return /^0*$/.test(digits) ? '' : digits
}
