// npm run bench [-- [--page] [--long] name…]: figures, each beside its yardstick in the same run. Without a name,
// all but those that boot a virtual machine. --page writes them to docs/performance.md, too.

import { parseArgs } from 'node:util'
import { commands } from './commands.ts'
import { driver } from './driver.ts'
import { eventLoop } from './event-loop.ts'
import { garbage } from './garbage.ts'
import { growing } from './growth.ts'
import { latency } from './latency.ts'
import { describeMachine } from './machine.ts'
import { memory } from './memory.ts'
import { occupancy } from './occupancy.ts'
import { keep } from './page.ts'
import { policy } from './policy.ts'
import { socket } from './socket.ts'
import { streams } from './streams.ts'
import { type Benchmark, printTable, type Table } from './table.ts'
import { threads } from './threads.ts'
import { vm } from './vm.ts'

const BENCHMARKS: Readonly<Record<string, Benchmark>> = {
  driver,
  commands,
  latency,
  garbage,
  streams,
  occupancy,
  'event-loop': eventLoop,
  policy,
  threads,
  growth: growing,
  memory,
  socket,
  vm,
}
const ASKED_FOR = ['vm']
const order = Object.keys(BENCHMARKS)

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { page: { type: 'boolean', default: false }, long: { type: 'boolean', default: false } },
})
const unknown = positionals.find((name) => !order.includes(name))
if (unknown !== undefined) {
  console.error(`bench: no benchmark ${unknown}; there are: ${order.join(', ')}`)
  process.exitCode = 2
} else {
  const names = positionals.length > 0 ? positionals : order.filter((name) => !ASKED_FOR.includes(name))
  const machine = describeMachine()
  console.log(machine)
  for (const name of names) {
    const tables: Table[] = []
    for await (const table of BENCHMARKS[name]!({ long: values.long })) {
      printTable(table)
      tables.push(table)
    }
    const date = new Date().toISOString().slice(0, 10)
    if (values.page && tables.length > 0) keep(name, { date, machine, tables }, order)
  }
}
