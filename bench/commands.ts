// 4 KiB random reads at depth 32: the driver on the embedded controller beside the bare prototype.

import { type Namespace, open } from '../src/index.ts'
import { printTable, type Row, rateOf, sideBySide } from './measure.ts'
import { createPrototype } from './prototype.ts'

const COMMANDS = 1_000_000
const DEPTH = 32
const MEDIUM = 64 * 2 ** 20

export async function commands(): Promise<void> {
  await using ns = await open(`sim:?size=${MEDIUM}&lba=4096`)
  const prototype = createPrototype(MEDIUM)
  const rows: Row[] = [
    { name: 'bare prototype', run: () => rateOf(COMMANDS / 1e6, () => prototype.run(COMMANDS, DEPTH)) },
    { name: 'aread/apoll', run: () => rateOf(COMMANDS / 1e6, () => rawReads(ns, COMMANDS, DEPTH)) },
    { name: 'promises', run: () => rateOf(COMMANDS / 1e6, () => promiseReads(ns, COMMANDS, DEPTH)) },
    { name: 'blocks(), sequential', run: () => rateOf(COMMANDS / 1e6, () => blocks(ns, COMMANDS)) },
  ]
  printTable('4 KiB reads at depth 32, random unless said', 'M/s', await sideBySide(rows))
}

/** Reads random blocks with aread and apoll, each descriptor sent again when it is done. */
export function rawReads(ns: Namespace, count: number, depth: number): void {
  const memory = ns.alloc(depth * ns.blocksize)
  const parts = Array.from({ length: depth }, (_, i) =>
    memory.subarray(i * ns.blocksize, (i + 1) * ns.blocksize),
  )
  let seed = 1
  const next = () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    return seed % ns.blockcount
  }
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

async function promiseReads(ns: Namespace, count: number, depth: number): Promise<void> {
  const memory = ns.alloc(depth * ns.blocksize)
  let seed = 1
  const worker = async (i: number) => {
    const part = memory.subarray(i * ns.blocksize, (i + 1) * ns.blocksize)
    for (let n = 0; n < count / depth; n++) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
      await ns.promises.read(part, seed % ns.blockcount, 1)
    }
  }
  await Promise.all(Array.from({ length: depth }, (_, i) => worker(i)))
  ns.free(memory)
}

async function blocks(ns: Namespace, count: number): Promise<void> {
  let sum = 0
  for (let left = count; left > 0; left -= ns.blockcount) {
    const nlb = Math.min(left, ns.blockcount)
    for await (const { data } of ns.blocks({ nlb, chunk: 1, depth: DEPTH })) sum += data[0]!
  }
  if (sum < 0) throw new Error('impossible')
}
