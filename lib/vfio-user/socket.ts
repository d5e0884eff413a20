// UNIX stream sockets by libc: file descriptors travel with the bytes, which Node's own sockets can't do.
// Every call returns at once; who wants to wait says so, either blocking (`waitFor`, for registers) or
// on the event loop (`watch`). Descriptors are closed by libc as well: Node warns of those that it has not opened
// itself, in worker threads. One scratch page of msghdr, iovec and control data serves all sockets of a thread.

import fs from 'node:fs'
import { ProtocolError, SystemCallError } from '../errors.ts'
import { mapAnonymous } from '../memory/mapping.ts'
import { onAbort } from '../sys/abort.ts'
import {
  AF,
  accept4,
  bind,
  close,
  connect,
  ERRNO,
  errno,
  listen,
  MSG,
  POLL,
  poll,
  recvmsg,
  SCM_RIGHTS,
  SOCK,
  SOL_SOCKET,
  sendmsg,
  socket,
  systemCallError,
} from '../sys/libc.ts'
import { socketPathBytes } from '../sys/socket-path.ts'
import { watchDescriptor } from '../sys/watch-descriptor.ts'

// Offsets in the scratch memory, and bytes of data in one call.
const IOVEC = 64
const CONTROL = 128
const CONTROL_BYTES = 256
const DATA = 4096
const DATA_BYTES = 65536
const CMSG_HEADER = 16
// Room for more descriptors than belong to any message: 16.
const RECEIVED_CONTROL_BYTES = CMSG_HEADER + 4 * 16
const MSG_FLAGS = 48

interface Scratch {
  address: bigint
  bytes: Buffer
}

let scratch: Scratch | undefined

function useScratch(): Scratch {
  if (scratch === undefined) {
    const { address, buffer } = mapAnonymous(DATA + DATA_BYTES)
    scratch = { address, bytes: Buffer.from(buffer) }
  }
  return scratch
}

/** What `receive` found, where it was no bytes. */
export const NOTHING_YET = -1

/** struct sockaddr_un. Throws AddressError where the path is none for a socket. */
function addressOf(path: string): Buffer {
  const name = socketPathBytes(path)
  const b = Buffer.alloc(2 + name.length + 1)
  b.writeUInt16LE(AF.UNIX, 0)
  name.copy(b, 2)
  return b
}

function newSocket(): number {
  const fd = socket(AF.UNIX, SOCK.STREAM | SOCK.NONBLOCK | SOCK.CLOEXEC, 0)
  if (fd < 0) throw systemCallError('socket')
  return fd
}

/** Connects to a socket. Throws SystemCallError: EAGAIN where too many wait there already. */
export function connectTo(path: string): number {
  const address = addressOf(path)
  const fd = newSocket()
  if (connect(fd, address, address.length) === 0) return fd
  const error = systemCallError('connect', path)
  close(fd)
  throw error
}

/** Makes a socket file and listens at it. Throws SystemCallError: EADDRINUSE where there is a file already. */
export function listenAt(path: string, backlog: number): number {
  const address = addressOf(path)
  const fd = newSocket()
  try {
    if (bind(fd, address, address.length) !== 0) throw systemCallError('bind', path)
    // No client can connect before `listen`.
    fs.chmodSync(path, 0o600)
    if (listen(fd, backlog) !== 0) throw systemCallError('listen', path)
    return fd
  } catch (error) {
    close(fd)
    throw error
  }
}

/** The next connection; -1 where no one waits. */
export function acceptFrom(fd: number): number {
  const connection = accept4(fd, 0n, 0n, SOCK.NONBLOCK | SOCK.CLOEXEC)
  if (connection >= 0) return connection
  if (errno() === ERRNO.EAGAIN || errno() === ERRNO.ECONNABORTED) return -1
  throw systemCallError('accept4')
}

/**
 * Sends as much as the socket takes now, with the descriptors beside the first byte. Returns the bytes that went:
 * 0 where there is no room, and then no descriptor went either. Throws SystemCallError: EPIPE where the peer has gone.
 */
export function send(fd: number, bytes: Buffer, fds: readonly number[]): number {
  const { address, bytes: s } = useScratch()
  const length = bytes.copy(s, DATA, 0, DATA_BYTES)
  const control = fds.length === 0 ? 0 : CMSG_HEADER + 4 * fds.length
  if (control > CONTROL_BYTES) throw new SystemCallError('too many descriptors', TOO_MANY)
  writeHeader(s, address, length, control)
  if (control > 0) {
    s.writeBigUInt64LE(BigInt(control), CONTROL)
    s.writeInt32LE(SOL_SOCKET, CONTROL + 8)
    s.writeInt32LE(SCM_RIGHTS, CONTROL + 12)
    fds.forEach((each, i) => {
      s.writeInt32LE(each, CONTROL + CMSG_HEADER + 4 * i)
    })
  }
  for (;;) {
    const sent = Number(sendmsg(fd, address, MSG.DONTWAIT | MSG.NOSIGNAL))
    if (sent >= 0) return sent
    if (errno() === ERRNO.EAGAIN) return 0
    if (errno() !== ERRNO.EINTR) throw systemCallError('sendmsg')
  }
}

const TOO_MANY = { code: 'EINVAL', errno: ERRNO.EINVAL!, syscall: 'sendmsg' }

/**
 * Receives bytes into `into` from `at` on, at most up to its end; descriptors that came with them are appended to
 * `fds` and are the caller's to close. Returns the number of bytes, 0 at the end of the stream, or NOTHING_YET.
 * Throws ProtocolError where descriptors were lost: too many came, or this process can't have more.
 */
export function receive(fd: number, into: Buffer, at: number, fds: number[]): number {
  const { address, bytes: s } = useScratch()
  for (;;) {
    writeHeader(s, address, Math.min(DATA_BYTES, into.length - at), RECEIVED_CONTROL_BYTES)
    const received = Number(recvmsg(fd, address, MSG.DONTWAIT | MSG.CMSG_CLOEXEC))
    if (received >= 0) {
      readDescriptors(s, fds)
      if ((s.readInt32LE(MSG_FLAGS) & MSG.CTRUNC) !== 0) {
        throw new ProtocolError(
          'descriptors were lost: too many came with a message, or too many are open here',
        )
      }
      s.copy(into, at, DATA, DATA + received)
      return received
    }
    if (errno() === ERRNO.EAGAIN) return NOTHING_YET
    if (errno() === ERRNO.ECONNRESET) return 0
    if (errno() !== ERRNO.EINTR) throw systemCallError('recvmsg')
  }
}

// struct msghdr at the start, with one iovec for the data.
function writeHeader(s: Buffer, address: bigint, bytes: number, control: number): void {
  s.fill(0, 0, CONTROL)
  s.writeBigUInt64LE(address + BigInt(IOVEC), 16)
  s.writeBigUInt64LE(1n, 24)
  s.writeBigUInt64LE(control === 0 ? 0n : address + BigInt(CONTROL), 32)
  s.writeBigUInt64LE(BigInt(control), 40)
  s.writeBigUInt64LE(address + BigInt(DATA), IOVEC)
  s.writeBigUInt64LE(BigInt(bytes), IOVEC + 8)
}

// Control messages are aligned to 8 bytes; only descriptors are ever sent here.
function readDescriptors(s: Buffer, fds: number[]): void {
  const end = CONTROL + Number(s.readBigUInt64LE(40))
  for (let at = CONTROL; at + CMSG_HEADER <= end; ) {
    const length = Number(s.readBigUInt64LE(at))
    if (length < CMSG_HEADER) return
    if (s.readInt32LE(at + 8) === SOL_SOCKET && s.readInt32LE(at + 12) === SCM_RIGHTS) {
      for (let i = at + CMSG_HEADER; i + 4 <= at + length; i += 4) fds.push(s.readInt32LE(i))
    }
    at += Math.ceil(length / 8) * 8
  }
}

const pollfd = Buffer.alloc(8)

/**
 * Waits until one of the events (POLL) is there, and blocks meanwhile. Returns the events; 0 after `ms`.
 * `ms` 0 only looks.
 */
export function waitFor(fd: number, events: number, ms: number): number {
  const until = performance.now() + ms
  for (let left = ms; ; left = until - performance.now()) {
    pollfd.writeInt32LE(fd, 0)
    pollfd.writeInt16LE(events, 4)
    pollfd.writeInt16LE(0, 6)
    const ready = poll(pollfd, 1, Math.max(0, Math.ceil(left)))
    if (ready > 0) return pollfd.readUInt16LE(6)
    if (ready === 0) return 0
    if (errno() !== ERRNO.EINTR) throw systemCallError('poll')
  }
}

/** True where the peer has gone, or closed its side. */
export function hasHungUp(fd: number): boolean {
  return (waitFor(fd, POLL.RDHUP, 0) & (POLL.RDHUP | POLL.HUP | POLL.ERR)) !== 0
}

export interface Watch {
  ref(): void
  unref(): void
  close(): void
}

/** Calls back on the event loop whenever there is something to read, or the peer has gone. Keeps the process alive. */
export function watch(fd: number, callback: () => void): Watch {
  // libuv's callback can't throw: an exception would be lost.
  const watched = watchDescriptor(fd, { readable: true }, () => {
    try {
      callback()
    } catch (error) {
      setImmediate(() => {
        throw error
      })
    }
  })
  return {
    ref: () => watched.keepAlive(true),
    unref: () => watched.keepAlive(false),
    close: () => watched.close(),
  }
}

/** Resolves with true where there is something to read within `ms`, and before `signal` is aborted. */
export function readable(fd: number, ms: number, signal?: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (result: boolean) => {
      clearTimeout(timer)
      forget()
      watched.close()
      resolve(result)
    }
    const timer = setTimeout(() => end(false), ms)
    const forget = onAbort(signal, () => end(false))
    // Promises go on only after a turn that is Node's own.
    const watched = watch(fd, () => setImmediate(end, true))
  })
}

export function closeDescriptors(fds: readonly number[]): void {
  for (const fd of fds) close(fd)
}
