// Collections of garbage in ten million commands through aread and apoll, in a process of its own that V8 traces
// (--trace-gc). Trade-off: V8's lines can't be told from each other by what caused them, so that the same process
// without those commands is what they are compared with.

import { execFileSync } from 'node:child_process'
import path from 'node:path'
import { spreadOf } from './measure.ts'
import { atMost, type Table } from './table.ts'

const ROUNDS = 5
const COMMANDS = 10_000_000
const CHILD = path.join(import.meta.dirname, 'garbage-child.js')

const CASES = [
  { name: 'opened, and warmed up', args: ['driver', '0'] },
  { name: `and ${COMMANDS / 1e6} million commands`, args: ['driver', String(COMMANDS)] },
  { name: 'the same loop without the driver', args: ['bare', String(COMMANDS)] },
] as const

export async function* garbage(): AsyncGenerator<Table> {
  const counts = CASES.map(() => ({ young: [] as number[], old: [] as number[] }))
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, { args }] of CASES.entries()) {
      const trace = execFileSync(process.execPath, ['--trace-gc', CHILD, ...args], { encoding: 'utf8' })
      counts[i]!.young.push(trace.match(/ms: Scavenge/g)?.length ?? 0)
      counts[i]!.old.push(trace.match(/ms: Mark-Compact/g)?.length ?? 0)
    }
  }
  const rows = CASES.map(({ name }, i) => {
    const young = spreadOf(counts[i]!.young)
    return { name, cells: [young.median, young.max, spreadOf(counts[i]!.old).median] }
  })
  const [idle, busy] = rows
  yield {
    title: 'Collections of garbage in a process that reads by aread and apoll',
    about: 'What a process of its own collects, as V8 says with --trace-gc: medians of five such processes.',
    columns: [
      { name: 'scavenges', digits: 0 },
      { name: 'most', digits: 0 },
      { name: 'mark-compacts', digits: 0 },
    ],
    rows,
    goals: [
      atMost(
        `scavenges in ${COMMANDS / 1e6} million commands`,
        Math.max(0, busy!.cells[0]! - idle!.cells[0]!),
        0,
      ),
    ],
  }
}
