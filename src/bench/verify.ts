// Blocks that say of themselves what they are: what `--verify` writes and checks.
// Each I/O has one header with a checksum of the rest; within a run the generation of every I/O that
// was written is remembered as well, so that stale data does not pass for new.

import { crc32 } from 'node:zlib'
import { VerifyError } from '../../lib/errors.ts'

const MAGIC = 0x454d564e
const HEADER_BYTES = 32

/** Makes a buffer say that it is I/O number `generation` at byte `at`. The rest of it is random already. */
export function stamp(buffer: Buffer, at: number, generation: number): void {
  buffer.writeUInt32LE(MAGIC, 0)
  buffer.writeUInt32LE(buffer.length, 4)
  buffer.writeDoubleLE(at, 8)
  buffer.writeUInt32LE(generation >>> 0, 16)
  // The rest differs from generation to generation by a few words, and its checksum with it.
  buffer.writeUInt32LE((generation * 2654435761) >>> 0, buffer.length - 4)
  buffer.writeUInt32LE(crc32(buffer.subarray(HEADER_BYTES)), 20)
  buffer.writeUInt32LE(crc32(buffer.subarray(0, 24)), 24)
}

/**
 * Checks that a buffer read at byte `at` is what was written there.
 * @param generation what is expected, or undefined where an earlier run may have written it
 * @throws VerifyError
 */
export function check(buffer: Buffer, at: number, generation: number | undefined): void {
  const fail = (what: string): never => {
    throw new VerifyError(`verify: the ${buffer.length} bytes at ${at} ${what}`)
  }
  if (buffer.readUInt32LE(0) !== MAGIC || buffer.readUInt32LE(24) !== crc32(buffer.subarray(0, 24))) {
    fail('have no valid header: nothing was written there with --verify, or it was overwritten')
  }
  if (buffer.readUInt32LE(4) !== buffer.length) {
    fail(`were written with --bs ${buffer.readUInt32LE(4)}`)
  }
  if (buffer.readDoubleLE(8) !== at) fail(`say that they belong at ${buffer.readDoubleLE(8)}`)
  if (generation !== undefined && buffer.readUInt32LE(16) !== generation >>> 0) {
    fail(`are write number ${buffer.readUInt32LE(16)}, expected is number ${generation}`)
  }
  if (buffer.readUInt32LE(20) !== crc32(buffer.subarray(HEADER_BYTES))) fail('differ from their checksum')
}
