// One open controller with its I/O queues, shared by the namespaces that are open on it.
// The first open decides how many queues there are; later ones share them, as in UNVMe.

import {
  AddressError,
  DeviceRemovedError,
  OutOfRangeError,
  QueueOwnerError,
  UnsupportedError,
} from '../../lib/errors.ts'
import type { DmaPool } from '../../lib/memory/pool.ts'
import type { DmaAllocation } from '../../lib/memory/tag.ts'
import { type Controller, createController } from '../../lib/nvme/host/controller.ts'
import { activeNamespaces, identifyNamespace, withSignal } from '../../lib/nvme/host/identify-commands.ts'
import type { Queue } from '../../lib/nvme/host/queue.ts'
import type { QueueUser, RecoveryPolicy } from '../../lib/nvme/host/recovery.ts'
import {
  NO_WAKE_UP,
  type ResetKind,
  type SendAdmin,
  type Transport,
  type TransportFacts,
  type WakeUp,
} from '../../lib/nvme/host/transport.ts'
import { openPaths, type Paths, type SeveralPaths } from '../../lib/nvme/paths/paths.ts'
import { throwIfAborted } from '../../lib/sys/abort.ts'
import { high32, low32 } from '../../lib/sys/int64.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import { PAGE_BYTES } from '../../lib/sys/units.ts'
import { type Geometry, geometryOf } from '../queue/geometry.ts'
import { IoQueue, type Metadata } from '../queue/io-queue.ts'
import { KIND, type Operation } from '../queue/operation.ts'
import { scheduler } from '../queue/scheduler.ts'

const DEFAULT_QSIZE = 256
// Asked for in place of "as many as there are": controllers grant fewer.
const MAX_QUEUES = 64

export interface DeviceOptions {
  /** I/O queues: 0 for as many as the device has (up to 64). Default 1. */
  qcount?: number | undefined
  /** Entries of each queue, one more than commands in flight: 0 for 256, or the device's limit. */
  qsize?: number | undefined
  /** Milliseconds after which a command without an answer is rejected, default 30 000. */
  timeout?: number | undefined
  /**
   * What is done about a command without an answer, and about a controller that reports a fatal status. `none`: the
   * call rejects with CommandTimeoutError. `abort`: an Abort is sent before that. `reset`, the default: where that does
   * not end the command, the controller is reset, and reads, writes and flushes that were in flight are sent again;
   * other commands reject with OutcomeUnknownError.
   */
  recovery?: RecoveryPolicy | undefined
  /**
   * Milliseconds within which the server of a `vfio-user:` address may come back after it has gone, or has not answered
   * for five seconds: default 0, which ends the device at once. Until then calls wait; then it goes on as after a reset by
   * `recovery`, which has to be `reset`. The same controller has to be behind the same socket (serial number, model,
   * capabilities), and the namespaces that were opened have to be the same; where they are not, or no one is there in time,
   * everything rejects with DeviceRemovedError. What the server had not yet made durable is its own business: a write that
   * has been answered is not sent again. Other addresses take no note of it.
   */
  reconnect?: number | undefined
  /** How often a command is sent again after a reset, or a failure that may pass (DNR clear): default 5, at least 0. */
  retries?: number | undefined
  /** Use interrupts to sleep on slow commands. Default: where they cost little. */
  interrupts?: boolean | undefined
  /** Use shadow doorbells where the controller offers them, as emulated ones do. Default: true. */
  shadowDoorbells?: boolean | undefined
  /**
   * Describe data of more than two pages by SGLs where a PCI function takes them, in place of a list of its pages.
   * Default: true.
   */
  sgl?: boolean | undefined
  /**
   * Most bytes of one command, from 4096 to 1 MiB, in whole pages of 4096, but never less than a block: where the
   * device's own limit (MDTS) is lower, that one counts. Default: 1 MiB. `ns.maxbpio` says what came of it.
   */
  maxTransferBytes?: number | undefined
}

/** Options of a call that opens: those of the device, and a signal that ends the opening. */
export interface OpeningOptions extends DeviceOptions {
  /**
   * Ends the opening: rejects with AbortError when what was opened is closed again. Once it is open, the signal
   * is without effect.
   */
  signal?: AbortSignal | undefined
}

/** Names of OpeningOptions. */
export const OPENING_NAMES: OptionNames<OpeningOptions> = {
  qcount: true,
  qsize: true,
  timeout: true,
  recovery: true,
  reconnect: true,
  retries: true,
  interrupts: true,
  shadowDoorbells: true,
  sgl: true,
  maxTransferBytes: true,
  signal: true,
}

/**
 * A controller as a namespace has it: identify data, registers, admin commands. In a thread that only has queues
 * of it, admin commands go through the thread that opened it, and what is that thread's business is refused.
 */
export type NamespaceController = {
  readonly transport: TransportFacts
  /** What was done about faults, where this thread knows it. */
  readonly recovery?: { readonly aborts: number; readonly resets: number }
  /** Where there are several paths to its namespaces: all of them together. */
  readonly paths?: Paths
} & Pick<
  Controller,
  | 'pool'
  | 'cap'
  | 'version'
  | 'identity'
  | 'maxTransferBytes'
  | 'failure'
  | 'timeout'
  | 'admin'
  | 'identify'
  | 'identifyNamespace'
  | 'activeNamespaces'
  | 'onEvent'
  | 'onFormat'
  | 'onFailure'
  | 'checkHealth'
  | 'expired'
  | 'addQueueUser'
  | 'reset'
  | 'close'
>

const DEFAULT_RETRIES = 5

export class Device implements QueueUser {
  readonly controller: NamespaceController
  /** How often a command is sent again. */
  readonly retries: number
  /** None until a namespace has been opened. */
  readonly queues: IoQueue[] = []
  /** Those that this thread may use now: one that is shared leaves a hole. */
  readonly usable: (IoQueue | undefined)[] = []
  /** Queues that worker threads have. */
  readonly shares = new Set<{ readonly qids: readonly number[]; recall(): Promise<void> }>()
  qsize = 0
  maxqcount = 0
  /** Ids of the active namespaces, as last read. */
  namespaces: number[]
  /** Resolves when the last namespace has been closed and everything given back; null while in use. */
  closed: Promise<void> | null = null
  #users = 0
  #providing: Promise<void> | null = null
  #onClosed: (() => void) | null = null
  #metadata: SharedMetadata | null = null
  readonly #wakeUps: WakeUp[] = []
  // Of the namespaces that have been opened, as they were found.
  readonly #geometries = new Map<number, Geometry>()

  constructor(controller: NamespaceController, namespaces: number[], retries = DEFAULT_RETRIES) {
    this.controller = controller
    this.namespaces = namespaces
    this.retries = retries
    controller.addQueueUser(this)
    controller.onFailure((cause) => {
      for (const queue of this.queues) queue.fail(cause)
    })
  }

  /** The device was taken away, or its server has gone: it can only be closed. */
  get removed(): boolean {
    const { failure, transport } = this.controller
    if (failure instanceof DeviceRemovedError) return true
    return transport.away !== true && transport.health() instanceof DeviceRemovedError
  }

  /** One more namespace is open on it. */
  retain(): this {
    this.#users++
    return this
  }

  /** One less: the last one closes the controller. Resolves when this namespace's part is done. */
  async release(): Promise<void> {
    if (--this.#users > 0) return
    this.closed = this.#close()
    await this.closed
  }

  async #close(): Promise<void> {
    await Promise.all([...this.shares].map((share) => share.recall()))
    for (const queue of this.queues) scheduler.detach(queue)
    await this.controller.close().finally(() => this.#onClosed?.())
  }

  /** Calls back when the device has been closed. */
  onClosed(callback: () => void): void {
    this.#onClosed = callback
  }

  /** The numbers of a namespace: of the first active one where no id is given. */
  async findGeometry(wanted?: number, signal?: AbortSignal): Promise<Geometry> {
    const { address } = this.controller.transport
    const controller = withSignal(this.controller, signal)
    // It may have been created or attached since.
    const known = wanted === undefined ? this.namespaces.length > 0 : this.namespaces.includes(wanted)
    if (!known) this.namespaces = await activeNamespaces(controller)
    const nsid = wanted ?? this.namespaces[0]
    if (nsid === undefined) throw new AddressError(`${address}: the controller has no active namespace`)
    if (!this.namespaces.includes(nsid)) {
      const active = this.namespaces.join(', ') || 'none'
      throw new AddressError(`${address}: no active namespace ${nsid}; active: ${active}`)
    }
    ;(this.controller.transport as Transport).openNamespace?.(nsid)
    await this.controller.paths?.admitNamespace(nsid)
    const id = await identifyNamespace(controller, nsid)
    const geometry = geometryOf(nsid, id, this.controller.maxTransferBytes)
    for (const queue of this.queues) queue.guardWrites(nsid)
    this.#geometries.set(nsid, geometry)
    return geometry
  }

  /** One more queue, numbered from 0, polled by this thread's scheduler. */
  addQueue(pair: Queue, geometry: Geometry, wakeUp: WakeUp = NO_WAKE_UP): void {
    const { controller, retries } = this
    const { timeout, identity, transport } = controller
    const mayWrite = transport.mayWrite && ((nsid: number) => transport.mayWrite!(nsid))
    const queue = new IoQueue(
      {
        ...{ timeout, retries, mayWrite, retryDelays: [identity.crdt1, identity.crdt2, identity.crdt3] },
        anatt: identity.anatt,
        pauses: controller.paths?.pauses,
        namespaces: () => this.#geometries.keys(),
        checkHealth: (now) => controller.checkHealth(now),
        expired: (command) => controller.expired(command),
      },
      ...([pair, geometry, this.queues.length] as const),
    )
    // A thread that has queues only has not opened the namespace that came with them.
    if (!this.#geometries.has(geometry.nsid)) this.#geometries.set(geometry.nsid, geometry)
    queue.guardWrites(geometry.nsid)
    queue.pausesChanged(false)
    this.queues.push(queue)
    this.usable.push(queue)
    this.#wakeUps.push(wakeUp)
    scheduler.attach(queue, wakeUp)
  }

  /** From now on another thread has the queue: whatever reaches it here all the same is refused with `cause`. */
  shareQueue(queue: IoQueue, cause: Error): void {
    scheduler.detach(queue)
    this.usable[queue.qid] = undefined
    queue.fail(cause)
  }

  /** The queue is this thread's again; its pair has been created again, or the controller has failed. */
  takeBackQueue(queue: IoQueue): void {
    queue.reset()
    const { failure } = this.controller
    if (failure !== null) queue.fail(failure)
    this.usable[queue.qid] = queue
    scheduler.attach(queue, this.#wakeUps[queue.qid]!)
  }

  /** Creates the queues as the first namespace that is opened asks for; later ones share them. */
  async provideQueues(options: OpeningOptions, geometry: Geometry): Promise<void> {
    // Another open's attempt may fail by its own options.
    while (this.#providing !== null) await this.#providing.catch(() => {})
    if (this.queues.length > 0) return
    this.#providing = this.#createQueues(options, geometry).finally(() => {
      this.#providing = null
    })
    await this.#providing
  }

  async #createQueues(options: OpeningOptions, geometry: Geometry): Promise<void> {
    // Queues are made by the thread that opened the device.
    const controller = this.controller as Controller
    const { transport, cap } = controller
    const { address } = transport
    const { emulated, cheapWakeUps = emulated } = transport
    const { qcount = 1, qsize = 0, interrupts = cheapWakeUps, signal } = options
    if (qsize !== 0 && (qsize < 2 || qsize > cap.mqes)) {
      throw new OutOfRangeError(`qsize ${qsize}: ${address} takes 2 to ${cap.mqes}, or 0 for its default`)
    }
    // All that there are, so that `maxqcount` says what the device has.
    const granted = await controller.queues.request(Math.max(qcount, MAX_QUEUES))
    if (qcount > granted) throw new OutOfRangeError(`qcount ${qcount}: ${address} grants ${granted}`)
    this.maxqcount = granted
    this.qsize = qsize === 0 ? Math.min(DEFAULT_QSIZE, cap.mqes) : qsize
    const count = qcount === 0 ? Math.min(granted, MAX_QUEUES) : qcount
    if (interrupts) await transport.enableWakeUps(count)
    const created: Queue[] = []
    try {
      for (let qid = 1; qid <= count; qid++) {
        throwIfAborted(signal)
        created.push(await controller.queues.create(qid, this.qsize))
      }
    } catch (error) {
      for (const { qid } of created) await controller.queues.delete(qid).catch(() => {})
      throw error
    }
    // What is posted on queues that no reset knows of would be lost.
    while (controller.recovery.running !== null) await controller.recovery.running
    for (const queue of created) this.addQueue(queue, geometry, transport.wakeUp(queue.qid))
  }

  /** Makes space for the metadata of a namespace whose format has a buffer of its own for it. */
  provideMetadata(geometry: Geometry): void {
    if (geometry.metadataBytes === 0) return
    if (this.queues.some(({ pair }) => pair.takesMetadata === false)) {
      const { address } = this.controller.transport
      throw new UnsupportedError(
        `${address}/${geometry.nsid}: its format has a buffer of its own for metadata, which this transport does not have`,
      )
    }
    const bytes = geometry.metadataBytes * geometry.maxbpio
    this.#metadata ??= new SharedMetadata()
    this.#metadata.grow(this.controller.pool, bytes)
    for (const queue of this.queues) queue.useMetadata(this.#metadata)
  }

  /** Resets the controller: everything in flight is rejected, queues and lost identifiers are as new. */
  async reset(how: ResetKind = 'controller'): Promise<void> {
    if (this.shares.size > 0) {
      const qids = [...this.shares].flatMap((share) => share.qids).join(', ')
      throw new QueueOwnerError(`reset: worker threads have queues ${qids}; recall them first`)
    }
    await this.controller.reset(how)
  }

  // What the controller asks for when it is recovered: see QueueUser.

  suspend(cause: Error): void {
    for (const queue of this.usable) queue?.suspend(cause)
  }

  /** Throws where a namespace is not what it was when it was opened. */
  async verify(send: SendAdmin): Promise<void> {
    const { maxTransferBytes, transport } = this.controller
    for (const [nsid, before] of this.#geometries) {
      const now = geometryOf(nsid, await identifyNamespace({ admin: send }, nsid), maxTransferBytes)
      if (isSame(before, now)) continue
      throw new DeviceRemovedError(`${transport.address}/${nsid} is not the same namespace after a reset`)
    }
  }

  pausesChanged(ended: boolean): void {
    for (const queue of this.usable) queue?.pausesChanged(ended)
  }

  resume(): void {
    const shared = new Set([...this.shares].flatMap((share) => share.qids))
    for (const queue of this.queues) {
      if (this.usable[queue.qid] !== undefined) queue.resume()
      // One that could not be taken back is there again.
      else if (!shared.has(queue.qid)) this.takeBackQueue(queue)
    }
  }
}

/** The same blocks of the same size are there. */
function isSame(before: Geometry, now: Geometry): boolean {
  return (
    before.blocksize === now.blocksize &&
    before.blockcount === now.blockcount &&
    before.metadataBytes === now.metadataBytes &&
    before.flags === now.flags &&
    before.maxbpio <= now.maxbpio
  )
}

/** Brings the controller of a transport up; one user is counted. Closes the transport where that fails. */
export async function createDevice(
  transport: Transport,
  { timeout, recovery, reconnect, retries, maxTransferBytes, signal }: OpeningOptions,
): Promise<Device> {
  const controller = await createController(transport, {
    signal,
    ...(timeout !== undefined && { timeout }),
    ...(recovery !== undefined && { recovery }),
    ...(reconnect !== undefined && { reconnect }),
    ...(maxTransferBytes !== undefined && { maxTransferBytes }),
  })
  try {
    return new Device(controller, await activeNamespaces(withSignal(controller, signal)), retries).retain()
  } catch (error) {
    await controller.close()
    throw error
  }
}

/** Brings the controllers of several paths up as one device; one user is counted. Gives everything back where that fails. */
export async function createPathsDevice(
  { paths, mayPass, ...several }: SeveralPaths,
  { timeout, retries, maxTransferBytes, signal }: OpeningOptions,
): Promise<Device> {
  const openers = paths.map(({ address, connect }) => ({
    address,
    mayPass,
    open: async (ending: AbortSignal | undefined) =>
      createController(await connect(ending), {
        ...{ signal: ending, recovery: 'reset' as const },
        ...(timeout !== undefined && { timeout }),
        ...(maxTransferBytes !== undefined && { maxTransferBytes }),
      }),
  }))
  const controller = await openPaths(openers, { ...several, timeout, signal })
  try {
    return new Device(controller, await activeNamespaces(withSignal(controller, signal)), retries).retain()
  } catch (error) {
    await controller.close()
    throw error
  }
}

/**
 * Metadata of namespaces whose format has a buffer of its own for it, where the caller brings none. All commands share two
 * regions: what they write as metadata is zeroes, and what they read of it is not looked at.
 */
class SharedMetadata implements Metadata {
  #bytes = 0
  #zeroes: Half = { lo: 0, hi: 0 }
  #sink: Half = { lo: 0, hi: 0 }

  /** Makes space for commands with `bytes` of metadata. */
  grow(pool: DmaPool, bytes: number): void {
    if (bytes <= this.#bytes) return
    this.#bytes = Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES
    const tag = pool.tagOf(pool.alloc(2 * this.#bytes))
    this.#zeroes = half(tag.allocation, 0)
    this.#sink = half(tag.allocation, this.#bytes)
  }

  point(pair: Pick<Queue, 'pointMetadata'>, op: Operation): void {
    if (op.geometry.metadataBytes === 0 || op.kind !== KIND.TRANSFER) {
      pair.pointMetadata(0, 0)
      return
    }
    const { lo, hi } = (op.opc & 1) !== 0 ? this.#zeroes : this.#sink
    pair.pointMetadata(lo, hi, op.geometry.metadataBytes)
  }
}

interface Half {
  lo: number
  hi: number
}

function half({ iova }: DmaAllocation, offset: number): Half {
  const at = iova + offset
  return { lo: low32(at), hi: high32(at) }
}
