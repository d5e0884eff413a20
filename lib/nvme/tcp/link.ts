// One connection of a host: what a link is, the one on a socket of Node's, and the exchange of ICReq and ICResp.

import net from 'node:net'
import tls from 'node:tls'
import {
  AbortError,
  AuthenticationError,
  DeviceRemovedError,
  ProtocolError,
  SetupError,
} from '../../errors.ts'
import { logger } from '../../log/index.ts'
import { onAbort, throwIfAborted } from '../../sys/abort.ts'
import {
  type Agreement,
  checkIcResp,
  DGST,
  decodeIcResp,
  describeTermReq,
  encodeIcReq,
  encodeTermReq,
  isViolation,
  PDU,
  typeSet,
} from './pdu.ts'
import { type PduHandler, Receiver } from './receiver.ts'
import type { TlsPsk } from './security/keys.ts'
import { isByPsk, TLS_OPTIONS } from './security/tls.ts'

const log = logger('tcp')

/** What the system's buffer is emptied into; larger ones were no faster. */
const READ_BYTES = 64 * 1024
/** For a terminate request to get out, before the socket is closed whatever the peer does. */
const TERMINATE_MS = 1000

export interface LinkOptions {
  /** Of the controller, for messages. */
  readonly address: string
  readonly host: string
  readonly port: number
  readonly hdgst: boolean
  readonly ddgst: boolean
  /** The connection is TLS 1.3, by this key alone. */
  readonly tls?: TlsPsk | undefined
  /** Milliseconds for the connection, and again for ICResp. */
  readonly connectTimeout: number
  readonly signal?: AbortSignal | undefined
  /** Of the system: what a polled connection is made with, where another thread has made it. */
  readonly socket?: OwnerSocket | undefined
}

/** A socket of the system, which its maker closes: who uses it only shuts it down. */
export interface OwnerSocket {
  readonly fd: number
  /** 4 or 6. */
  readonly family: number
}

/** Where a connection has ended, and who has ended it. */
export interface LinkEnd {
  readonly cause: Error
  /** The peer has closed, or reset, the connection: it has ended the queue itself. */
  readonly byPeer: boolean
}

/** Who has a connection once it is up. */
export interface LinkOwner extends PduHandler {
  /** All that has come so far has been handed out. */
  onFed(): void
  /** Once, unless the owner closes it. */
  onEnd(end: LinkEnd): void
}

/** A connection, made by `connectLink`. */
export interface Link {
  /** What was agreed on, once it was: digests, most bytes of data in one H2CData, and what multiple data begins at. */
  agreement: Agreement
  maxH2cData: number
  alignment: number
  /** It is looked at by `step`, without the event loop. */
  readonly polled: boolean
  /** 4 or 6: which of the two protocols it goes by. */
  readonly family: number
  /** From now on `owner` gets what comes. */
  own(owner: LinkOwner): void
  /** Sends bytes, which are the system's until `done`. */
  write(bytes: Uint8Array, done?: () => void): void
  /** Whether the connection keeps the process alive. */
  keepAlive(on: boolean): void
  /** What is written until `flush` leaves in one system call. */
  cork(): void
  flush(): void
  /** Takes what has come, where it is polled. */
  step(): void
  /** Ends it from here; its owner hears nothing of it. */
  close(): void
}

/** Begins a connection: `onConnect` is called once it is there, and `greeting` has what comes. */
export type MakeLink = (options: LinkOptions, greeting: LinkOwner, onConnect: () => void) => Link

/**
 * Whether an error of a socket says that the other side, or its system, has closed the connection. EPIPE: it has been reset
 * after the end of what came, and something is written before that end is read.
 */
export function isPeersEnd(code: string | undefined): boolean {
  return code === 'ECONNRESET' || code === 'EPIPE'
}

/** A socket of Node's: everything goes by turns of the event loop. */
class SocketLink implements Link {
  agreement: Agreement = { hdgst: false, ddgst: false }
  maxH2cData = 0
  alignment = 4
  readonly polled = false
  private readonly socket: net.Socket
  private readonly receiver: Receiver
  private owner: LinkOwner | null = null
  // How it has ended, once it has.
  private ended: LinkEnd | null = null
  private readonly address: string
  private corked = false

  constructor({ address, host, port, tls: psk }: LinkOptions, greeting: LinkOwner, onConnect: () => void) {
    this.address = address
    this.owner = greeting
    this.receiver = new Receiver(greeting)
    const buffer = Buffer.allocUnsafeSlow(READ_BYTES)
    const where = {
      ...{ host, port, noDelay: true },
      onread: { buffer, callback: (bytes: number) => this.feed(buffer, bytes) },
    }
    this.socket = psk === undefined ? net.connect(where) : this.secure(where, psk, onConnect)
    if (psk === undefined) this.socket.once('connect', onConnect)
    this.socket.on('error', (error: NodeJS.ErrnoException) => {
      const cause = new DeviceRemovedError(`${this.address}: the connection failed: ${error.message}`, {
        cause: error,
      })
      this.end({ cause, byPeer: isPeersEnd(error.code) })
    })
    this.socket.on('end', () => {
      const cause = new DeviceRemovedError(`${this.address}: the target closed the connection`)
      this.end({ cause, byPeer: true })
    })
    this.socket.on('close', () => {
      const cause = new DeviceRemovedError(`${this.address}: the connection is closed`)
      this.end({ cause, byPeer: false })
    })
  }

  private secure(where: tls.ConnectionOptions, { identity, psk }: TlsPsk, onConnect: () => void): net.Socket {
    const socket = tls.connect({ ...where, ...TLS_OPTIONS, ca: [], pskCallback: () => ({ identity, psk }) })
    socket.setNoDelay(true)
    // A handshake that is refused is no lost connection: the next one is refused, too.
    const refused = (error: NodeJS.ErrnoException) => {
      if (error.code?.startsWith('ERR_SSL') === false && !socket.authorizationError) return
      const cause = new AuthenticationError(`${this.address}: no TLS connection: ${error.message}`, {
        cause: error,
      })
      this.end({ cause, byPeer: false })
    }
    socket.once('error', refused)
    socket.once('secureConnect', () => {
      socket.off('error', refused)
      if (isByPsk(socket)) onConnect()
      else refused(new Error('the target has used something else than the key'))
    })
    return socket
  }

  get family(): number {
    return this.socket.remoteFamily === 'IPv6' ? 6 : 4
  }

  /** From now on `owner` gets what comes. */
  own(owner: LinkOwner): void {
    this.receiver.handOver(owner, this.agreement)
    this.owner = owner
    if (this.ended !== null) owner.onEnd(this.ended)
  }

  write(bytes: Uint8Array, done?: () => void): void {
    this.socket.write(bytes, done)
  }

  keepAlive(on: boolean): void {
    if (on) this.socket.ref()
    else this.socket.unref()
  }

  private feed(buffer: Buffer, bytes: number): boolean {
    if (this.ended !== null) return true
    try {
      this.receiver.feed(buffer, bytes)
    } catch (error) {
      if (!isViolation(error)) {
        this.socket.destroy()
        throw error
      }
      log('%s: %s', this.address, error.message)
      this.terminate(
        encodeTermReq(PDU.H2C_TERM_REQ, error, this.receiver.head.subarray(0, this.receiver.filled)),
      )
      const cause = new ProtocolError(`${this.address}: ${error.message}`, { cause: error })
      this.end({ cause, byPeer: false })
      return true
    }
    this.owner?.onFed()
    this.flush()
    return true
  }

  // No more PDUs after it.
  private terminate(pdu: Buffer): void {
    const { socket } = this
    this.receiver.end()
    socket.end(pdu)
    setTimeout(() => socket.destroy(), TERMINATE_MS).unref()
    socket.once('finish', () => socket.destroySoon())
  }

  private end(end: LinkEnd): void {
    if (this.ended !== null) return
    this.ended = end
    this.receiver.end()
    // What was violated is still being said.
    if (!(end.cause instanceof ProtocolError)) this.socket.destroy()
    this.owner?.onEnd(end)
  }

  cork(): void {
    if (this.corked) return
    this.corked = true
    this.socket.cork()
  }

  flush(): void {
    if (!this.corked) return
    this.corked = false
    this.socket.uncork()
  }

  step(): void {}

  close(): void {
    this.ended ??= { cause: new DeviceRemovedError(`${this.address} is closed`), byPeer: false }
    this.owner = null
    this.receiver.end()
    this.socket.destroy()
  }
}

const connectSocket: MakeLink = (options, greeting, onConnect) => new SocketLink(options, greeting, onConnect)

/**
 * Connects, and agrees on digests and limits. Rejects with SetupError where there is no connection, ProtocolError where
 * the target does not answer, or with what can't be, and AbortError.
 */
export async function connectLink(options: LinkOptions, make: MakeLink = connectSocket): Promise<Link> {
  const { address, hdgst, ddgst, connectTimeout, signal } = options
  throwIfAborted(signal)
  const dgst = (hdgst ? DGST.HEADER : 0) | (ddgst ? DGST.DATA : 0)
  let settle: { resolve(link: Link): void; reject(error: Error): void }
  const connected = new Promise<Link>((resolve, reject) => {
    settle = { resolve, reject }
  })
  const greeting: LinkOwner = {
    accepted: typeSet(PDU.IC_RESP, PDU.C2H_TERM_REQ),
    mostData: 0,
    onHeader() {},
    onPdu({ head }) {
      if (head[0] !== PDU.IC_RESP) {
        const text = describeTermReq(head)
        settle.reject(new ProtocolError(`${address}: the target refuses the connection: ${text}`))
        return
      }
      const reply = decodeIcResp(head)
      checkIcResp(reply, dgst)
      link.agreement = { hdgst, ddgst }
      link.maxH2cData = reply.maxh2cdata
      link.alignment = (reply.cpda + 1) * 4
      settle.resolve(link)
    },
    onFed() {},
    onEnd: ({ cause }) => settle.reject(answering ? cause : noConnection(address, cause)),
  }
  let answering = false
  const link = make(options, greeting, () => {
    answering = true
    timer.refresh()
    link.write(encodeIcReq({ pfv: 0, hpda: 0, dgst, maxr2t: 0 }))
  })
  const timer = setTimeout(() => {
    settle.reject(
      answering
        ? new ProtocolError(`${address}: no ICResp within ${connectTimeout} ms`)
        : new SetupError(`${address}: no connection within ${connectTimeout} ms`),
    )
  }, connectTimeout)
  const forget = onAbort(signal, () => {
    // At once: who aborts may be about to give its socket back.
    link.close()
    settle.reject(new AbortError(signal!.reason))
  })
  try {
    return await connected
  } catch (error) {
    // A violation is said first; that closes the socket, too.
    if (!(error instanceof ProtocolError && isViolation(error.cause))) link.close()
    throw error
  } finally {
    clearTimeout(timer)
    forget()
  }
}

function noConnection(address: string, cause: Error): Error {
  if (cause instanceof AuthenticationError) return cause
  const { message, code } = (cause.cause ?? cause) as NodeJS.ErrnoException
  // Where a name has several addresses, the error of all of them has no message.
  return new SetupError(`${address}: no connection: ${message || code}`, { cause })
}
