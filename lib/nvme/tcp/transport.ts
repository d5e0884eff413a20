// A controller over TCP as a transport: connections, Fabrics commands, properties for registers, and what is
// done about a connection that has ended.

import { setTimeout as delay } from 'node:timers/promises'
import {
  DeviceRemovedError,
  NvmeError,
  OutOfRangeError,
  ProtocolError,
  UnsupportedError,
} from '../../errors.ts'
import { logger } from '../../log/index.ts'
import { DmaPool } from '../../memory/pool.ts'
import { throwIfAborted } from '../../sys/abort.ts'
import { AF, close, IPPROTO_TCP, SHUT_RDWR, SOCK, shutdown, socket, systemCallError } from '../../sys/libc.ts'
import type { Queue, QueueOptions } from '../host/queue.ts'
import {
  enablingConfiguration,
  LEAST_READY_MS,
  readyTime,
  type StatusWaitOptions,
  shutdownConfiguration,
  shutdownTime,
  waitForStatus,
} from '../host/states.ts'
import type { ConnectPermit, ResetKind, Transport, WakeUp } from '../host/transport.ts'
import type { IdentifyController } from '../spec/identify.ts'
import {
  ALL_ONES,
  type Capabilities,
  CSTS,
  decodeCapabilities,
  formatVersion,
  NSSR_RESET,
  REGISTER,
  SHST,
} from '../spec/registers.ts'
import {
  connectQueue,
  endQueue,
  isPassing,
  isPassingOfShare,
  loadRawLink,
  pskOfTarget,
  type TcpPermit,
  type TcpShare,
  type TcpTarget,
  wakeUpOf,
  whenFree,
} from './connect.ts'
import {
  CNTLID_DYNAMIC,
  encodePropertyGet,
  encodePropertySet,
  FABRICS_STATUS,
  FCTYPE,
  fabricsName,
} from './fabrics.ts'
import { fabricsError } from './fabrics-error.ts'
import { KeepAlive } from './keep-alive.ts'
import type { LinkEnd, MakeLink, OwnerSocket } from './link.ts'
import { PlainMemory } from './memory.ts'
import { ADMIN_IN_CAPSULE, OWN_COMMANDS, type Reply, TcpQueue } from './queue.ts'

const log = logger('tcp')

// As Linux has it: what every target takes. Some of the commands are the transport's own.
const ADMIN_SQSIZE = 31
const ADMIN_ENTRIES = ADMIN_SQSIZE - OWN_COMMANDS
const ADMIN_MAX_BYTES = 2 ** 20
const CONNECT_MS = 10_000
const PROPERTY_MS = 10_000
const BUSY_MS = 1000
const BUSY_LOOK_MS = 20
/** A target that lives answers the end of its controller well within that. */
const END_MS = 5000
/** A connection that has lived for so long was none of a series of losses. */
const STABLE_MS = 30_000
const DISCONNECT_SUPPORTED = 1
// As a limit: there is none.
const NEVER = -1

export interface TcpOptions {
  /** Milliseconds that an admin command may take, default 60 000. */
  adminTimeout?: number | undefined
  /** Milliseconds for each connection, and again for its first answer: default 10 000. */
  connectTimeout?: number | undefined
  /** Milliseconds between two attempts to connect again: default 2000. */
  reconnectDelay?: number | undefined
  /** Milliseconds after which a controller that can't be reached is given up; -1 never. Default: 600 000. */
  ctrlLossTimeout?: number | undefined
  /** Milliseconds of being lost after which I/O is rejected and not kept waiting; -1, the default, for as long as it takes. */
  fastIoFail?: number | undefined
  /** Memory that it shares with other transports, whose maker closes it. Default: its own. */
  shared?: SharedMemory | undefined
  /** Ends the opening. */
  signal?: AbortSignal | undefined
}

/** Memory of several transports: what one reads, another may write. */
export interface SharedMemory {
  readonly memory: PlainMemory
  readonly pool: DmaPool
}

/** @param address for messages */
export function createSharedMemory(address: string): SharedMemory {
  const memory = new PlainMemory(address)
  return { memory, pool: new DmaPool(memory, { views: memory }) }
}

export class TcpTransport implements Transport {
  readonly target: TcpTarget
  readonly address: string
  readonly kind = 'tcp'
  readonly emulated = false
  readonly eventDriven: boolean
  readonly memory: PlainMemory
  readonly pool: DmaPool
  readonly admin: TcpQueue
  /** Read from the controller before anyone else has the transport. */
  cap!: Capabilities
  version!: string
  onFailed: ((cause: Error) => void) | null = null
  onStalled: ((cause: Error) => void) | null = null
  onEnded: (() => void) | null = null
  /** A target may always come back. */
  readonly removed = false

  readonly #ownsMemory: boolean
  readonly #connectTimeout: number
  readonly #reconnectDelay: number
  readonly #ctrlLossTimeout: number
  readonly #fastIoFail: number
  #stallTimer: NodeJS.Timeout | undefined
  readonly #keepAlive: KeepAlive
  readonly #queues = new Map<number, TcpQueue>()
  // Queues that were deleted, or were another thread's: the target may still have their connections.
  readonly #former = new Set<number>()
  // Counts associations.
  #association = 0
  #capHalves: readonly [lo: number, hi: number] = [0, 0]
  #cntlid = 0
  // Of I/O queues, and whether the target has Disconnect.
  #inCapsule = 0
  #disconnects = false
  // What has ended the association, and when; and whether the target is known to have ended it.
  #lost: Error | null = null
  #lostAt = 0
  // When it was connected last, and the first of the losses between which it has not been so for long.
  #connectedAt = 0
  #troubleSince = 0
  #endedByTarget = false
  #givenUp = false
  // Connected, and nothing has been done yet.
  #fresh = false
  #shutDown = false
  #closing = false
  // The association is being ended from here.
  #ending = false
  // Of I/O queues: loaded where it is asked for. The admin queue's answers go by the event loop, as Keep Alive does.
  #makeLink: MakeLink | undefined
  // Properties are asked for one after the other.
  #turn: Promise<unknown> = Promise.resolve()

  constructor(target: TcpTarget, options: TcpOptions = {}) {
    const { adminTimeout = 60_000, connectTimeout = CONNECT_MS } = options
    const { reconnectDelay = 2000, ctrlLossTimeout = 600_000, fastIoFail = NEVER, shared } = options
    this.target = target
    const { address, kato, link } = target.address
    this.address = address
    this.eventDriven = link === 'socket'
    this.#connectTimeout = connectTimeout
    this.#reconnectDelay = reconnectDelay
    this.#ctrlLossTimeout = ctrlLossTimeout === NEVER ? Number.POSITIVE_INFINITY : ctrlLossTimeout
    this.#fastIoFail = fastIoFail
    const { memory, pool } = shared ?? createSharedMemory(address)
    this.memory = memory
    this.pool = pool
    this.#ownsMemory = shared === undefined
    this.admin = new TcpQueue(this.memory, {
      ...{ qid: 0, entries: ADMIN_ENTRIES, maxBytes: ADMIN_MAX_BYTES, timeout: adminTimeout },
    })
    this.admin.onLost = (end) => this.#onEnd(this.admin, end)
    this.#keepAlive = new KeepAlive(address, this.admin, kato, (cause) => this.#lose(cause, false))
  }

  // Connections

  /** Connects the admin queue: the controller answers properties then. */
  async connect(signal?: AbortSignal): Promise<void> {
    this.#cntlid = await this.#connectAdmin(signal)
    this.#association++
    this.#keepAlive.start()
    const [lo, hi] = await this.#get(REGISTER.CAP_LO, 8)
    const [vs] = await this.#get(REGISTER.VS, 4)
    this.#checkCapabilities(lo, hi, vs)
    clearTimeout(this.#stallTimer)
    this.#lost = null
    this.#endedByTarget = false
    this.#shutDown = false
    this.#fresh = true
    this.#connectedAt = performance.now()
  }

  // A target with one controller may not have seen yet that the host has closed its connections to it.
  async #connectAdmin(signal?: AbortSignal): Promise<number> {
    const until = performance.now() + BUSY_MS
    for (;;) {
      try {
        return await this.#connectQueue(this.admin, ADMIN_SQSIZE, ADMIN_IN_CAPSULE, signal)
      } catch (error) {
        const again = this.cap !== undefined && isBusy(error) && performance.now() < until
        if (!again) throw error
        await delay(BUSY_LOOK_MS)
      }
    }
  }

  // What is known of the controller has to hold for the one that comes back.
  #checkCapabilities(lo: number, hi: number, vs: number): void {
    if (this.cap !== undefined) {
      if (lo === this.#capHalves[0] && hi === this.#capHalves[1]) return
      this.#givenUp = true
      throw new DeviceRemovedError(`device removed: ${this.address} has other capabilities (CAP) than before`)
    }
    this.#capHalves = [lo, hi]
    this.cap = decodeCapabilities(lo, hi)
    this.version = formatVersion(vs)
    if (this.cap.mqes < 2) {
      throw new UnsupportedError(
        `${this.address}: its queues have one entry (CAP.MQES 0), which holds no command`,
      )
    }
  }

  #connectQueue(queue: TcpQueue, sqsize: number, inCapsule: number, signal?: AbortSignal): Promise<number> {
    const { qid } = queue
    return connectQueue(queue, {
      ...{ target: this.target, connectTimeout: this.#connectTimeout, sqsize, inCapsule, signal },
      cntlid: qid === 0 ? CNTLID_DYNAMIC : this.#cntlid,
      makeLink: qid === 0 ? undefined : this.#makeLink,
    })
  }

  #onEnd(queue: TcpQueue, { cause, byPeer }: LinkEnd): void {
    // The end of the admin queue is the end of all.
    this.#lose(cause, queue.qid === 0 && byPeer)
  }

  #lose(cause: Error, endedByTarget: boolean): void {
    if (this.#closing || this.#ending || this.#lost !== null) {
      this.#endedByTarget ||= endedByTarget
      return
    }
    log('%s: %s', this.address, cause.message)
    this.#markLost(cause)
    this.#endedByTarget = endedByTarget
    this.#keepAlive.stop()
    this.onFailed?.(cause)
  }

  #markLost(cause: Error): void {
    const now = performance.now()
    this.#lost = cause
    this.#lostAt = now
    if (this.#troubleSince === 0 || now - this.#connectedAt > STABLE_MS) this.#troubleSince = now
    this.#limitWaiting()
  }

  #limitWaiting(): void {
    if (this.#fastIoFail === NEVER) return
    clearTimeout(this.#stallTimer)
    this.#stallTimer = setTimeout(() => {
      const gone = `${this.address} can not be reached for ${this.#fastIoFail} ms`
      this.onStalled?.(new DeviceRemovedError(`${gone}: ${this.#lost?.message}`, { cause: this.#lost }))
    }, this.#fastIoFail)
  }

  health(): Error | null {
    return this.#lost
  }

  get negotiated() {
    const { address, identity, security } = this.target
    const { hdgst, ddgst, kato, link } = address
    const queues = [...this.#queues.values()]
    return {
      ...{
        cntlid: this.#cntlid,
        hostnqn: identity.hostnqn,
        hostid: identity.hostid,
        hdgst,
        ddgst,
        kato,
        link,
      },
      queues: queues.length,
      entries: queues[0]?.entries ?? 0,
      inCapsule: this.#inCapsule,
      maxH2cData: (queues[0] ?? this.admin).maxH2cData,
      tls: security?.tls ? 'TLS 1.3 with a pre-shared key' : null,
      dhchap: this.admin.authenticated,
    }
  }

  get away(): boolean {
    return this.#lost !== null && !this.#givenUp
  }

  readonly patient = true

  // Properties

  /** A property, in halves. */
  async #get(offset: number, bytes: 4 | 8, limit = PROPERTY_MS): Promise<[lo: number, hi: number]> {
    const entry = encodePropertyGet(offset, bytes)
    const { result, resultHigh } = await this.#property(FCTYPE.PROPERTY_GET, entry, limit)
    return [result, resultHigh]
  }

  async #set(offset: number, value: number, limit = PROPERTY_MS): Promise<void> {
    await this.#property(FCTYPE.PROPERTY_SET, encodePropertySet(offset, value), limit)
  }

  #property(fctype: number, entry: readonly number[], limit = PROPERTY_MS): Promise<Reply> {
    const ask = async () => {
      const reply = await this.admin.command(fabricsName(fctype), entry, null, limit)
      if (reply.status !== 0) throw fabricsError(fctype, 0, reply.status)
      return reply
    }
    const done = this.#turn.then(ask)
    this.#turn = done.catch(() => {})
    return done
  }

  /** All-ones while there is no connection. */
  async readProperty(offset: number): Promise<number> {
    if (!this.admin.connected) return ALL_ONES
    if (offset === REGISTER.CAP_LO) return this.#capHalves[0]
    if (offset === REGISTER.CAP_HI) return this.#capHalves[1]
    return (await this.#get(offset, 4))[0]
  }

  writeProperty(offset: number, value: number): Promise<void> {
    return this.#set(offset, value)
  }

  // Enabling and disabling (NVMe 2.0 base, section 3.5)

  async enable(signal?: AbortSignal): Promise<void> {
    if (!this.admin.connected) await this.connect(signal)
    this.#fresh = false
    await this.#disable(this.#readyTime, signal)
    await this.#set(REGISTER.CC, enablingConfiguration(this.cap))
    await this.#waitFor('become ready', CSTS.RDY, CSTS.RDY, this.#readyTime, { signal })
  }

  async #disable(limit: number, signal?: AbortSignal): Promise<void> {
    const [cc] = await this.#get(REGISTER.CC, 4, limit)
    if ((cc & 1) !== 0) await this.#set(REGISTER.CC, (cc & ~1) >>> 0, limit)
    // A fatal status is what disabling clears.
    await this.#waitFor('become disabled', CSTS.RDY, 0, limit, { endOnFatal: false, signal })
  }

  get #readyTime(): number {
    return readyTime(this.cap)
  }

  #waitFor(
    what: string,
    mask: number,
    value: number,
    limit: number,
    options?: StatusWaitOptions,
  ): Promise<void> {
    const { address } = this
    const read = async () => (await this.#get(REGISTER.CSTS, 4, Math.max(limit, LEAST_READY_MS)))[0]
    return waitForStatus({ address, read, interval: 10 }, what, mask, value, limit, options)
  }

  async configure(identity: IdentifyController): Promise<void> {
    const { ioccsz, icdoff, sgls, ofcs } = identity
    if (icdoff !== 0) {
      throw new UnsupportedError(`${this.address}: data at an offset within capsules (ICDOFF ${icdoff})`)
    }
    if ((sgls & 3) === 0) throw new UnsupportedError(`${this.address}: no SGLs (SGLS ${sgls.toString(16)}h)`)
    this.#inCapsule = ioccsz * 16 - 64
    this.#disconnects = (ofcs & DISCONNECT_SUPPORTED) !== 0
  }

  // I/O queues

  async allocQueue(options: QueueOptions): Promise<TcpQueue> {
    if (!this.eventDriven && pskOfTarget(this.target) !== undefined) {
      throw new UnsupportedError(`${this.address}: TLS goes by link=socket alone`)
    }
    if (!this.eventDriven) this.#makeLink ??= await loadRawLink(this.address)
    if (options.entries > 32768) throw new OutOfRangeError(`queues of ${options.entries} entries: 2 to 32768`)
    const queue = new TcpQueue(this.memory, options)
    queue.onLost = (end) => this.#onEnd(queue, end)
    return queue
  }

  async createQueue(queue: Queue): Promise<void> {
    const tcp = queue as TcpQueue
    // Below 0 where the controller has said of no capsules: a discovery service has no I/O queues.
    if (this.#inCapsule < 0) {
      throw new ProtocolError(`${this.address}: IOCCSZ is ${this.#inCapsule / 16 + 4}, 4 at least is needed`)
    }
    const back = this.#former.delete(tcp.qid)
    const connect = () => this.#connectQueue(tcp, tcp.entries - 1, this.#inCapsule)
    try {
      await (back ? whenFree(tcp.qid, connect) : connect())
    } catch (error) {
      // Nothing else begins a recovery for a queue that comes back.
      if (back && isPassingOfShare(error as Error)) this.#lose(error as Error, false)
      // Recovery goes on by connecting all of it again.
      else if (isPassing(error) && !(error instanceof NvmeError) && this.#lost === null) {
        this.#markLost(error as Error)
      }
      throw error
    }
    this.#queues.set(tcp.qid, tcp)
  }

  async deleteQueue(qid: number): Promise<void> {
    const queue = this.#queues.get(qid)
    if (queue === undefined) return
    this.#queues.delete(qid)
    this.#former.add(qid)
    await endQueue(queue, this.address, this.#disconnects)
  }

  // Queues of other threads

  share(): TcpShare {
    const { address, kind: transport, emulated, eventDriven, memory } = this
    return {
      ...{ address, transport, emulated, eventDriven, maxArenaBytes: memory.maxArenaBytes, ownQueues: true },
    }
  }

  permit(qids: readonly number[]): ConnectPermit {
    if (this.#lost !== null) throw this.#lost
    const association = this.#association
    const sockets = this.eventDriven ? new Map<number, OwnerSocket>() : openSockets(qids, this.admin.family)
    for (const qid of qids) this.#former.add(qid)
    const { target } = this
    const data: TcpPermit = {
      ...{ target, sockets, cntlid: this.#cntlid, inCapsule: this.#inCapsule },
      ...{ disconnects: this.#disconnects, connectTimeout: this.#connectTimeout },
    }
    return {
      data,
      lost: (cause) => {
        // What has ended since has taken the queue with it.
        if (association !== this.#association || this.#lost !== null) return true
        if (!isPassingOfShare(cause)) return false
        this.#lose(cause, false)
        return true
      },
      revoke: () => {
        for (const { fd } of sockets.values()) shutdown(fd, SHUT_RDWR)
      },
      end: () => {
        for (const { fd } of sockets.values()) close(fd)
        sockets.clear()
      },
    }
  }

  /** There is nothing to ask for. */
  async enableWakeUps(): Promise<void> {}

  wakeUp(qid: number): WakeUp {
    return wakeUpOf(() => this.#queues.get(qid), !this.eventDriven)
  }

  // Resets

  async reset(how: ResetKind): Promise<void> {
    if (how === 'function') {
      throw new UnsupportedError(`${this.address} is no PCI function: there is a reset of the controller`)
    }
    // It was connected again for this.
    if (this.#fresh) return
    if (how === 'subsystem') {
      // Whether it is answered, and whether the connection lives on, is the target's choice.
      await this.#set(REGISTER.NSSR, NSSR_RESET).catch((error) => {
        if (error instanceof NvmeError) throw error
      })
    }
    await this.#endAssociation()
    try {
      await this.connect()
    } catch (error) {
      if (isPassing(error) && this.#lost === null) this.#markLost(error as Error)
      throw error
    }
  }

  /**
   * Connects again, at once and then every `reconnectDelay`, until `ctrlLossTimeout`. Rejects with DeviceRemovedError then,
   * and with ClosedError or AbortError once `signal` is aborted.
   */
  async reconnect(_limit: number, signal: AbortSignal): Promise<void> {
    await this.#endAssociation(signal)
    // At once, but for a target that is lost again as soon as it is there.
    const early = this.#connectedAt + this.#reconnectDelay - performance.now()
    if (early > 0) await delay(early, undefined, { signal }).catch(() => throwIfAborted(signal))
    for (;;) {
      try {
        await this.connect(signal)
        return
      } catch (error) {
        this.#disconnectAll()
        throwIfAborted(signal)
        const gone = performance.now() - this.#troubleSince
        const over = gone + this.#reconnectDelay > this.#ctrlLossTimeout
        if (!over && !this.#givenUp && isPassing(error)) {
          log('%s: %s; again in %d ms', this.address, (error as Error).message, this.#reconnectDelay)
          await delay(this.#reconnectDelay, undefined, { signal }).catch(() => throwIfAborted(signal))
          continue
        }
        this.#givenUp = true
        if (!over) throw error
        throw new DeviceRemovedError(
          `device removed: ${this.address} can not be reached for ${Math.round(gone)} ms: ${(error as Error).message}`,
          { cause: error },
        )
      }
    }
  }

  // What was in flight has ended when this resolves: by the target's word, since the target ended it, or since the target
  // has had to end it, its Keep Alive Timer having run out. Otherwise an old write could land after a newer one.
  async #endAssociation(signal?: AbortSignal): Promise<void> {
    const { kato } = this.target.address
    this.#keepAlive.stop()
    this.#ending = true
    let ended = this.#endedByTarget
    if (!ended && this.admin.connected) {
      try {
        await this.#disable(Math.min(END_MS, kato === 0 ? END_MS : kato), signal)
        ended = true
      } catch (error) {
        log('%s: the controller could not be disabled: %s', this.address, (error as Error).message)
        // The connection may have been closed by the target meanwhile.
        ended = this.#endedByTarget
      }
    }
    const since = this.#lost === null ? performance.now() : this.#lostAt
    this.#disconnectAll()
    this.#ending = false
    const wait = since + kato - performance.now()
    if (!ended && wait > 0) {
      log('%s: waits %d ms for the end of what was in flight', this.address, Math.round(wait))
      await delay(wait, undefined, { signal }).catch(() => throwIfAborted(signal))
    }
    this.#endedByTarget = true
    this.onEnded?.()
  }

  #disconnectAll(): void {
    const cause =
      this.#lost ?? new DeviceRemovedError(`${this.address}: the connection was closed for a reset`)
    this.#keepAlive.stop()
    for (const queue of this.#queues.values()) queue.disconnect(cause)
    this.admin.disconnect(cause)
    this.#fresh = false
  }

  // The end

  async shutdown(rtd3e: number): Promise<void> {
    if (!this.admin.connected) return
    const [cc] = await this.#get(REGISTER.CC, 4)
    await this.#set(REGISTER.CC, shutdownConfiguration(cc))
    await this.#waitFor('shut down', CSTS.SHST, SHST.COMPLETE, shutdownTime(rtd3e))
    this.#shutDown = true
  }

  /** Nothing after a shutdown: the end of the connection follows. */
  async disable(): Promise<void> {
    if (this.admin.connected && !this.#shutDown) await this.#disable(this.#readyTime)
  }

  async close(): Promise<void> {
    this.#closing = true
    clearTimeout(this.#stallTimer)
    this.#disconnectAll()
    this.#queues.clear()
    if (this.#ownsMemory) this.pool.close()
  }
}

/** Sockets for another thread's queues: this one closes them, whatever becomes of that thread. */
function openSockets(qids: readonly number[], family: number): Map<number, OwnerSocket> {
  const sockets = new Map<number, OwnerSocket>()
  const domain = family === 6 ? AF.INET6 : AF.INET
  for (const qid of qids) {
    const fd = socket(domain, SOCK.STREAM | SOCK.NONBLOCK | SOCK.CLOEXEC, IPPROTO_TCP)
    if (fd < 0) {
      const error = systemCallError('socket')
      for (const { fd: open } of sockets.values()) close(open)
      throw error
    }
    sockets.set(qid, { fd, family })
  }
  return sockets
}

function isBusy(error: unknown): boolean {
  return error instanceof NvmeError && ((error.sct << 8) | error.sc) === FABRICS_STATUS.CONTROLLER_BUSY
}

/** Connects, and reads what the controller can do. On failure everything is given back. */
export async function openTcpTransport(target: TcpTarget, options: TcpOptions = {}): Promise<TcpTransport> {
  const transport = new TcpTransport(target, options)
  try {
    await transport.connect(options.signal)
    return transport
  } catch (error) {
    await transport.close()
    throw error
  }
}
