// Collections of garbage in ten million commands through aread and apoll, in a process of its own that V8 traces
// (--trace-gc): this file, run as a program. V8 does not say what caused a collection, so that the same process without
// those commands is the yardstick.

import { execFileSync } from 'node:child_process'
import { open } from '../src/index.ts'
import { rawReads } from './commands.ts'
import { medians, type Table } from './measure.ts'

const COMMANDS = 10_000_000
const WARM_UP = 1_000_000
const DEPTH = 32
const COLUMNS = [
  { name: 'scavenges', digits: 0 },
  { name: 'mark-compacts', digits: 0 },
]

export async function* garbage(): AsyncGenerator<Table> {
  const row = (name: string, mode: string) => ({ name, run: () => collections(mode) })
  yield await medians('Collections of garbage in a process that reads by aread and apoll', COLUMNS, [
    row('opened, and warmed up', 'idle'),
    row(`and ${COMMANDS / 1e6} million commands`, 'driver'),
  ])
}

function collections(mode: string): number[] {
  const trace = execFileSync(process.execPath, ['--trace-gc', import.meta.filename, mode], {
    encoding: 'utf8',
  })
  return [/ms: Scavenge/g, /ms: Mark-Compact/g].map((kind) => trace.match(kind)?.length ?? 0)
}

async function child(mode: string): Promise<void> {
  await using ns = await open('sim:?size=16M&lba=4096')
  rawReads(ns, WARM_UP, DEPTH)
  if (mode === 'driver') rawReads(ns, COMMANDS, DEPTH)
}

if (process.argv[1] === import.meta.filename) await child(process.argv[2]!)
