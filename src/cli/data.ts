// The data that a command sends or receives: a file, a FIFO, or standard input and output, and its dump as it streams by.
// It is read as it is needed, so that an input without an end costs no memory.

import fs from 'node:fs'
import { UsageError } from '../../lib/errors.ts'
import { hexDumper } from '../../lib/log/index.ts'
import { inodeIdentity } from '../../lib/sys/file.ts'
import type { OutputFile, OverwrittenFile } from '../system/writable.ts'
import { checkTerminal } from './output.ts'

const files = () => import('../copy/file-endpoint.ts')
const PIECE_BYTES = 64 * 1024

/** Does something with what was opened, and closes it. */
export async function withOpen<T extends { close(): Promise<void> }, R>(
  opened: T,
  work: (opened: T) => Promise<R>,
): Promise<R> {
  try {
    return await work(opened)
  } finally {
    await opened.close()
  }
}

/** What is left to read of a file. It must be closed. */
export interface DataFile {
  /** `standard input`, or the path. */
  readonly name: string
  /** Bytes, where they are known. */
  readonly size: number | undefined
  /** Fills `buf` from where the last call ended. Returns the bytes: fewer only where the data ends. */
  fill(buf: Uint8Array): Promise<number>
  close(): Promise<void>
}

/** Opens a file, or `-` for standard input. */
export async function openData(path: string, signal?: AbortSignal): Promise<DataFile> {
  const { createStandardEndpoint, openSourceFile } = await files()
  const side = path === '-' ? createStandardEndpoint('stdin') : await openSourceFile(path)
  const chunks = side.read(undefined, { signal })[Symbol.asyncIterator]()
  let chunk: Uint8Array = new Uint8Array(0)
  return {
    name: path === '-' ? 'standard input' : path,
    size: side.size,
    async fill(buf) {
      let filled = 0
      while (filled < buf.length) {
        if (chunk.length === 0) {
          const { done, value } = await chunks.next()
          if (done) break
          chunk = value
        }
        const part = chunk.subarray(0, buf.length - filled)
        buf.set(part, filled)
        filled += part.length
        chunk = chunk.subarray(part.length)
      }
      return filled
    },
    async close() {
      await chunks.return?.()
      await side.close()
    },
  }
}

/** Throws UsageError where there is more to read: the `bytes` that were read are all that can be used. */
export async function checkAtEnd(data: DataFile, bytes: number): Promise<void> {
  if ((await data.fill(new Uint8Array(1))) === 0) return
  throw new UsageError(`${data.name} is too long: it has more than ${bytes} bytes`)
}

/**
 * Reads all of a file, or of standard input, or its first `length` bytes.
 * @throws UsageError where all of it is wanted and it has more than `most` bytes
 */
export async function readData(path: string, most: number, length?: number): Promise<Buffer> {
  return withOpen(await openData(path), async (data) => {
    const pieces: Buffer[] = []
    for (let left = length ?? most; left > 0; ) {
      const piece = Buffer.allocUnsafe(Math.min(left, PIECE_BYTES))
      const bytes = await data.fill(piece)
      pieces.push(piece.subarray(0, bytes))
      left -= bytes
      if (bytes < piece.length) return Buffer.concat(pieces)
    }
    if (length === undefined) await checkAtEnd(data, most)
    return Buffer.concat(pieces)
  })
}

/** True for `-`, and for a path of what standard output is open on: /dev/stdout, or the file that it goes to. */
export function isStandardOutput(path: string): boolean {
  if (path === '-') return true
  const there = fs.statSync(path, { bigint: true, throwIfNoEntry: false })
  if (there === undefined) return false
  try {
    return inodeIdentity(there) === inodeIdentity(fs.fstatSync(1, { bigint: true }))
  } catch {
    // It is closed: writing it will say so.
    return false
  }
}

/** True for a path, or `-`, that is standard output: then nothing but the data may be printed. */
export function isOutput(path: string): boolean {
  if (!isStandardOutput(path)) return false
  checkTerminal()
  return true
}

/** Where a command writes what a device sends, beside what it prints. */
export type Output = Pick<OutputFile, 'write' | 'close'>

/** Opens it before the command is sent: a name that can't be written costs no data. */
export async function openOutput(path: string, others: readonly OverwrittenFile[] = []): Promise<Output> {
  if (!isStandardOutput(path)) return (await import('../system/writable.ts')).openOutputFile(path, others)
  const side = (await files()).createStandardEndpoint('stdout')
  if (side.file?.startsWith('block')) throw new UsageError(`${path} is a block device, not a file`)
  return {
    async write(data) {
      await side.write(
        typeof data === 'string' || data instanceof Uint8Array ? once(data) : data,
        undefined,
        {},
      )
    },
    close: side.close,
  }
}

async function* once(data: string | Uint8Array): AsyncGenerator<Uint8Array> {
  yield typeof data === 'string' ? Buffer.from(data) : data
}

/** The dump of a stream of bytes, a text for each chunk, with the end's position in the last line. */
export async function* hexDump(
  chunks: AsyncIterable<Uint8Array>,
  position: number,
): AsyncGenerator<Uint8Array> {
  const dumper = hexDumper(position)
  for await (const chunk of chunks) {
    const lines = dumper.add(chunk)
    if (lines !== '') yield Buffer.from(lines)
  }
  yield Buffer.from(dumper.end())
}
