// Queues that a worker thread has, as the thread that opened the device sees it: what is checked, and what goes with them.
// A queue that comes back is deleted and created again, some tens of microseconds: that is the one way in
// which everything on it has ended for certain, and the same for a worker that closed, threw or died.

import { MessageChannel, type MessagePort, threadId } from 'node:worker_threads'
import {
  type CommandTimeoutError,
  OutOfRangeError,
  QueueOwnerError,
  UnsupportedError,
} from '../../lib/errors.ts'
import { logger } from '../../lib/log/index.ts'
import type { DmaArena } from '../../lib/memory/mapping.ts'
import type { DmaSource } from '../../lib/memory/source.ts'
import type { AdminCommand } from '../../lib/nvme/host/admin-queue.ts'
import type { Controller } from '../../lib/nvme/host/controller.ts'
import type { ExpiredCommand, QueueUser } from '../../lib/nvme/host/recovery.ts'
import type { ConnectPermit, Transport, TransportShare } from '../../lib/nvme/host/transport.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import { show } from '../../lib/sys/show.ts'
import { PAGE_BYTES } from '../../lib/sys/units.ts'
import type { Device } from '../controller/device.ts'
import type { Geometry } from '../queue/geometry.ts'
import type { IoQueue } from '../queue/io-queue.ts'
import {
  type OwnerMessage,
  type PackedError,
  type PostedCommand,
  packError,
  type QueueTicket,
  SHARE,
  unpackError,
  WORD,
  WORD_COUNT,
  type WorkerMessage,
} from './protocol.ts'
import { atThreadEnd, watchThread } from './thread-end.ts'

const DEFAULT_MEMORY = 8 * 2 ** 20

export interface ShareOptions {
  /**
   * Bytes of DMA memory that come with the queues, default 8 MiB, at least 0. When it is used up the worker's
   * `alloc` asks this thread for more, and waits until its event loop runs. A worker with queues of a controller over TCP
   * has memory of its own: nothing comes with them.
   */
  memory?: number | undefined
  /** Buffers of this thread's `alloc` that the worker has, too, as `ns.buffers`: the same memory. Not over TCP. */
  buffers?: readonly Buffer[] | undefined
}

/** Names of ShareOptions. */
export const SHARE_NAMES: OptionNames<ShareOptions> = { memory: true, buffers: true }

/** See `Namespace.share`. */
export function shareQueues(
  device: Device,
  geometry: Geometry,
  address: string,
  queues: readonly IoQueue[],
  options: ShareOptions,
): WorkerShare {
  const { memory = DEFAULT_MEMORY, buffers = [] } = options
  // Only the thread that opened a device shares its queues.
  const { pool, transport } = device.controller as Controller
  checkQueues(queues, address)
  if ((device.controller as Controller).resetting) {
    throw new QueueOwnerError(`share: ${address} is being reset`)
  }
  if (!Number.isSafeInteger(memory) || memory < 0) {
    throw new OutOfRangeError(`share: memory must be a number of bytes from 0 on, received ${show(memory)}`)
  }
  const transportShare = shareOf(transport, address)
  const { ownQueues = false } = transportShare
  if (ownQueues && buffers.length > 0) {
    throw new UnsupportedError(
      `share: memory of ${address} is of one thread: 'buffers' can't go with the queues`,
    )
  }
  const shared = buffers.map((buffer) => pool.share(buffer))
  const arenas = ownQueues ? [] : mapArenas(transport.memory, memory)
  const { cap, version, identity, maxTransferBytes, timeout } = device.controller
  const { namespaces, qsize, maxqcount, retries } = device
  const pairs = queues.map(({ pair }) => pair.share!())
  const { port1: port, port2 } = new MessageChannel()
  const ticket: QueueTicket = {
    kind: 'unvme.queues',
    owner: threadId,
    port: port2,
    words: new Int32Array(new SharedArrayBuffer(4 * WORD_COUNT)),
    device: {
      ...{ address, transport: transportShare, cap, version, identity, maxTransferBytes, timeout },
      ...{ geometry, namespaces, qsize, maxqcount, retries, pairs },
      arenas: [...arenas],
      buffers: shared,
    },
  }
  for (const buffer of buffers) pool.tagOf(buffer).allocation.users++
  return new WorkerShare({ device, queues, ticket, port, ownQueues, arenas, buffers })
}

function checkQueues(queues: readonly IoQueue[], address: string): void {
  if (queues.length === 0 || new Set(queues).size < queues.length) {
    throw new OutOfRangeError('share: the id of one queue, or of several different ones, is needed')
  }
  for (const { qid, pair, busy, occupancy } of queues) {
    // The other thread could not tell their late answers from those of its own commands.
    if (pair.lost > 0) {
      throw new QueueOwnerError(
        `share: ${pair.lost} commands of queue ${qid} of ${address} had no answer; reset() first`,
      )
    }
    const streaming = occupancy.wanted > 0
    if (!busy && !streaming) continue
    const why = streaming ? 'a stream is at work on it' : `${pair.inFlight} commands are in flight`
    throw new QueueOwnerError(`share: queue ${qid} of ${address} is in use in this thread: ${why}`)
  }
}

function shareOf(transport: Transport, address: string): TransportShare {
  const share = transport.share?.()
  if (share !== undefined) return share
  const how = transport.emulated
    ? 'its controller lives in this one; open it with { threads: true }, or with thread=1 in its address'
    : `there is no way to do this by ${transport.kind}`
  throw new UnsupportedError(`share: ${address} can't be used from another thread: ${how}`)
}

function mapArenas(source: DmaSource, memory: number): DmaArena[] {
  const arenas: DmaArena[] = []
  try {
    for (let left = memory; left > 0; left -= source.maxArenaBytes) {
      const bytes = Math.min(left, source.maxArenaBytes)
      arenas.push(source.mapDma(Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES))
    }
    return arenas
  } catch (error) {
    for (const arena of arenas) source.unmapDma(arena)
    throw error
  }
}

const log = logger('threads')

// A worker that has not acted upon a recall by then finds its commands failed while it polls.
const GRACE_MS = 1000

/** Queues that are shared. */
export interface QueueShare {
  /** Ids of the queues here. In the worker's namespace they are numbered from 0. */
  readonly qids: readonly number[]
  /** For the worker: `new Worker(file, { workerData: share.ticket, transferList: [share.ticket.port] })`. */
  readonly ticket: QueueTicket
  /**
   * Resolves when the queues are this thread's again: the worker closed its namespace, or ended. Rejects where
   * the controller would not give them back. A share does not keep the process alive until this is asked for.
   */
  readonly returned: Promise<void>
  /**
   * Asks for the queues: the worker's namespace is closed as by `close`, and what it still does after a second
   * fails with ClosedError. A thread that never looks has to be terminated. Ends as `returned`.
   */
  recall(): Promise<void>
}

interface ShareParts {
  readonly device: Device
  readonly queues: readonly IoQueue[]
  readonly ticket: QueueTicket
  /** The owner's end. */
  readonly port: MessagePort
  /** The worker makes its queues itself. */
  readonly ownQueues: boolean
  /** Memory that the worker has: its own, and buffers of this thread. */
  readonly arenas: DmaArena[]
  readonly buffers: readonly Buffer[]
}

class WorkerShare implements QueueShare, QueueUser {
  readonly qids: readonly number[]
  readonly ticket: QueueTicket
  readonly #returned: Promise<void>
  readonly #parts: ShareParts
  readonly #controller: Controller
  readonly #forgetFailure: () => void
  #settle!: { resolve: () => void; reject: (error: Error) => void }
  #grace: NodeJS.Timeout | undefined
  #ending: Promise<void> | null = null
  #ended = false
  readonly #forgetUser: () => void
  // Commands of the worker that had no answer.
  readonly #expired = new Set<string>()
  #suspended = () => {}
  // The worker, once it has attached.
  #thread: number | undefined
  // A reset went on without its queues.
  #left = false
  // Where the worker makes its queues itself: what it may still use, by number.
  readonly #permits = new Map<number, ConnectPermit>()
  #lastPermit = 0
  // Resets that the worker knows of.
  #resets = 0
  // The worker has said that it uses nothing any more.
  #given = false

  constructor(parts: ShareParts) {
    const { device, queues, ticket, port } = parts
    this.#parts = parts
    // A device with shares is one that this thread has opened itself.
    this.#controller = device.controller as Controller
    this.ticket = ticket
    this.qids = queues.map(({ qid }) => qid)
    this.#returned = new Promise<void>((resolve, reject) => {
      this.#settle = { resolve, reject }
    })
    // Who does not ask hears nothing of it: the queues say it when they are used.
    this.#returned.catch(() => {})
    const cause = new QueueOwnerError(
      `queues ${this.qids.join(', ')} of ${ticket.device.address}: another thread has them`,
    )
    for (const queue of queues) device.shareQueue(queue, cause)
    device.shares.add(this)
    this.#forgetFailure = this.#controller.onFailure((failure) => this.#tellFailure(failure))
    this.#forgetUser = this.#controller.addQueueUser(this)
    port.on('message', (message: WorkerMessage) => this.#act(message))
    port.on('close', () => this.#workerEnded())
    port.unref()
  }

  get returned(): Promise<void> {
    // A worker that has ended holds the event loop no more, and what its port has to say may come a turn later.
    if (!this.#ended) this.#parts.port.ref()
    return this.#returned
  }

  /** Calls back when it has ended, well or not; does not keep the process alive for that. */
  onReturned(callback: () => void): void {
    this.#returned.then(callback, callback)
  }

  recall(): Promise<void> {
    const { ticket, port } = this.#parts
    if (Atomics.compareExchange(ticket.words, WORD.STATE, SHARE.OFFERED, SHARE.ENDED) === SHARE.OFFERED) {
      // No thread has attached, and none can any more.
      void this.#end()
      port.close()
    } else if (this.#ending === null && this.#grace === undefined) {
      port.ref()
      this.#send({ kind: 'recall' })
      this.#grace = setTimeout(() => this.#press(), GRACE_MS)
    }
    return this.returned
  }

  #send(message: OwnerMessage): void {
    this.#parts.port.postMessage(message)
  }

  /** A worker that only polls looks at this word now and then. */
  #press(): void {
    Atomics.compareExchange(this.ticket.words, WORD.STATE, SHARE.ATTACHED, SHARE.URGENT)
  }

  #act(message: WorkerMessage): void {
    switch (message.kind) {
      case 'attached':
        this.#thread = message.thread
        if (message.alive !== null) watchThread(message.thread, message.alive)
        // While the controller is reset, the end of that brings it.
        if (this.#parts.ownQueues && !this.#controller.resetting) void this.#permitConnect()
        break
      case 'admin':
        void this.#admin(message.id, message.command)
        break
      case 'map':
        void this.#map(message.bytes)
        break
      case 'look':
        this.#controller.checkHealth()
        break
      case 'expired':
        this.#recover(message)
        break
      case 'ended':
        this.#expired.delete(`${message.qid}:${message.id}`)
        break
      case 'suspended':
        this.#suspended()
        break
      case 'taken':
        this.#releasePermits(message.permit)
        break
      case 'lost':
        this.#lost(message.permit, unpackError(message.error))
        break
      case 'return':
        void this.#return()
    }
  }

  async #admin(id: number, { data, ...rest }: PostedCommand): Promise<void> {
    try {
      const buffer = data && Buffer.from(data)
      const command: AdminCommand = buffer === undefined ? rest : { ...rest, data: buffer }
      const { result } = await this.#controller.admin(command)
      this.#send({ kind: 'answer', id, result, data: buffer })
    } catch (error) {
      this.#send({ kind: 'refusal', id, error: packError(error) })
    }
  }

  async #map(bytes: number): Promise<void> {
    const { words } = this.ticket
    const { memory } = this.#controller.transport
    try {
      const arena = memory.mapDmaAsync ? await memory.mapDmaAsync(bytes) : memory.mapDma(bytes)
      this.#parts.arenas.push(arena)
      this.#send({ kind: 'mapped', arena })
    } catch (error) {
      this.#send({ kind: 'notMapped', error: packError(error) })
    }
    Atomics.add(words, WORD.ANSWERS, 1)
    Atomics.notify(words, WORD.ANSWERS)
  }

  // A command of the worker had no answer: what is done about it is the controller's business.
  #recover({ qid, id, error }: { qid: number; id: number; error: PackedError }): void {
    const key = `${qid}:${id}`
    this.#expired.add(key)
    const command: ExpiredCommand = {
      ...{ qid, id, cause: unpackError(error) as CommandTimeoutError },
      ended: () => !this.#expired.has(key),
      giveUp: () => {
        if (this.#expired.delete(key)) this.#urge({ kind: 'giveUp', qid, id })
      },
    }
    if (!this.#controller.expired(command)) command.giveUp()
  }

  // What the worker makes its queues with: first of all, and after each reset.
  async #permitConnect(): Promise<void> {
    const controller = this.#controller
    const resets = this.#resets
    try {
      const permit = await controller.queues.permit(this.#parts.queues.map(({ pair }) => pair.qid))
      // The worker must get none of before a reset after it knows of that.
      if (this.#ending !== null || resets !== this.#resets) {
        permit.end()
        return
      }
      const id = ++this.#lastPermit
      this.#permits.set(id, permit)
      this.#urge({ kind: 'resume', permit: { id, data: permit.data } })
    } catch (error) {
      // A reset that has begun meanwhile permits again.
      if (resets === this.#resets && !controller.resetting) this.#tellFailure(error as Error)
    }
  }

  #lost(id: number, cause: Error): void {
    const permit = this.#permits.get(id)
    if (permit === undefined || this.#ending !== null) return
    if (!permit.lost(cause)) this.#tellFailure(cause)
  }

  #releasePermits(before = Number.POSITIVE_INFINITY): void {
    for (const [id, permit] of this.#permits) {
      if (id >= before) continue
      this.#permits.delete(id)
      permit.end()
    }
  }

  #urge(message: OwnerMessage): void {
    this.#send(message)
    this.#press()
  }

  /**
   * The worker's queues post nothing from then on. One that says nothing within a while has its queues left out of the
   * reset: they do not exist until it returns them, or ends.
   */
  async suspend(cause: Error): Promise<void> {
    if (this.#ending !== null) return
    this.#resets++
    const { ticket, port } = this.#parts
    // A ticket says where its rings stand, which a reset changes.
    if (Atomics.compareExchange(ticket.words, WORD.STATE, SHARE.OFFERED, SHARE.ENDED) === SHARE.OFFERED) {
      // It ends with the reset, which it must not keep from coming: a fatal controller deletes no queue.
      void this.#end()
      port.close()
      return
    }
    this.#expired.clear()
    const answered = await new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), GRACE_MS)
      this.#suspended = () => {
        clearTimeout(timer)
        resolve(true)
      }
      port.ref()
      this.#urge({ kind: 'suspend', error: packError(cause) })
    })
    if (!this.#ended) port.unref()
    if (answered) return
    log('%s: the thread that has queues %s does not answer', ticket.device.address, this.qids)
    for (const { pair } of this.#parts.queues) this.#controller.queues.leaveOut(pair.qid)
    for (const permit of this.#permits.values()) permit.revoke()
    this.#left = true
    this.#tellFailure(cause)
  }

  resume(): void {
    if (this.#ending !== null || this.#left) return
    if (this.#parts.ownQueues && this.#thread !== undefined) void this.#permitConnect()
    else if (!this.#parts.ownQueues) this.#urge({ kind: 'resume', permit: undefined })
  }

  #tellFailure(failure: Error): void {
    if (this.#ending !== null) return
    this.#resets++
    this.#send({ kind: 'failed', error: packError(failure) })
    this.#press()
  }

  // The worker touches nothing any more. Its thread may go on, and still hold old views.
  async #return(): Promise<void> {
    const { port } = this.#parts
    this.#given = true
    port.ref()
    const failure = await this.#end()
    this.#send({ kind: 'returned', error: failure && packError(failure) })
    port.unref()
  }

  // The worker's thread has ended, or has closed the ticket's port, or no thread ever had the ticket.
  #workerEnded(): void {
    if (this.#ending === null) log('%s: queues %s come back', this.ticket.device.address, this.qids)
    void this.#end()
  }

  /** Takes the queues back, once; resolves with what went wrong. */
  async #end(): Promise<Error | undefined> {
    this.#ending ??= this.#takeBack().finally(() => this.#parts.device.shares.delete(this))
    try {
      await this.#ending
      this.#settle.resolve()
      return undefined
    } catch (error) {
      this.#settle.reject(error as Error)
      return error as Error
    } finally {
      this.#ended = true
      this.#parts.port.unref()
    }
  }

  async #takeBack(): Promise<void> {
    const { device, queues, arenas, buffers } = this.#parts
    const controller = this.#controller
    clearTimeout(this.#grace)
    this.#forgetFailure()
    this.#forgetUser()
    this.#expired.clear()
    this.#suspended()
    Atomics.store(this.ticket.words, WORD.STATE, SHARE.ENDED)
    for (const permit of this.#permits.values()) permit.revoke()
    // A thread that lives may still use them, to no avail.
    if (this.#given) this.#releasePermits()
    else atThreadEnd(this.#thread, () => this.#releasePermits())
    for (const { pair } of queues) {
      if (controller.failure) {
        controller.queues.rejoin(pair.qid)
        continue
      }
      await controller.queues.recreate(pair.qid).catch((error) => {
        // A controller that has gone meanwhile has no queue to take back, and one that is reset makes it again.
        if (controller.failure === null && controller.recovery.running === null) throw error
      })
    }
    // Until that has ended, what is posted would be lost.
    while (controller.recovery.running !== null) await controller.recovery.running
    // A controller that failed may still write: then the memory stays until it is closed.
    if (!controller.failure) {
      for (const arena of arenas) this.#unmap(arena)
      for (const buffer of buffers) this.#release(buffer)
    }
    for (const queue of queues) device.takeBackQueue(queue)
  }

  // Huge pages are seen in the thread where they are mapped here: they stay for as long as it may hold a view.
  #unmap(arena: DmaArena): void {
    const { memory } = this.#controller.transport
    const unmap = () => memory.unmapDma(arena)
    if (arena.hugePages) atThreadEnd(this.#thread, unmap)
    else unmap()
  }

  #release(buffer: Buffer): void {
    const { pool } = this.#controller
    const { allocation } = pool.tagOf(buffer)
    allocation.users--
    pool.reclaim(allocation)
  }
}
