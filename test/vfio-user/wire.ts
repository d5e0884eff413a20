// A vfio-user peer by hand: sends any message, waits for what comes back. For tests of either side.
// It blocks, so the other side must be another process or thread.

import fs from 'node:fs'
import {
  createSharedMemory,
  destroySharedMemory,
  type SharedMemory,
  viewOf,
} from '../../lib/memory/mapping.ts'
import { ERRNO, eventfd, POLL } from '../../lib/sys/libc.ts'
import { COMMAND, MAX_MESSAGE_BYTES } from '../../lib/vfio-user/constants.ts'
import { type Message, MessageReader } from '../../lib/vfio-user/reader.ts'
import { closeDescriptors, connectTo, send, waitFor } from '../../lib/vfio-user/socket.ts'
import { encodeMessage, encodeRegionAccess, REGION_ACCESS_BYTES } from '../../lib/vfio-user/structs.ts'
import { encodeVersion, OUR_CAPABILITIES } from '../../lib/vfio-user/version.ts'

/** Longer than any answer takes; a test that waits so long has failed. */
const PATIENCE_MS = 10_000

export class Wire {
  readonly fd: number
  readonly #reader: MessageReader
  #id = 0
  #open = true

  constructor(fd: number) {
    this.fd = fd
    this.#reader = new MessageReader(fd, MAX_MESSAGE_BYTES)
  }

  static connect(socket: string): Wire {
    return new Wire(connectTo(socket))
  }

  /** Bytes as they are. False where the peer has gone. */
  raw(bytes: Buffer, fds: readonly number[] = []): boolean {
    try {
      for (let at = 0; at < bytes.length; ) {
        const sent = send(this.fd, bytes.subarray(at), at === 0 ? fds : [])
        if (sent === 0) waitFor(this.fd, POLL.OUT, PATIENCE_MS)
        at += sent
      }
      return true
    } catch {
      return false
    }
  }

  /** The next message; null where the peer has closed, or nothing came within `ms`. Its descriptors are closed. */
  next(ms = PATIENCE_MS): Message | null {
    const until = performance.now() + ms
    for (;;) {
      const message = this.#reader.next()
      if (message === 'end') return null
      if (message !== 'more') return message
      if (waitFor(this.fd, POLL.IN, Math.max(0, until - performance.now())) === 0) return null
    }
  }

  /** Sends a request and returns its reply. */
  ask(command: number, payload: Buffer = Buffer.alloc(0), fds: readonly number[] = []): Message {
    const id = this.#id++ & 0xffff
    this.raw(encodeMessage({ id, command, flags: 0 }, payload), fds)
    const reply = this.next()
    if (reply === null) throw new Error(`command ${command} got no reply`)
    if (reply.header.id !== id) throw new Error(`a reply to ${reply.header.id}, not ${id}`)
    return reply
  }

  /** As `ask`, for the error alone: 0 where there is none. */
  errno(command: number, payload?: Buffer, fds?: readonly number[]): number {
    const { header, fds: got } = this.ask(command, payload, fds)
    closeDescriptors(got)
    return header.errno
  }

  negotiate(): this {
    const { errno } = this.ask(COMMAND.VERSION, VERSION).header
    if (errno !== 0) throw new Error(`VERSION refused: ${errno}`)
    return this
  }

  read(region: number, offset: number, count = 4): Buffer {
    const { payload } = this.ask(COMMAND.REGION_READ, encodeRegionAccess({ region, offset, count }))
    return payload.subarray(REGION_ACCESS_BYTES)
  }

  write(region: number, offset: number, data: Buffer): number {
    return this.errno(COMMAND.REGION_WRITE, encodeRegionAccess({ region, offset, count: data.length }, data))
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#reader.close()
    fs.closeSync(this.fd)
  }
}

export const VERSION = encodeVersion({ major: 0, minor: 1, capabilities: OUR_CAPABILITIES })

export const u16 = (value: number): Buffer => {
  const b = Buffer.alloc(2)
  b.writeUInt16LE(value)
  return b
}

export const u32 = (value: number): Buffer => {
  const b = Buffer.alloc(4)
  b.writeUInt32LE(value >>> 0)
  return b
}

export const hex = (text: string): Buffer => Buffer.from(text.replace(/\s+/g, ''), 'hex')

export const errnoNamed = (name: string): number => (ERRNO as Record<string, number>)[name]!

/** Memory that is given back at the end of the process at the latest. */
export function newMemory(bytes: number): SharedMemory & { words: Uint32Array; end(): void } {
  const memory = createSharedMemory(bytes)
  return {
    ...memory,
    words: new Uint32Array(viewOf(memory.address, bytes)),
    end: () => destroySharedMemory(memory),
  }
}

export const newEventfd = (): number => eventfd(0, 0x80800)

/** Descriptors that a process has open, by what they are. */
export function descriptorsOf(pid: number | 'self' = 'self'): string[] {
  return fs
    .readdirSync(`/proc/${pid}/fd`)
    .map((fd) => {
      try {
        return fs.readlinkSync(`/proc/${pid}/fd/${fd}`)
      } catch {
        return ''
      }
    })
    .filter((link) => link !== '' && !link.startsWith('/proc/'))
    .map((link) => link.replace(/\d+/g, 'N'))
    .sort()
}

/** Descriptors of a server, once it has answered one more client: the one before it is gone then. */
export function descriptorsOfServer(pid: number, socket: string): string[] {
  const wire = Wire.connect(socket).negotiate()
  const links = descriptorsOf(pid)
  wire.close()
  return links
}
