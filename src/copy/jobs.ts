// A copy or a comparison of a file and a device by several threads, each with a queue and a part of the range.
// For a file and a device alone, since only those can be read and written at many places at a time.

import { AbortError, NvmeError, UnsupportedError } from '../../lib/errors.ts'
import { checkInteger } from '../queue/validate.ts'
import { spread } from '../threads/spread.ts'
import type { CompareResult, CopyResult, DifferingEndpoint, Endpoint, TransferOptions } from './endpoint.ts'

/** What each thread does with its part: the device is filled from the file, emptied into it, or compared. */
type JobKind = 'fill' | 'empty' | 'compare'

/** What every thread gets. */
export interface JobData extends Pick<TransferOptions, 'chunk' | 'depth' | 'flush' | 'pad'> {
  readonly kind: JobKind
  /** Descriptor of the file in this process, and its path to name it. */
  fd: number | undefined
  readonly path: string
  /** The device as the user named it. */
  readonly name: string
  /** Whether it was named first. */
  readonly deviceFirst: boolean
  /** First LBA of the whole range, and bytes of it. */
  readonly slba: number
  readonly bytes: number
}

/** What a thread of a copy sends at its end, beside the number of bytes for each chunk that it has moved. */
export interface JobEnd {
  /** Bytes from the start of its part that are in the target, and whether they are all of it. */
  readonly written: number
  readonly whole: boolean
}

/** What a thread of a comparison returns, with the offset from the start of the whole. */
export type PartResult = number | CompareResult

interface JobOptions extends TransferOptions {
  jobs?: number | undefined
  onProgress?: ((bytes: number, total: number | undefined) => void) | undefined
}

const MAX_JOBS = 1024
// Where parts begin, unless chunks say it.
const ALIGN_BYTES = 128 * 1024

/** Throws OutOfRangeError for a number of threads that can't be. */
export function checkJobs(jobs: number | undefined): void {
  if (jobs !== undefined) checkInteger('jobs', jobs, 1, MAX_JOBS)
}

/** Whether threads do it. One alone moves a file whose length only its end tells: it has no parts. */
export function needsJobs(a: Endpoint, b: Endpoint, bytes: number | undefined, jobs = 1): boolean {
  if (jobs === 1) return false
  const [device, file] = a.ns !== null ? [a, b] : [b, a]
  return device.ns === null || bytes !== undefined || !file.rereadable
}

/** Copies by threads. See `transfer`. */
export async function transferByJobs(
  source: Endpoint,
  target: Endpoint,
  bytes: number | undefined,
  options: JobOptions,
): Promise<CopyResult> {
  const started = performance.now()
  const { device, file, length } = pair(source, target, bytes, options.jobs)
  const kind = device === source ? 'empty' : 'fill'
  // The threads write into a file that is there, each its part; what refuses them leaves it as it was.
  const prepare = kind === 'empty' ? file.empty : undefined
  if (length === 0) await prepare?.()
  const counts = length === 0 ? [0] : await run<number>(kind, source, device, file, length, options, prepare)
  const done = counts.reduce((sum, count) => sum + count, 0)
  const seconds = (performance.now() - started) / 1000
  const moved = { bytes: done, written: done }
  const targets = [{ name: target.name, ...moved, verified: 0 }]
  return { ...moved, seconds, read: done, skipped: 0, bad: [], targets }
}

/** Compares by threads. See `compareEndpoints`. */
export async function compareByJobs(
  a: Endpoint,
  b: Endpoint,
  bytes: number | undefined,
  options: JobOptions,
): Promise<CompareResult> {
  const started = performance.now()
  const { device, file, length } = pair(a, b, bytes, options.jobs)
  const results = length === 0 ? [] : await run<CompareResult>('compare', a, device, file, length, options)
  const seconds = (performance.now() - started) / 1000
  // In the order of the parts: the first difference is the first of the range.
  const found = results.find(({ difference }) => difference !== null)?.difference
  if (!found) return { bytes: length, seconds, difference: null }
  const difference = { offset: found.offset, a: received(found.a), b: received(found.b) }
  return { bytes: found.offset, seconds, difference }
}

function pair(a: Endpoint, b: Endpoint, bytes: number | undefined, jobs: number | undefined) {
  const [device, file] = a.ns !== null ? [a, b] : [b, a]
  if (device.ns === null || file.ns !== null || !file.rereadable || bytes === undefined) {
    throw new UnsupportedError(`jobs: ${jobs} need a device and a file, not ${a.name} and ${b.name}`)
  }
  return { device, file, length: bytes }
}

async function run<T extends PartResult>(
  kind: JobKind,
  first: Endpoint,
  device: Endpoint,
  file: Endpoint,
  bytes: number,
  options: JobOptions,
  prepare?: () => Promise<void>,
): Promise<T[]> {
  const { jobs = 1, chunk, depth, flush, pad, signal, onProgress } = options
  const { slba, blocksize, name } = device
  const deviceFirst = first === device
  const data: JobData = {
    kind,
    fd: undefined,
    path: file.name,
    name,
    deviceFirst,
    slba,
    bytes,
    chunk,
    depth,
    flush,
    pad,
  }
  let done = 0
  const ends: JobEnd[] = []
  const running = spread<T>(device.ns!, new URL('./jobs-worker.js', import.meta.url), {
    jobs,
    slba,
    nlb: Math.ceil(bytes / blocksize),
    align: Math.max(1, Math.floor((chunk ?? ALIGN_BYTES) / blocksize)),
    data,
    signal,
    prepare: async () => {
      await prepare?.()
      data.fd = file.descriptor?.()
    },
    onMessage: (message, part) => {
      if (typeof message !== 'number') {
        ends[part] = message as JobEnd
        return
      }
      done += message
      onProgress?.(done, bytes)
    },
  })
  return running.catch((error) => {
    // What the failed thread says is of its own part.
    if (error instanceof AbortError || error instanceof NvmeError) error.bytesWritten = writtenInOrder(ends)
    throw error
  })
}

/** Bytes from the start of the whole, up to the first gap. */
function writtenInOrder(ends: readonly (JobEnd | undefined)[]): number {
  const gap = ends.findIndex((end) => end?.whole !== true)
  const whole = gap < 0 ? ends : ends.slice(0, gap)
  return whole.reduce((sum, end) => sum + end!.written, ends[gap]?.written ?? 0)
}

// What a thread has posted is no Buffer any more.
function received(endpoint: DifferingEndpoint): DifferingEndpoint {
  const { data } = endpoint
  return { ...endpoint, data: Buffer.from(data.buffer, data.byteOffset, data.byteLength) }
}
