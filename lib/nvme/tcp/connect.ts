// A connection becomes a queue: Connect, and authentication, in whichever thread has the queue; and what the thread that
// opened a controller gives another one for that.

import { setTimeout as delay } from 'node:timers/promises'
import { isMainThread } from 'node:worker_threads'
import {
  AbortError,
  AuthenticationError,
  CommandTimeoutError,
  DeviceRemovedError,
  NvmeError,
  UnsupportedError,
} from '../../errors.ts'
import { logger } from '../../log/index.ts'
import { throwIfAborted } from '../../sys/abort.ts'
import { NO_WAKE_UP, type TransportShare, type WakeUp } from '../host/transport.ts'
import { STATUS } from '../spec/status.ts'
import type { TcpAddress } from './address.ts'
import {
  AUTHREQ,
  encodeAuthenticationReceive,
  encodeAuthenticationSend,
  encodeConnect,
  encodeConnectData,
  encodeDisconnect,
  FABRICS_STATUS,
  FCTYPE,
  fabricsName,
} from './fabrics.ts'
import { fabricsError } from './fabrics-error.ts'
import { type HostIdentity, uuidBytes } from './host-identity.ts'
import { connectLink, type MakeLink, type OwnerSocket } from './link.ts'
import type { TcpQueue } from './queue.ts'
import { authenticate } from './security/authenticate.ts'
import { MOST_MESSAGE_BYTES } from './security/dhchap.ts'
import { NO_SECURITY, type TcpSecurity } from './security/index.ts'
import type { TlsPsk } from './security/keys.ts'
import { pskOf } from './security/tls.ts'

const log = logger('tcp')

const DISCONNECT_MS = 10_000
// For a target to see that the thread before has closed its connection, and to end what was in flight there.
const FREE_MS = 5000
const FREE_LOOK_MS = 10

/** Where a controller is, and who asks for it. */
export interface TcpTarget {
  readonly address: TcpAddress
  readonly identity: HostIdentity
  /** Default: a target that asks for authentication is refused. */
  readonly security?: TcpSecurity | undefined
}

/**
 * What wakes the sleeper of a queue, which is undefined where there is none now.
 * @param polled its socket is looked at, too
 */
export function wakeUpOf(queue: () => TcpQueue | undefined, polled: boolean): WakeUp {
  // See raw-link.ts: in a worker there are timers alone.
  if (polled && !isMainThread) return NO_WAKE_UP
  return {
    interrupts: true,
    // Where they can be polled for, to be woken is still faster than to look again and again.
    eventDriven: true,
    arm: (wake) => {
      queue()?.arm(wake)
      return true
    },
    disarm: () => queue()?.disarm(),
  }
}

/** The transport as another thread has it: what is secret is in the permit. */
export interface TcpShare extends TransportShare {
  readonly eventDriven: boolean
}

/** What another thread connects queues with, to the association as it is now. */
export interface TcpPermit {
  readonly target: TcpTarget
  readonly cntlid: number
  readonly inCapsule: number
  /** The target has Disconnect. */
  readonly disconnects: boolean
  readonly connectTimeout: number
  /** By queue, where connections are polled. */
  readonly sockets: ReadonlyMap<number, OwnerSocket>
}

export interface ConnectOptions {
  readonly target: TcpTarget
  readonly cntlid: number
  readonly sqsize: number
  /** Most bytes of data within a capsule. */
  readonly inCapsule: number
  readonly connectTimeout: number
  readonly makeLink?: MakeLink | undefined
  readonly socket?: OwnerSocket | undefined
  readonly signal?: AbortSignal | undefined
}

/** A connection for a queue, and Connect as its first command. Returns the controller id. */
export async function connectQueue(queue: TcpQueue, options: ConnectOptions): Promise<number> {
  const { target, cntlid, sqsize, inCapsule, connectTimeout, makeLink, socket, signal } = options
  const { address, identity } = target
  const { host, port, hdgst, ddgst, subnqn, kato } = address
  const { qid } = queue
  const link = await connectLink(
    {
      ...{ address: address.address, host, port, hdgst, ddgst, connectTimeout, socket, signal },
      tls: pskOfTarget(target),
    },
    makeLink,
  )
  queue.attach(link, inCapsule)
  try {
    const hostid = uuidBytes(identity.hostid)
    const data = encodeConnectData({ hostid, cntlid, subnqn, hostnqn: identity.hostnqn })
    const entry = encodeConnect({ qid, sqsize, kato: qid === 0 ? kato : 0 })
    const reply = await queue.command('Connect', entry, data, connectTimeout)
    if (reply.status !== 0) throw fabricsError(FCTYPE.CONNECT, qid, reply.status, reply.result)
    await authenticateQueue(queue, options, reply.result)
    throwIfAborted(signal)
    return reply.result & 0xffff
  } catch (error) {
    queue.disconnect(error as Error)
    throw error
  }
}

/** The key of its TLS connections; undefined where they are none. */
export function pskOfTarget({ address, identity, security }: TcpTarget): TlsPsk | undefined {
  const tls = security?.tls ?? null
  return tls === null ? undefined : pskOf(tls, { hostnqn: identity.hostnqn, subnqn: address.subnqn })
}

async function authenticateQueue(
  queue: TcpQueue,
  { target, connectTimeout }: ConnectOptions,
  authreq: number,
): Promise<void> {
  const { identity, security = NO_SECURITY } = target
  const { address, subnqn } = target.address
  const { dhchap } = security
  if ((authreq & AUTHREQ.ASCR) !== 0) {
    throw new UnsupportedError(`${address}: the target asks for a secure channel made by authentication`)
  }
  if ((authreq & AUTHREQ.ATR) === 0) {
    if (dhchap === null || dhchap.controllerKey === null) return
    throw new AuthenticationError(`${address}: the target does not authenticate, and its key is given`)
  }
  if (dhchap === null) {
    throw new AuthenticationError(
      `${address}: the target asks for authentication: give a key, see docs/tcp.md`,
    )
  }
  const command = async (fctype: number, bytes: number, message: Buffer | null, into: Buffer | null) => {
    const encode = message === null ? encodeAuthenticationReceive : encodeAuthenticationSend
    const { status } = await queue.command(
      ...[fabricsName(fctype), encode(bytes), message, connectTimeout, true, into],
    )
    if (status === 0) return
    const cause = fabricsError(fctype, queue.qid, status)
    throw new AuthenticationError(`${address}: ${cause.message}`, { cause })
  }
  const channel = {
    send: (message: Buffer) => command(FCTYPE.AUTHENTICATION_SEND, message.length, message, null),
    receive: async () => {
      const into = Buffer.alloc(MOST_MESSAGE_BYTES)
      await command(FCTYPE.AUTHENTICATION_RECEIVE, into.length, null, into)
      return into
    },
  }
  queue.authenticated = await authenticate(channel, dhchap, { address, hostnqn: identity.hostnqn, subnqn })
}

/** Ends a queue's connection: by Disconnect, where the target has it and nothing is in flight. Never rejects. */
export async function endQueue(queue: TcpQueue, address: string, disconnects: boolean): Promise<void> {
  const { qid } = queue
  try {
    if (disconnects && queue.connected && queue.inFlight === 0 && queue.lost === 0) {
      const { status } = await queue.command('Disconnect', encodeDisconnect(), null, DISCONNECT_MS)
      if (status !== 0) throw fabricsError(FCTYPE.DISCONNECT, qid, status)
    }
  } catch (error) {
    log('%s: queue %d: %s', address, qid, (error as Error).message)
  } finally {
    queue.disconnect(new DeviceRemovedError(`${address}: queue ${qid} was deleted`))
  }
}

/** Connects a queue that another thread has had: again, for as long as the target has not ended that thread's. */
export async function whenFree<T>(qid: number, connect: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  const until = performance.now() + FREE_MS
  for (;;) {
    try {
      return await connect()
    } catch (cause) {
      if (!isInUse(cause)) throw cause
      if (performance.now() > until) {
        const text = `the target has queue ${qid} of another thread for more than ${FREE_MS} ms`
        throw new CommandTimeoutError(text, { cause })
      }
      await delay(FREE_LOOK_MS)
      throwIfAborted(signal)
    }
  }
}

const IN_USE: readonly number[] = [STATUS.COMMAND_SEQUENCE_ERROR, FABRICS_STATUS.CONTROLLER_BUSY]

function isInUse(error: unknown): boolean {
  return error instanceof NvmeError && IN_USE.includes((error.sct << 8) | error.sc)
}

/** True for what another attempt may not meet. */
export function isPassing(error: unknown): boolean {
  if (error instanceof AbortError || error instanceof UnsupportedError) return false
  if (error instanceof AuthenticationError) return false
  if (error instanceof NvmeError) return !error.dnr
  return true
}

/** As `isPassing`, of a queue that changes hands: with an association of its own it may be connected. */
export function isPassingOfShare(error: Error): boolean {
  const { CONNECT_INVALID_PARAMETERS } = FABRICS_STATUS
  if (error instanceof NvmeError && ((error.sct << 8) | error.sc) === CONNECT_INVALID_PARAMETERS) return true
  return isPassing(error)
}

/** What makes connections that are polled. */
export async function loadRawLink(address: string): Promise<MakeLink> {
  if (process.platform !== 'linux') {
    throw new UnsupportedError(
      `${address}: connections that are polled (link=raw) need Linux, this is ${process.platform}`,
    )
  }
  const { connectRaw } = await import('./raw-link.ts')
  return connectRaw
}
