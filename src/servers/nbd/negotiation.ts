// The beginning of a connection: what the client may ask before it chooses an export, fixed newstyle.
// It happens once for each connection, so it is written to be read: one option after the other is awaited.

import type net from 'node:net'
import { ProtocolError } from '../../../lib/errors.ts'
import {
  ALLOCATION,
  encodeOptionReply,
  encodeText,
  HANDSHAKE,
  INFO,
  NBD_MAGIC,
  OPTION,
  OPTION_BYTES,
  OPTION_MAGIC,
  PAYLOAD_BYTES,
  Payload,
  REPLY,
  TRANSMISSION,
  u16,
  u32,
  u64,
} from '../../../lib/nbd/protocol.ts'

import { readExactly } from '../../../lib/nbd/read-exactly.ts'

/** What is negotiated about. */
export interface NbdExport {
  readonly name: string
  readonly description: string
  readonly bytes: number
  /** TRANSMISSION, without SEND_DF. */
  readonly flags: number
  /** Least, preferred and most bytes of a request. */
  readonly blockSizes: readonly [number, number, number]
}

interface NegotiationOptions<E extends NbdExport> {
  readonly exports: ReadonlyMap<string, E>
  /** Which one has the empty name. */
  readonly first: E
  /** Begins TLS on the socket; undefined where there is none. */
  readonly secure: ((socket: net.Socket) => Promise<net.Socket>) | undefined
}

export interface Negotiated<E extends NbdExport> {
  readonly socket: net.Socket
  readonly target: E
  readonly structured: boolean
  /** The client asked for base:allocation. */
  readonly allocation: boolean
}

/** The id of base:allocation. */
export const ALLOCATION_ID = 1
const NAMES_PER_OPTION = 64
const OPTIONS = 1000

/** Resolves with null where the client has gone, or asked for nothing. Rejects with ProtocolError. */
export async function negotiate<E extends NbdExport>(
  plain: net.Socket,
  { exports, first, secure }: NegotiationOptions<E>,
): Promise<Negotiated<E> | null> {
  let socket = plain
  let structured = false
  let context: E | null = null
  let secured = false
  const send = (option: number, type: number, data?: Uint8Array) =>
    void socket.write(encodeOptionReply(option, type, data))
  const fail = (option: number, type: number, text: string) => send(option, type, Buffer.from(text))
  const find = (name: string) => (name === '' ? first : exports.get(name))

  socket.write(Buffer.concat([NBD_MAGIC, OPTION_MAGIC, u16(HANDSHAKE.FIXED_NEWSTYLE | HANDSHAKE.NO_ZEROES)]))
  const answer = await readExactly(socket, 4)
  if (answer === null) return null
  const flags = answer.readUInt32BE()
  if ((flags & HANDSHAKE.FIXED_NEWSTYLE) === 0 || flags > 3) throw new ProtocolError(`client flags ${flags}`)
  const negotiated = (target: E): Negotiated<E> => ({
    ...{ socket, target, structured },
    allocation: context === target,
  })

  for (let count = 0; count < OPTIONS; count++) {
    const head = await readExactly(socket, 16)
    if (head === null) return null
    if (!head.subarray(0, 8).equals(OPTION_MAGIC))
      throw new ProtocolError('an option without its magic number')
    const option = head.readUInt32BE(8)
    const bytes = head.readUInt32BE(12)
    if (bytes > OPTION_BYTES) throw new ProtocolError(`option ${option} with ${bytes} bytes`)
    const data = await readExactly(socket, bytes)
    if (data === null) return null
    if (secure !== undefined && !secured && option !== OPTION.STARTTLS && option !== OPTION.ABORT) {
      if (option === OPTION.EXPORT_NAME) return null
      fail(option, REPLY.ERR_TLS_REQD, 'this server speaks TLS alone')
      continue
    }
    switch (option) {
      case OPTION.EXPORT_NAME: {
        const target = find(data.toString())
        if (target === undefined) return null
        const zeroes = (flags & HANDSHAKE.NO_ZEROES) === 0 ? 124 : 0
        socket.write(
          Buffer.concat([u64(target.bytes), u16(flagsOf(target, structured)), Buffer.alloc(zeroes)]),
        )
        return negotiated(target)
      }
      case OPTION.ABORT:
        send(option, REPLY.ACK)
        socket.end()
        return null
      case OPTION.LIST:
        if (bytes > 0) {
          fail(option, REPLY.ERR_INVALID, 'LIST has no data')
          break
        }
        for (const { name } of exports.values()) send(option, REPLY.SERVER, encodeText(name))
        send(option, REPLY.ACK)
        break
      case OPTION.STARTTLS:
        if (bytes > 0 || secured) fail(option, REPLY.ERR_INVALID, 'STARTTLS has no data, and comes once')
        else if (secure === undefined) fail(option, REPLY.ERR_UNSUP, 'this server has no TLS')
        else {
          send(option, REPLY.ACK)
          socket = await secure(socket)
          secured = true
          structured = false
          context = null
        }
        break
      case OPTION.INFO:
      case OPTION.GO: {
        const question = parse(() => parseInfo(data))
        if (question === null) {
          fail(option, REPLY.ERR_INVALID, 'the data of the option has another length')
          break
        }
        const target = find(question.name)
        if (target === undefined) {
          fail(option, REPLY.ERR_UNKNOWN, `there is no export '${question.name}'`)
          break
        }
        for (const info of infos(target, question.requests, structured)) send(option, REPLY.INFO, info)
        send(option, REPLY.ACK)
        if (option === OPTION.GO) return negotiated(target)
        break
      }
      case OPTION.STRUCTURED_REPLY:
        if (bytes > 0) fail(option, REPLY.ERR_INVALID, 'STRUCTURED_REPLY has no data')
        else {
          structured = true
          send(option, REPLY.ACK)
        }
        break
      case OPTION.LIST_META_CONTEXT:
      case OPTION.SET_META_CONTEXT: {
        const isSet = option === OPTION.SET_META_CONTEXT
        if (isSet) context = null
        const question = structured ? parse(() => parseContexts(data)) : null
        if (question === null) {
          const why = structured
            ? 'the data of the option has another length'
            : 'STRUCTURED_REPLY comes first'
          fail(option, REPLY.ERR_INVALID, why)
          break
        }
        const target = find(question.name)
        if (target === undefined) {
          fail(option, REPLY.ERR_UNKNOWN, `there is no export '${question.name}'`)
          break
        }
        const { queries } = question
        const wanted = isSet
          ? queries.includes(ALLOCATION)
          : queries.length === 0 || queries.some((query) => query === ALLOCATION || query === 'base:')
        if (wanted) {
          const id = u32(isSet ? ALLOCATION_ID : 0)
          send(option, REPLY.META_CONTEXT, Buffer.concat([id, Buffer.from(ALLOCATION)]))
          if (isSet) context = target
        }
        send(option, REPLY.ACK)
        break
      }
      default:
        fail(option, REPLY.ERR_UNSUP, `option ${option} is not known`)
    }
  }
  throw new ProtocolError(`${OPTIONS} options, and no export`)
}

const flagsOf = ({ flags }: NbdExport, structured: boolean) => flags | (structured ? TRANSMISSION.SEND_DF : 0)

function* infos(target: NbdExport, requests: readonly number[], structured: boolean): Generator<Buffer> {
  const { name, description, bytes, blockSizes } = target
  yield Buffer.concat([u16(INFO.EXPORT), u64(bytes), u16(flagsOf(target, structured))])
  if (requests.includes(INFO.NAME)) yield Buffer.concat([u16(INFO.NAME), Buffer.from(name)])
  if (requests.includes(INFO.DESCRIPTION)) {
    yield Buffer.concat([u16(INFO.DESCRIPTION), Buffer.from(description)])
  }
  // Also to one that does not ask, where it could send more than is taken here.
  if (requests.includes(INFO.BLOCK_SIZE) || blockSizes[2] < PAYLOAD_BYTES)
    yield Buffer.concat([u16(INFO.BLOCK_SIZE), ...blockSizes.map(u32)])
}

function parseInfo(data: Buffer): { name: string; requests: number[] } {
  const payload = new Payload(data)
  const name = payload.text()
  const count = payload.u16()
  if (payload.left !== count * 2) throw new ProtocolError(`${count} requests of information`)
  return { name, requests: Array.from({ length: count }, () => payload.u16()) }
}

function parseContexts(data: Buffer): { name: string; queries: string[] } {
  const payload = new Payload(data)
  const name = payload.text()
  const count = payload.u32()
  if (count > NAMES_PER_OPTION) throw new ProtocolError(`${count} queries`)
  const queries = Array.from({ length: count }, () => payload.text())
  if (payload.left > 0) throw new ProtocolError(`${payload.left} bytes after the queries`)
  return { name, queries }
}

function parse<T>(what: () => T): T | null {
  try {
    return what()
  } catch (error) {
    if (error instanceof ProtocolError) return null
    throw error
  }
}
