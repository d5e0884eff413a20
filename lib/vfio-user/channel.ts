// The client's end of the socket: one request at a time, each answered within a time limit.
// Trade-off: it blocks while it waits, since a register is read by a plain call; only the version, which a server
// that is busy with another client answers late, is waited for on the event loop.

import {
  AbortError,
  DecodeError,
  DeviceRemovedError,
  InUseError,
  ProtocolError,
  SystemCallError,
  UnvmeError,
} from '../errors.ts'
import { logger } from '../log/index.ts'
import { close, ERRNO, errnoName, ioctl, POLL } from '../pci/libc.ts'
import { COMMAND, commandName, FLAGS, MAJOR, MAX_MESSAGE_BYTES, MINOR } from './constants.ts'
import { type Message, MessageReader } from './reader.ts'
import { closeDescriptors, hasHungUp, readable, send, waitFor } from './socket.ts'
import { encodeMessage } from './structs.ts'
import { type Capabilities, decodeVersion, encodeVersion, OUR_CAPABILITIES } from './version.ts'

const log = logger('vfio-user')
const NO_PAYLOAD = Buffer.alloc(0)
/** ioctl: bytes that the peer has not yet read. */
const TIOCOUTQ = 0x5411
// A server that never stops to ask must not hold the event loop up.
const MESSAGES_AT_ONCE = 16

export interface RequestOptions {
  /** Descriptors that go with the request; they stay the caller's. */
  fds?: readonly number[]
  /** Bytes that the reply's payload has at least. */
  least?: number
  /** Descriptors that the reply may carry; they are the caller's to close. Default: none. */
  maxFds?: number
}

export interface Reply {
  payload: Buffer
  fds: number[]
}

/** A connection to a server. The first failure ends it, but for requests that the server refuses. */
export class Channel {
  readonly fd: number
  /** For messages. */
  readonly name: string
  readonly #timeout: number
  readonly #reader: MessageReader
  #id = 0
  #failure: Error | null = null

  /** @param timeout milliseconds for each request */
  constructor(fd: number, name: string, timeout: number) {
    this.fd = fd
    this.name = name
    this.#timeout = timeout
    this.#reader = new MessageReader(fd, MAX_MESSAGE_BYTES)
  }

  /** What ended the connection. */
  get failure(): Error | null {
    return this.#failure
  }

  /**
   * Agrees on a version, the first thing to be said.
   * Throws ProtocolError (another version, no vfio-user server), InUseError (the server is busy with another client).
   */
  async negotiate(signal?: AbortSignal): Promise<Capabilities> {
    const ours = { major: MAJOR, minor: MINOR, capabilities: OUR_CAPABILITIES }
    const id = this.#send(COMMAND.VERSION, encodeVersion(ours), [])
    const answered = await readable(this.fd, this.#timeout, signal)
    if (signal?.aborted) throw this.#end(new AbortError(signal.reason))
    if (!answered) throw this.#end(this.#busyOrSilent())
    const payload = this.#receiveVersion(id)
    const { major, minor, capabilities } = this.#decode(COMMAND.VERSION, payload, decodeVersion)
    if (major !== MAJOR) {
      throw this.#end(
        new ProtocolError(`${this.name} speaks vfio-user ${major}.${minor}, this driver ${MAJOR}.${MINOR}`),
      )
    }
    log('%s: vfio-user %d.%d, %o', this.name, major, minor, capabilities)
    return capabilities
  }

  #receiveVersion(id: number): Buffer {
    try {
      return this.#receive(id, COMMAND.VERSION, { least: 4 }).payload
    } catch (cause) {
      if (!(cause instanceof SystemCallError)) throw cause
      throw this.#end(
        new ProtocolError(`${this.name} does not take vfio-user ${MAJOR}.${MINOR}: ${cause.code}`, { cause }),
      )
    }
  }

  /**
   * Sends a request and waits for its reply.
   * Throws SystemCallError where the server refuses it, ProtocolError where it breaks the protocol or does not
   * answer in time, DeviceRemovedError where it has gone.
   */
  request(command: number, payload: Buffer = NO_PAYLOAD, options: RequestOptions = {}): Reply {
    if (this.#failure) throw this.#failure
    return this.#receive(this.#send(command, payload, options.fds ?? []), command, options)
  }

  /** As `request`, for a reply that is decoded: what can't be is an error of the protocol. */
  ask<T>(command: number, payload: Buffer, decode: (reply: Buffer) => T): T {
    return this.#decode(command, this.request(command, payload).payload, decode)
  }

  /** Decodes a part of a reply. */
  decode<T>(command: number, payload: Buffer, decode: (reply: Buffer) => T): T {
    return this.#decode(command, payload, decode)
  }

  /** Answers what the server asked of its own accord. Ends the connection, without an exception, where it has gone. */
  attend(): void {
    try {
      for (let i = 0; i < MESSAGES_AT_ONCE; i++) {
        const message = this.#reader.next()
        if (message === 'more') return
        if (message === 'end') throw this.#gone()
        if ((message.header.flags & FLAGS.TYPE) !== 0) {
          closeDescriptors(message.fds)
          throw new ProtocolError(`${this.name}: a reply that nobody asked for`)
        }
        this.#refuse(message)
      }
    } catch (error) {
      this.#end(error)
    }
  }

  /** Looks whether the server has gone, at the cost of a system call. */
  checkEnd(): boolean {
    if (this.#failure === null && hasHungUp(this.fd)) this.#end(this.#gone())
    return this.#failure !== null
  }

  close(): void {
    this.#failure ??= new DeviceRemovedError(`${this.name}: the connection is closed`)
    this.#reader.close()
    close(this.fd)
  }

  #send(command: number, payload: Buffer, fds: readonly number[]): number {
    const id = this.#id
    this.#id = (id + 1) & 0xffff
    this.#sendAll(encodeMessage({ id, command, flags: 0 }, payload), fds)
    return id
  }

  #sendAll(message: Buffer, fds: readonly number[]): void {
    const until = performance.now() + this.#timeout
    try {
      for (let at = 0; at < message.length; ) {
        const sent = send(this.fd, message.subarray(at), at === 0 ? fds : [])
        at += sent
        if (sent > 0) continue
        const left = until - performance.now()
        if (left <= 0 || waitFor(this.fd, POLL.OUT, left) === 0) throw this.#silence()
      }
    } catch (error) {
      throw this.#end(error)
    }
  }

  #receive(id: number, command: number, { least = 0, maxFds = 0 }: RequestOptions): Reply {
    const message = this.#awaitReply()
    const { header, payload, fds } = message
    try {
      if (header.id !== id) throw this.#broken(command, `the reply has id ${header.id}, not ${id}`)
      if ((header.flags & FLAGS.ERROR) !== 0) throw this.#refused(command, header.errno)
      if (payload.length < least) {
        throw this.#broken(command, `${payload.length} bytes in the reply: ${least} are needed`)
      }
      if (fds.length > maxFds)
        throw this.#broken(command, `${fds.length} descriptors, at most ${maxFds} belong`)
      return { payload, fds }
    } catch (error) {
      closeDescriptors(fds)
      if (!(error instanceof SystemCallError)) this.#end(error)
      throw error
    }
  }

  #awaitReply(): Message {
    const until = performance.now() + this.#timeout
    try {
      for (;;) {
        const message = this.#reader.next()
        if (message === 'end') throw this.#gone()
        if (message !== 'more') {
          // One that has come is taken, however late: its descriptors are the receiver's by now.
          if ((message.header.flags & FLAGS.TYPE) === FLAGS.REPLY) return message
          this.#refuse(message)
        }
        const left = until - performance.now()
        if (left <= 0) throw this.#silence()
        if (message === 'more' && waitFor(this.fd, POLL.IN, left) === 0) throw this.#silence()
      }
    } catch (error) {
      throw this.#end(error)
    }
  }

  // A server may ask for memory that it can't map: here all memory can be.
  #refuse({ header, fds }: Message): void {
    closeDescriptors(fds)
    const { id, command, flags } = header
    if ((flags & FLAGS.TYPE) !== 0) throw this.#broken(command, `a message of type ${flags & FLAGS.TYPE}`)
    log('%s asks for %s, which is refused', this.name, commandName(command))
    if ((flags & FLAGS.NO_REPLY) !== 0) return
    this.#sendAll(
      encodeMessage({ id, command, flags: FLAGS.REPLY | FLAGS.ERROR }, NO_PAYLOAD, ERRNO.ENOTSUP),
      [],
    )
  }

  #decode<T>(command: number, payload: Buffer, decode: (reply: Buffer) => T): T {
    try {
      return decode(payload)
    } catch (cause) {
      if (!(cause instanceof DecodeError)) throw cause
      throw this.#end(
        new ProtocolError(`${this.name}: the reply to ${commandName(command)} can't be understood`, {
          cause,
        }),
      )
    }
  }

  #end(error: unknown): Error {
    const failure =
      error instanceof UnvmeError && !(error instanceof SystemCallError) ? error : this.#gone(error)
    this.#failure ??= failure
    return failure
  }

  #gone(cause?: unknown): Error {
    return new DeviceRemovedError(`device removed: the server of ${this.name} has gone`, { cause })
  }

  #broken(command: number, what: string): Error {
    return new ProtocolError(`${this.name}: ${commandName(command)}: ${what}`)
  }

  #refused(command: number, value: number): Error {
    return new SystemCallError('refused by the server', {
      code: errnoName(value),
      errno: value,
      syscall: commandName(command),
      path: this.name,
    })
  }

  #silence(): Error {
    return new ProtocolError(`${this.name}: no answer within ${this.#timeout} ms`)
  }

  // What a peer has not even read waits behind another client, or the peer is stopped.
  #busyOrSilent(): Error {
    const unread = Buffer.alloc(4)
    ioctl(this.fd, TIOCOUTQ, unread)
    const within = `within ${this.#timeout} ms`
    return unread.readInt32LE() > 0
      ? new InUseError(`${this.name} is in use: its server did not turn to this client ${within}`)
      : new ProtocolError(`${this.name}: no answer ${within}; is it a vfio-user server?`)
  }
}
