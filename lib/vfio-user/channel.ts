// The client's end of the socket: requests go out in order, and each reply is taken when it comes.
// Who asks gets a promise, and a server that is slow, or stopped, holds nothing up but its own answers; a
// caller that can't return before it has one (`requestNow`) says for how long it may block.

import {
  CommandTimeoutError,
  DecodeError,
  DeviceRemovedError,
  InUseError,
  ProtocolError,
  SystemCallError,
  UnvmeError,
} from '../errors.ts'
import { logger } from '../log/index.ts'
import { close, ERRNO, errnoName, ioctl, POLL } from '../sys/libc.ts'
import { COMMAND, commandName, FLAGS, MAJOR, MAX_MESSAGE_BYTES, MINOR } from './constants.ts'
import { type Message, MessageReader } from './reader.ts'
import { closeDescriptors, hasHungUp, send, type Watch, waitFor, watch } from './socket.ts'
import { encodeMessage } from './structs.ts'
import { type Capabilities, decodeVersion, encodeVersion, OUR_CAPABILITIES, type Version } from './version.ts'

const log = logger('vfio-user')
/** ioctl: bytes that the peer has not yet read. */
const TIOCOUTQ = 0x5411
// A server that never stops to send must not hold the event loop up.
const MESSAGES_AT_ONCE = 16
// Where the socket has no room, as for a server that is stopped, it is tried again after so many milliseconds.
const RETRY_MS = 5
// A server that asks for more and more without reading an answer.
const MAX_UNSENT = 1024

/** What is asked of a server, and how its reply is understood. */
export interface Request<T> {
  readonly command: number
  readonly payload: Buffer
  /** Descriptors that go with it; they stay the caller's, who keeps them open until there is a reply. */
  readonly fds?: readonly number[]
  /** Bytes that the reply's payload has at least, and at most. */
  readonly least?: number
  readonly most?: number
  /** Descriptors that the reply may carry; from `decode` on they are the caller's to close. Default: none. */
  readonly maxFds?: number
  /** Throws DecodeError for a reply that can't be understood, which ends the connection. */
  decode(payload: Buffer, fds: number[]): T
}

/** How a request ended: `error` is null where `value` is its reply. */
type Settle<T> = (error: Error | null, value?: T) => void

interface Pending {
  readonly request: Request<unknown>
  /** When its time is over. */
  readonly until: number
  readonly settle: Settle<unknown>
}

interface Unsent {
  readonly bytes: Buffer
  readonly fds: readonly number[]
  at: number
}

/** A connection to a server. The first failure ends it, but for requests that the server refuses. */
export class Channel {
  readonly fd: number
  /** For messages. */
  readonly name: string
  /** Called once, when the connection has ended. */
  onEnd: (failure: Error) => void = () => {}
  readonly #timeout: number
  readonly #reader: MessageReader
  readonly #watch: Watch
  // By id, oldest first.
  readonly #pending = new Map<number, Pending>()
  readonly #unsent: Unsent[] = []
  readonly #onSettled: (() => void)[] = []
  #id = 0
  #awaited = 0
  #timer: NodeJS.Timeout | undefined
  #retry: NodeJS.Timeout | undefined
  #failure: Error | null = null
  #closed = false

  /** @param timeout milliseconds for each request; without an answer by then the connection ends */
  constructor(fd: number, name: string, timeout: number) {
    this.fd = fd
    this.name = name
    this.#timeout = timeout
    this.#reader = new MessageReader(fd, MAX_MESSAGE_BYTES)
    // From an immediate: promises go on only after a turn that is Node's own.
    this.#watch = watch(fd, () => setImmediate(() => this.attend()))
    // A server that is idle does not keep the process alive.
    this.#watch.unref()
  }

  /** What ended the connection. */
  get failure(): Error | null {
    return this.#failure
  }

  /**
   * Agrees on a version, the first thing to be said.
   * Rejects with ProtocolError (another version, no vfio-user server), InUseError (the server is busy with another
   * client).
   */
  async negotiate(): Promise<Capabilities> {
    const ours = { major: MAJOR, minor: MINOR, capabilities: OUR_CAPABILITIES }
    const { major, minor, capabilities } = await this.#askVersion(encodeVersion(ours))
    if (major !== MAJOR) {
      throw this.fail(
        new ProtocolError(`${this.name} speaks vfio-user ${major}.${minor}, this driver ${MAJOR}.${MINOR}`),
      )
    }
    log('%s: vfio-user %d.%d, %o', this.name, major, minor, capabilities)
    return capabilities
  }

  async #askVersion(payload: Buffer): Promise<Version> {
    try {
      return await this.request({ command: COMMAND.VERSION, payload, least: 4, decode: decodeVersion })
    } catch (cause) {
      if (!(cause instanceof SystemCallError)) throw cause
      throw this.fail(
        new ProtocolError(`${this.name} does not take vfio-user ${MAJOR}.${MINOR}: ${cause.code}`, { cause }),
      )
    }
  }

  /**
   * Sends a request; resolves with its reply, and keeps the process alive until then.
   * Rejects with SystemCallError where the server refuses it, ProtocolError where it breaks the protocol or does not
   * answer in time, DeviceRemovedError where it has gone.
   */
  request<T>(request: Request<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#hold()
      this.post(request, (error, value) => {
        this.#letGo()
        if (error === null) resolve(value as T)
        else reject(error)
      })
    })
  }

  /**
   * Resolves when every request so far has been answered, or the connection has ended, and keeps the process alive
   * until then.
   */
  settled(): Promise<void> {
    if (this.#pending.size === 0) return Promise.resolve()
    return new Promise((resolve) => {
      this.#hold()
      this.#onSettled.push(() => {
        this.#letGo()
        resolve()
      })
    })
  }

  /** As `request`, by callback, without keeping the process alive. Where the connection has ended: at once. */
  post<T>(request: Request<T>, settle: Settle<T>): void {
    if (this.#failure !== null) {
      settle(this.#failure)
      return
    }
    const id = this.#id
    this.#id = (id + 1) & 0xffff
    const until = performance.now() + this.#timeout
    this.#pending.set(id, { request, until, settle: settle as Settle<unknown> })
    const { command, payload, fds = [] } = request
    this.#try(() => this.#send(encodeMessage({ id, command, flags: 0 }, payload), fds))
    this.#timer ??= this.#startTimer(until)
  }

  /**
   * As `request`, for a caller that can't wait on the event loop: blocks it for up to `limit` milliseconds.
   * Throws as `request` rejects, and CommandTimeoutError after the limit.
   * @param late what becomes of a reply that comes after the limit
   */
  requestNow<T>(request: Request<T>, limit: number, late: Settle<T> = () => {}): T {
    const end = performance.now() + limit
    let outcome: { error: Error | null; value: T | undefined } | null = null
    let givenUp = false
    const settled = () => outcome
    this.post(request, (error, value) => {
      if (givenUp) late(error, value)
      else outcome = { error, value }
    })
    while (settled() === null) {
      let more = true
      this.#try(() => {
        this.#flush()
        more = this.#takeMessage()
      })
      if (settled() !== null) break
      const left = end - performance.now()
      if (left <= 0) {
        this.#checkTime()
        if (settled() !== null) break
        givenUp = true
        throw new CommandTimeoutError(
          `${this.name}: ${commandName(request.command)}: no answer within ${limit} ms`,
        )
      }
      const events = this.#unsent.length > 0 ? POLL.IN | POLL.OUT : POLL.IN
      if (!more) this.#try(() => void waitFor(this.fd, events, left))
    }
    const { error, value } = settled()!
    if (error !== null) throw error
    return value as T
  }

  /**
   * Takes what has come, sends what could not be sent before, and ends the connection where an answer is overdue.
   * Never waits, and never throws: for the event loop, and for who polls without letting it run.
   */
  attend(): void {
    if (this.#failure !== null) return
    this.#try(() => {
      this.#flush()
      for (let i = 0; i < MESSAGES_AT_ONCE && this.#failure === null && this.#takeMessage(); i++);
    })
    this.#checkTime()
  }

  /** Looks whether the server has gone, at the cost of a system call. */
  checkEnd(): boolean {
    if (this.#failure === null && hasHungUp(this.fd)) this.fail(this.#gone())
    return this.#failure !== null
  }

  /** Ends the connection, unless something else has; every request that waits ends with what did. Returns that. */
  fail(error: unknown): Error {
    if (this.#failure !== null) return this.#failure
    const failure =
      error instanceof UnvmeError && !(error instanceof SystemCallError) ? error : this.#gone(error)
    this.#failure = failure
    this.#watch.close()
    clearTimeout(this.#timer)
    clearTimeout(this.#retry)
    this.#unsent.length = 0
    const pending = [...this.#pending.values()]
    this.#pending.clear()
    for (const { settle } of pending) settle(failure)
    this.#tellSettled()
    this.onEnd(failure)
    return failure
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.fail(new DeviceRemovedError(`${this.name}: the connection is closed`))
    this.#reader.close()
    close(this.fd)
  }

  #hold(): void {
    if (this.#awaited++ === 0) this.#watch.ref()
  }

  #letGo(): void {
    if (--this.#awaited === 0) this.#watch.unref()
  }

  #tellSettled(): void {
    if (this.#pending.size === 0) for (const settled of this.#onSettled.splice(0)) settled()
  }

  #try(step: () => void): void {
    if (this.#failure !== null) return
    try {
      step()
    } catch (error) {
      this.fail(error)
    }
  }

  #startTimer(until: number): NodeJS.Timeout {
    const onTime = () => {
      this.#timer = undefined
      // What came while the event loop was busy is in time.
      this.attend()
      const oldest = this.#oldest()
      if (oldest !== undefined) this.#timer = this.#startTimer(oldest.until)
    }
    return setTimeout(onTime, Math.max(1, until - performance.now())).unref()
  }

  #oldest(): Pending | undefined {
    return this.#pending.values().next().value
  }

  #checkTime(): void {
    const oldest = this.#oldest()
    if (oldest !== undefined && performance.now() >= oldest.until) {
      this.fail(this.#silence(oldest.request.command))
    }
  }

  #send(bytes: Buffer, fds: readonly number[]): void {
    if (this.#unsent.length >= MAX_UNSENT) throw new ProtocolError(`${this.name} does not read its messages`)
    this.#unsent.push({ bytes, fds, at: 0 })
    if (this.#unsent.length === 1) this.#flush()
  }

  #flush(): void {
    for (let first = this.#unsent[0]; first !== undefined; first = this.#unsent[0]) {
      const sent = send(this.fd, first.bytes.subarray(first.at), first.at === 0 ? first.fds : [])
      if (sent === 0) {
        this.#retry ??= setTimeout(() => {
          this.#retry = undefined
          this.attend()
        }, RETRY_MS).unref()
        return
      }
      first.at += sent
      if (first.at === first.bytes.length) this.#unsent.shift()
    }
  }

  /** True where there was one. */
  #takeMessage(): boolean {
    const message = this.#reader.next()
    if (message === 'more') return false
    if (message === 'end') throw this.#gone()
    if ((message.header.flags & FLAGS.TYPE) === FLAGS.REPLY) this.#deliver(message)
    else this.#refuse(message)
    return true
  }

  #deliver({ header, payload, fds }: Message): void {
    const { id, flags, errno } = header
    const pending = this.#pending.get(id)
    if (pending === undefined) {
      closeDescriptors(fds)
      throw new ProtocolError(`${this.name}: the reply has id ${id}, which no request has`)
    }
    if ((flags & FLAGS.ERROR) !== 0) {
      closeDescriptors(fds)
      this.#pending.delete(id)
      pending.settle(this.#refused(pending.request.command, errno))
      this.#tellSettled()
      return
    }
    // Until it is understood it is still pending, and ends with the connection where it can't be.
    const value = this.#understand(pending.request, payload, fds)
    this.#pending.delete(id)
    pending.settle(null, value)
    this.#tellSettled()
  }

  #understand(request: Request<unknown>, payload: Buffer, fds: number[]): unknown {
    const { command, least = 0, most = Number.POSITIVE_INFINITY, maxFds = 0 } = request
    const { length } = payload
    try {
      if (length < least) throw this.#broken(command, `${length} bytes in the reply: ${least} are needed`)
      if (length > most) throw this.#broken(command, `${length} bytes in the reply, not ${most}`)
      if (fds.length > maxFds)
        throw this.#broken(command, `${fds.length} descriptors, at most ${maxFds} belong`)
      return request.decode(payload, fds)
    } catch (cause) {
      closeDescriptors(fds)
      if (!(cause instanceof DecodeError)) throw cause
      throw new ProtocolError(`${this.name}: the reply to ${commandName(command)} can't be understood`, {
        cause,
      })
    }
  }

  // A server may ask for memory that it can't map: here all memory can be.
  #refuse({ header, fds }: Message): void {
    closeDescriptors(fds)
    const { id, command, flags } = header
    if ((flags & FLAGS.TYPE) !== 0) throw this.#broken(command, `a message of type ${flags & FLAGS.TYPE}`)
    log('%s asks for %s, which is refused', this.name, commandName(command))
    if ((flags & FLAGS.NO_REPLY) !== 0) return
    const refusal = { id, command, flags: FLAGS.REPLY | FLAGS.ERROR }
    this.#send(encodeMessage(refusal, Buffer.alloc(0), ERRNO.ENOTSUP), [])
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

  #silence(command: number): Error {
    const within = `within ${this.#timeout} ms`
    if (command !== COMMAND.VERSION) return new ProtocolError(`${this.name}: no answer ${within}`)
    // What a peer has not even read waits behind another client, or the peer is stopped.
    const unread = Buffer.alloc(4)
    ioctl(this.fd, TIOCOUTQ, unread)
    return unread.readInt32LE() > 0
      ? new InUseError(`${this.name} is in use: its server did not turn to this client ${within}`)
      : new ProtocolError(`${this.name}: no answer ${within}; is it a vfio-user server?`)
  }
}
