// Compares files and devices, in any combination, and finds the first byte that differs.
// Both are read at once and compared as they come, so memory does not depend on the length; only the
// first difference is looked for.

import { ArgumentValueError, OutOfRangeError } from '../../lib/errors.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import { checkOptions, checkSignal } from '../queue/validate.ts'
import { SPARSE } from './choices.ts'
import { unpacked } from './compression.ts'
import { type CopyOptions, checkTransfer, describe } from './copy.ts'
import type { Chunks, CompareResult, DifferingEndpoint, Endpoint } from './endpoint.ts'
import { type EndpointSpec, openSource } from './endpoint-spec.ts'
import { checkJobs, compareByJobs, needsJobs } from './jobs.ts'

// Bytes shown of each endpoint, from a multiple of 16 before the difference.
const CONTEXT_BYTES = 32
const ROW_BYTES = 16

/** Options of `compare`: as of `copy`. With `sparse` other than `never`, no blocks are read of which a device says that they are holes. */
export type CompareOptions = Pick<
  CopyOptions,
  | 'slba'
  | 'dstSlba'
  | 'bytes'
  | 'nsid'
  | 'chunk'
  | 'depth'
  | 'jobs'
  | 'sparse'
  | 'raw'
  | 'signal'
  | 'onProgress'
>

/** Names of CompareOptions. */
const COMPARE_NAMES: OptionNames<CompareOptions> = {
  slba: true,
  dstSlba: true,
  bytes: true,
  nsid: true,
  chunk: true,
  depth: true,
  jobs: true,
  raw: true,
  signal: true,
  onProgress: true,
  sparse: true,
}

/** See index.ts. */
export async function compare(
  a: EndpointSpec,
  b: EndpointSpec,
  options: CompareOptions = {},
): Promise<CompareResult> {
  const { slba, dstSlba, nsid, signal, jobs } = checkOptions('compare', options, COMPARE_NAMES)
  checkSignal('compare', signal)
  checkJobs(jobs)
  if (options.sparse !== undefined && !SPARSE.includes(options.sparse)) {
    throw new ArgumentValueError(
      `compare: sparse must be one of ${SPARSE.join(', ')}, received ${options.sparse}`,
    )
  }
  const opened = [await openSource(a, { slba, nsid, signal, jobs })]
  try {
    opened.push(await openSource(b, { slba: dstSlba, nsid, signal, jobs }))
    const [first, second] = await unpackedPair(opened[0]!, opened[1]!, options)
    opened.splice(0, 2, first, second)
    return await compareEndpoints(first, second, planCompare(first, second, options), options)
  } finally {
    for (const endpoint of opened.reverse()) await endpoint.close()
  }
}

/** The same two; of a file that is compared with a device, and is compressed, its content, as `copy` writes it. */
export async function unpackedPair(
  a: Endpoint,
  b: Endpoint,
  { raw = false, jobs = 1, signal }: Pick<CompareOptions, 'raw' | 'jobs' | 'signal'>,
): Promise<[Endpoint, Endpoint]> {
  const isDevice = ({ ns, hardware }: Endpoint) => ns !== null || hardware
  if (raw || isDevice(a) === isDevice(b)) return [a, b]
  // A stream is nothing for threads, and is not waited for before that is said.
  if (jobs > 1 && !(a.rereadable && b.rereadable)) return [a, b]
  return [(await unpacked(a, raw, signal)).endpoint, (await unpacked(b, raw, signal)).endpoint]
}

/** Checks what can be checked before. Returns the number of bytes to compare; undefined: to the end of both. */
export function planCompare(a: Endpoint, b: Endpoint, options: CompareOptions): number | undefined {
  if (isOneStream(a, b)) {
    throw new OutOfRangeError(
      `${a.name} and ${b.name} are the same: what one endpoint reads is gone for the other`,
    )
  }
  const bytes = options.bytes ?? lengthOf(a, b)
  for (const endpoint of [a, b]) {
    checkTransfer(endpoint, options)
    if (bytes !== undefined && endpoint.size !== undefined && endpoint.size < bytes) {
      throw new OutOfRangeError(
        `${describe(endpoint)} has ${endpoint.size} bytes, ${bytes} are to be compared`,
      )
    }
  }
  return bytes
}

function isOneStream(a: Endpoint, b: Endpoint): boolean {
  if (a.rereadable || b.rereadable) return false
  // Of a terminal nothing else says that it is one.
  return a.file === undefined ? b.name === a.name && a.name === 'stdin' : a.file === b.file
}

function lengthOf(a: Endpoint, b: Endpoint): number | undefined {
  if (isDisk(a) && isDisk(b)) return a.size
  if (!isDisk(a) && !isDisk(b)) return undefined
  return isDisk(a) ? b.size : a.size
}

/** Bytes that there are to compare, as far as that is known; `bytes` is what `planCompare` returned. */
export function compareTotal(a: Endpoint, b: Endpoint, bytes: number | undefined): number | undefined {
  return bytes ?? (streamOf(a, b, bytes) === undefined ? a.size : undefined)
}

/** Which endpoint ends the comparison where only its end tells the length: what is compared with a device. */
function streamOf(a: Endpoint, b: Endpoint, bytes: number | undefined): 'a' | 'b' | undefined {
  if (bytes !== undefined || isDisk(a) === isDisk(b)) return undefined
  return isDisk(a) ? 'b' : 'a'
}

// Its size is not that of what somebody has put there.
const isDisk = ({ ns, isExport = false }: Endpoint) => ns !== null || isExport

/** Compares what `planCompare` has planned. */
export async function compareEndpoints(
  a: Endpoint,
  b: Endpoint,
  bytes: number | undefined,
  options: CompareOptions,
): Promise<CompareResult> {
  if (needsJobs(a, b, bytes, options.jobs)) return compareByJobs(a, b, bytes, options)
  const started = performance.now()
  const total = compareTotal(a, b, bytes)
  const { sparse = 'auto', ...how } = options
  const chunksOf = (one: Endpoint) =>
    sparse === 'never' || one.readData === undefined ? one.read(bytes, how) : one.readData(bytes, how)
  const reads = { a: chunksOf(a), b: chunksOf(b) }
  const found = await firstDifference(reads, streamOf(a, b, bytes), (done) =>
    options.onProgress?.(done, total),
  )
  const seconds = (performance.now() - started) / 1000
  if (found.a === undefined) return { bytes: found.offset, seconds, difference: null }
  const { offset } = found
  const difference = { offset, a: locate(a, offset, found.a), b: locate(b, offset, found.b) }
  return { bytes: offset, seconds, difference }
}

interface Context {
  data: Buffer
  at: number
}

type Found = { offset: number; a: Context; b: Context } | { offset: number; a?: never }

/**
 * Reads both until they differ or end, or until the one ends that says where the end is. Chunks need not be of one
 * length.
 */
async function firstDifference(
  reads: { a: Chunks; b: Chunks },
  stream: 'a' | 'b' | undefined,
  onBytes: (bytes: number) => void,
): Promise<Found> {
  const left = new Reader(reads.a)
  const right = new Reader(reads.b)
  let offset = 0
  try {
    for (;;) {
      const more = await left.fill()
      if (!more && stream === 'a') return { offset }
      const moreRight = await right.fill()
      if (!moreRight && stream === 'b') return { offset }
      // An end of one endpoint only is a difference, at once: the other may have no end.
      if (moreRight !== more) return { offset, a: left.context(0), b: right.context(0) }
      if (!more) return { offset }
      const length = Math.min(left.length, right.length)
      if (!left.equals(right, length)) {
        const at = left.mismatch(right, length)
        return { offset: offset + at, a: left.context(at), b: right.context(at) }
      }
      left.skip(length)
      right.skip(length)
      offset += length
      onBytes(offset)
    }
  } finally {
    await Promise.all([left.close(), right.close()])
  }
}

const NOTHING = Buffer.alloc(0)

/** A chunk of one endpoint, and how much of it has been compared. */
class Reader {
  readonly #chunks: AsyncIterator<Uint8Array>
  #chunk: Buffer = NOTHING
  #at = 0

  constructor(chunks: Chunks) {
    this.#chunks = chunks[Symbol.asyncIterator]()
  }

  /** Bytes that are left of the chunk. */
  get length(): number {
    return this.#chunk.length - this.#at
  }

  /** Goes on to the next chunk where this one is used up. False at the end. */
  async fill(): Promise<boolean> {
    while (this.length === 0) {
      const { done, value } = await this.#chunks.next()
      if (done) {
        // What was acquired is the device's again: newer versions of Node detach it.
        this.#chunk = NOTHING
        this.#at = 0
        return false
      }
      this.#chunk = Buffer.isBuffer(value) ? value : Buffer.from(value.buffer, value.byteOffset, value.length)
      this.#at = 0
    }
    return true
  }

  skip(bytes: number): void {
    this.#at += bytes
  }

  equals(other: Reader, length: number): boolean {
    const from = other.#at
    // The same memory: zeroes of two holes.
    const { buffer, byteOffset } = other.#chunk
    if (this.#chunk.buffer === buffer && this.#chunk.byteOffset + this.#at === byteOffset + from) return true
    return this.#chunk.compare(other.#chunk, from, from + length, this.#at, this.#at + length) === 0
  }

  /** The first byte of `length` that differs. */
  mismatch(other: Reader, length: number): number {
    let at = 0
    while (at < length && this.#chunk[this.#at + at] === other.#chunk[other.#at + at]) at++
    return at
  }

  /** A copy of the bytes around the one at `ahead`, from a multiple of 16 on. */
  context(ahead: number): Context {
    if (this.length === 0) return { data: NOTHING, at: 0 }
    const position = this.#at + ahead
    const start = position - (position % ROW_BYTES)
    return { data: Buffer.from(this.#chunk.subarray(start, start + CONTEXT_BYTES)), at: position - start }
  }

  async close(): Promise<void> {
    await this.#chunks.return?.()
  }
}

function locate(endpoint: Endpoint, offset: number, { data, at }: Context): DifferingEndpoint {
  const position = endpoint.slba * endpoint.blocksize + offset
  const found = { name: endpoint.name, position, data, at }
  if (endpoint.ns === null) return found
  return { ...found, lba: Math.floor(position / endpoint.blocksize), byte: position % endpoint.blocksize }
}
