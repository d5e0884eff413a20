// What a command costs where there is much of something: queues, controllers, workers, commands in flight, streams, blocks.
// Processor time and not a rate, since what is added shares the machine's processors. The controllers are inline and copy:
// each row reads as many bytes as the first of its table, the yardstick, with as many commands in flight on each queue.

import fs from 'node:fs'
import { isMainThread } from 'node:worker_threads'
import { type IoDescriptor, type Namespace, open, spread, task } from '../src/index.ts'
import { allocParts } from './commands.ts'
import { compare, cpuOf, type Row, type Table } from './measure.ts'

const COMMANDS = 500_000
const DEPTH = 32
const CHUNK = 128 * 1024
const STREAM = 8 * 2 ** 20
const STREAMED = 2 ** 30
const LONG = 2 ** 40
// In the processor's own cache, all of them together.
const ADDRESS = 'sim:?size=128K&lba=4096'
const UNIT = { name: 'ns', digits: 1 }

export async function* scale(): AsyncGenerator<Table> {
  const title = `Processor time of a 4 KiB read by aread and apoll, ${DEPTH} in flight on a queue`
  yield await opened(`${title}, by queues of a controller`, [1, 2, 4, 8, 16], 'queue', async (qcount) => [
    await open(ADDRESS, { qcount }),
  ])
  yield await opened(`${title}, by controllers`, [1, 2, 4, 8], 'controller', (count) =>
    Promise.all(Array.from({ length: count }, () => open(ADDRESS))),
  )
  await using large = await open('sim:?size=16T&lba=4096')
  await using small = await open('sim:?size=64M&lba=4096')
  yield {
    ...(await compare(`${title}, by size of the namespace`, UNIT, [
      readsRow('64 MiB', [small], DEPTH),
      readsRow('16 TiB, the first blocks', [large], DEPTH, 0),
      readsRow('16 TiB, the last blocks', [large], DEPTH),
    ])),
    notes: [
      'the model of a controller has a short way for the first GiBs of its medium, and a longer one beyond',
    ],
  }
  yield await compare(`${title}, by workers with a controller each`, UNIT, [1, 2, 4].map(workersRow))
  await using deep = await open(`${ADDRESS}&qsize=65536`, { qsize: 65_536 })
  yield await compare(
    `Processor time of a 4 KiB read in a queue of ${deep.qsize} entries, by depth`,
    UNIT,
    [DEPTH, 1024, deep.qsize - 1].map((depth) => readsRow(`${depth} in flight`, [deep], depth)),
  )
  await using streamed = await open(`sim:?size=${STREAMED}`)
  yield await compare(
    `Processor time of a chunk of 128 KiB of createReadStream, in streams of 8 MiB, by streams at a time`,
    UNIT,
    [1, 10, 100, 1000].flatMap((count) => [32, 4].map((depth) => streamsRow(streamed, count, depth))),
  )
  yield await growth()
}

async function opened(
  title: string,
  counts: readonly number[],
  what: string,
  openAll: (count: number) => Promise<Namespace[]>,
): Promise<Table> {
  const all = await Promise.all(counts.map(openAll))
  const rows = counts.map((count, i) => readsRow(`${count} ${what}${count > 1 ? 's' : ''}`, all[i]!, DEPTH))
  const table = await compare(title, UNIT, rows)
  for (const ns of all.flat()) await ns.close()
  return table
}

const nanoseconds = async (commands: number, work: () => unknown) => ((await cpuOf(work)) * 1e6) / commands

const readsRow = (name: string, namespaces: readonly Namespace[], depth: number, slba?: number): Row => ({
  name,
  run: async () => [await nanoseconds(COMMANDS, () => readAll(namespaces, COMMANDS, depth, slba))],
})

/**
 * Random reads of a block each, `depth` at a time on each queue of all namespaces, each sent again when it is done. They are of
 * 32 blocks from `slba` on, or of the last, and to as much memory, so that all rows have as much in the processor's cache.
 */
function readAll(namespaces: readonly Namespace[], count: number, depth: number, slba?: number): void {
  const memories: Buffer[] = []
  const slots = namespaces.flatMap((ns) => {
    const { memory, parts } = allocParts(ns, Math.max(1, 32 / namespaces.length))
    memories.push(memory)
    const first = slba ?? ns.blockcount - 32
    return Array.from({ length: ns.qcount * depth }, (_, i) => {
      const data = parts[i % parts.length]!
      const qid = Math.floor(i / depth)
      return { ns, qid, first, data, iod: ns.aread(qid, data, first, 1) as IoDescriptor | null }
    })
  })
  const seed = new Uint32Array([1])
  // No more than `count`, which those in flight at the end may be a good part of.
  let sent = slots.length
  for (let done = 0; done < count; ) {
    for (const slot of slots) {
      const { ns, qid, data, first } = slot
      if (slot.iod === null || !ns.apoll(slot.iod)) continue
      done++
      seed[0] = Math.imul(seed[0]!, 1664525) + 1013904223
      slot.iod = sent < count ? ns.aread(qid, data, first + (seed[0]! >>> 27), 1) : null
      sent++
    }
  }
  for (const [i, memory] of memories.entries()) namespaces[i]!.free(memory)
}

const workersRow = (jobs: number): Row => ({
  name: `${jobs} worker${jobs > 1 ? 's' : ''}`,
  async run() {
    await using ns = await open(`${ADDRESS}&thread=1`, { qcount: jobs })
    const costs = await spread<number>(ns, new URL(import.meta.url), { jobs })
    return [costs.reduce((sum, cost) => sum + cost) / jobs]
  },
})

/** Processor time of this thread alone, in nanoseconds. */
const threadTime = () => Number(fs.readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ')[0])

/** Streams of the same length, so many at a time, and one after the other where they are few. */
const streamsRow = (ns: Namespace, count: number, depth: number): Row => ({
  name: `${count} stream${count > 1 ? 's' : ''}, depth ${depth}`,
  async run() {
    const nlb = STREAM / ns.blocksize
    const places = ns.blockcount / nlb
    const rounds = Math.max(1, Math.floor(places / count))
    const read = async (i: number) => {
      for (let round = 0; round < rounds; round++) {
        const slba = ((i * rounds + round) % places) * nlb
        for await (const _ of ns.createReadStream({ slba, nlb, highWaterMark: CHUNK, depth }));
      }
    }
    const all = () => Promise.all(Array.from({ length: count }, (_, i) => read(i)))
    return [await nanoseconds((count * rounds * STREAM) / CHUNK, all)]
  },
})

/** What a terabyte leaves in memory. */
async function growth(): Promise<Table> {
  await using ns = await open(`sim:?size=${LONG}&lba=4096`)
  const rows: Table['rows'][number][] = []
  const part = ns.blockcount / 8
  for (let i = 0; i < 8; i++) {
    for await (const _ of ns.blocks({ slba: i * part, nlb: part, chunk: 256 }));
    const cells = [process.memoryUsage.rss() / 2 ** 20]
    rows.push({ name: `after ${(i + 1) * 128} GiB`, cells })
  }
  return {
    title: 'Memory of the process while blocks() goes over 1 TiB',
    columns: [{ name: 'MiB', digits: 0 }],
    rows,
  }
}

if (!isMainThread) {
  await task(async () => {
    await using own = await open(ADDRESS)
    readAll([own], COMMANDS, DEPTH)
    const before = threadTime()
    readAll([own], COMMANDS, DEPTH)
    return (threadTime() - before) / COMMANDS
  })
}
