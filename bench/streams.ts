// Streams and iterators of this driver on the embedded controller beside fs's streams, on a file in tmpfs and on
// one that is read and written past the page cache (O_DIRECT), with chunks of the same length.
// Trade-off: each row of a table moves as many bytes as take it some 0.2 s, so that slow ones don't take minutes.

import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type Namespace, open } from '../src/index.ts'
import { makeFiles, type StreamFile } from './files.ts'
import { type Row, ratio, sideBySide, tableOf } from './measure.ts'
import { atLeast, type Goal, type Table } from './table.ts'

const KIB = 1024
const MEDIUM = 256 * KIB * KIB
const CHUNKS = [4 * KIB, 64 * KIB, 128 * KIB, 1024 * KIB]
const TARGET_MS = 200

const READ = 'createReadStream'
const WRITE = 'createWriteStream'
const BYOB = 'readableWebStream, BYOB'
const PIPE = 'createReadStream to createWriteStream'
const fsName = (call: string, place: string) => `fs.${call}, ${place}`

// By bytes of a chunk: how many times the rate of fs on tmpfs the project asks for.
const GOALS: Readonly<Record<number, Readonly<Record<string, number>>>> = {
  [4 * KIB]: { 'blocks()': 40, [READ]: 15, [WRITE]: 15 },
  [128 * KIB]: { 'blocks()': 7, [READ]: 3.5, [BYOB]: 7, [WRITE]: 3.5 },
  [1024 * KIB]: { [READ]: 1, [WRITE]: 1 },
}

const ABOUT =
  `Some passes over ${MEDIUM / KIB / KIB} MiB, in memory on either side, which is more than a processor's cache ` +
  'holds. The first row is the yardstick of the ratios and of the goals.'
const NO_DIRECT_READS =
  'fs.createReadStream with O_DIRECT is left out: its memory is not aligned as the file system wants it'

/** Moves some number of bytes, less than the medium has. */
type Move = (bytes: number) => Promise<unknown>

export async function* streams(): AsyncGenerator<Table> {
  await using ns = await open(`sim:?size=${2 * MEDIUM}&lba=4096&populate=1`)
  await ns.promises.write(Buffer.alloc(2 * MEDIUM, 0x5a), 0)
  const { files, notes, remove } = makeFiles(MEDIUM)
  try {
    for (const chunk of CHUNKS) {
      const some = files.some(({ reads }) => !reads) ? [...notes, NO_DIRECT_READS] : notes
      for (const [what, moves, left] of [
        ['Reading', reading(ns, files, chunk), some],
        ['Writing', writing(ns, files, chunk), notes],
        ['Reading and writing', piping(ns, files, chunk), some],
      ] as const) {
        const table = await measure(`${what} in chunks of ${chunk / KIB} KiB`, moves, GOALS[chunk] ?? {})
        yield { ...table, notes: left }
      }
    }
  } finally {
    remove()
  }
}

async function measure(
  title: string,
  moves: ReadonlyMap<string, Move>,
  goals: Readonly<Record<string, number>>,
): Promise<Table> {
  const rows: Row[] = []
  for (const [name, move] of moves) rows.push({ name, run: await scaled(move) })
  const results = await sideBySide(rows)
  const first = results[0]!.name
  const wanted: Goal[] = Object.entries(goals)
    .filter(([name]) => moves.has(name) && first.startsWith('fs.'))
    .map(([name, limit]) => atLeast(`${name} over ${first}`, ratio(results, name, first), limit, 'x'))
  return tableOf({ title, about: ABOUT, unit: 'GB/s' }, results, wanted)
}

/** One run of about TARGET_MS: passes over the medium, or a part of it where that takes longer. */
async function scaled(move: Move): Promise<() => Promise<number>> {
  let bytes = 64 * KIB * 16
  let ms = await timeOf(move, bytes)
  while (ms < TARGET_MS / 4 && bytes < 2 ** 36) {
    bytes *= 2
    ms = await timeOf(move, bytes)
  }
  bytes = Math.max(KIB * KIB, Math.round((bytes * TARGET_MS) / ms / KIB / KIB) * KIB * KIB)
  return async () => bytes / 1e6 / (await timeOf(move, bytes))
}

async function timeOf(move: Move, bytes: number): Promise<number> {
  const started = performance.now()
  for (let left = bytes; left > 0; left -= MEDIUM) await move(Math.min(left, MEDIUM))
  return performance.now() - started
}

function reading(ns: Namespace, files: readonly StreamFile[], chunk: number): Map<string, Move> {
  const moves = new Map<string, Move>()
  for (const file of files) {
    if (!file.reads) continue
    moves.set(fsName(READ, file.name), (bytes) => drain(file.read({ end: bytes - 1, highWaterMark: chunk })))
  }
  const range = (bytes: number) => ({ nlb: bytes / ns.blocksize, chunk: chunk / ns.blocksize })
  moves.set('blocks()', async (bytes) => {
    for await (const _ of ns.blocks(range(bytes)));
  })
  moves.set('blocks(), copying', async (bytes) => {
    for await (const _ of ns.blocks({ ...range(bytes), copy: true }));
  })
  moves.set(READ, (bytes) => drain(ns.createReadStream({ nlb: bytes / ns.blocksize, highWaterMark: chunk })))
  moves.set(BYOB, (bytes) =>
    drainBytes(ns.readableWebStream({ nlb: bytes / ns.blocksize, highWaterMark: chunk }), chunk),
  )
  return moves
}

function writing(ns: Namespace, files: readonly StreamFile[], chunk: number): Map<string, Move> {
  const moves = new Map<string, Move>()
  // On a block's boundary, as O_DIRECT wants it.
  const data = ns.alloc(chunk).fill(0x5a)
  for (const file of files) {
    moves.set(fsName(WRITE, file.name), (bytes) => fill(file.write({ highWaterMark: chunk }), data, bytes))
  }
  moves.set('writeBlocks()', (bytes) => ns.writeBlocks(repeat(data, bytes), { chunk: chunk / ns.blocksize }))
  moves.set(WRITE, (bytes) => fill(ns.createWriteStream({ highWaterMark: chunk }), data, bytes))
  return moves
}

function piping(ns: Namespace, files: readonly StreamFile[], chunk: number): Map<string, Move> {
  const moves = new Map<string, Move>()
  for (const file of files.filter(({ reads }) => reads)) {
    const options = { highWaterMark: chunk }
    moves.set(fsName(PIPE, file.name), (bytes) =>
      pipeline(file.read({ ...options, end: bytes - 1 }), file.write({ ...options, second: true })),
    )
  }
  moves.set(PIPE, (bytes) =>
    pipeline(
      ns.createReadStream({ nlb: bytes / ns.blocksize, highWaterMark: chunk }),
      ns.createWriteStream({ slba: MEDIUM / ns.blocksize, highWaterMark: chunk }),
    ),
  )
  return moves
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

async function fill(sink: Writable, data: Buffer, bytes: number): Promise<void> {
  const closed = once(sink, 'close')
  for (let at = 0; at < bytes; at += data.length) {
    if (!sink.write(data)) await once(sink, 'drain')
  }
  sink.end()
  await closed
}

function* repeat(data: Buffer, bytes: number): Generator<Buffer> {
  for (let at = 0; at < bytes; at += data.length) yield data
}
