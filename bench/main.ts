// npm run bench [-- name…]: figures, each beside its yardstick in the same run. Without a name, all but those
// that boot a virtual machine.

import { commands } from './commands.ts'
import { driver } from './driver.ts'
import { printMachine } from './measure.ts'
import { memory } from './memory.ts'
import { occupancy } from './occupancy.ts'
import { socket } from './socket.ts'
import { vm } from './vm.ts'

const BENCHMARKS = { driver, commands, socket, occupancy, memory, vm } as const
const ASKED_FOR = ['vm']

const names = process.argv.slice(2)
const unknown = names.find((name) => !(name in BENCHMARKS))
if (unknown !== undefined) {
  console.error(`bench: no benchmark ${unknown}; there are: ${Object.keys(BENCHMARKS).join(', ')}`)
  process.exitCode = 2
} else {
  printMachine()
  for (const [name, run] of Object.entries(BENCHMARKS)) {
    if (names.length === 0 ? !ASKED_FOR.includes(name) : names.includes(name)) await run()
  }
}
