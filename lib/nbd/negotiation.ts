// What a client and a server say to one another before the first request: the greeting, TLS, and options.

import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import tls from 'node:tls'
import { AddressError, AuthenticationError, ProtocolError } from '../errors.ts'
import type { NbdAddress } from './address.ts'
import {
  ALLOCATION,
  encodeOption,
  encodeText,
  HANDSHAKE,
  INFO,
  NBD_MAGIC,
  OPTION,
  OPTION_BYTES,
  OPTION_MAGIC,
  OPTION_REPLY_MAGIC,
  PAYLOAD_BYTES,
  Payload,
  REPLY,
  u16,
  u32,
} from './protocol.ts'
import { readExactly } from './read-exactly.ts'

/** What both sides know from then on. */
export interface Agreement {
  /** The connection, or TLS on it. */
  readonly socket: net.Socket
  /** Bytes of the export, its flags, and bytes of the least and of the largest request. */
  readonly size: number
  readonly flags: number
  readonly least: number
  readonly most: number
  /** Replies are structured ones. */
  readonly structured: boolean
  /** Identifier of the context of block status; null where that can't be asked for. */
  readonly context: number | null
}

/**
 * Agrees with a server on an export and on what is spoken of it.
 * Rejects with ProtocolError, AuthenticationError, and AddressError where there is no such export.
 */
export async function negotiate(plain: net.Socket, address: NbdAddress): Promise<Agreement> {
  const { uri, exportName } = address
  let socket = plain
  const read = async (bytes: number) => {
    const data = await readExactly(socket, bytes)
    if (data === null) throw new ProtocolError(`${uri}: the server has closed the connection`)
    return data
  }
  const greeting = await read(16)
  if (!greeting.subarray(0, 8).equals(NBD_MAGIC) || !greeting.subarray(8).equals(OPTION_MAGIC)) {
    throw new ProtocolError(`${uri}: there is no NBD server, or one of before 2011`)
  }
  const offered = (await read(2)).readUInt16BE()
  if ((offered & HANDSHAKE.FIXED_NEWSTYLE) === 0) throw new ProtocolError(`${uri}: no fixed newstyle`)
  socket.write(u32(offered & 3))
  // The replies to an option, up to the one that ends them; of an error its type and text.
  const ask = async (option: number, data?: Buffer) => {
    socket.write(encodeOption(option, data))
    const replies: { type: number; data: Buffer }[] = []
    for (;;) {
      const head = await read(20)
      const [type, bytes] = [head.readUInt32BE(12), head.readUInt32BE(16)]
      if (!head.subarray(0, 8).equals(OPTION_REPLY_MAGIC) || head.readUInt32BE(8) !== option) {
        throw new ProtocolError(`${uri}: a reply to another option than ${option}`)
      }
      if (bytes > OPTION_BYTES || replies.length > 1000)
        throw new ProtocolError(`${uri}: a reply of ${bytes} bytes`)
      const payload = await read(bytes)
      if (type === REPLY.ACK) return { replies, error: null }
      if (type >= 2 ** 31) return { replies, error: { type, text: payload.toString() } }
      replies.push({ type, data: payload })
    }
  }
  if (address.secure) {
    const { error } = await ask(OPTION.STARTTLS)
    if (error !== null) throw new AuthenticationError(`${uri}: the server has no TLS: ${error.text}`)
    socket = await secure(plain, address)
  }
  const structured = (await ask(OPTION.STRUCTURED_REPLY)).error === null
  let context: number | null = null
  if (structured) {
    const query = Buffer.concat([encodeText(exportName), u32(1), encodeText(ALLOCATION)])
    const { replies } = await ask(OPTION.SET_META_CONTEXT, query)
    const found = replies.find(({ type, data }) => type === REPLY.META_CONTEXT && data.length > 4)
    context = found === undefined ? null : found.data.readUInt32BE()
  }
  const { replies, error } = await ask(
    OPTION.GO,
    Buffer.concat([encodeText(exportName), u16(1), u16(INFO.BLOCK_SIZE)]),
  )
  if (error !== null) {
    if (error.type === REPLY.ERR_UNKNOWN) throw new AddressError(`'${uri}': no such export: ${error.text}`)
    if (error.type === REPLY.ERR_TLS_REQD) {
      throw new AuthenticationError(`${uri}: the server wants TLS: nbds:// asks for it`)
    }
    throw new ProtocolError(`${uri}: the server refuses: ${error.text} (${error.type.toString(16)}h)`)
  }
  const facts = { size: -1, flags: 0, least: 1, most: PAYLOAD_BYTES }
  for (const { data } of replies.filter(({ type }) => type === REPLY.INFO)) {
    const payload = new Payload(data)
    const kind = payload.u16()
    if (kind === INFO.EXPORT) {
      facts.size = payload.u64()
      facts.flags = payload.u16()
    } else if (kind === INFO.BLOCK_SIZE) {
      facts.least = payload.u32()
      payload.u32()
      facts.most = Math.min(PAYLOAD_BYTES, payload.u32())
    }
  }
  const { size, least, most } = facts
  if (size < 0) throw new ProtocolError(`${uri}: the server does not say how large the export is`)
  if (least === 0 || (least & (least - 1)) !== 0 || least > 65_536 || most < least) {
    throw new ProtocolError(`${uri}: blocks of ${least} bytes, ${most} at most`)
  }
  return { socket, ...facts, structured, context }
}

function secure(
  plain: net.Socket,
  { uri, where, user, certificates, pskFile }: NbdAddress,
): Promise<net.Socket> {
  const file = (name: string, needed: boolean) => {
    const at = path.join(certificates ?? '', name)
    return certificates !== undefined && (needed || fs.existsSync(at)) ? fs.readFileSync(at) : undefined
  }
  const host = 'host' in where ? where.host : 'localhost'
  const how: tls.ConnectionOptions =
    pskFile !== undefined
      ? {
          ...{ maxVersion: 'TLSv1.2', ciphers: 'PSK', checkServerIdentity: () => undefined },
          pskCallback: () => keyOf(pskFile, user),
        }
      : {
          ca: file('ca-cert.pem', true),
          cert: file('client-cert.pem', false),
          key: file('client-key.pem', false),
          ...(net.isIP(host) === 0 && { servername: host }),
          // What it was asked for by is the host of the address.
          checkServerIdentity: (_name, certificate) => tls.checkServerIdentity(host, certificate),
        }
  return new Promise((resolve, reject) => {
    const refused = (cause: Error) => {
      reject(new AuthenticationError(`${uri}: no TLS connection: ${cause.message}`, { cause }))
    }
    const socket = tls.connect({ socket: plain, minVersion: 'TLSv1.2', ...how } as tls.ConnectionOptions)
    socket.once('error', refused)
    socket.once('close', () => refused(new Error('the server has closed it')))
    socket.once('secureConnect', () => {
      socket.off('error', refused)
      resolve(socket)
    })
  })
}

/** A key of a file as psktool makes it. */
function keyOf(file: string, user: string): { identity: string; psk: Buffer } {
  const lines = fs.readFileSync(file, 'utf8').split('\n')
  const line = lines.find((one) => one.startsWith(`${user}:`)) ?? ''
  return { identity: user, psk: Buffer.from(line.slice(user.length + 1).trim(), 'hex') }
}
