// 4 KiB random reads at depth 32: the driver on the embedded controller beside the bare prototype.

import { type Namespace, open } from '../src/index.ts'
import { type Row, rateOf, ratio, sideBySide, tableOf } from './measure.ts'
import { createPrototype } from './prototype.ts'
import { atLeast, type Table } from './table.ts'

const COMMANDS = 1_000_000
const DEPTH = 32
// The first stays in the processor's cache, which shows what the driver costs; the second does not, as no device
// of any use would.
const MEDIA = [2 * 2 ** 20, 256 * 2 ** 20]
// What iterations are over, in MiB: from a medium where the start of one is a quarter of all, to one in no cache.
const ITERATED = [2, 4, 8, 16, 64, 256]
// Those of which the goal is judged: neither the best nor the worst of them.
const JUDGED = [16, 256]

const ABOUT =
  'The driver on the embedded controller, in one thread, beside a bare prototype: rings, a controller and a copy ' +
  'in one loop, with nothing of a driver around them.'

const ABOUT_ITERATIONS =
  'Each iteration goes over the whole medium, and the next begins anew: on a small one the start of an iteration ' +
  'counts, on a large one the memory.'

export async function* commands(): AsyncGenerator<Table> {
  for (const medium of MEDIA) yield await compareOn(medium)
  yield await compareIterations()
}

async function compareOn(medium: number): Promise<Table> {
  await using ns = await openWritten(medium)
  const prototype = createPrototype(medium)
  const rows: Row[] = [
    { name: 'bare prototype', run: () => rateOf(COMMANDS / 1e6, () => prototype.run(COMMANDS, DEPTH)) },
    {
      name: 'bare prototype, promises',
      run: () => rateOf(COMMANDS / 1e6, () => prototype.runPromises(COMMANDS, DEPTH)),
    },
    { name: 'aread/apoll', run: () => rateOf(COMMANDS / 1e6, () => rawReads(ns, COMMANDS, DEPTH)) },
    { name: 'promises', run: () => rateOf(COMMANDS / 1e6, () => promiseReads(ns, COMMANDS, DEPTH)) },
  ]
  const results = await sideBySide(rows)
  const title = `4 KiB random reads at depth ${DEPTH} of a medium of ${medium / 2 ** 20} MiB`
  return tableOf({ title, about: ABOUT, unit: 'M/s' }, results, [
    atLeast('aread/apoll over the prototype', ratio(results, 'aread/apoll', 'bare prototype'), 0.75, 'x'),
    atLeast(
      'promises over the prototype with promises',
      ratio(results, 'promises', 'bare prototype, promises'),
      0.75,
      'x',
    ),
  ])
}

async function compareIterations(): Promise<Table> {
  const rows: Row[] = []
  const opened: Namespace[] = []
  const nameOf = (size: number) => `${size} MiB`
  for (const size of ITERATED) {
    const ns = await openWritten(size * 2 ** 20)
    opened.push(ns)
    rows.push({ name: nameOf(size), run: () => rateOf(COMMANDS / 1e6, () => blocks(ns, COMMANDS, DEPTH)) })
  }
  const results = await sideBySide(rows)
  for (const ns of opened) await ns.close()
  const title = `Steps of blocks() over 4 KiB blocks, depth ${DEPTH}, by the size of the medium`
  const median = (size: number) => results.find(({ name }) => name === nameOf(size))!.median
  return tableOf(
    { title, about: ABOUT_ITERATIONS, unit: 'M/s' },
    results,
    JUDGED.map((size) => atLeast(`steps of blocks() on ${nameOf(size)}`, median(size), 2, 'M/s')),
  )
}

/** A medium that has been written to: what was never written is quicker to read. */
async function openWritten(medium: number): Promise<Namespace> {
  const ns = await open(`sim:?size=${medium}&lba=4096`)
  await ns.promises.write(Buffer.alloc(medium, 0x5a), 0)
  return ns
}

/** Reads random blocks with aread and apoll, each descriptor sent again when it is done. */
export function rawReads(ns: Namespace, count: number, depth: number): void {
  const memory = ns.alloc(depth * ns.blocksize)
  const parts = Array.from({ length: depth }, (_, i) =>
    memory.subarray(i * ns.blocksize, (i + 1) * ns.blocksize),
  )
  const next = randomBlocks(ns.blockcount)
  const iods = parts.map((part) => ns.aread(0, part, next(), 1))
  for (let done = 0; done < count; ) {
    for (let i = 0; i < depth; i++) {
      if (!ns.apoll(iods[i]!)) continue
      done++
      iods[i] = ns.aread(0, parts[i]!, next(), 1)
    }
  }
  for (const iod of iods) while (!ns.apoll(iod));
  ns.free(memory)
}

/**
 * Random numbers below `count`, kept in a typed array: a variable of a closure would be a new number on the heap.
 * `>>> 0` makes an integer's remainder of it: V8's of floating point numbers takes longer than all of aread.
 */
function randomBlocks(count: number): () => number {
  const seed = new Uint32Array([1])
  return () => {
    seed[0] = Math.imul(seed[0]!, 1664525) + 1013904223
    return (seed[0]! % (count >>> 0)) >>> 0
  }
}

export async function promiseReads(ns: Namespace, count: number, depth: number): Promise<void> {
  const memory = ns.alloc(depth * ns.blocksize)
  const next = randomBlocks(ns.blockcount)
  const worker = async (i: number) => {
    const part = memory.subarray(i * ns.blocksize, (i + 1) * ns.blocksize)
    for (let n = 0; n < count / depth; n++) {
      await ns.promises.read(part, next(), 1)
    }
  }
  await Promise.all(Array.from({ length: depth }, (_, i) => worker(i)))
  ns.free(memory)
}

export async function blocks(ns: Namespace, count: number, depth: number): Promise<void> {
  let sum = 0
  for (let left = count; left > 0; left -= ns.blockcount) {
    const nlb = Math.min(left, ns.blockcount)
    for await (const { data } of ns.blocks({ nlb, chunk: 1, depth })) sum += data[0]!
  }
  if (sum < 0) throw new Error('impossible')
}
