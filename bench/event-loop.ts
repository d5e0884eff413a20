// How late the event loop comes while streams and promises run as fast as they can, and what an open device costs
// that nobody uses. Trade-off: the delay is measured by a timer of 1 ms, the finest that perf_hooks has; what is
// shown is what it came late by.

import { setTimeout as delay } from 'node:timers/promises'
import { type Namespace, open } from '../src/index.ts'
import { makeFiles } from './files.ts'
import { delayDuring, iterating, type Load, promising, reading, readingFile, writing } from './load.ts'
import { cpuOf, medianOf } from './measure.ts'
import { atMost, type Table } from './table.ts'

const ROUNDS = 5
const LOAD_MS = 600
const IDLE_MS = 1000
const CHUNK = 128 * 1024
const DEPTH = 32
const FILE_BYTES = 64 * 2 ** 20
const DEVICES = [
  ['full speed', 'sim:?size=1G&lba=4096&populate=1'],
  ['latency=2ms', 'sim:?size=256M&lba=4096&populate=1&latency=2ms'],
] as const
const LOADS: readonly (readonly [name: string, load: Load])[] = [
  ['createReadStream', reading(CHUNK, DEPTH)],
  ['createWriteStream', writing(CHUNK, DEPTH)],
  ['blocks()', iterating(CHUNK, DEPTH)],
  ['promises, 4 KiB', promising(DEPTH)],
]

export async function* eventLoop(): AsyncGenerator<Table> {
  yield await delays()
  yield await idle()
}

async function delays(): Promise<Table> {
  const opened = new Map<string, Namespace>()
  for (const [device, address] of DEVICES) opened.set(device, await open(address))
  const cases = DEVICES.flatMap(([device]) =>
    LOADS.map(([name, load]) => ({
      name: `${name}, ${device}`,
      ns: opened.get(device)!,
      load,
      figures: [] as number[][],
    })),
  )
  const { files, remove } = makeFiles(FILE_BYTES)
  const goals = new Set(cases.map(({ name }) => name))
  for (const file of files.filter(({ name }) => name === 'tmpfs')) {
    const load = readingFile(file, FILE_BYTES, CHUNK)
    cases.push({ name: 'fs.createReadStream, tmpfs', ns: opened.get('full speed')!, load, figures: [] })
  }
  for (let round = -1; round < ROUNDS; round++) {
    for (const { ns, load, figures } of cases) {
      let rate = 0
      const { median, p99, max } = await delayDuring(async () => {
        rate = await load(ns, LOAD_MS)
      })
      if (round >= 0) figures.push([median, p99, max, rate / 1e9])
    }
  }
  for (const ns of opened.values()) await ns.close()
  remove()
  const rows = cases.map(({ name, figures }) => ({
    name,
    cells: [0, 1, 2, 3].map((i) => medianOf(figures.map((round) => round[i]!))),
  }))
  return {
    title: `Delay of the event loop under load, chunks of ${CHUNK / 1024} KiB at depth ${DEPTH}`,
    about:
      'By how much timers come late in a program that does nothing but stream. It is bounded by how long a stream ' +
      'goes on without a turn of the event loop, by pauses of the collector, and here by the controller, which ' +
      'copies in the same thread. The pauses are the same for every stream of Buffers: fs is beside it for that.',
    columns: [
      { name: 'median ms', digits: 2 },
      { name: 'p99 ms', digits: 2 },
      { name: 'longest ms', digits: 2 },
      { name: 'GB/s', digits: 2 },
    ],
    rows,
    goals: rows
      .filter(({ name }) => goals.has(name))
      .map(({ name, cells }) => atMost(`p99, ${name}`, cells[1]!, 5, 'ms')),
  }
}

async function idle(): Promise<Table> {
  const cases: [name: string, address: string | null][] = [
    ['no device', null],
    ['controller inline', 'sim:?size=16M'],
    ['controller on a thread', 'sim:?size=16M&thread=1'],
  ]
  const figures = cases.map(() => [] as number[])
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, [, address]] of cases.entries()) {
      const ns = address === null ? null : await open(address)
      await ns?.promises.read(Buffer.alloc(4096), 0)
      // What the read and the opening leave behind is not idleness.
      await delay(IDLE_MS / 4)
      const ms = await cpuOf(() => delay(IDLE_MS))
      figures[i]!.push((ms / IDLE_MS) * 100)
      await ns?.close()
    }
  }
  const rows = cases.map(([name], i) => ({ name, cells: [medianOf(figures[i]!)] }))
  return {
    title: 'Processor time of an open device that nobody uses',
    about: 'Of the whole process, in percent of one processor, after a command that was read by a promise.',
    columns: [{ name: 'processor %', digits: 3 }],
    rows,
    goals: rows.slice(1).map(({ name, cells }) => atMost(name, cells[0]!, 1, '%')),
  }
}
