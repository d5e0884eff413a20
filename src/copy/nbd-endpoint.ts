// An export of an NBD server as one endpoint of a copy or a comparison: bytes at any position, several requests at a
// time. A device's memory is filled from the socket, and sent from, without a copy in JavaScript.

import { NbdError, OutOfRangeError } from '../../lib/errors.ts'
import type { NbdClient } from '../../lib/nbd/client.ts'
import { throwIfAborted } from '../../lib/sys/abort.ts'
import type { Chunks, Endpoint, TransferOptions, Writer } from './endpoint.ts'
import type { Extent } from './extents.ts'
import { zeroBuffer } from './writers.ts'

const CHUNK_BYTES = 256 * 1024
const DEPTH = 16
// EINVAL and EOPNOTSUPP, as NBD has them.
const REFUSED: ReadonlySet<number> = new Set([22, 95])

/** @param client is closed with the endpoint */
export function createNbdEndpoint(client: NbdClient): Endpoint {
  const { uri, size } = client
  return {
    name: uri,
    ...{ ns: null, slba: 0, blocksize: client.least, size, rereadable: true, hardware: true, isExport: true },
    file: `nbd ${uri}`,
    read: (bytes = size, options) => readExport(client, bytes, options),
    write: (chunks, _bytes, options) => writeExport(client, chunks, options),
    readAt: async (buffer, offset) => {
      const bytes = Math.max(0, Math.min(buffer.length, size - offset))
      await client.read(buffer.subarray(0, bytes), offset)
      return bytes
    },
    writeAt: async (work, { flush = true }) => {
      const bytes = await work((data, offset) => client.write(data, offset))
      if (flush) await client.flush()
      return bytes
    },
    writer: async ({ known = false }) => exportWriter(client, known),
    extents: (from, bytes) => exportExtents(client, from, bytes),
    close: () => client.close(),
  }
}

async function* exportExtents(client: NbdClient, from: number, bytes: number): AsyncGenerator<Extent> {
  let at = from
  for (const extent of await client.extents(from, bytes)) {
    yield { at, bytes: extent.bytes, kind: extent.zero ? 'zero' : 'data' }
    at += extent.bytes
  }
}

function exportWriter(client: NbdClient, known: boolean): Writer {
  let offered = true
  return {
    ...{ parallel: DEPTH, align: client.least, pool: null },
    write: (data, at) => client.write(data, at),
    async zero(at, bytes) {
      if (known) return 0
      try {
        if (offered && (await client.writeZeroes(at, bytes))) return 0
      } catch (error) {
        // A server may have the request and its storage not.
        if (!(error instanceof NbdError && REFUSED.has(error.errno))) throw error
        offered = false
      }
      for (let done = 0; done < bytes; ) {
        const part = zeroBuffer().subarray(0, bytes - done)
        await client.write(part, at + done)
        done += part.length
      }
      return bytes
    },
    read: (buffer, at, bytes) => client.read(buffer.subarray(0, bytes), at),
    sync: () => client.flush(),
    end: async (_bytes, flush) => {
      if (flush) await client.flush()
    },
    close: async () => {},
  }
}

// In order; those after it are read meanwhile, into buffers that take turns.
async function* readExport(client: NbdClient, bytes: number, options: TransferOptions): Chunks {
  const { chunk = CHUNK_BYTES, depth = DEPTH, signal } = options
  const chunks = Math.ceil(bytes / chunk)
  const places = Math.min(depth, chunks)
  const buffers = Array.from({ length: places }, () => Buffer.allocUnsafeSlow(chunk))
  const reads: Promise<Buffer>[] = []
  const read = async (i: number) => {
    const buffer = buffers[i % places]!.subarray(0, Math.min(chunk, bytes - i * chunk))
    await client.read(buffer, i * chunk)
    return buffer
  }
  const start = (i: number) => {
    const reading = read(i)
    // It is reported when its turn comes, if that comes.
    reading.catch(() => {})
    reads[i % places] = reading
  }
  for (let i = 0; i < places; i++) start(i)
  for (let i = 0; i < chunks; i++) {
    throwIfAborted(signal)
    yield await reads[i % places]!
    if (i + places < chunks) start(i + places)
  }
}

// What comes is gathered into chunks, since whoever made it uses its memory again.
async function writeExport(client: NbdClient, chunks: Chunks, options: TransferOptions): Promise<number> {
  const { chunk = CHUNK_BYTES, depth = DEPTH, signal, flush = true } = options
  const idle: Buffer[] = Array.from({ length: depth }, () => Buffer.allocUnsafeSlow(chunk))
  const writes = new Set<Promise<void>>()
  let failure: unknown
  let buffer: Buffer | undefined
  let filled = 0
  let written = 0
  const send = () => {
    if (buffer === undefined || filled === 0) return
    const memory = buffer
    const writing = client
      .write(memory.subarray(0, filled), written)
      .catch((error) => {
        failure ??= error
      })
      .finally(() => {
        idle.push(memory)
        writes.delete(writing)
      })
    writes.add(writing)
    written += filled
    buffer = undefined
    filled = 0
  }
  try {
    for await (const data of chunks) {
      throwIfAborted(signal)
      for (let at = 0; at < data.length; ) {
        while (buffer === undefined) {
          if (failure !== undefined) throw failure
          buffer = idle.pop()
          if (buffer === undefined) await Promise.race(writes)
        }
        if (written + filled === client.size) {
          throw new OutOfRangeError(`${client.uri} has space for ${client.size} bytes, and more come`)
        }
        const room = Math.min(chunk - filled, client.size - written - filled)
        const part = data.subarray(at, at + room)
        buffer.set(part, filled)
        filled += part.length
        at += part.length
        if (filled === chunk) send()
      }
    }
    send()
  } finally {
    await Promise.all(writes)
  }
  if (failure !== undefined) throw failure
  if (flush) await client.flush()
  return written
}
