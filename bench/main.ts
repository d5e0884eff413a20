// npm run bench [-- name…]: figures, each beside its yardstick in the same run.

import { commands } from './commands.ts'
import { driver } from './driver.ts'
import { printMachine } from './measure.ts'
import { memory } from './memory.ts'
import { occupancy } from './occupancy.ts'
import { socket } from './socket.ts'

const BENCHMARKS = { driver, commands, socket, occupancy, memory } as const

const names = process.argv.slice(2)
const unknown = names.find((name) => !(name in BENCHMARKS))
if (unknown !== undefined) {
  console.error(`bench: no benchmark ${unknown}; there are: ${Object.keys(BENCHMARKS).join(', ')}`)
  process.exitCode = 2
} else {
  printMachine()
  for (const [name, run] of Object.entries(BENCHMARKS)) {
    if (names.length === 0 || names.includes(name)) await run()
  }
}
