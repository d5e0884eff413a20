// The works of the benchmarks in the virtual machine, by this driver (aread, awrite and apoll, and its streams), by fio, or on
// the block device by fs (fs.read and fs.write past the page cache with as many in flight, and fs's streams through it).
// Each work has a time and not a count, since the kernel's driver at times stalls under emulation. The page
// cache is dropped before and after a stream of fs, and a write ends with fsync, since this driver's ends on the medium.

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { finished } from 'node:stream/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { mapAnonymous, retireView } from '../lib/memory/mapping.ts'
import { type IoDescriptor, type Namespace, open } from '../src/index.ts'
import { allocParts, randomBlocks } from './commands.ts'
import { fill } from './streams.ts'

/** This driver's device, or the kernel's. */
export type Side = { address: string } | BlockSide
export type BlockSide = { block: string; size: number }

export interface Work {
  readonly name: string
  readonly write: boolean
  readonly bytes: number
  readonly depth: number
}

export interface Rate {
  /** Transfers a second. */
  rate: number
  /** Mean commands in flight over depth, where it is known. */
  occupancy?: number
}

const KIB = 1024
// Transfers of this length are of random blocks, longer ones sequential.
const RANDOM_KIB = 4
export const DEEPEST = 32

const raw = (call: 'read' | 'write', kib: number, depth: number): Work => ({
  name: `${kib} KiB ${kib === RANDOM_KIB ? 'random' : 'sequential'} ${call}, depth ${depth}`,
  ...{ write: call === 'write', bytes: kib * KIB, depth },
})
const stream = (call: string): Work => ({
  name: `${call}, 128 KiB, depth 8`,
  ...{ write: call === 'createWriteStream', bytes: 128 * KIB, depth: 8 },
})

export const RAW = [
  ...[1, DEEPEST].flatMap((depth) => [raw('read', RANDOM_KIB, depth), raw('write', RANDOM_KIB, depth)]),
  ...[raw('read', 128, 8), raw('write', 128, 8)],
]
export const DEEPEST_TCP = 128
/** Of the comparison over TCP. */
export const TCP = [
  ...[1, 32, DEEPEST_TCP].map((depth) => raw('read', RANDOM_KIB, depth)),
  raw('read', 128, 8),
]
/** The same, with no more in flight than SPDK's target lets a queue have. */
export const TCP_SPDK = [...[1, 32, 127].map((depth) => raw('read', RANDOM_KIB, depth)), raw('read', 128, 8)]
/** Of the comparison with SPDK. */
export const SPDK = [...TCP, raw('read', 1024, 4)]
export const STREAMS = [stream('createReadStream'), stream('createWriteStream')]

const RAW_MS = 1_000
// Huge pages that SPDK takes.
const SPDK_MIB = 128
// A stream's steps are long, and its code is compiled twice here, by V8 and by the emulator: that takes some seconds.
const STREAM_WARM_MS = 6_000
const STREAM_MS = 3_000

/** All single transfers. */
export async function rawRates(side: Side): Promise<Rate[]> {
  await using ns = 'block' in side ? null : await open(side.address, { qsize: 256 })
  const rates: Rate[] = []
  for (const work of RAW)
    rates.push(ns === null ? await rawRateOfFile(side as BlockSide, work) : rawRate(ns, work))
  return rates
}

/** A stream, after one that does not count. */
export async function streamRate(side: Side, work: Work): Promise<Rate> {
  await using ns = 'block' in side ? null : await open(side.address, { qsize: 256 })
  const run = (ms: number) =>
    ns === null ? rateOfFileStream(side as BlockSide, work, ms) : rateOfStream(ns, work, ms)
  await run(STREAM_WARM_MS)
  return await run(STREAM_MS)
}

/** By promises: each lane sends its next when its last is done. */
export async function promiseRate(ns: Namespace, work: Work): Promise<Rate> {
  const nlb = work.bytes / ns.blocksize
  const { memory, parts } = allocParts(ns, work.depth, work.bytes)
  const next = places(work, Math.floor(ns.blockcount / nlb))
  const call = work.write ? ns.promises.write : ns.promises.read
  let done = 0
  const started = performance.now()
  const lane = async (part: Buffer) => {
    while (performance.now() - started < RAW_MS) {
      await call.call(ns.promises, part, next() * nlb, nlb)
      done++
    }
  }
  await Promise.all(parts.map(lane))
  const rate = done / ((performance.now() - started) / 1000)
  ns.free(memory)
  return { rate }
}

/** Where the next transfer begins, in units of its length, on a device that has `count` of them. */
function places({ bytes }: Work, count: number): () => number {
  // In integers alone: emulated, a number by floating point takes as long as half of a command.
  if (bytes === RANDOM_KIB * KIB) return randomBlocks(count)
  let at = 0
  return () => {
    at = (at + 1) % count
    return at
  }
}

/** By fio, with as many in flight, sent and taken in batches as large as there are. @param words of the file and the engine */
export function fioRate({ write, bytes, depth }: Work, seconds: number, words: readonly string[]): Rate {
  const pattern = `${bytes === RANDOM_KIB * KIB ? 'rand' : ''}${write ? 'write' : 'read'}`
  const all = [
    ...['--name=one', '--thread', '--norandommap', '--time_based', '--output-format=json', ...words],
    ...[`--rw=${pattern}`, `--bs=${bytes}`, `--iodepth=${depth}`, `--runtime=${seconds}`],
    ...[`--iodepth_batch_submit=${depth}`, `--iodepth_batch_complete_max=${depth}`],
  ]
  const { status, stdout } = spawnSync('fio', all, { encoding: 'utf8' })
  // The emulated controller loses a command now and then; the kernel cancels it, and fio ends.
  if (status !== 0) return { rate: Number.NaN }
  const [job] = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs
  return { rate: (write ? job.write : job.read).iops }
}

/**
 * By SPDK's perf, a second.
 * @param program of SPDK 20.07 or later
 * @param id as its option -r takes it
 */
export function spdkRate(program: string, id: string, { write, bytes, depth }: Work): number {
  const pattern = `${bytes === RANDOM_KIB * KIB ? 'rand' : ''}${write ? 'write' : 'read'}`
  const all = ['-r', id, '-q', depth, '-o', bytes, '-w', pattern, '-t', 1, '-s', SPDK_MIB]
  const { status, stdout, stderr } = spawnSync(program, all.map(String), { encoding: 'utf8' })
  const [, rate] = /^Total +: +([\d.]+)/m.exec(stdout) ?? []
  if (status !== 0 || rate === undefined)
    throw new Error(`${program} ended with ${status}: ${stderr}${stdout}`)
  return Number(rate)
}

/** aread or awrite: every descriptor is sent again when it is done. */
export function rawRate(ns: Namespace, work: Work): Rate {
  const nlb = work.bytes / ns.blocksize
  const { memory, parts } = allocParts(ns, work.depth, work.bytes)
  const next = places(work, Math.floor(ns.blockcount / nlb))
  // A function for each: of one that does both, V8 leaves parts uncompiled into its caller.
  const read = (part: Buffer) => ns.aread(0, part, next() * nlb, nlb)
  const write = (part: Buffer) => ns.awrite(0, part, next() * nlb, nlb)
  const send = work.write ? write : read
  const iods = parts.map(send)
  let done = 0
  const started = performance.now()
  // The clock is a system call here: read once in some hundred rounds.
  while (performance.now() - started < RAW_MS) done += pollRounds(ns, iods, parts, send)
  const rate = done / ((performance.now() - started) / 1000)
  for (const iod of iods) while (!ns.apoll(iod));
  ns.free(memory)
  return { rate }
}

const ROUNDS = 128

/** Polls each descriptor so many times, and sends it again when it is done: how often that was. */
function pollRounds(
  ns: Namespace,
  iods: IoDescriptor[],
  parts: readonly Buffer[],
  send: (part: Buffer) => IoDescriptor,
): number {
  let done = 0
  for (let round = 0; round < ROUNDS; round++) {
    for (let i = 0; i < iods.length; i++) {
      if (!ns.apoll(iods[i]!)) continue
      done++
      iods[i] = send(parts[i]!)
    }
  }
  return done
}

async function rateOfStream(ns: Namespace, { write, bytes, depth }: Work, ms: number): Promise<Rate> {
  const options = { highWaterMark: bytes, depth }
  const before = ns.stats
  const started = performance.now()
  const moved = write
    ? await fillFor(ns.createWriteStream(options), bytes, ms)
    : await drainFor(ns.createReadStream(options), ms)
  const seconds = (performance.now() - started) / 1000
  const { inFlightTime, wantedTime } = ns.stats
  const occupancy = (inFlightTime - before.inFlightTime) / (wantedTime - before.wantedTime)
  return { rate: moved / bytes / seconds, occupancy }
}

export async function rawRateOfFile({ block, size }: BlockSide, work: Work): Promise<Rate> {
  const { bytes, depth, write } = work
  const fd = fs.openSync(block, fs.constants.O_RDWR | fs.constants.O_DIRECT)
  // O_DIRECT wants memory on a block's boundary.
  const memory = mapAnonymous(depth * bytes)
  const next = places(work, Math.floor(size / bytes))
  let done = 0
  let inFlight = depth
  let over = false
  const lane = (part: Buffer) => {
    const start = () => {
      if (write) fs.write(fd, part, 0, bytes, next() * bytes, ended)
      else fs.read(fd, part, 0, bytes, next() * bytes, ended)
    }
    const ended = (error: Error | null) => {
      if (error) throw error
      done++
      if (over) inFlight--
      else start()
    }
    start()
  }
  const started = performance.now()
  for (let i = 0; i < depth; i++) lane(Buffer.from(memory.buffer, i * bytes, bytes))
  await delay(RAW_MS)
  const rate = done / ((performance.now() - started) / 1000)
  over = true
  while (inFlight > 0) await delay(5)
  fs.closeSync(fd)
  retireView(memory)
  return { rate }
}

async function rateOfFileStream({ block }: BlockSide, { write, bytes }: Work, ms: number): Promise<Rate> {
  const dropCaches = () => fs.writeFileSync('/proc/sys/vm/drop_caches', '1')
  const options = { highWaterMark: bytes }
  dropCaches()
  const started = performance.now()
  const moved = write
    ? await fillFor(fs.createWriteStream(block, { ...options, flags: 'r+', flush: true }), bytes, ms)
    : await drainFor(fs.createReadStream(block, options), ms)
  const seconds = (performance.now() - started) / 1000
  dropCaches()
  return { rate: moved / bytes / seconds }
}

/** Reads a stream for `ms`, then ends it: the bytes that it gave. */
async function drainFor(stream: fs.ReadStream | ReturnType<Namespace['createReadStream']>, ms: number) {
  stream.resume()
  await delay(ms)
  const { bytesRead } = stream
  stream.destroy()
  await finished(stream).catch(() => {})
  return bytesRead
}

function fillFor(sink: Parameters<typeof fill>[0], bytes: number, ms: number): Promise<number> {
  const started = performance.now()
  return fill(sink, Buffer.alloc(bytes, 0x5a), () => performance.now() - started < ms)
}
