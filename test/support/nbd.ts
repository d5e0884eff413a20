// An NBD server in this process, and a client that sends what the test gives it, byte by byte.

import net from 'node:net'
import type { ExecutionContext } from 'ava'
import {
  COMMAND,
  encodeOption,
  encodeText,
  OPTION,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  u16,
  u32,
} from '../../lib/nbd/protocol.ts'
import { readExactly } from '../../lib/nbd/read-exactly.ts'
import { type Namespace, type NbdServer, open, type ServeNbdOptions, serveNbd } from '../../src/index.ts'
import { newSocketPath } from './server.ts'

export interface TestNbd {
  readonly ns: Namespace
  readonly server: NbdServer
  readonly path: string
  /** As libnbd's tools and the client take it. */
  readonly uri: string
}

/** A namespace that is served until the test ends. */
export async function startNbd(
  t: ExecutionContext,
  device = 'sim:?size=32M',
  options: ServeNbdOptions = {},
): Promise<TestNbd> {
  const ns = await open(device)
  const path = `${newSocketPath()}.nbd`
  const server = await serveNbd(ns, { path, ...options })
  t.teardown(async () => {
    await server.close()
    await ns.close()
  })
  return { ns, server, path, uri: server.address }
}

interface RawRequest {
  flags?: number
  offset?: number
  bytes?: number
  cookie?: number
  data?: Buffer
}

export function encodeRequest(
  command: number,
  { flags = 0, offset = 0, cookie = 1, data, bytes = data?.length ?? 0 }: RawRequest,
): Buffer {
  const head = Buffer.alloc(REQUEST_BYTES)
  head.writeUInt32BE(REQUEST_MAGIC)
  head.writeUInt16BE(flags, 4)
  head.writeUInt16BE(command, 6)
  head.writeBigUInt64BE(BigInt(cookie), 8)
  head.writeBigUInt64BE(BigInt(offset), 16)
  head.writeUInt32BE(bytes, 24)
  return data === undefined ? head : Buffer.concat([head, data])
}

export const goData = (name = '', ...infos: number[]) =>
  Buffer.concat([encodeText(name), u16(infos.length), ...infos.map(u16)])

export const contextData = (name: string, ...queries: string[]) =>
  Buffer.concat([encodeText(name), u32(queries.length), ...queries.map(encodeText)])

export class RawNbd {
  readonly socket: net.Socket
  readonly closed: Promise<void>

  private constructor(socket: net.Socket) {
    this.socket = socket
    socket.on('error', () => {})
    this.closed = new Promise((resolve) => {
      socket.once('close', () => resolve())
    })
  }

  static async connect(path: string): Promise<RawNbd> {
    const socket = net.connect(path)
    const raw = new RawNbd(socket)
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    return raw
  }

  /** The greeting, answered. */
  static async greeted(path: string, flags = 3): Promise<RawNbd> {
    const raw = await RawNbd.connect(path)
    await raw.bytes(18)
    raw.send(u32(flags))
    return raw
  }

  /** In transmission, with simple replies or structured ones. */
  static async ready(path: string, { structured = false, name = '' } = {}): Promise<RawNbd> {
    const raw = await RawNbd.greeted(path)
    if (structured) {
      await raw.option(OPTION.STRUCTURED_REPLY)
      await raw.option(OPTION.SET_META_CONTEXT, contextData(name, 'base:allocation'))
    }
    await raw.option(OPTION.GO, goData(name))
    return raw
  }

  send(...data: Buffer[]): void {
    this.socket.write(Buffer.concat(data))
  }

  /** Rejects where the server closes the connection before. */
  async bytes(count: number): Promise<Buffer> {
    const data = await readExactly(this.socket, count)
    if (data === null) throw new Error('the server has closed the connection')
    return data
  }

  /** The replies to an option: types, and their data. */
  async option(option: number, data?: Buffer): Promise<{ type: number; data: Buffer }[]> {
    this.send(encodeOption(option, data))
    const replies: { type: number; data: Buffer }[] = []
    for (;;) {
      const head = await this.bytes(20)
      if (head.readUInt32BE(8) !== option) throw new Error('a reply to another option')
      const type = head.readUInt32BE(12)
      replies.push({ type, data: await this.bytes(head.readUInt32BE(16)) })
      if (type === 1 || type >= 2 ** 31) return replies
    }
  }

  /** The error of a simple reply, and the data of a read. */
  async simple(command: number, request: RawRequest): Promise<{ error: number; data: Buffer }> {
    this.send(encodeRequest(command, request))
    const head = await this.bytes(16)
    const error = head.readUInt32BE(4)
    const reads = command === COMMAND.READ && error === 0
    return { error, data: await this.bytes(reads ? request.bytes! : 0) }
  }

  /** The chunk that a structured reply consists of. */
  async chunk(command: number, request: RawRequest): Promise<{ type: number; payload: Buffer }> {
    this.send(encodeRequest(command, request))
    const head = await this.bytes(20)
    return { type: head.readUInt16BE(6), payload: await this.bytes(head.readUInt32BE(16)) }
  }

  close(): void {
    this.socket.destroy()
  }
}
