// A connection of a host that is polled: a non-blocking socket of the system, which `step` looks at without the event loop.
// The event loop watches it as well, for those who sleep and for its end while nothing is asked for: in a worker by timer,
// see lib/sys/watch-descriptor.ts.
// Trade-off: every look is a system call, so that who polls without pause spends a processor on them.

import dns from 'node:dns'
import os from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { isMainThread } from 'node:worker_threads'
import { DeviceRemovedError, ProtocolError } from '../../errors.ts'
import { logger } from '../../log/index.ts'
import {
  AF,
  addressOf,
  close,
  connect,
  ERRNO,
  errno,
  IPPROTO_TCP,
  MSG,
  recvmsg,
  SHUT_RDWR,
  SHUT_WR,
  SOCK,
  sendmsg,
  setsockopt,
  shutdown,
  socket,
  systemCallError,
  TCP_NODELAY,
} from '../../sys/libc.ts'
import { loadNative } from '../../sys/native.ts'
import { type DescriptorWatch, watchDescriptor } from '../../sys/watch-descriptor.ts'
import {
  isPeersEnd,
  type Link,
  type LinkEnd,
  type LinkOptions,
  type LinkOwner,
  type MakeLink,
  type OwnerSocket,
} from './link.ts'
import { type Agreement, encodeTermReq, isViolation, PDU } from './pdu.ts'
import { Receiver } from './receiver.ts'

const log = logger('tcp')

/** Between two looks by timer: from after something has come on, to after nothing has for long. */
const FIRST_LOOK_MS = 1
const LAST_LOOK_MS = 50

/** What the system's buffer is emptied into, of all links of the thread; larger ones were no faster. */
const READ_BYTES = 128 * 1024
/** So often for a look: a target that sends without end keeps nothing else waiting. */
const MOST_READS = 16
/** Pieces of one system call. */
const MOST_PIECES = 256
/** For a terminate request to get out, and be read, before the socket is closed whatever the peer does. */
const TERMINATE_MS = 1000
const MSGHDR_BYTES = 56
const IOVEC_BYTES = 16
const TWO_32 = 2 ** 32
const SEND_FLAGS = MSG.DONTWAIT | MSG.NOSIGNAL
const RECV_FLAGS = MSG.DONTWAIT

// All that the system gets addresses of, in one buffer that every view keeps alive.
const IN_AT = READ_BYTES
const IN_PIECE_AT = IN_AT + MSGHDR_BYTES
const OUT_AT = IN_PIECE_AT + IOVEC_BYTES
const OUT_PIECES_AT = OUT_AT + MSGHDR_BYTES
const memory = new ArrayBuffer(OUT_PIECES_AT + MOST_PIECES * IOVEC_BYTES)
const received = Buffer.from(memory, 0, READ_BYTES)
const words = new Uint32Array(memory)
// All of it now: what is caught half-way ends the process.
loadNative()
const start = addressOf(received)
/** Addresses of struct msghdr. */
const RECEIVE = BigInt(start + IN_AT)
const SEND = BigInt(start + OUT_AT)
const ONE = Buffer.from([1, 0, 0, 0])
setMessage(IN_AT, IN_PIECE_AT, 1)
setPiece(IN_PIECE_AT, start, READ_BYTES)

/** A struct msghdr whose pieces are elsewhere in the buffer. */
function setMessage(at: number, piecesAt: number, count: number): void {
  const w = at >> 2
  const address = start + piecesAt
  words[w + 4] = address
  words[w + 5] = address / TWO_32
  words[w + 6] = count
}

/** A struct iovec. */
function setPiece(at: number, address: number, bytes: number): void {
  const w = at >> 2
  words[w] = address
  words[w + 1] = address / TWO_32
  words[w + 2] = bytes
}

// Where a buffer is does not change: it is looked for once.
const addresses = new WeakMap<ArrayBufferLike, number>()

function locate({ buffer, byteOffset }: Uint8Array): number {
  let address = addresses.get(buffer)
  if (address === undefined) {
    address = addressOf(new Uint8Array(buffer))
    addresses.set(buffer, address)
  }
  return address + byteOffset
}

class RawLink implements Link {
  agreement: Agreement = { hdgst: false, ddgst: false }
  maxH2cData = 0
  alignment = 4
  readonly polled = true
  private readonly address: string
  private readonly receiver: Receiver
  private owner: LinkOwner | null
  private fd = -1
  family = 4
  /** Of another thread, which closes it. */
  private readonly ownerSocket: OwnerSocket | undefined
  private handle: DescriptorWatch | null = null
  private timer: NodeJS.Timeout | null = null
  private lookMs = FIRST_LOOK_MS
  private keeps = true
  // What the event loop calls when the socket is ready: it is looked at, or has been connected.
  private ready: () => void = () => {}
  private corked = false
  // What was written and has not left: where it is, how much, what keeps it alive, who hears of it; from `first` on.
  private readonly places: number[] = []
  private readonly sizes: number[] = []
  private readonly holders: Uint8Array[] = []
  private readonly dones: ((() => void) | undefined)[] = []
  private first = 0
  // The system takes no more for now.
  private stuck = false
  // How it has ended; the owner hears of it at the next look, once what came before is taken.
  private ended: LinkEnd | null = null
  private reported = false

  constructor(options: LinkOptions, greeting: LinkOwner, onConnect: () => void) {
    this.address = options.address
    this.ownerSocket = options.socket
    this.owner = greeting
    this.receiver = new Receiver(greeting)
    this.open(options).then(
      () => {
        if (this.ended !== null) return
        this.ready = this.look
        this.watch()
        onConnect()
      },
      (error) => this.fail(error),
    )
  }

  // Opening

  private async open({ host, port }: LinkOptions): Promise<void> {
    let failure: Error | null = new DeviceRemovedError(`${host} has no address`)
    const options = { all: true, family: this.ownerSocket?.family ?? 0 } as const
    for (const { address, family } of await dns.promises.lookup(host, options)) {
      if (this.ended !== null) return
      this.family = family
      failure = await this.connect(address, family, port)
      if (failure === null) return
      this.leave()
      if (this.ownerSocket === undefined) this.release()
    }
    throw failure
  }

  /** Null, or why not. */
  private async connect(host: string, family: number, port: number): Promise<Error | null> {
    const domain = family === 6 ? AF.INET6 : AF.INET
    const fd = this.ownerSocket?.fd ?? socket(domain, SOCK.STREAM | SOCK.NONBLOCK | SOCK.CLOEXEC, IPPROTO_TCP)
    if (fd < 0) return systemCallError('socket')
    this.fd = fd
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, ONE, ONE.length) < 0) return systemCallError('setsockopt')
    const to = family === 6 ? encodeInet6(host, port) : encodeInet(host, port)
    for (;;) {
      // A second call says what has become of the first.
      if (connect(fd, to, to.length) === 0) return null
      const error = errno()
      if (error === ERRNO.EISCONN) return null
      if (error !== ERRNO.EINPROGRESS && error !== ERRNO.EALREADY) {
        return systemCallError('connect', `${host}:${port}`)
      }
      await this.writable(fd)
      if (this.ended !== null) return null
    }
  }

  private writable(fd: number): Promise<void> {
    if (!isMainThread) return delay(FIRST_LOOK_MS)
    return new Promise((resolve) => {
      this.ready = resolve
      this.handle ??= watchDescriptor(fd, { writable: true }, this.onEvent)
    })
  }

  private leave(): void {
    this.handle?.close()
    this.handle = null
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = null
  }

  private release(): void {
    this.leave()
    if (this.fd < 0) return
    if (this.ownerSocket === undefined) close(this.fd)
    else shutdown(this.fd, SHUT_RDWR)
    this.fd = -1
  }

  // The event loop's part

  private watch(): void {
    if (!isMainThread) {
      this.timer ??= setTimeout(this.onTimer, this.lookMs)
      this.keepAlive(this.keeps)
      return
    }
    const options = { readable: true, writable: this.stuck }
    if (this.handle !== null) this.handle.start(options)
    else this.handle = watchDescriptor(this.fd, options, this.onEvent)
    this.keepAlive(this.keeps)
  }

  // libuv calls back without running microtasks after it, and an exception would be lost: see lib/sys/signal.ts.
  private readonly onEvent = (): void => {
    setImmediate(this.ready)
  }

  private readonly onTimer = (): void => {
    this.timer = null
    this.lookMs = this.stuck ? FIRST_LOOK_MS : Math.min(2 * this.lookMs, LAST_LOOK_MS)
    this.ready()
    if (this.fd >= 0) this.watch()
  }

  private readonly look = (): void => {
    if (this.fd >= 0) this.step()
  }

  keepAlive(on: boolean): void {
    this.keeps = on
    this.handle?.keepAlive(on)
    if (on) this.timer?.ref()
    else this.timer?.unref()
  }

  own(owner: LinkOwner): void {
    this.receiver.handOver(owner, this.agreement)
    this.owner = owner
    if (this.ended !== null) this.report()
  }

  // Receiving

  step(): void {
    if (this.ended !== null) {
      this.report()
      return
    }
    if (this.stuck) this.send()
    if (this.fd < 0) return
    for (let i = 0; i < MOST_READS && this.ended === null; i++) {
      const bytes = recvmsg(this.fd, RECEIVE, RECV_FLAGS) as number
      if (bytes <= 0) {
        this.receivedNothing(bytes)
        return
      }
      this.feed(bytes)
      // What was not filled has emptied the system's.
      if (bytes < READ_BYTES) return
    }
  }

  private receivedNothing(bytes: number): void {
    if (bytes === 0) {
      const cause = new DeviceRemovedError(`${this.address}: the target closed the connection`)
      this.end({ cause, byPeer: true })
      return
    }
    const error = errno()
    if (error !== ERRNO.EAGAIN && error !== ERRNO.EINTR) this.fail(systemCallError('recvmsg'))
  }

  private feed(bytes: number): void {
    this.lookMs = FIRST_LOOK_MS
    try {
      this.receiver.feed(received, bytes)
    } catch (error) {
      if (!isViolation(error)) {
        this.release()
        throw error
      }
      log('%s: %s', this.address, error.message)
      const head = this.receiver.head.subarray(0, this.receiver.filled)
      const cause = new ProtocolError(`${this.address}: ${error.message}`, { cause: error })
      this.end({ cause, byPeer: false }, encodeTermReq(PDU.H2C_TERM_REQ, error, head))
      return
    }
    this.owner?.onFed()
    this.flush()
  }

  // Sending

  write(bytes: Uint8Array, done?: () => void): void {
    if (this.ended !== null) {
      done?.()
      return
    }
    this.hold(bytes, done)
    if (!this.corked && !this.stuck) this.send()
  }

  private hold(bytes: Uint8Array, done?: () => void): void {
    this.places.push(locate(bytes))
    this.sizes.push(bytes.length)
    this.holders.push(bytes)
    this.dones.push(done)
  }

  cork(): void {
    this.corked = true
  }

  flush(): void {
    this.corked = false
    if (this.first < this.places.length && !this.stuck) this.send()
  }

  // As much as the system takes.
  private send(): void {
    const { places, sizes } = this
    let blocked = false
    while (this.first < places.length && this.fd >= 0) {
      const count = Math.min(places.length - this.first, MOST_PIECES)
      for (let i = 0; i < count; i++) {
        setPiece(OUT_PIECES_AT + i * IOVEC_BYTES, places[this.first + i]!, sizes[this.first + i]!)
      }
      setMessage(OUT_AT, OUT_PIECES_AT, count)
      const sent = sendmsg(this.fd, SEND, SEND_FLAGS) as number
      if (sent >= 0) {
        this.sent(sent)
        continue
      }
      const error = errno()
      if (error === ERRNO.EINTR) continue
      if (error !== ERRNO.EAGAIN) {
        this.fail(systemCallError('sendmsg'))
        return
      }
      blocked = true
      break
    }
    if (this.first === places.length || this.first >= MOST_PIECES) this.forgetSent()
    if (blocked === this.stuck) return
    this.stuck = blocked
    // What is watched by timer is looked at all the same.
    if (this.handle !== null) this.watch()
  }

  private sent(bytes: number): void {
    const { places, sizes, dones } = this
    for (let left = bytes; left > 0; ) {
      const at = this.first
      const n = Math.min(left, sizes[at]!)
      left -= n
      places[at] = places[at]! + n
      sizes[at] = sizes[at]! - n
      if (sizes[at] !== 0) return
      this.first++
      dones[at]?.()
    }
  }

  private forgetSent(): void {
    const { first } = this
    this.first = 0
    for (const list of [this.places, this.sizes, this.holders, this.dones]) {
      if (first === list.length) list.length = 0
      else list.splice(0, first)
    }
  }

  // What has not left never will.
  private drop(): void {
    const dones = this.dones.splice(this.first)
    this.first = this.places.length = this.sizes.length = this.holders.length = this.dones.length = 0
    this.stuck = false
    for (const done of dones) done?.()
  }

  // The end

  private fail(error: NodeJS.ErrnoException): void {
    const { code, message } = error
    const cause = new DeviceRemovedError(`${this.address}: the connection failed: ${message}`, {
      cause: error,
    })
    this.end({ cause, byPeer: isPeersEnd(code) })
  }

  // The owner's state may not change under it: it hears of it at its next look, or at the next turn of the event loop.
  private end(end: LinkEnd, lastWords?: Buffer): void {
    if (this.ended !== null) return
    this.ended = end
    this.receiver.end()
    if (lastWords === undefined) this.release()
    else this.terminate(lastWords)
    setImmediate(this.reportLater)
  }

  private readonly reportLater = (): void => this.report()

  private report(): void {
    if (this.reported) return
    this.reported = true
    this.owner?.onEnd(this.ended!)
    this.drop()
  }

  // No more PDUs after it; what comes is read until the peer closes, since the system would throw it away otherwise.
  private terminate(pdu: Buffer): void {
    this.hold(pdu)
    this.send()
    if (this.fd < 0) return
    // It may be closed, and its number given to something else, at any time from now on.
    if (this.ownerSocket !== undefined) {
      this.release()
      return
    }
    shutdown(this.fd, SHUT_WR)
    const timer = setTimeout(() => this.release(), TERMINATE_MS).unref()
    this.ready = () => {
      if (this.fd < 0) return
      const bytes = recvmsg(this.fd, RECEIVE, RECV_FLAGS) as number
      if (bytes > 0 || (bytes < 0 && errno() === ERRNO.EAGAIN)) return
      clearTimeout(timer)
      this.release()
    }
    this.keepAlive(false)
  }

  close(): void {
    const open = this.ended === null
    this.ended ??= { cause: new DeviceRemovedError(`${this.address} is closed`), byPeer: false }
    this.owner = null
    this.reported = true
    this.receiver.end()
    if (open) this.release()
    this.drop()
    this.ready()
  }
}

// struct sockaddr_in and sockaddr_in6: the family in the machine's order, the rest in the network's.

function encodeInet(host: string, port: number): Buffer {
  const bytes = Buffer.alloc(16)
  bytes.writeUInt16LE(AF.INET, 0)
  bytes.writeUInt16BE(port, 2)
  for (const [i, part] of host.split('.').entries()) bytes[4 + i] = Number(part)
  return bytes
}

function encodeInet6(host: string, port: number): Buffer {
  const [address, scope] = host.split('%')
  const bytes = Buffer.alloc(28)
  bytes.writeUInt16LE(AF.INET6, 0)
  bytes.writeUInt16BE(port, 2)
  // As a URL has it: no dots in it.
  const plain = new URL(`http://[${address}]`).hostname.slice(1, -1)
  const [before = [], after = []] = plain.split('::').map((part) => part.split(':').filter(Boolean))
  const groups = [...before, ...new Array(8 - before.length - after.length).fill('0'), ...after]
  for (const [i, group] of groups.entries()) bytes.writeUInt16BE(Number.parseInt(group, 16), 8 + 2 * i)
  if (scope !== undefined) bytes.writeUInt32LE(scopeOf(scope), 24)
  return bytes
}

function scopeOf(scope: string): number {
  if (/^\d+$/.test(scope)) return Number(scope)
  const found = os.networkInterfaces()[scope]?.find(({ family }) => family === 'IPv6')
  return (found as os.NetworkInterfaceInfoIPv6 | undefined)?.scopeid ?? 0
}

/** A polled connection, for `connectLink`. */
export const connectRaw: MakeLink = (options, greeting, onConnect) =>
  new RawLink(options, greeting, onConnect)
