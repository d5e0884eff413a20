// Rate and memory as things grow: commands in flight, queues, the length of a stream, the size of a namespace.
// Trade-off: the controller is inline, so that queues share one processor with it: what grows is the work of looking
// after them. Long streams read what was never written, which the controller fills with zeroes.

import { type Namespace, open } from '../src/index.ts'
import { blocks, promiseReads, rawReads } from './commands.ts'
import { promising } from './load.ts'
import { medianOf, rateOf } from './measure.ts'
import { growth } from './memory.ts'
import type { BenchOptions, Column, Table } from './table.ts'

const ROUNDS = 5
const COMMANDS = 200_000
const GIB = 2 ** 30
const DEPTHS = [1, 4, 16, 32, 64, 128, 256, 512, 1024]
const QUEUES = [1, 2, 4, 8]
const LENGTHS = [1, 4, 16]
const LONG_LENGTHS = [...LENGTHS, 64]
const SIZES = ['1G', '64G', '1T', '16T']
const QUEUE_DEPTH = 32
const PAGE = 4096
// At the end of a namespace, of any size.
const END_BYTES = 16 * 2 ** 20
const RUN_MS = 150

const RATE: Column = { name: 'aread/apoll M/s', digits: 2 }
const GROWTH: Column = { name: 'growth MiB', digits: 1 }

/** A row, and a run of it. */
interface Case {
  name: string
  run(): Promise<number[]>
}

export async function* growing({ long }: BenchOptions): AsyncGenerator<Table> {
  yield await depths()
  yield await queues()
  yield await lengths(long ? LONG_LENGTHS : LENGTHS)
  yield await sizes()
}

async function inTurn(cases: readonly Case[]): Promise<{ name: string; cells: number[] }[]> {
  const figures = cases.map(() => [] as number[][])
  for (let round = -1; round < ROUNDS; round++) {
    for (const [i, { run }] of cases.entries()) {
      const cells = await run()
      if (round >= 0) figures[i]!.push(cells)
    }
  }
  return cases.map(({ name }, i) => ({
    name,
    cells: figures[i]![0]!.map((_, column) => medianOf(figures[i]!.map((round) => round[column]!))),
  }))
}

async function depths(): Promise<Table> {
  await using ns = await openWritten(`sim:?size=16M&lba=4096`, { qsize: 2 * Math.max(...DEPTHS) })
  const cases = DEPTHS.map((depth) => ({
    name: `depth ${depth}`,
    async run() {
      const rss = process.memoryUsage.rss()
      const cells = [
        await rateOf(COMMANDS / 1e6, () => rawReads(ns, COMMANDS, depth)),
        await rateOf(COMMANDS / 1e6, () => promiseReads(ns, COMMANDS, depth)),
        await rateOf(COMMANDS / 1e6, () => blocks(ns, COMMANDS, depth)),
      ]
      return [...cells, (process.memoryUsage.rss() - rss) / 2 ** 20]
    },
  }))
  return {
    title: 'Commands in flight',
    about:
      'Single blocks of 4 KiB at one queue, of a medium of 16 MiB. At depth 1 every command has a doorbell, and every ' +
      'promise a turn of the scheduler, of its own. Growth is what the resident set gained during the row.',
    columns: [RATE, { name: 'promises M/s', digits: 2 }, { name: 'blocks() M/s', digits: 2 }, GROWTH],
    rows: await inTurn(cases),
  }
}

async function queues(): Promise<Table> {
  const opened: Namespace[] = []
  const cases: Case[] = []
  for (const qcount of QUEUES) {
    const ns = await openWritten('sim:?size=16M&lba=4096', { qcount })
    opened.push(ns)
    cases.push({
      name: `${qcount} ${qcount === 1 ? 'queue' : 'queues'}`,
      run: async () => [await rateOf(COMMANDS / 1e6, () => readOn(ns, 0, 1)), await everyQueue(ns)],
    })
  }
  const rows = await inTurn(cases)
  for (const ns of opened) await ns.close()
  return {
    title: `Queues in one thread, ${QUEUE_DEPTH} commands of 4 KiB in flight at each`,
    about:
      'One thread and one controller, on one processor: more queues are more to look after, and more memory that is ' +
      'in flight. Promises are asked for on all queues at a time.',
    columns: [RATE, { name: 'promises M/s', digits: 2 }],
    rows,
  }
}

/** aread and apoll on all queues of a namespace, `nlb` blocks each, from `base` on. */
function readOn(ns: Namespace, base: number, nlb: number): void {
  const bytes = nlb * ns.blocksize
  const count = ns.qcount * QUEUE_DEPTH
  const places = Math.floor((ns.blockcount - base) / nlb)
  const memory = ns.alloc(count * bytes)
  const parts = Array.from({ length: count }, (_, i) => memory.subarray(i * bytes, (i + 1) * bytes))
  const iods = parts.map((part, i) => ns.aread(i % ns.qcount, part, base, nlb))
  for (let done = 0; done < COMMANDS; ) {
    for (let i = 0; i < count; i++) {
      if (!ns.apoll(iods[i]!)) continue
      const slba = base + ((done++ * 7) % places) * nlb
      iods[i] = ns.aread(i % ns.qcount, parts[i]!, slba, nlb)
    }
  }
  for (const iod of iods) while (!ns.apoll(iod));
  ns.free(memory)
}

async function everyQueue(ns: Namespace): Promise<number> {
  const load = (qid: number) => promising(QUEUE_DEPTH, qid)(ns, RUN_MS)
  const rates = await Promise.all(Array.from({ length: ns.qcount }, (_, qid) => load(qid)))
  return rates.reduce((sum, rate) => sum + rate, 0) / ns.blocksize / 1e6
}

async function lengths(all: readonly number[]): Promise<Table> {
  await using ns = await open(`sim:?size=${Math.max(...all)}G&lba=4096`)
  const cases = all.map((gib) => ({
    name: `${gib} GiB`,
    run: async () => {
      const nlb = (gib * GIB) / ns.blocksize
      const cells: number[] = []
      for (const stream of [() => ns.blocks({ nlb }), () => ns.createReadStream({ nlb })]) {
        let grown = 0
        const rate = await rateOf((gib * GIB) / 1e9, async () => {
          grown = await growth(async (look) => {
            for await (const _ of stream()) look()
          })
        })
        cells.push(rate, grown)
      }
      return cells
    },
  }))
  return {
    title: 'Length of a stream, chunks of 128 KiB at depth 32',
    about:
      'A stream holds its depth times its chunk, 4 MiB, however long it is. What a Readable gives away is its ' +
      "reader's: there it is the collector that decides when memory comes back. Growth is the most of one pass.",
    columns: [
      { name: 'blocks() GB/s', digits: 2 },
      GROWTH,
      { name: 'createReadStream GB/s', digits: 2 },
      GROWTH,
    ],
    rows: await inTurn(cases),
  }
}

async function sizes(): Promise<Table> {
  const cases = SIZES.map((size) => ({
    name: size.replace('G', ' GiB').replace('T', ' TiB'),
    async run() {
      const rss = process.memoryUsage.rss()
      const started = performance.now()
      const ns = await open(`sim:?size=${size}`)
      const opening = performance.now() - started
      const base = ns.blockcount - END_BYTES / ns.blocksize
      await ns.promises.write(Buffer.alloc(END_BYTES, 0x5a), base)
      const rate = await rateOf(COMMANDS / 1e6, () => readOn(ns, base, PAGE / ns.blocksize))
      const grown = (process.memoryUsage.rss() - rss) / 2 ** 20
      await ns.close()
      return [opening, rate, grown]
    },
  }))
  return {
    title: 'Size of a namespace',
    about:
      'Opened, its last 16 MiB written, and read in pieces of 4 KiB at depth 32. Blocks have 512 bytes: 16 TiB are 2^35 of them.',
    columns: [{ name: 'open ms', digits: 1 }, RATE, GROWTH],
    rows: await inTurn(cases),
  }
}

type OpenOptions = NonNullable<Parameters<typeof open>[1]>

/** A medium that has been written to: what was never written is quicker to read. */
async function openWritten(address: string, options: OpenOptions): Promise<Namespace> {
  const ns = await open(address, options)
  await ns.promises.write(Buffer.alloc(ns.blockcount * ns.blocksize, 0x5a), 0)
  return ns
}
