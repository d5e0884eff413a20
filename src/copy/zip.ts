// The one file of a zip archive (APPNOTE 6.3.10: stored and deflated, with the fields of 64 bits): where its bytes stand in
// the archive, and the check of what they become. An archive of several files is no image.
// It is found by the directory at the archive's end, so a pipe is none: only there it shows that there is no other.

import zlib from 'node:zlib'
import { DecodeError } from '../../lib/errors.ts'
import type { Chunks, Endpoint } from './endpoint.ts'

export interface ZipEntry {
  readonly isDeflated: boolean
  /** Where its bytes begin in the archive, and how many there are; bytes of what they become, and the CRC-32 of that. */
  readonly at: number
  readonly storedBytes: number
  readonly bytes: number
  readonly crc: number
}

const END = 0x06054b50
const END_BYTES = 22
const MAX_COMMENT = 65535
const END64 = 0x06064b50
const LOCATOR64 = 0x07064b50
const LOCATOR64_BYTES = 20
const ENTRY = 0x02014b50
const ENTRY_BYTES = 46
const HEADER = 0x04034b50
const HEADER_BYTES = 30
const EXTRA64 = 1
const ENCRYPTED = 1
const STORED = 0
const DEFLATED = 8
const PIECE_BYTES = 256 * 1024

/** Undefined for an archive of several files, an encrypted or otherwise compressed one, and what is not to be sought in. */
export async function onlyEntry(archive: Endpoint): Promise<ZipEntry | undefined> {
  const { readAt, size, name } = archive
  if (readAt === undefined || size === undefined) return undefined
  const bytesAt = async (at: number, bytes: number) => {
    const buffer = Buffer.alloc(bytes)
    if (!(at >= 0 && at + bytes <= size) || (await readAt(buffer, at)) < bytes) {
      throw new DecodeError(
        `${name} is no whole zip file: nothing at byte ${at}, where it says that something is`,
      )
    }
    return buffer
  }
  const tailAt = Math.max(0, size - END_BYTES - MAX_COMMENT)
  const tail = await bytesAt(tailAt, size - tailAt)
  let end = tail.length - END_BYTES
  while (end >= 0 && tail.readUInt32LE(end) !== END) end--
  if (end < 0) throw new DecodeError(`${name} is no whole zip file: it has no directory at its end`)
  let entries = tail.readUInt16LE(end + 10)
  let directory = tail.readUInt32LE(end + 16)
  const locatorAt = tailAt + end - LOCATOR64_BYTES
  if ((entries === 0xffff || directory === 0xffffffff) && locatorAt >= 0) {
    const locator = await bytesAt(locatorAt, LOCATOR64_BYTES)
    if (locator.readUInt32LE(0) === LOCATOR64) {
      const end64 = await bytesAt(Number(locator.readBigUInt64LE(8)), 56)
      if (end64.readUInt32LE(0) !== END64) throw new DecodeError(`${name} is no whole zip file: no directory`)
      entries = Number(end64.readBigUInt64LE(32))
      directory = Number(end64.readBigUInt64LE(48))
    }
  }
  if (entries !== 1) return undefined
  const head = await bytesAt(directory, ENTRY_BYTES)
  const method = head.readUInt16LE(10)
  if (head.readUInt32LE(0) !== ENTRY) throw new DecodeError(`${name} is no whole zip file: no directory`)
  if ((head.readUInt16LE(8) & ENCRYPTED) !== 0 || (method !== STORED && method !== DEFLATED)) return undefined
  const extra = await bytesAt(directory + ENTRY_BYTES + head.readUInt16LE(28), head.readUInt16LE(30))
  const wide = extraOf(extra)
  let next = 0
  // Fields of 64 bits stand there for those alone that have no space in 32.
  const field = (at: number) => {
    const value = head.readUInt32LE(at)
    if (value !== 0xffffffff || next + 8 > wide.length) return value
    next += 8
    return Number(wide.readBigUInt64LE(next - 8))
  }
  const bytes = field(24)
  const storedBytes = field(20)
  const headerAt = field(42)
  const header = await bytesAt(headerAt, HEADER_BYTES)
  const at = headerAt + HEADER_BYTES + header.readUInt16LE(26) + header.readUInt16LE(28)
  const isDeflated = method === DEFLATED
  if (header.readUInt32LE(0) !== HEADER || !(at + storedBytes <= size) || !Number.isSafeInteger(bytes)) {
    throw new DecodeError(`${name} is no whole zip file: its one file is not where its directory says`)
  }
  return { isDeflated, at, storedBytes, bytes, crc: head.readUInt32LE(16) }
}

function extraOf(extra: Buffer): Buffer {
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) === EXTRA64) return extra.subarray(at + 4, at + 4 + extra.readUInt16LE(at + 2))
  }
  return Buffer.alloc(0)
}

/** The entry's bytes as they stand in the archive. Each chunk is valid until the next step. */
export async function* entryBytes({ readAt, name }: Endpoint, { at, storedBytes }: ZipEntry): Chunks {
  const buffer = Buffer.allocUnsafeSlow(PIECE_BYTES)
  for (let done = 0; done < storedBytes; ) {
    const part = buffer.subarray(0, Math.min(PIECE_BYTES, storedBytes - done))
    if ((await readAt!(part, at + done)) < part.length)
      throw new DecodeError(`${name} has been cut meanwhile`)
    yield part
    done += part.length
  }
}

/** The same chunks; throws DecodeError where they are not what the archive's directory says. */
export async function* checkedEntry(chunks: Chunks, { bytes, crc }: ZipEntry, name: string): Chunks {
  let length = 0
  let sum = 0
  const check = () => {
    if (length === bytes && sum === crc) return
    throw new DecodeError(
      `${name} is no whole zip file: ${length} bytes with CRC-32 ${sum.toString(16)}, and its directory says ${bytes} with ${crc.toString(16)}`,
    )
  }
  for await (const chunk of chunks) {
    length += chunk.length
    sum = zlib.crc32(chunk, sum)
    // Who knows how many bytes there are does not ask for what comes after the last.
    if (length >= bytes) check()
    yield chunk
  }
  check()
}
