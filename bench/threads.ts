// Two workers with a queue each beside one worker: rate, and processor time for a command.
// Trade-off: the controller's thread takes a processor, too, so that rates can double only where there are processors
// to spare; the time that a worker's own thread takes for a command tells on any machine.

import os from 'node:os'
import { open, spread } from '../src/index.ts'
import { medianOf } from './measure.ts'
import { atLeast, atMost, type Goal, type Table } from './table.ts'
import type { ThreadFigures, ThreadWork } from './threads-task.ts'

const ROUNDS = 5
const FILE = new URL('./threads-task.js', import.meta.url)
// Workers, the controller's thread, and this one.
const CORES_WANTED = 4

interface Case {
  name: string
  address: string
  work: ThreadWork
  /** Judged where processors are too few, too: what each worker does leaves it idle, or needs nobody else. */
  costJudged: boolean
}

const CASES: readonly Case[] = [
  {
    name: 'aread/apoll, one controller at full speed',
    address: 'sim:?size=64M&lba=4096&thread=1&populate=1',
    work: { kind: 'raw', depth: 32, ms: 400 },
    costJudged: false,
  },
  {
    name: 'promises, one controller that takes 2 ms',
    address: 'sim:?size=64M&lba=4096&thread=1&populate=1&latency=2ms',
    work: { kind: 'promises', depth: 32, ms: 400 },
    costJudged: true,
  },
  {
    name: 'aread/apoll, an inline controller each',
    address: 'sim:?size=64M&lba=4096&thread=1',
    work: { kind: 'inline', depth: 32, ms: 400 },
    costJudged: os.availableParallelism() >= 2,
  },
]

export async function* threads(): AsyncGenerator<Table> {
  const figures = CASES.map(() => ({ one: [] as ThreadFigures[], two: [] as ThreadFigures[] }))
  for (let round = -1; round < ROUNDS; round++) {
    for (const [i, { address, work }] of CASES.entries()) {
      const one = await run(address, work, 1)
      const two = await run(address, work, 2)
      if (round < 0) continue
      figures[i]!.one.push(one)
      figures[i]!.two.push(two)
    }
  }
  const cores = os.availableParallelism()
  const goals: Goal[] = []
  const rows = CASES.map(({ name, costJudged }, i) => {
    const { one, two } = figures[i]!
    const rates = [one, two].map((side) =>
      medianOf(side.map(({ commands, seconds }) => commands / seconds / 1e6)),
    )
    const costs = [one, two].map((side) => medianOf(side.map(({ commands, cpuNs }) => cpuNs / commands)))
    if (cores >= CORES_WANTED) goals.push(atLeast(`rate, ${name}`, rates[1]! / rates[0]!, 1.7, 'x'))
    if (costJudged) goals.push(atMost(`processor time, ${name}`, costs[1]! / costs[0]!, 1.1, 'x'))
    return {
      name,
      cells: [rates[0]!, rates[1]!, rates[1]! / rates[0]!, costs[0]!, costs[1]!, costs[1]! / costs[0]!],
    }
  })
  const few =
    `${cores} processors: at full speed the workers and the controller's thread take turns at them, and a worker ` +
    'that waits for its controller spends its time on polls; rates are not judged'
  yield {
    title: 'Two workers on two queues beside one, 4 KiB reads at depth 32',
    about:
      'Each worker has a queue of the controller, handed over by `spread`; the last row has a controller in each ' +
      "worker, to show what workers cost each other. Processor time is that of the workers' threads for a command.",
    columns: [
      { name: '1: M/s', digits: 3 },
      { name: '2: M/s', digits: 3 },
      { name: 'ratio', digits: 2 },
      { name: '1: ns', digits: 0 },
      { name: '2: ns', digits: 0 },
      { name: 'ratio', digits: 2 },
    ],
    rows,
    goals,
    notes: cores < CORES_WANTED ? [few] : [],
  }
}

/** All jobs together. */
async function run(address: string, work: ThreadWork, jobs: number): Promise<ThreadFigures> {
  await using ns = await open(address, { qcount: jobs })
  const parts = await spread<ThreadFigures>(ns, FILE, { jobs, data: work })
  const sum = (pick: (part: ThreadFigures) => number) => parts.reduce((total, part) => total + pick(part), 0)
  return {
    commands: sum(({ commands }) => commands),
    cpuNs: sum(({ cpuNs }) => cpuNs),
    seconds: Math.max(...parts.map(({ seconds }) => seconds)),
  }
}
