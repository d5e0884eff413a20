// Copies between files and devices, in any combination: what is asked for is checked, and made ready for the engine.
// Trade-off: sizes and overlaps are checked before the first byte moves; a copy that fails half-way leaves what
// was written, since undoing it would need what was overwritten.

import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { rm, stat } from 'node:fs/promises'
import {
  ArgumentTypeError,
  ArgumentValueError,
  EndOfSourceError,
  OutOfRangeError,
  UnsupportedError,
  VerifyError,
} from '../../lib/errors.ts'
import { throwIfAborted } from '../../lib/sys/abort.ts'
import { replaceFileAsync } from '../../lib/sys/file.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import { checkBoolean, checkInteger, checkOptions, checkSignal } from '../queue/validate.ts'
import { withBytesWritten } from '../streams/session.ts'
import { type BlockMap, blockMapPaths, mapChecker, mapExtents, readBlockMap } from './block-map.ts'
import { COMPRESSIONS, type Compression, HOLES, ON_ERROR, SPARSE } from './choices.ts'
import { packed, unpacked } from './compression.ts'
import {
  type CopyReport,
  type CopyResult,
  type Endpoint,
  TRANSFER_NAMES,
  type TransferOptions,
} from './endpoint.ts'
import { type EndpointSpec, openSource, openTarget } from './endpoint-spec.ts'
import { Engine, type EngineOptions, type EngineState } from './engine.ts'
import { type Extent, type Extents, RangeSet } from './extents.ts'
import { checkJobs, needsJobs, transferByJobs } from './jobs.ts'
import { checkMapFile, formatRescueMap, type MapIdentity, readRescueMap } from './rescue-map.ts'
import { readSidecar } from './sidecar.ts'

const MAX_DEPTH = 65536
const MAX_CHUNK_BYTES = 2 ** 30
const CHUNK_BYTES = 2 ** 20
// Half of them the source's, half the targets': they stay in a processor's cache.
const CHUNKS = 8
const MAX_CHUNKS = 64
const MAX_WINDOW_BYTES = 2 ** 26
// Zeroes that are found in fewer bytes are written: a command of its own costs more.
const ZERO_BYTES = 2 ** 16
const LEAST_ZERO_BYTES = 4096
const SAVE_MS = 5000
/** What threads that each have a part of the range can't do. */
const NOT_BY_JOBS = ['verify', 'hash', 'sha256', 'bmap', 'compress', 'skip', 'seek', 'resume'] as const
const MAX_RETRIES = 1000

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
  /**
   * What is done with zeroes: `auto` (default) reads no holes of the source that are known (of a file, an export, a device that tells them), and has blocks of 64 KiB of zeroes made by the
   * target instead of sending them (Write Zeroes with deallocation; a file gets a hole); `always` looks for zeroes of 4 KiB
   * and more; `never` reads and writes everything.
   */
  sparse?: (typeof SPARSE)[number] | undefined
  /** All of the target reads as zeroes already: those of the source are left out. Default: false. */
  targetIsZero?: boolean | undefined
  /** Read back what was written, a device's from its medium, and compare. See `targets` of CopyResult. */
  verify?: boolean | undefined
  /** SHA-256 of the source's bytes in the result. Holes are zeroes in it. */
  hash?: boolean | undefined
  /** SHA-256 that the source's file is to have, in hexadecimal digits; default: what a file beside it with `.sha256` says. */
  sha256?: string | undefined
  /** Look for a `.sha256` file and a block map (`.bmap`) beside a source, and heed them. Default: true, but with `jobs`. */
  beside?: boolean | undefined
  /** Path of the source's block map. */
  bmap?: string | undefined
  /** What is done with blocks that a block map leaves out: they read as zeroes then (default), or keep what they have. */
  holes?: (typeof HOLES)[number] | undefined
  /** Take a compressed source, or an image format of its own, as the bytes that it is. Default: false. */
  raw?: boolean | undefined
  /** Store what is written compressed: the target is a file or a pipe. */
  compress?: Compression | undefined
  /** Bytes of the source that are left out at its start: whole blocks of a device. */
  skip?: number | undefined
  /** Bytes of the target that are left out at its start: whole blocks of a device. A file is not emptied then. */
  seek?: number | undefined
  /**
   * What is done where blocks can't be read or written: `stop` (default), or go on, after the failing blocks have been found
   * by halving; `skip` leaves them as they are in the target, `fill` writes zeroes where they could not be read.
   */
  onError?: (typeof ON_ERROR)[number] | undefined
  /** How often such a block is tried again, default 0. */
  retries?: number | undefined
  /**
   * A file that says which bytes are done and which are bad, in the format of ddrescue's map files. Written every few seconds,
   * when what is done is on the medium, and at the end, however that comes. Of several targets each has one: a list of as
   * many files, undefined for a target without one, or `map` with `.1`, `.2` and so on. A file that is there and is no map is
   * not overwritten.
   */
  map?: string | readonly (string | undefined)[] | undefined
  /**
   * Go on with the copy that `map` is of: what is done is not written again. Of several targets, one without a map begins
   * again. Default: false.
   */
  resume?: boolean | undefined
  /** Called after every chunk with the bytes so far; `total` is undefined where it is not known. */
  onProgress?: ((bytes: number, total: number | undefined) => void) | undefined
  /** The same with all that there is to tell, for each target. */
  onReport?: ((report: CopyReport) => void) | undefined
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
  sparse: true,
  targetIsZero: true,
  verify: true,
  hash: true,
  sha256: true,
  beside: true,
  bmap: true,
  holes: true,
  raw: true,
  compress: true,
  skip: true,
  seek: true,
  onError: true,
  retries: true,
  map: true,
  resume: true,
  onProgress: true,
  onReport: true,
}

/** See index.ts. */
export async function copy(
  from: EndpointSpec,
  to: EndpointSpec | readonly EndpointSpec[],
  options: CopyOptions = {},
): Promise<CopyResult> {
  const { slba, dstSlba, nsid, signal, jobs, force } = checkOptions('copy', options, COPY_NAMES)
  checkSignal('copy', signal)
  checkJobs(jobs)
  const specs = Array.isArray(to) ? (to as readonly EndpointSpec[]) : [to as EndpointSpec]
  if (specs.length === 0) throw new ArgumentValueError('copy: a target is needed, received an empty array')
  const opened: Endpoint[] = []
  try {
    const source = await openSource(from, { slba, nsid, signal, jobs })
    opened.push(source)
    for (const spec of specs)
      opened.push(await openTarget(spec, { slba: dstSlba, nsid, signal, jobs, force }))
    const planned = await prepareCopy(source, opened.slice(1), options)
    opened[0] = planned.source
    return await planned.run()
  } catch (error) {
    // What ended before a byte was moved says so.
    throw withBytesWritten(error, 0)
  } finally {
    for (const endpoint of opened.reverse()) await endpoint.close()
  }
}

/** A copy that can begin: everything that can be found wrong before has been. */
export interface PlannedCopy {
  /** What is read: of a compressed source, its content. To be closed in place of the source that was given. */
  readonly source: Endpoint
  readonly targets: readonly Endpoint[]
  /** Bytes that it will be; undefined where only the source's end tells. */
  readonly bytes: number | undefined
  /** What the user is to know of it: `gzip` and the like, paths of the block map and of the checksum's file that are heeded. */
  readonly format: string | undefined
  readonly bmap: string | undefined
  readonly sidecar: string | undefined
  /** Bytes that `resume` found done. */
  readonly resumed: number
  run(how?: Pick<CopyOptions, 'onProgress' | 'onReport'>): Promise<CopyResult>
}

/**
 * Checks, and makes ready.
 * @param options as of `copy`; `keepMap` false: a copy that comes to its end leaves no map. Default: true. `saveMs`: how often
 * a map is written that is kept
 * @throws OutOfRangeError, ArgumentValueError, UnsupportedError, VerifyError, AbortError
 */
export async function prepareCopy(
  given: Endpoint,
  to: readonly Endpoint[],
  options: CopyOptions & { keepMap?: boolean; saveMs?: number },
): Promise<PlannedCopy> {
  checkCopyOptions(options)
  const {
    signal,
    raw = false,
    jobs = 1,
    beside = jobs === 1,
    compress,
    verify = false,
    skip = 0,
    seek = 0,
  } = options
  for (const target of to) {
    if (verify && (!target.rereadable || compress !== undefined)) {
      throw new ArgumentValueError(
        `verify: ${target.name} ${compress ? 'is compressed' : 'can be read only once'}, and what was written is to be read again`,
      )
    }
    if (compress !== undefined && (target.ns !== null || target.hardware)) {
      throw new ArgumentValueError(
        `compress: ${target.name} is a device, and what is compressed is for a file`,
      )
    }
  }
  const isFile = given.ns === null && given.file !== undefined && given.rereadable
  const expected =
    options.sha256 !== undefined
      ? { file: 'sha256', sum: options.sha256.toLowerCase() }
      : beside && isFile && options.bytes === undefined && skip === 0
        ? await readSidecar(given.name)
        : undefined
  const stored = expected === undefined ? undefined : createHash('sha256')
  const { endpoint: source, format } = await unpacked(
    given,
    // A stream is nothing for threads, and is not waited for before that is said.
    raw || (jobs > 1 && !given.rereadable),
    signal,
    stored && ((data: Uint8Array) => stored.update(data)),
  )
  const targets = compress === undefined ? to : to.map((target) => packed(target, compress))
  const found = await findBlockMap(source, { ...options, beside }, isFile)
  const map = found?.map
  const bytes = planCopy(source, targets, map === undefined ? options : { ...options, bytes: map.imageBytes })
  if (targets.length > 1 && jobs > 1) {
    throw new UnsupportedError(`jobs: ${jobs} need a device and a file, not ${targets.length} targets`)
  }
  const refused = NOT_BY_JOBS.find((name) => options[name] !== undefined && options[name] !== false)
  // A map that is for an end before its time alone is not missed.
  const isMapped = options.map !== undefined && options.keepMap !== false
  if (jobs > 1 && (refused !== undefined || isMapped || (options.onError ?? 'stop') !== 'stop')) {
    throw new UnsupportedError(
      `jobs: ${jobs} move plain data, and ${refused ?? (isMapped ? 'map' : 'onError')} does not go with them`,
    )
  }
  const threads = needsJobs(source, targets[0]!, bytes, jobs)
  const journals: Journal[] = []
  const maps = mapPaths(options.map, targets.length)
  for (const [at, target] of targets.entries()) {
    const identity = maps === undefined ? {} : await identityOf(source, target, options)
    journals.push(await openMap(maps?.[at], identity, target, options))
  }
  if (options.resume && journals.every(({ done }) => done === undefined)) {
    throw new ArgumentValueError(`copy: there is no ${maps!.filter(Boolean).join(', ')} to go on with`)
  }
  const done = journals.map((journal) => journal.done ?? new RangeSet())
  const hash = (options.hash ?? false) || (expected !== undefined && format === undefined)
  const holes = options.holes ?? 'zero'
  // A checksum of all bytes needs those that the map leaves out, too: zeroes among them are found when they are read.
  const extents =
    map && (holes === 'keep' || !hash)
      ? mapExtents(map, holes)
      : options.sparse !== 'never' && bytes !== undefined && source.extents
        ? shifted(source.extents(skip, bytes), skip)
        : undefined
  const engine: Omit<EngineOptions, 'onReport'> = {
    ...windowOf(source, targets, options),
    zeroBytes: zeroBytesOf([source, ...targets], options.sparse),
    verify,
    flush: options.flush ?? true,
    pad: options.pad ?? false,
    known: options.targetIsZero ?? false,
    askHoles: options.sparse !== 'never',
    onError: options.onError ?? 'stop',
    retries: options.retries ?? 0,
    skip,
    seek,
    hash,
    check: map && mapChecker(map, source.name),
    done,
    save: maps && ((target, state) => journals[target]!.save(state)),
    saveMs: options.keepMap === false ? undefined : (options.saveMs ?? SAVE_MS),
    signal,
  }
  return {
    source,
    targets,
    bytes,
    format,
    bmap: found?.path,
    sidecar: expected?.file,
    resumed: Math.max(...done.map(({ bytes }) => bytes)),
    run: async ({ onProgress = options.onProgress, onReport = options.onReport } = {}) => {
      const report = (now: CopyReport) => {
        onProgress?.(now.bytes, now.total)
        onReport?.(now)
      }
      for (const journal of journals) await journal.begin()
      if (threads) {
        const [target] = targets
        const all = (done: number, total: number | undefined) =>
          report({
            ...{ bytes: done, total, read: done, written: done, skipped: 0, bad: 0 },
            targets: [{ name: target!.name, bytes: done }],
          })
        const result = await transferByJobs(source, target!, bytes, { ...options, onProgress: all })
        checkWhole(source, result.bytes, bytes)
        await journals[0]!.remove()
        return result
      }
      const started = performance.now()
      const result = await new Engine(source, targets, bytes, extents, { ...engine, onReport: report }).run()
      const whole = result.targets.some((target) => target.error === undefined)
      if (whole) checkWhole(source, result.bytes, bytes)
      if (whole && result.bad.length === 0)
        checkSum(given.name, expected, stored?.digest('hex'), format, result)
      if (result.bad.length === 0 && options.keepMap === false) {
        for (const [at, { error }] of result.targets.entries()) {
          if (error === undefined) await journals[at]!.remove()
        }
      }
      return { ...result, seconds: (performance.now() - started) / 1000 }
    },
  }
}

function checkCopyOptions(options: CopyOptions): void {
  const oneOf = (name: string, value: unknown, words: readonly string[]) => {
    if (value === undefined || words.includes(value as string)) return
    throw new ArgumentValueError(`copy: ${name} must be one of ${words.join(', ')}, received ${value}`)
  }
  oneOf('sparse', options.sparse, SPARSE)
  oneOf('onError', options.onError, ON_ERROR)
  oneOf('holes', options.holes, HOLES)
  oneOf('compress', options.compress, COMPRESSIONS)
  for (const name of ['targetIsZero', 'verify', 'hash', 'beside', 'raw', 'resume'] as const) {
    checkBoolean(`copy: ${name}`, options[name])
  }
  if (options.skip !== undefined) checkInteger('copy: skip', options.skip, 0)
  if (options.seek !== undefined) checkInteger('copy: seek', options.seek, 0)
  if (options.retries !== undefined) checkInteger('copy: retries', options.retries, 0, MAX_RETRIES)
  const maps: readonly unknown[] = Array.isArray(options.map) ? options.map : [options.map ?? '']
  if (maps.some((map) => map !== undefined && typeof map !== 'string')) {
    throw new ArgumentTypeError(`copy: map must be a string or a list of them, received ${maps.join(', ')}`)
  }
  for (const name of ['sha256', 'bmap'] as const) {
    const value: unknown = options[name]
    if (value !== undefined && typeof value !== 'string') {
      throw new ArgumentTypeError(`copy: ${name} must be a string, received ${typeof value}`)
    }
  }
  if (options.sha256 !== undefined && !/^[0-9a-f]{64}$/i.test(options.sha256)) {
    throw new ArgumentValueError(`copy: sha256 must have 64 hexadecimal digits, received '${options.sha256}'`)
  }
  if (options.resume && options.map === undefined) {
    throw new ArgumentValueError('copy: resume needs the map of the copy that is to go on')
  }
}

function windowOf(source: Endpoint, targets: readonly Endpoint[], { chunk: given, depth }: CopyOptions) {
  const chunk = given ?? CHUNK_BYTES
  const commands = [source, ...targets].map(({ ns }) =>
    ns === null ? 1 : Math.ceil(chunk / (ns.maxbpio * ns.blocksize)),
  )
  const most = Math.min(MAX_CHUNKS, Math.max(CHUNKS, (CHUNKS * CHUNK_BYTES) / chunk))
  const asked = depth === undefined ? most : Math.floor(depth / Math.max(...commands))
  const window = Math.max(1, Math.min(MAX_CHUNKS, asked, Math.max(2, Math.floor(MAX_WINDOW_BYTES / chunk))))
  return { chunk, window: targets.length > 1 ? Math.max(window, CHUNKS * 2) : window }
}

function zeroBytesOf(endpoints: readonly Endpoint[], sparse: CopyOptions['sparse'] = 'auto'): number {
  if (sparse === 'never') return 0
  const align = Math.max(...endpoints.map(({ blocksize }) => blocksize))
  return Math.max(align, sparse === 'always' ? LEAST_ZERO_BYTES : ZERO_BYTES)
}

async function* shifted(extents: Extents, by: number): AsyncGenerator<Extent> {
  for await (const { at, bytes, kind } of extents) yield { at: at - by, bytes, kind }
}

/** The block map that is asked for, or that stands beside a file which is copied as a whole. */
async function findBlockMap(
  source: Endpoint,
  { bmap, beside = true, bytes, skip = 0 }: CopyOptions,
  isFile: boolean,
): Promise<{ map: BlockMap; path: string } | undefined> {
  const whole = bytes === undefined && skip === 0
  if (bmap !== undefined && !whole) {
    throw new ArgumentValueError('copy: a block map is of a whole image: bytes and skip do not go with it')
  }
  const paths = bmap !== undefined ? [bmap] : beside && isFile && whole ? blockMapPaths(source.name) : []
  for (const path of paths) {
    const map = await readBlockMap(path)
    if (map === undefined) continue
    if (source.size !== undefined && source.size !== map.imageBytes) {
      throw new OutOfRangeError(
        `${path} is the block map of an image of ${map.imageBytes} bytes, and ${source.name} has ${source.size}`,
      )
    }
    return { map, path }
  }
  if (bmap !== undefined) throw new ArgumentValueError(`copy: there is no block map ${bmap}`)
  return undefined
}

function checkSum(
  name: string,
  expected: { file: string; sum: string } | undefined,
  stored: string | undefined,
  format: string | undefined,
  { sha256 }: Pick<CopyResult, 'sha256'>,
): void {
  if (expected === undefined) return
  const found = format === undefined ? sha256 : stored
  if (found === expected.sum) return
  throw new VerifyError(
    `${name} is damaged, and all of it is in the target: its SHA-256 is ${found}, and ${expected.file} says ${expected.sum}`,
  )
}

/** What a copy is of: names, sizes, and where they begin. */
async function identityOf(
  source: Endpoint,
  target: Endpoint,
  { skip = 0, seek = 0 }: CopyOptions,
): Promise<MapIdentity> {
  const isFile = source.ns === null && source.rereadable && !source.isExport
  const stats = isFile ? await stat(source.name) : undefined
  const nameOf = ({ name, ns, hardware, file }: Endpoint) => {
    if (ns === null) return name
    // By whatever address. Software controllers have one serial number, and images of their own.
    return `${ns.sn}/${ns.id}${hardware ? '' : ` (${file ?? name})`}`
  }
  return {
    source: nameOf(source),
    bytes: source.size,
    modified: stats?.isFile() ? Math.round(stats.mtimeMs) : undefined,
    slba: source.slba,
    skip,
    target: target.ns ? `${nameOf(target)} from LBA ${target.slba}` : target.name,
    seek,
  }
}

/** A path for each target. */
function mapPaths(map: CopyOptions['map'], count: number): readonly (string | undefined)[] | undefined {
  if (map === undefined) return undefined
  if (typeof map === 'string') {
    return count === 1 ? [map] : Array.from({ length: count }, (_, at) => `${map}.${at + 1}`)
  }
  const given = map.filter((one) => one !== undefined)
  if (map.length === count && new Set(given).size === given.length) return map
  throw new ArgumentValueError(`copy: map must name a file for each of ${count} targets, received ${map}`)
}

/** What is done in one target, and where that is written down. */
interface Journal {
  /** Undefined where nothing was before. */
  readonly done: RangeSet | undefined
  /** Nothing is written yet. What a map that is there says of an earlier copy is no longer so then. */
  begin(): Promise<void>
  save(state: EngineState): Promise<void>
  remove(): Promise<void>
}

/** What was done before, and how to write down what is. */
async function openMap(
  map: string | undefined,
  identity: MapIdentity,
  { name, ns, hardware, rereadable }: Endpoint,
  { resume = false, seek = 0 }: CopyOptions,
): Promise<Journal> {
  const nothing = async () => {}
  if (map === undefined) return { done: undefined, begin: nothing, save: nothing, remove: nothing }
  await checkMapFile(map, name)
  const before = resume ? await readRescueMap(map) : undefined
  if (resume && !rereadable) {
    throw new ArgumentValueError(`copy: ${name} has not kept what it was given: nothing goes on there`)
  }
  if (before !== undefined && ns === null && !hardware) {
    // What the map says is done must still be there: a file that is gone, or was cut, has lost it.
    const size = (await stat(name).catch(() => undefined))?.size ?? 0
    if (size < seek + before.done.prefix) {
      throw new ArgumentValueError(
        `copy: ${name} has ${size} bytes, and ${map} says that ${before.done.prefix} are done: it is not what was written`,
      )
    }
  }
  for (const [key, value] of Object.entries(before?.identity ?? {})) {
    if (value === identity[key]) continue
    throw new ArgumentValueError(
      `copy: ${map} is of another copy: its ${key} is ${value}, and here ${identity[key]}`,
    )
  }
  const save = async ({ done, bad, bytes }: EngineState) => {
    const failed = new RangeSet()
    for (const range of bad) failed.add(range.at, range.at + range.bytes)
    await replaceFileAsync(map, formatRescueMap(done, failed, bytes, identity))
  }
  const begin = async () => {
    if (before !== undefined || !existsSync(map)) return
    await save({ done: new RangeSet(), bad: [], bytes: undefined })
  }
  return { done: before?.done, begin, save, remove: () => rm(map, { force: true }) }
}

/**
 * Checks sizes and places.
 * @returns the number of bytes that it will be, or undefined where only the source's end will tell
 * @throws OutOfRangeError, ArgumentTypeError, AbortError
 */
function planCopy(source: Endpoint, targets: readonly Endpoint[], options: CopyOptions): number | undefined {
  const { skip = 0, seek = 0 } = options
  for (const endpoint of [source, ...targets]) checkTransfer(endpoint, options)
  checkBlocks('skip', skip, source)
  const size = source.size === undefined ? undefined : source.size - skip
  if (size !== undefined && size < 0) {
    throw new OutOfRangeError(`${describe(source)} has ${source.size} bytes, ${skip} are to be left out`)
  }
  const bytes = options.bytes ?? size
  if (bytes !== undefined && size !== undefined && bytes > size) {
    throw new OutOfRangeError(`${describe(source)} has ${size} bytes, ${bytes} are asked for`)
  }
  for (const [index, target] of targets.entries()) {
    checkBlocks('seek', seek, target)
    const space = target.size === undefined ? undefined : target.size - seek
    if (space !== undefined && (bytes ?? 0) > space) {
      throw new OutOfRangeError(
        `${bytes} bytes of ${describe(source)} do not fit: ${describe(target)} has space for ${space}`,
      )
    }
    const length = bytes ?? Number.POSITIVE_INFINITY
    if (overlap(source, skip, target, seek, length)) {
      throw new OutOfRangeError(`${describe(source)} and ${describe(target)} are the same, or overlap`)
    }
    for (const other of targets.slice(0, index)) {
      if (!overlap(other, seek, target, seek, length)) continue
      throw new OutOfRangeError(`${describe(other)} and ${describe(target)} are the same, or overlap`)
    }
  }
  return bytes
}

function checkBlocks(what: string, bytes: number, { name, blocksize }: Endpoint): void {
  if (bytes % blocksize === 0) return
  throw new OutOfRangeError(`${what}: ${bytes} bytes are no multiple of ${name}'s block size ${blocksize}`)
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

function checkWhole({ name }: Endpoint, written: number, bytes: number | undefined): void {
  if (bytes === undefined || written === bytes) return
  throw new EndOfSourceError(`${name} ended after ${written} of ${bytes} bytes`, written)
}

/** Whether `bytes` from byte `from` of the one and byte `to` of the other have some in common. */
function overlap(a: Endpoint, from: number, b: Endpoint, to: number, bytes: number): boolean {
  if (a.ns === null || b.ns === null) return a.file !== undefined && a.file === b.file
  if (a.ns.controller !== b.ns.controller || a.ns.id !== b.ns.id) return false
  const blocks = Math.ceil(bytes / a.blocksize)
  const [first, second] = [a.slba + from / a.blocksize, b.slba + to / b.blocksize]
  return first < second + blocks && second < first + blocks
}

/** Its name, with the first LBA where that is not 0. */
export function describe({ name, slba }: Endpoint): string {
  return slba === 0 ? name : `${name} from slba ${slba}`
}
