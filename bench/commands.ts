// 4 KiB random reads at depth 32: the driver on the embedded controller beside a bare prototype, that is rings, a
// controller and a copy in one loop, with nothing of a driver around them; and steps of blocks() by size of the medium.

import { type Namespace, type OpenOptions, open } from '../src/index.ts'
import { compare, type Row, rateOf, type Table } from './measure.ts'
import { createPrototype } from './prototype.ts'

const COMMANDS = 1_000_000
const DEPTH = 32
// The first stays in the processor's cache, which shows what the driver costs; the second does not, as no device
// of any use would.
const MEDIA = [2, 256]
// What iterations are over: from a medium where the start of one is a quarter of all, to one in no cache.
const ITERATED = [2, 4, 8, 16, 64, 256]
const RATE = { name: 'M/s', digits: 2 }

const row = (name: string, work: () => unknown): Row => ({
  name,
  run: async () => [await rateOf(COMMANDS / 1e6, work)],
})

export async function* commands(): AsyncGenerator<Table> {
  for (const mib of MEDIA) {
    await using ns = await openWritten(mib)
    const prototype = createPrototype(mib * 2 ** 20)
    const title = `4 KiB random reads at depth ${DEPTH} of a medium of ${mib} MiB`
    yield await compare(title, RATE, [
      row('bare prototype', () => prototype.run(COMMANDS, DEPTH)),
      row('aread/apoll', () => rawReads(ns, COMMANDS, DEPTH)),
    ])
    yield await compare(`${title}, a promise each`, RATE, [
      row('bare prototype', () => prototype.runPromises(COMMANDS, DEPTH)),
      row('promises', () => promiseReads(ns, COMMANDS, DEPTH)),
    ])
  }
  const opened: Namespace[] = []
  for (const mib of ITERATED) opened.push(await openWritten(mib))
  const rows = opened.map((ns, i) => row(`${ITERATED[i]} MiB`, () => blocks(ns, COMMANDS, DEPTH)))
  yield await compare(
    `Steps of blocks() over 4 KiB blocks, depth ${DEPTH}, by the size of the medium`,
    RATE,
    rows,
  )
  for (const ns of opened) await ns.close()
}

/** A medium that has been written to: what was never written is quicker to read. */
export async function openWritten(mib: number, options: OpenOptions = {}): Promise<Namespace> {
  const ns = await open(`sim:?size=${mib}M&lba=4096`, options)
  await ns.promises.write(Buffer.alloc(mib * 2 ** 20, 0x5a), 0)
  return ns
}

/** `count` buffers of `bytes` for the device, in one piece of memory that is to be freed. */
export function allocParts(
  ns: Namespace,
  count: number,
  bytes = ns.blocksize,
): { memory: Buffer; parts: Buffer[] } {
  const memory = ns.alloc(count * bytes)
  return {
    memory,
    parts: Array.from({ length: count }, (_, i) => memory.subarray(i * bytes, (i + 1) * bytes)),
  }
}

/** Reads random blocks with aread and apoll, each descriptor sent again when it is done. */
export function rawReads(ns: Namespace, count: number, depth: number): void {
  const { memory, parts } = allocParts(ns, depth)
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
export function randomBlocks(count: number): () => number {
  const seed = new Uint32Array([1])
  return () => {
    seed[0] = Math.imul(seed[0]!, 1664525) + 1013904223
    return (seed[0]! % (count >>> 0)) >>> 0
  }
}

/** Reads random blocks by promises, awaited in `depth` loops. */
export async function promiseReads(ns: Namespace, count: number, depth: number): Promise<void> {
  const { memory, parts } = allocParts(ns, depth)
  const next = randomBlocks(ns.blockcount)
  const worker = async (part: Buffer) => {
    for (let n = 0; n < count / depth; n++) {
      await ns.promises.read(part, next(), 1)
    }
  }
  await Promise.all(parts.map(worker))
  ns.free(memory)
}

/** Iterates over the namespace, a block at a time, again and again. */
export async function blocks(ns: Namespace, count: number, depth: number): Promise<void> {
  let sum = 0
  for (let left = count; left > 0; left -= ns.blockcount) {
    const nlb = Math.min(left, ns.blockcount)
    for await (const { data } of ns.blocks({ nlb, chunk: 1, depth })) sum += data[0]!
  }
  if (sum < 0) throw new Error('impossible')
}
