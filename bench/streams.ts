// Streams and iterators of this driver on the embedded controller beside fs's streams on a file in tmpfs, with chunks
// of the same length: memory on either side, more of it than a processor's cache holds.
// Each row of a table moves as many bytes as take it some 0.2 s, so that slow ones don't take minutes.

import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type Namespace, open } from '../src/index.ts'
import { compare, type Row, type Table } from './measure.ts'

const KIB = 1024
const MEDIUM = 256 * KIB * KIB
const CHUNKS = [4 * KIB, 64 * KIB, 128 * KIB, 1024 * KIB]
const TARGET_MS = 200
/** tmpfs, where there is one. */
export const PARENT = fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir()
const PIPE = 'createReadStream to createWriteStream'

/** Moves some number of bytes, at most what the medium has. */
export type Move = (bytes: number) => Promise<unknown>
type Moves = Readonly<Record<string, Move>>

const GROUPS = [
  ['Reading', 'createReadStream', ['blocks()', 'blocks(), copying', 'readableWebStream, BYOB']],
  ['Writing', 'createWriteStream', ['writeBlocks()']],
  ['Reading and writing', PIPE, []],
] as const

export async function* streams(): AsyncGenerator<Table> {
  await using ns = await open(`sim:?size=${2 * MEDIUM}&lba=4096&populate=1`)
  await ns.promises.write(Buffer.alloc(2 * MEDIUM, 0x5a), 0)
  using files = makeFiles()
  for (const chunk of CHUNKS) {
    const theirs = fileMoves(files, chunk)
    const ours = streamMoves(ns, chunk)
    for (const [what, both, more] of GROUPS) {
      const rows = [await row(`fs.${both}`, theirs[both]!)]
      for (const name of [both, ...more]) rows.push(await row(name, ours[name]!))
      const title = `${what} in chunks of ${chunk / KIB} KiB; fs on files in ${PARENT}`
      yield await compare(title, { name: 'GB/s', digits: 2 }, rows)
    }
  }
}

async function row(name: string, move: Move): Promise<Row> {
  const bytes = await bytesFor(TARGET_MS, move)
  return { name, run: async () => [bytes / 1e6 / (await timeOf(move, bytes))] }
}

/** How many bytes take about `ms`: passes over the medium, or a part of it where that takes longer. */
async function bytesFor(ms: number, move: Move): Promise<number> {
  let bytes = KIB * KIB
  let taken = await timeOf(move, bytes)
  while (taken < ms / 4 && bytes < 2 ** 36) {
    bytes *= 2
    taken = await timeOf(move, bytes)
  }
  return Math.max(1, Math.round((bytes * ms) / taken / KIB / KIB)) * KIB * KIB
}

/** Milliseconds that it takes to move so many bytes, in passes over the medium. */
export async function timeOf(move: Move, bytes: number): Promise<number> {
  const started = performance.now()
  for (let left = bytes; left > 0; left -= MEDIUM) await move(Math.min(left, MEDIUM))
  return performance.now() - started
}

/** All that streams of a namespace can do, in chunks of so many bytes. */
export function streamMoves(ns: Namespace, chunk: number): Moves {
  const range = (bytes: number) => ({ nlb: bytes / ns.blocksize, chunk: chunk / ns.blocksize })
  const options = (bytes: number) => ({ nlb: bytes / ns.blocksize, highWaterMark: chunk })
  const data = ns.alloc(chunk).fill(0x5a)
  return {
    'blocks()': async (bytes) => {
      for await (const _ of ns.blocks(range(bytes)));
    },
    'blocks(), copying': async (bytes) => {
      for await (const _ of ns.blocks({ ...range(bytes), copy: true }));
    },
    createReadStream: (bytes) => drain(ns.createReadStream(options(bytes))),
    'readableWebStream, BYOB': (bytes) => drainBytes(ns.readableWebStream(options(bytes)), chunk),
    'writeBlocks()': (bytes) => ns.writeBlocks(repeat(data, bytes), { chunk: chunk / ns.blocksize }),
    createWriteStream: (bytes) =>
      fill(ns.createWriteStream({ highWaterMark: chunk }), data, (written) => written < bytes),
    [PIPE]: (bytes) =>
      pipeline(
        ns.createReadStream(options(bytes)),
        ns.createWriteStream({ slba: MEDIUM / ns.blocksize, highWaterMark: chunk }),
      ),
  }
}

/** What fs's streams can do with two files, in chunks of so many bytes. */
export function fileMoves({ first, second }: Files, chunk: number): Moves {
  const data = Buffer.alloc(chunk, 0x5a)
  const read = (bytes: number) => fs.createReadStream(first, { highWaterMark: chunk, end: bytes - 1 })
  const write = (file: string) => fs.createWriteStream(file, { highWaterMark: chunk, flags: 'r+' })
  return {
    createReadStream: (bytes) => drain(read(bytes)),
    createWriteStream: (bytes) => fill(write(first), data, (written) => written < bytes),
    [PIPE]: (bytes) => pipeline(read(bytes), write(second)),
  }
}

interface Files extends Disposable {
  first: string
  second: string
}

/** Two files as large as the medium, written to; disposed of, they are gone. */
export function makeFiles(): Files {
  const folder = fs.mkdtempSync(path.join(PARENT, 'unvme-bench-'))
  const [first, second] = [path.join(folder, 'a'), path.join(folder, 'b')]
  for (const file of [first, second]) fs.writeFileSync(file, Buffer.alloc(MEDIUM, 0x5a))
  return { first, second, [Symbol.dispose]: () => fs.rmSync(folder, { recursive: true }) }
}

async function drain(stream: Readable): Promise<void> {
  stream.resume()
  await once(stream, 'close')
}

/** Into one buffer, again and again. */
async function drainBytes(stream: ReadableStream<Uint8Array>, chunk: number): Promise<void> {
  const reader = stream.getReader({ mode: 'byob' })
  let view = new Uint8Array(chunk)
  for (;;) {
    const { done, value } = await reader.read(view)
    if (done) return
    view = new Uint8Array(value.buffer)
  }
}

/** Writes `data` again and again while `more` says so of the bytes so far: all bytes, once it has closed. */
export async function fill(sink: Writable, data: Buffer, more: (at: number) => boolean): Promise<number> {
  const closed = once(sink, 'close')
  let written = 0
  for (; more(written); written += data.length) {
    if (!sink.write(data)) await once(sink, 'drain')
  }
  sink.end()
  await closed
  return written
}

function* repeat(data: Buffer, bytes: number): Generator<Buffer> {
  for (let at = 0; at < bytes; at += data.length) yield data
}
