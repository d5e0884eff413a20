// Copies between files and devices, in any combination.
// Trade-off: sizes and overlaps are checked before the first byte moves; a copy that fails half-way leaves what
// was written, since undoing it would need what was overwritten. Data is copied in JavaScript only where the two ends
// share no memory.

import { EndOfSourceError, OutOfRangeError } from '../../lib/errors.ts'
import { throwIfAborted } from '../../lib/sys/abort.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import { checkInteger, checkOptions, checkSignal } from '../queue/validate.ts'
import { withBytesWritten } from '../streams/session.ts'
import { cloneDevice, emptyDevice, fillDevice } from './device-endpoint.ts'
import {
  type Chunks,
  type CopyResult,
  type Endpoint,
  TRANSFER_NAMES,
  type TransferOptions,
} from './endpoint.ts'
import { type EndpointSpec, openSource, openTarget } from './endpoint-spec.ts'
import { checkJobs, needsJobs, transferByJobs } from './jobs.ts'

const MAX_DEPTH = 65536
const MAX_CHUNK_BYTES = 2 ** 30

export interface CopyOptions extends TransferOptions {
  /** First LBA to read, where the source is a device; default 0. */
  slba?: number | undefined
  /** First LBA to write, where the target is a device; default 0. */
  dstSlba?: number | undefined
  /** Bytes to copy, default all of the source. Any number: blocks that are touched in part keep the rest. */
  bytes?: number | undefined
  /** Namespace id of a device whose address names none. */
  nsid?: number | undefined
  /**
   * Threads, each with a queue of the device and a part of the range, default 1: the caller's own. For a file and a
   * device; a namespace that is open needs as many queues.
   */
  jobs?: number | undefined
  /**
   * Write a block device that the system uses (mounted, swap, part of another device, open in a program), or a file that
   * another program has locked, all the same. Default: false, and InUseError.
   */
  force?: boolean | undefined
  /** Called after every chunk with the bytes so far; `total` is undefined where it is not known. */
  onProgress?: ((bytes: number, total: number | undefined) => void) | undefined
}

/** Names of CopyOptions. */
const COPY_NAMES: OptionNames<CopyOptions> = {
  ...TRANSFER_NAMES,
  slba: true,
  dstSlba: true,
  bytes: true,
  nsid: true,
  jobs: true,
  force: true,
  onProgress: true,
}

/** See index.ts. */
export async function copy(
  from: EndpointSpec,
  to: EndpointSpec,
  options: CopyOptions = {},
): Promise<CopyResult> {
  const { signal, jobs } = checkOptions('copy', options, COPY_NAMES)
  checkSignal('copy', signal)
  checkJobs(jobs)
  try {
    return await copySpecs(from, to, options)
  } catch (error) {
    // What ended before a byte was moved says so.
    throw withBytesWritten(error, 0)
  }
}

async function copySpecs(from: EndpointSpec, to: EndpointSpec, options: CopyOptions): Promise<CopyResult> {
  const { slba, dstSlba, nsid, signal, jobs, force } = options
  const source = await openSource(from, { slba, nsid, signal, jobs })
  try {
    const target = await openTarget(to, { slba: dstSlba, nsid, signal, jobs, force })
    try {
      return await transfer(source, target, planCopy(source, target, options), options)
    } finally {
      await target.close()
    }
  } finally {
    await source.close()
  }
}

/**
 * Checks everything that can be checked before a copy.
 * @returns the number of bytes that it will be, or undefined where only the source's end will tell
 * @throws OutOfRangeError, ArgumentTypeError, AbortError
 */
export function planCopy(source: Endpoint, target: Endpoint, options: CopyOptions): number | undefined {
  checkTransfer(source, options)
  checkTransfer(target, options)
  const bytes = options.bytes ?? source.size
  if (bytes !== undefined && source.size !== undefined && bytes > source.size) {
    throw new OutOfRangeError(`${describe(source)} has ${source.size} bytes, ${bytes} are asked for`)
  }
  if (bytes !== undefined && target.size !== undefined && bytes > target.size) {
    throw new OutOfRangeError(
      `${bytes} bytes of ${describe(source)} do not fit: ${describe(target)} has space for ${target.size}`,
    )
  }
  if (overlap(source, target, bytes ?? Number.POSITIVE_INFINITY)) {
    throw new OutOfRangeError(`${describe(source)} and ${describe(target)} are the same, or overlap`)
  }
  return bytes
}

/** Throws OutOfRangeError or ArgumentTypeError for options that the endpoint can't do, AbortError where it is too late. */
export function checkTransfer({ name, ns, blocksize }: Endpoint, options: CopyOptions): void {
  const { bytes, chunk, depth, signal } = options
  if (bytes !== undefined) checkInteger('bytes', bytes, 0)
  if (depth !== undefined) checkInteger('depth', depth, 1, MAX_DEPTH)
  if (chunk !== undefined) checkInteger('chunk', chunk, 1, MAX_CHUNK_BYTES)
  if (chunk !== undefined && ns !== null && chunk % blocksize !== 0) {
    throw new OutOfRangeError(`chunk: ${chunk} bytes are no multiple of ${name}'s block size ${blocksize}`)
  }
  throwIfAborted(signal)
}

/** Moves the data of a planned copy. */
export async function transfer(
  source: Endpoint,
  target: Endpoint,
  bytes: number | undefined,
  options: CopyOptions,
): Promise<CopyResult> {
  if (needsJobs(source, target, bytes, options.jobs)) {
    const result = await transferByJobs(source, target, bytes, options)
    checkWhole(source, result.bytes, bytes)
    return result
  }
  const started = performance.now()
  let moved = 0
  const onBytes = (done: number) => {
    moved = done
    options.onProgress?.(done, bytes)
  }
  const move = async () =>
    (await moveStraight(source, target, bytes, options, onBytes)) ??
    (await target.write(counted(source.read(bytes, options), onBytes), bytes, options))
  const written = await move().catch((error) => {
    throw withBytesWritten(error, moved)
  })
  checkWhole(source, written, bytes)
  return { bytes: written, seconds: (performance.now() - started) / 1000 }
}

function checkWhole({ name }: Endpoint, written: number, bytes: number | undefined): void {
  if (bytes === undefined || written === bytes) return
  throw new EndOfSourceError(`${name} ended after ${written} of ${bytes} bytes`, written)
}

// Between a file and a device's memory, or within a controller's, without a copy in JavaScript; undefined where the
// two are something else: files, pipes, or two controllers, neither of which reaches the other's memory.
function moveStraight(
  source: Endpoint,
  target: Endpoint,
  bytes: number | undefined,
  options: CopyOptions,
  onBytes: (bytes: number) => void,
): Promise<number> | undefined {
  let done = 0
  const count = (moved: number) => {
    done += moved
    onBytes(done)
    return moved
  }
  const { readAt } = source
  if (target.ns !== null && readAt !== undefined && bytes !== undefined) {
    return fillDevice(target.ns, target.slba, async (buf, at) => count(await readAt(buf, at)), bytes, options)
  }
  const { ns, slba } = source
  if (ns === null) return undefined
  if (target.ns?.pool === ns.pool && bytes !== undefined) {
    return cloneDevice(ns, slba, target.ns, target.slba, bytes, options, count)
  }
  if (target.writeAt === undefined) return undefined
  return target.writeAt(
    (sink) =>
      emptyDevice(
        ns,
        slba,
        async (data, at) => {
          await sink(data, at)
          count(data.length)
        },
        bytes,
        options,
      ),
    options,
  )
}

/** Passes chunks on, and tells how many bytes have passed. */
export async function* counted(chunks: Chunks, onBytes: (bytes: number) => void): Chunks {
  let bytes = 0
  for await (const chunk of chunks) {
    yield chunk
    bytes += chunk.length
    onBytes(bytes)
  }
}

function overlap(a: Endpoint, b: Endpoint, bytes: number): boolean {
  if (a.ns === null || b.ns === null) return a.file !== undefined && a.file === b.file
  if (a.ns.controller !== b.ns.controller || a.ns.id !== b.ns.id) return false
  const blocks = Math.ceil(bytes / a.blocksize)
  return a.slba < b.slba + blocks && b.slba < a.slba + blocks
}

/** Its name, with the first LBA where that is not 0. */
export function describe({ name, slba }: Endpoint): string {
  return slba === 0 ? name : `${name} from slba ${slba}`
}
