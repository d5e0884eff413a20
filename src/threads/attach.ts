// A namespace in a worker thread, on queues that another thread shares, and the controller as such a thread has it.
// Trade-off: admin commands and memory are asked of the thread that opened the device; only an `alloc` beyond
// what came with the queues waits for that thread with this one's event loop standing still.

import { type InspectOptions, inspect } from 'node:util'
import { type MessagePort, receiveMessageOnPort, threadId } from 'node:worker_threads'
import {
  AbortError,
  ArgumentTypeError,
  ClosedError,
  ControllerFatalError,
  OutOfMemoryError,
  QueueOwnerError,
  UnsupportedError,
} from '../../lib/errors.ts'
import type { DmaArena } from '../../lib/memory/mapping.ts'
import { DmaPool } from '../../lib/memory/pool.ts'
import type { AdminCommand, AdminOptions, AdminResult } from '../../lib/nvme/host/admin-queue.ts'
import { shownOf } from '../../lib/nvme/host/controller.ts'
import {
  activeNamespaces,
  type IdentifyOptions,
  identify,
  identifyNamespace,
} from '../../lib/nvme/host/identify-commands.ts'
import type { Queue, QueueShareFacts } from '../../lib/nvme/host/queue.ts'
import type { ExpiredCommand, QueueUser } from '../../lib/nvme/host/recovery.ts'
import type { AttachedTransport } from '../../lib/nvme/host/transport.ts'
import type { IdentifyController, IdentifyNamespace } from '../../lib/nvme/spec/identify.ts'
import type { Capabilities } from '../../lib/nvme/spec/registers.ts'
import { onAbort } from '../../lib/sys/abort.ts'
import { rejectPaced } from '../../lib/sys/event-loop.ts'
import { summary } from '../../lib/sys/show.ts'
import { Device, type NamespaceController } from '../controller/device.ts'
import { Namespace } from '../namespace/namespace.ts'
import {
  type OwnerMessage,
  type Permit,
  packError,
  type QueueTicket,
  SHARE,
  unpackError,
  WORD,
  type WorkerMessage,
} from '../shares/protocol.ts'
import { openThreadEnd } from '../shares/thread-end.ts'
import { type AttachTransport, loadAttach } from '../transports/attach.ts'

/** See index.ts. */
export async function attach(ticket: QueueTicket): Promise<Namespace> {
  if (ticket?.kind !== 'unvme.queues') {
    throw new ArgumentTypeError('attach: a ticket from share is needed, with its port in the transfer list')
  }
  const { device: facts, words, owner } = ticket
  if (owner === threadId) {
    throw new QueueOwnerError(
      `attach: the queues of ${facts.address} are shared by this thread; attach in another`,
    )
  }
  const attachTransport = await loadAttach(facts.transport.transport)
  const state = Atomics.compareExchange(words, WORD.STATE, SHARE.OFFERED, SHARE.ATTACHED)
  if (state === SHARE.ENDED) throw new ClosedError(`attach: the queues of ${facts.address} were recalled`)
  if (state !== SHARE.OFFERED)
    throw new QueueOwnerError(`attach: the queues of ${facts.address} are attached already`)
  const controller = new AttachedController(ticket, attachTransport)
  try {
    const device = new Device(controller, facts.namespaces, facts.retries)
    device.qsize = facts.qsize
    device.maxqcount = facts.maxqcount
    for (const pair of facts.pairs) {
      device.addQueue(controller.attachQueue(pair), facts.geometry, controller.transport.wakeUp?.(pair.qid))
    }
    const buffers = facts.buffers.map((buffer) => controller.pool.adopt(buffer))
    const ns = new Namespace(device, facts.geometry, facts.address, buffers)
    controller.onRecall = () => {
      // Other namespaces of the controller that this thread opened do not keep the queues. What fails is for those who call
      // `close` themselves, as the worker does.
      const end = () => controller.close()
      ns.close().then(end, end)
    }
    await controller.connected()
    return ns
  } catch (error) {
    await controller.close()
    throw error
  }
}

const HEALTH_EVERY_MS = 50
const ANSWER_MS = 10_000
const EXPIRED_EVERY_MS = 10

interface PendingAdmin {
  /** Where the answer's data goes; nowhere once no caller waits for it. */
  data: Uint8Array | undefined
  readonly unwatch: () => void
  readonly resolve: (value: AdminResult) => void
  readonly reject: (error: Error) => void
}

class AttachedController implements NamespaceController {
  readonly transport: AttachedTransport
  readonly pool: DmaPool
  readonly cap: Capabilities
  readonly version: string
  readonly identity: IdentifyController
  readonly maxTransferBytes: number
  readonly timeout: number
  failure: Error | null = null
  /** Called when the owner wants the queues back. */
  onRecall: () => void = () => {}

  readonly #port: MessagePort
  readonly #words: Int32Array
  readonly #pending = new Map<number, PendingAdmin>()
  readonly #onFailure = new Set<(cause: Error) => void>()
  readonly #mapped: (DmaArena | Error)[] = []
  #nextId = 0
  #recalled = false
  #healthAt = 0
  #closed: Promise<void> | null = null
  #returned: (() => void) | null = null
  readonly #pairs: Queue[] = []
  readonly #users = new Set<QueueUser>()
  readonly #expired = new Set<ExpiredCommand>()
  #suspended = false
  // Where this thread makes its queues itself: what with, and who waits for the first of them.
  readonly #connected: Promise<void> | undefined
  #settleConnected = { resolve: () => {}, reject: (_: Error) => {} }
  #permit = 0

  constructor({ port, words, device, owner }: QueueTicket, attachTransport: AttachTransport) {
    this.#port = port
    this.#words = words
    this.cap = device.cap
    this.version = device.version
    this.identity = device.identity
    this.maxTransferBytes = device.maxTransferBytes
    this.timeout = device.timeout
    this.transport = attachTransport(device.transport, { mapDma: (bytes) => this.#mapDma(bytes) })
    if (device.transport.ownQueues) {
      this.#connected = new Promise((resolve, reject) => {
        this.#settleConnected = { resolve, reject }
      })
      this.#connected.catch(() => {})
      this.transport.onLost = (cause) => this.#lost(this.#permit, cause)
    }
    const alive = openThreadEnd(owner)
    port.postMessage(
      { kind: 'attached', alive, thread: threadId } satisfies WorkerMessage,
      alive ? [alive] : [],
    )
    const { memory, views } = this.transport
    this.pool = new DmaPool(memory, { arenas: device.arenas, ...(views && { views }) })
    port.on('message', (message: OwnerMessage) => this.#act(message))
    port.on('close', () => this.#ownerEnded())
    // Like an open device without work, it does not keep its thread alive.
    port.unref()
  }

  /** Resolves when the queues can be used; rejects with what ends them before that. */
  async connected(): Promise<void> {
    if (this.#connected === undefined) return
    this.#port.ref()
    await this.#connected
    if (this.#pending.size === 0 && this.#closed === null) this.#port.unref()
  }

  /** Any admin command, sent by the owner's thread. */
  admin({ data, ...rest }: AdminCommand, { signal }: AdminOptions = {}): Promise<AdminResult> {
    if (signal?.aborted) return rejectPaced(new AbortError(signal.reason))
    if (this.#closed) return rejectPaced(new ClosedError(`${this.transport.address} is closed`))
    if (this.failure) return rejectPaced(this.failure)
    return new Promise((resolve, reject) => {
      const id = this.#nextId++
      if (this.#pending.size === 0) this.#port.ref()
      const unwatch = onAbort(signal, () => {
        pending.data = undefined
        reject(new AbortError(signal!.reason))
      })
      const pending: PendingAdmin = { data, unwatch, resolve, reject }
      this.#pending.set(id, pending)
      this.#send({
        kind: 'admin',
        id,
        command: data === undefined ? rest : { ...rest, data: Buffer.from(data) },
      })
    })
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

  onEvent(): () => void {
    throw new UnsupportedError(`${this.transport.address}: events go to the thread that opened it`)
  }

  onFormat(): () => void {
    throw new UnsupportedError(
      `${this.transport.address}: what is formatted is known to the thread that opened it`,
    )
  }

  onFailure(handler: (cause: Error) => void): () => void {
    this.#onFailure.add(handler)
    return () => this.#onFailure.delete(handler)
  }

  /** Looks at CSTS and for what the owner has to say, at most every 50 ms. */
  checkHealth(now = performance.now()): void {
    if (this.failure || now - this.#healthAt < HEALTH_EVERY_MS) return
    this.#healthAt = now
    const { URGENT, ATTACHED } = SHARE
    if (Atomics.compareExchange(this.#words, WORD.STATE, URGENT, ATTACHED) === URGENT) {
      this.#receive()
      if (this.#recalled) this.fail(new ClosedError(`the queues of ${this.transport.address} were recalled`))
    }
    this.#lookForEnded()
    const failure = this.#suspended || this.failure ? null : this.transport.health()
    if (failure === null) return
    // What can be recovered is for the owner to recover.
    if (!(failure instanceof ControllerFatalError)) this.fail(failure)
    this.#send({ kind: 'look' })
  }

  /** A queue of the ticket, from where its owner stopped. */
  attachQueue(share: QueueShareFacts): Queue {
    const pair = this.transport.attachQueue(this.pool, share)
    this.#pairs.push(pair)
    return pair
  }

  addQueueUser(user: QueueUser): () => void {
    this.#users.add(user)
    return () => this.#users.delete(user)
  }

  /** The owner sends Aborts, and resets: it is asked to. */
  expired(command: ExpiredCommand): boolean {
    const { qid, id, cause } = command
    this.#send({ kind: 'expired', qid, id, error: packError(cause) })
    if (this.#expired.size === 0) this.#watchExpired()
    this.#expired.add(command)
    return true
  }

  // A thread that only polls looks by checkHealth.
  #watchExpired(): void {
    const timer = setInterval(() => {
      this.#lookForEnded()
      if (this.#expired.size === 0) clearInterval(timer)
    }, EXPIRED_EVERY_MS).unref()
  }

  #lookForEnded(): void {
    for (const command of this.#expired) {
      if (!command.ended()) continue
      this.#expired.delete(command)
      this.#send({ kind: 'ended', qid: command.qid, id: command.id })
    }
  }

  #giveUp({ qid, id }: { readonly qid: number; readonly id: number }): void {
    for (const command of this.#expired) {
      if (command.qid !== qid || command.id !== id) continue
      this.#expired.delete(command)
      command.giveUp()
    }
  }

  #suspend(cause: Error): void {
    this.#suspended = true
    this.#expired.clear()
    if (this.#closed === null) for (const user of this.#users) void user.suspend(cause)
    this.#permit = 0
    this.transport.disconnect?.()
    this.#send({ kind: 'suspended' })
  }

  async #resume(permit: Permit | undefined): Promise<void> {
    // The rings' memory goes with the pool.
    if (this.#closed !== null) return
    for (const pair of this.#pairs) pair.reset()
    if (permit !== undefined && !(await this.#connect(permit))) return
    this.#suspended = false
    this.failure = null
    for (const user of this.#users) user.resume()
    this.#settleConnected.resolve()
  }

  // False where that fails, which the owner does something about, or something else has come meanwhile.
  async #connect({ id, data }: Permit): Promise<boolean> {
    this.#permit = id
    this.transport.disconnect!()
    this.#send({ kind: 'taken', permit: id })
    try {
      await this.transport.connect!(data)
      return this.#permit === id
    } catch (error) {
      this.#lost(id, error as Error)
      return false
    }
  }

  // A queue that this thread has made: nothing is posted on it until the controller was reset.
  #lost(id: number, cause: Error): void {
    if (this.#permit === id) this.#send({ kind: 'lost', permit: id, error: packError(cause) })
  }

  /** Ends the controller for this thread: everything pending gets `cause`. */
  fail(cause: Error): void {
    if (this.failure) return
    this.failure = cause
    for (const { unwatch, reject } of this.#pending.values()) {
      unwatch()
      reject(cause)
    }
    this.#pending.clear()
    this.#settleConnected.reject(cause)
    for (const handler of this.#onFailure) handler(cause)
  }

  async reset(): Promise<void> {
    throw new UnsupportedError(`${this.transport.address}: only the thread that opened it can reset it`)
  }

  /** Ends everything in flight, and gives the queues back. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  /** What a console shows of it: not the driver behind it. */
  [inspect.custom](depth: number, options: InspectOptions): string {
    return summary('AttachedController', this.toJSON(), depth, options)
  }

  /** For JSON.stringify: what a console shows. */
  toJSON() {
    return shownOf(this)
  }

  async #close(): Promise<void> {
    this.fail(new ClosedError(`${this.transport.address} was closed`))
    this.#expired.clear()
    this.#permit = 0
    await this.transport.settle?.()
    this.pool.close()
    const returned = new Promise<void>((resolve) => {
      this.#returned = resolve
    })
    this.#port.ref()
    this.#send({ kind: 'return' })
    await returned
    this.#port.unref()
  }

  #send(message: WorkerMessage): void {
    this.#port.postMessage(message)
  }

  #receive(): void {
    receiveAll(this.#port, (message) => this.#act(message as OwnerMessage))
  }

  #act(message: OwnerMessage): void {
    switch (message.kind) {
      case 'answer':
      case 'refusal':
        this.#answer(message)
        break
      case 'mapped':
        this.#mapped.push(message.arena)
        break
      case 'notMapped':
        this.#mapped.push(unpackError(message.error))
        break
      case 'failed':
        this.fail(unpackError(message.error))
        break
      case 'recall':
        this.#recalled = true
        // Not within a caller's poll.
        setImmediate(() => this.onRecall())
        break
      case 'giveUp':
        this.#giveUp(message)
        break
      case 'suspend':
        this.#suspend(unpackError(message.error))
        break
      case 'resume':
        void this.#resume(message.permit)
        break
      case 'returned':
        this.#returned?.()
    }
  }

  #answer(message: Extract<OwnerMessage, { kind: 'answer' | 'refusal' }>): void {
    const pending = this.#pending.get(message.id)
    if (pending === undefined) return
    this.#pending.delete(message.id)
    pending.unwatch()
    if (this.#pending.size === 0 && this.#closed === null) this.#port.unref()
    if (message.kind === 'refusal') {
      pending.reject(unpackError(message.error))
      return
    }
    if (message.data !== undefined) pending.data?.set(message.data)
    pending.resolve({ result: message.result })
  }

  // The pool needs memory now: the owner is asked, and this thread waits.
  #mapDma(bytes: number): DmaArena {
    const before = Atomics.load(this.#words, WORD.ANSWERS)
    this.#send({ kind: 'map', bytes })
    Atomics.wait(this.#words, WORD.ANSWERS, before, ANSWER_MS)
    this.#receive()
    for (let mapped = this.#mapped.shift(); mapped !== undefined; mapped = this.#mapped.shift()) {
      if (mapped instanceof Error) throw mapped
      // A smaller one is the late answer to a request that was given up.
      if (mapped.bytes >= bytes) return mapped
    }
    throw new OutOfMemoryError(
      `alloc: the thread that opened ${this.transport.address} did not map ${bytes} bytes within ${ANSWER_MS / 1000} s; ` +
        "its event loop must run for that, or `share` be given more 'memory'",
    )
  }

  #ownerEnded(): void {
    this.fail(new ClosedError(`the thread that opened ${this.transport.address} has ended`))
    this.#returned?.()
  }
}

/** Acts on every message that has arrived. */
function receiveAll(port: MessagePort, act: (message: unknown) => void): void {
  for (;;) {
    const received = receiveMessageOnPort(port) as { message: unknown } | undefined
    if (received === undefined) return
    act(received.message)
  }
}
