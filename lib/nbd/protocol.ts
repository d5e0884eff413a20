// The numbers and messages of the NBD protocol (the NBD project's doc/proto.md): what server and client have in common.
// All numbers are big-endian. What is sent for every request is written into a buffer of the caller's.

import { ProtocolError } from '../errors.ts'

/** The port that IANA has assigned. */
export const NBD_PORT = 10_809

/** The first 8 bytes of a server, the next 8, which begin every option of a client, too; and those of option replies. */
export const NBD_MAGIC = Buffer.from('NBDMAGIC')
export const OPTION_MAGIC = Buffer.from('IHAVEOPT')
export const OPTION_REPLY_MAGIC = Buffer.from('0003e889045565a9', 'hex')

/** Flags of both sides at the beginning. */
export const HANDSHAKE = { FIXED_NEWSTYLE: 1, NO_ZEROES: 2 } as const

export const OPTION = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
} as const

export const REPLY = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: 0x8000_0001,
  ERR_POLICY: 0x8000_0002,
  ERR_INVALID: 0x8000_0003,
  ERR_TLS_REQD: 0x8000_0005,
  ERR_UNKNOWN: 0x8000_0006,
  ERR_SHUTDOWN: 0x8000_0007,
  ERR_TOO_BIG: 0x8000_0009,
} as const

export const INFO = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const

/** What an export can do. */
export const TRANSMISSION = {
  HAS_FLAGS: 1,
  READ_ONLY: 1 << 1,
  SEND_FLUSH: 1 << 2,
  SEND_FUA: 1 << 3,
  SEND_TRIM: 1 << 5,
  SEND_WRITE_ZEROES: 1 << 6,
  SEND_DF: 1 << 7,
  CAN_MULTI_CONN: 1 << 8,
  SEND_CACHE: 1 << 10,
  SEND_FAST_ZERO: 1 << 11,
} as const

export const COMMAND = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const

export const COMMAND_FLAG = { FUA: 1, NO_HOLE: 2, DF: 4, REQ_ONE: 8, FAST_ZERO: 16 } as const

export const REQUEST_MAGIC = 0x2560_9513
export const REQUEST_BYTES = 28
export const SIMPLE_MAGIC = 0x6744_6698
export const SIMPLE_BYTES = 16
export const CHUNK_MAGIC = 0x668e_33ef
export const CHUNK_BYTES = 20

export const CHUNK = {
  NONE: 0,
  OFFSET_DATA: 1,
  OFFSET_HOLE: 2,
  BLOCK_STATUS: 5,
  ERROR: 0x8001,
  ERROR_OFFSET: 0x8002,
} as const
/** Of a chunk: the last of its reply. */
export const CHUNK_DONE = 1

export const NBD_ERROR = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const

/** The one context of block status that is known: which ranges are holes, and which read as zeroes. */
export const ALLOCATION = 'base:allocation'
export const EXTENT = { HOLE: 1, ZERO: 2 } as const

/** Longest name of an export or a context. */
export const NAME_BYTES = 4096
/** Longest payload of an option, or of its reply, that is taken. */
export const OPTION_BYTES = 64 * 1024
/** What every server takes in one request. */
export const PAYLOAD_BYTES = 32 * 2 ** 20

/** A reply to an option. */
export function encodeOptionReply(option: number, type: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(20)
  OPTION_REPLY_MAGIC.copy(head)
  head.writeUInt32BE(option, 8)
  head.writeUInt32BE(type, 12)
  head.writeUInt32BE(data.length, 16)
  return Buffer.concat([head, data])
}

/** An option of a client. */
export function encodeOption(option: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(16)
  OPTION_MAGIC.copy(head)
  head.writeUInt32BE(option, 8)
  head.writeUInt32BE(data.length, 12)
  return Buffer.concat([head, data])
}

/** A text with its length before it. */
export function encodeText(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([u32(bytes.length), bytes])
}

export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

export function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(value))
  return bytes
}

/** Reads the payload of an option or of a reply. Throws ProtocolError where it ends too early. */
export class Payload {
  private readonly bytes: Buffer
  private at = 0

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  get left(): number {
    return this.bytes.length - this.at
  }

  u16(): number {
    return this.take(2).readUInt16BE()
  }

  u32(): number {
    return this.take(4).readUInt32BE()
  }

  u64(): number {
    const value = Number(this.take(8).readBigUInt64BE())
    if (!Number.isSafeInteger(value)) throw new ProtocolError(`a number of ${value}`)
    return value
  }

  /** A text with its length before it. */
  text(): string {
    const length = this.u32()
    if (length > NAME_BYTES)
      throw new ProtocolError(`a name of ${length} bytes, at most ${NAME_BYTES} are taken`)
    return this.take(length).toString()
  }

  /** What is left. */
  rest(): Buffer {
    return this.take(this.left)
  }

  take(bytes: number): Buffer {
    if (bytes > this.left) throw new ProtocolError(`${this.left} bytes where ${bytes} are needed`)
    this.at += bytes
    return this.bytes.subarray(this.at - bytes, this.at)
  }
}

/** Writes the head of a chunk of a structured reply: CHUNK_BYTES. */
export function writeChunkHead(
  to: Buffer,
  at: number,
  flags: number,
  type: number,
  high: number,
  low: number,
  bytes: number,
): void {
  to.writeUInt32BE(CHUNK_MAGIC, at)
  to.writeUInt16BE(flags, at + 4)
  to.writeUInt16BE(type, at + 6)
  to.writeUInt32BE(high, at + 8)
  to.writeUInt32BE(low, at + 12)
  to.writeUInt32BE(bytes, at + 16)
}

/** Writes a simple reply: SIMPLE_BYTES. */
export function writeSimpleReply(to: Buffer, at: number, error: number, high: number, low: number): void {
  to.writeUInt32BE(SIMPLE_MAGIC, at)
  to.writeUInt32BE(error, at + 4)
  to.writeUInt32BE(high, at + 8)
  to.writeUInt32BE(low, at + 12)
}

/** Bytes of an offset: most of them fit 32 bits. */
export function writeOffset(to: Buffer, at: number, offset: number): void {
  const high = Math.floor(offset / 2 ** 32)
  to.writeUInt32BE(high, at)
  to.writeUInt32BE(offset - high * 2 ** 32, at + 4)
}
