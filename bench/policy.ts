// What chose the numbers of src/queue/tuning.ts: each is varied, and what it is good and bad for measured, all values in
// turn. Trade-off: one number at a time, with the others as they are.

import { type Namespace, open } from '../src/index.ts'
import { tuning } from '../src/queue/tuning.ts'
import { delayDuring, iterating, promising, reading } from './load.ts'
import { cpuOf, medianOf } from './measure.ts'
import type { Column, Table } from './table.ts'

const ROUNDS = 5
const RUN_MS = 150
const PAGE = 4096
const DEPTH = 32

type Setting = Partial<typeof tuning>

/** One run, and the figures that it gives. */
interface Probe {
  columns: readonly Column[]
  run(): Promise<number[]>
}

export async function* policy(): AsyncGenerator<Table> {
  const opened: Namespace[] = []
  const device = async (options: string, interrupts = true) => {
    const ns = await open(`sim:?size=256M&lba=4096&populate=1${options}`, { interrupts })
    opened.push(ns)
    return ns
  }
  try {
    const fast = await device('')
    const threaded = await device('&thread=1')
    const armed = [await device('&latency=100us'), await device('&latency=2ms')] as const
    const polled = [await device('&latency=100us', false), await device('&latency=2ms', false)] as const
    const slowest = await device('&latency=20ms', false)
    const fastThread = await device('&thread=1&latency=100us')
    const slowThread = await device('&thread=1&latency=2ms')
    yield await vary(
      'Poll budget: milliseconds of polling between two turns of the event loop',
      'More of it saves turns, less of it lets timers and other work run sooner. Promises of 4 KiB at depth 32 at ' +
        'full speed, and one at a time on a device that takes 100 µs.',
      [0, 0.02, 0.05, 0.2, 1, 5].map((budgetMs) => ({ budgetMs })),
      [promiseRate('promises', fast), latency('100 µs', armed[0])],
    )
    yield await vary(
      'Turns without a completion before the scheduler sleeps, with interrupts',
      'Sleeping saves the processor, and waking takes time. Reads by a promise, one at a time, on devices of ' +
        'different latencies.',
      [0, 5, 10, 20, 100, 1000].map((emptyTurnsArmed) => ({ emptyTurnsArmed })),
      [latency('2 ms', armed[1]), latency('thread, 100 µs', fastThread), latency('thread, 2 ms', slowThread)],
    )
    yield await vary(
      'The same without interrupts, as on VFIO by default',
      'Who sleeps then wakes by a timer, up to a millisecond late.',
      [0, 1, 5, 20, 40, 100, 1000].map((emptyTurns) => ({ emptyTurns })),
      [latency('100 µs', polled[0]), latency('2 ms', polled[1]), latency('20 ms', slowest)],
    )
    yield await vary(
      'Naps without interrupts, from the first to the longest, in milliseconds',
      'Each nap in a row is twice as long as the last. As above.',
      [
        [1, 1],
        [1, 2],
        [1, 4],
        [1, 16],
        [4, 4],
      ].map(([firstNapMs, lastNapMs]) => ({ firstNapMs: firstNapMs!, lastNapMs: lastNapMs! })),
      [latency('2 ms', polled[1]), latency('20 ms', slowest)],
    )
    yield await vary(
      'Milliseconds that a stream which never waits goes on without a turn of the event loop',
      'At full speed, chunks of 64 KiB.',
      [0, 0.25, 1, 4, 16].map((paceMs) => ({ paceMs })),
      [
        streamRate('blocks()', fast, iterating(16 * PAGE, DEPTH)),
        streamRate('createReadStream', fast, reading(16 * PAGE, DEPTH)),
      ],
    )
    yield await vary(
      'Chunks of 4 KiB that a stream posts before it rings the doorbell',
      'A doorbell is a call of the controller where that is inline, and wakes it where it is on a thread.',
      [1, 2, 4, 8, 16, 32].map((batch) => ({ batch })),
      [doorbells('inline', fast), doorbells('thread', threaded)],
    )
    yield await vary(
      'Bytes that a stream posts before it rings the doorbell',
      'Whichever comes first, that many chunks or bytes. Chunks of 64 KiB.',
      [16, 64, 128, 256, 512].map((kib) => ({ batchBytes: kib * 1024 })),
      [doorbells('inline', fast, 16 * PAGE), doorbells('thread', threaded, 16 * PAGE)],
    )
  } finally {
    for (const ns of opened) await ns.close()
  }
}

/** A row for each setting; the one that is the default is marked. */
async function vary(
  title: string,
  about: string,
  settings: readonly Setting[],
  probes: readonly Probe[],
): Promise<Table> {
  const defaults = { ...tuning }
  const figures = settings.map(() => [] as number[][])
  for (let round = -1; round < ROUNDS; round++) {
    for (const [i, setting] of settings.entries()) {
      Object.assign(tuning, setting)
      const cells: number[] = []
      for (const probe of probes) cells.push(...(await probe.run()))
      if (round >= 0) figures[i]!.push(cells)
    }
    Object.assign(tuning, defaults)
  }
  const columns = probes.flatMap((probe) => probe.columns)
  const rows = settings.map((setting, i) => ({
    name: nameOf(setting, defaults),
    cells: columns.map((_, column) => medianOf(figures[i]!.map((round) => round[column]!))),
  }))
  return { title, about, columns, rows }
}

function nameOf(setting: Setting, defaults: typeof tuning): string {
  const entries = Object.entries(setting) as [keyof typeof tuning, number][]
  const values = entries.map(([, value]) => value).join(' to ')
  return entries.every(([key, value]) => defaults[key] === value) ? `${values} (default)` : values
}

function promiseRate(name: string, ns: Namespace): Probe {
  const load = promising(DEPTH)
  return {
    columns: [
      { name: `${name} M/s`, digits: 2 },
      { name: 'delay p99 ms', digits: 2 },
    ],
    async run() {
      let rate = 0
      const { p99 } = await delayDuring(async () => {
        rate = await load(ns, RUN_MS)
      })
      return [rate / PAGE / 1e6, p99]
    },
  }
}

/** Reads one at a time. */
function latency(name: string, ns: Namespace): Probe {
  const load = promising(1)
  return {
    columns: [
      { name: `${name}: µs`, digits: 0 },
      { name: 'processor %', digits: 0 },
    ],
    async run() {
      let rate = 0
      const started = performance.now()
      const cpu = await cpuOf(async () => {
        rate = await load(ns, RUN_MS)
      })
      return [(PAGE / rate) * 1e6, (cpu / (performance.now() - started)) * 100]
    },
  }
}

function streamRate(name: string, ns: Namespace, load: ReturnType<typeof reading>): Probe {
  return {
    columns: [
      { name: `${name} GB/s`, digits: 2 },
      { name: 'delay p99 ms', digits: 2 },
    ],
    async run() {
      let rate = 0
      const { p99 } = await delayDuring(async () => {
        rate = await load(ns, RUN_MS)
      })
      return [rate / 1e9, p99]
    },
  }
}

function doorbells(name: string, ns: Namespace, chunk = PAGE): Probe {
  const load = iterating(chunk, DEPTH)
  return {
    columns: [
      { name: `${name} GB/s`, digits: 2 },
      { name: 'doorbells a command', digits: 3 },
    ],
    async run() {
      const before = ns.stats
      const rate = await load(ns, RUN_MS)
      const after = ns.stats
      return [rate / 1e9, (after.doorbells - before.doorbells) / (after.commands - before.commands)]
    },
  }
}
