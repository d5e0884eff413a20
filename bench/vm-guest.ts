// Runs in the virtual machine: the null-backed controller goes from VFIO to the kernel's driver and back, and each
// has all works in turn; writes a table of medians as JSON. Trade-off: a process for each side, and a new one for each
// stream, so that none has another's garbage to collect, which takes this machine's one processor.

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import {
  bindSteps,
  blockDevices,
  listDevices,
  loadSteps,
  perform,
  resetSteps,
  thisMachine,
} from '../src/setup/index.ts'
import { medianOf } from './measure.ts'
import { atLeast, type Table } from './table.ts'
import type { Message, Round } from './vm-side.ts'
import { type Rate, WORKS } from './vm-work.ts'

const NAME = '0000:00:0a.0'
const ROUNDS = Number(process.env.UNVME_BENCH_ROUNDS ?? 5)
const machine = thisMachine()
const device = () => listDevices(machine).find(({ name }) => name === NAME)!
const [ours, theirs] = [forkPart(), forkPart()]

async function driverRound(): Promise<Rate[]> {
  await perform(machine, [...loadSteps(machine), ...bindSteps(machine, device())])
  return await ratesOf(ours, { side: 'driver', address: NAME })
}

async function kernelRound(): Promise<Rate[]> {
  await perform(machine, resetSteps(machine, device()))
  const [block] = blockDevices(machine, NAME)
  const { size } = device().namespaces[0]!
  return await ratesOf(theirs, { side: 'kernel', path: `/dev/${block}`, size })
}

function forkPart(): ChildProcess {
  const child = fork(path.join(import.meta.dirname, 'vm-side.js'))
  child.on('exit', (code) => {
    if (code !== 0) process.exit(1)
  })
  return child
}

/** All works of a side, in the order of `WORKS`: the raw ones by `child`. */
async function ratesOf(child: ChildProcess, round: Round): Promise<Rate[]> {
  const rates = await partRates(child, { ...round, part: 'raw' })
  for (const part of ['read', 'write'] as const) {
    const fresh = forkPart()
    rates.push(...(await partRates(fresh, { ...round, part })))
    fresh.disconnect()
    await once(fresh, 'exit')
  }
  return rates
}

async function partRates(child: ChildProcess, message: Message): Promise<Rate[]> {
  child.send(message)
  const [rates] = await once(child, 'message')
  return rates
}

const ABOUT =
  "This driver beside Node's own way, fs on the block device of the kernel's driver, on the same emulated " +
  'controller, which stores nothing and reads zeroes. fs.read and fs.write go past the page cache, with as many ' +
  'in flight; fs.createReadStream and fs.createWriteStream go through it. Each stream has a process of its own, ' +
  'which has run another one for six seconds. The machine is emulated: ratios count.'

function tableOf(driver: readonly Rate[][], kernel: readonly Rate[][]): Table {
  const notes: string[] = []
  const rows = WORKS.map(({ name }, i) => {
    const mine = driver.map((round) => round[i]!)
    const others = kernel.map((round) => round[i]!)
    const [a, b] = [medianOf(mine.map(({ rate }) => rate)), medianOf(others.map(({ rate }) => rate))]
    const occupancies = mine.flatMap(({ occupancy }) => (occupancy === undefined ? [] : [occupancy]))
    const stalls = others.filter(({ stalled }) => stalled).length
    if (stalls > 0) notes.push(`${name}: the kernel's driver stalled in ${stalls} of ${others.length} rounds`)
    return { name, cells: [a, b, a / b, occupancies.length > 0 ? medianOf(occupancies) : null] }
  })
  return {
    title: `Transfers a second in the virtual machine, medians of ${driver.length} rounds`,
    about: ABOUT,
    columns: [
      { name: 'unvme', digits: 0 },
      { name: 'fs', digits: 0 },
      { name: 'ratio', digits: 1 },
      { name: 'occupancy', digits: 2 },
    ],
    rows,
    goals: WORKS.flatMap(({ name, goal }, i) =>
      goal === undefined ? [] : [atLeast(name, rows[i]!.cells[2]!, goal, 'x')],
    ),
    notes,
  }
}

const driver: Rate[][] = []
const kernel: Rate[][] = []
// One round of each to warm up.
for (let round = 0; round <= ROUNDS; round++) {
  driver.push(await driverRound())
  kernel.push(await kernelRound())
}
ours.disconnect()
theirs.disconnect()
process.stdout.write(JSON.stringify(tableOf(driver.slice(1), kernel.slice(1))))
